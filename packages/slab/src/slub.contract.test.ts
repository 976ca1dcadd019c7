import { slabAllocatorContract } from './contract.ts';
import { SlubAllocator } from './slub.ts';
import { OPERATIONS } from './testing/operations.ts';

slabAllocatorContract(() => new SlubAllocator(), { operations: OPERATIONS });
