/**
 * What a cache of SLUB consists of.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn, PhysicalMemory } from '@pagelab/hw';
import type { PageAlloc, PageFrames } from '@pagelab/mm-core';
import type { SlabGeometry } from './geometry.ts';
import type { PartialList } from './slab-pages.ts';

/** What a CPU holds of a cache. @linux mm/slub.c:kmem_cache_cpu */
export class CpuSlab {
  /** Host word of the first free object's pointer; −1 when there is none. */
  freeWord = -1;
  /** First page of the slab the CPU allocates from, or 0. */
  pfn: Pfn = 0;
  /** Host word, direct-map address and length in bytes of that slab; the length is 0 where there is none. */
  base = 0;
  start: VirtAddr = 0;
  bytes = 0;
  /** Low and high half of `start`, as signed 32 bits. */
  low = 0;
  high = 0;
  /** First slab of the CPU's own partial list, linked by `next`, and how many there are. */
  partial: Pfn = 0;
  partialSlabs = 0;

  /** Forgets the slab. */
  detach(): void {
    this.pfn = 0;
    this.bytes = 0;
    this.freeWord = -1;
  }
}

/** A cache's state, for those who look at it. */
export interface SlubState {
  readonly host: { readonly pages: PageAlloc; readonly ram: PhysicalMemory };
  readonly name: string;
  /** What `PageFrames.mapping` holds in the first page of its slabs. */
  readonly id: number;
  /** Bytes from one object to the next. */
  readonly size: number;
  readonly geometry: SlabGeometry;
  /** Bytes from an object to its free pointer. */
  readonly offset: number;
  readonly frames: PageFrames;
  /** RAM as signed host words. */
  readonly words: Int32Array;
  /** By CPU, and by node. */
  readonly cpu: readonly CpuSlab[];
  readonly nodes: readonly PartialList[];
  /** First page of every slab. */
  readonly slabs: ReadonlySet<Pfn>;
  readonly leaving: ReadonlySet<Pfn>;
  readonly nrObjects: number;
  readonly nrPages: number;
  /** The free object after a free one; 0 at the end of a list. @linux mm/slub.c:get_freepointer */
  freePointer(object: VirtAddr): VirtAddr;
  /** @linux mm/slub.c:set_freepointer */
  setFreePointer(object: VirtAddr, next: VirtAddr): void;
  /** Host word of the pointer after the one at `word` on a CPU's list; −1 at its end, or where it leaves the slab. */
  nextFreeWord(c: CpuSlab, word: number): number;
}
