import { slabAllocatorContract } from './contract.ts';
import { SlubAllocator } from './slub.ts';

slabAllocatorContract(() => new SlubAllocator(), { operations: 40_000 });
