import { slabAllocatorContract } from './contract.ts';
import { SlobAllocator } from './slob.ts';
import { OPERATIONS } from './testing/operations.ts';

slabAllocatorContract(() => new SlobAllocator(), { operations: OPERATIONS });
