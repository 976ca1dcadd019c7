import { slabAllocatorContract } from './contract.ts';
import { SlubAllocator } from './slub-allocator.ts';
import { OPERATIONS } from './testing/operations.ts';

slabAllocatorContract(() => new SlubAllocator(), { operations: OPERATIONS });
slabAllocatorContract(() => new SlubAllocator(), { operations: 3000, slubOptions: { wordBytes: 4 } });
