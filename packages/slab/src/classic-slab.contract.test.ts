import { ClassicSlabAllocator } from './classic-allocator.ts';
import { slabAllocatorContract } from './contract.ts';
import { OPERATIONS } from './testing/operations.ts';

slabAllocatorContract(() => new ClassicSlabAllocator(), { operations: OPERATIONS });
slabAllocatorContract(() => new ClassicSlabAllocator({ debug: true }), { operations: 6000 });
