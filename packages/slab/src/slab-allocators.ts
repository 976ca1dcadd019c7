/**
 * The slab allocators there are, by the name that a machine's configuration gives them.
 */
import { ClassicSlabAllocator } from './classic-slab.ts';
import type { SlabAllocator } from './host.ts';
import { SlobAllocator } from './slob.ts';
import { SlubAllocator } from './slub-allocator.ts';

/** Each makes one for a machine. */
export const slabAllocators: Readonly<Record<'slub' | 'slab' | 'slob', () => SlabAllocator>> = {
  slub: () => new SlubAllocator(),
  slab: () => new ClassicSlabAllocator(),
  slob: () => new SlobAllocator(),
};
