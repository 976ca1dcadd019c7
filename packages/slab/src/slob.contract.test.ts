import { slabAllocatorContract } from './contract.ts';
import { SlobAllocator } from './slob.ts';
import { OPERATIONS } from './testing/operations.ts';

slabAllocatorContract(() => new SlobAllocator(), { operations: OPERATIONS });
slabAllocatorContract(() => new SlobAllocator(), { operations: 3000, slubOptions: { wordBytes: 4 } });
