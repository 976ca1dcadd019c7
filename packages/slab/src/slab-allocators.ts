/**
 * The slab allocators there are, by the name that a machine's configuration gives them.
 */
import { ClassicSlabAllocator } from './classic-allocator.ts';
import type { ClassicSlabOptions } from './classic-allocator.ts';
import type { SlabAllocator } from './host.ts';
import { SlobAllocator } from './slob.ts';
import { SlubAllocator } from './slub-allocator.ts';

/** Each makes one for a machine. What SLAB is built with, the others do without. */
export const slabAllocators: Readonly<Record<'slub' | 'slab' | 'slob', (options?: ClassicSlabOptions) => SlabAllocator>> = {
  slub: () => new SlubAllocator(),
  slab: (options) => new ClassicSlabAllocator(options),
  slob: () => new SlobAllocator(),
};
