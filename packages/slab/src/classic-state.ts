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
import type { VirtAddr } from '@pagelab/abi';
import { SlabPageList } from './slab-pages.ts';

/** Free objects at hand. @linux mm/slab.c:array_cache */
export class ArrayCache {
  readonly entry: Float64Array;
  readonly limit: number;
  readonly batchcount: number;
  avail = 0;
  /** Used since the reaper last came by. */
  touched = false;

  constructor(limit: number, batchcount: number) {
    this.entry = new Float64Array(limit);
    this.limit = limit;
    this.batchcount = batchcount;
  }

  push(object: VirtAddr): void {
    this.entry[this.avail++] = object;
  }

  /** Drops the first `count`, which have stayed longest. */
  dropFirst(count: number): void {
    this.entry.copyWithin(0, count, this.avail);
    this.avail -= count;
  }

  /** Takes at most `max` of the last of `from`. Returns how many. @linux mm/slab.c:transfer_objects */
  takeFrom(from: ArrayCache, max: number): number {
    const count = Math.min(from.avail, max, this.limit - this.avail);
    this.entry.set(from.entry.subarray(from.avail - count, from.avail), this.avail);
    from.avail -= count;
    this.avail += count;
    return count;
  }
}

/** A node's slabs. @linux mm/slab.h:kmem_cache_node */
export class ClassicNode {
  readonly full = new SlabPageList();
  readonly partial = new SlabPageList();
  readonly free = new SlabPageList();
  /** Free objects on these lists. */
  freeObjects = 0;
  /** Free objects beyond which free slabs are given back. */
  readonly freeLimit: number;
  /** The colour the last slab got. */
  colourNext = 0;
  /** A free slab was needed since the reaper last came by. */
  freeTouched = false;
  /** Virtual time at which the reaper comes by next, in jiffies. */
  nextReap = 0;
  readonly shared: ArrayCache | undefined;
  /** By node: free objects of that node's slabs that CPUs of this one freed. */
  readonly alien: readonly (ArrayCache | undefined)[];

  constructor(freeLimit: number, shared: ArrayCache | undefined, alien: readonly (ArrayCache | undefined)[]) {
    this.freeLimit = freeLimit;
    this.shared = shared;
    this.alien = alien;
  }
}
