/**
 * What a cache of SLAB consists of.
 *
 *     CPU:   array of free objects, last in first out
 *     node:  slabs that are full <-> slabs that are partial <-> slabs that are free     shared array     alien arrays
 *
 * An object in an array counts as active in its slab.
 *
 *     objects that are live === sum of `active` over slabs − objects in arrays
 */
import type { ArrayCache } from './classic-array.ts';
import { SlabPageList } from './slab-pages.ts';

/** A node's slabs. @linux mm/slab.h:kmem_cache_node */
export class ClassicNode {
  readonly full = new SlabPageList();
  readonly partial = new SlabPageList();
  readonly free = new SlabPageList();
  /** Free objects on these lists. */
  freeObjects = 0;
  /** Free objects beyond which free slabs are given back. */
  freeLimit = 0;
  /** The colour the last slab got. */
  colourNext = 0;
  /** A free slab was needed since the reaper last came by. */
  freeTouched = false;
  /** Virtual time at which the reaper comes by next, in jiffies. */
  nextReap = 0;
  shared: ArrayCache | undefined;
  /** By node: free objects of that node's slabs that CPUs of this one freed; `undefined` where they go home at once. */
  alien: readonly (ArrayCache | undefined)[] = [];
}
