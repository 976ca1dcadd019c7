import { slabAllocatorContract } from './contract.ts';
import { SlubAllocator } from './slub-allocator.ts';

slabAllocatorContract(() => new SlubAllocator(), { operations: 6000, slubOptions: { debug: 'FZPU' } });
slabAllocatorContract(() => new SlubAllocator(), { operations: 6000, slubOptions: { freelistHardening: 'full', freelistRandom: true } });
