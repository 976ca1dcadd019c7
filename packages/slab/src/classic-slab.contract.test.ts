import { ClassicSlabAllocator } from './classic-slab.ts';
import { slabAllocatorContract } from './contract.ts';
import { OPERATIONS } from './testing/operations.ts';

slabAllocatorContract(() => new ClassicSlabAllocator(), { operations: OPERATIONS });
