import { ClassicSlabAllocator } from './classic-slab.ts';
import { slabAllocatorContract } from './contract.ts';

slabAllocatorContract(() => new ClassicSlabAllocator(), { operations: 40_000 });
