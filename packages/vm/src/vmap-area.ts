/**
 * The address space of vmalloc: which parts of it are in use, which wait for a TLB flush, and where the next area goes.
 *
 *     gaps between areas, those beyond both ends included === objects held for free areas
 *
 * @linux mm/vmalloc.c:vmap_area
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { RangeTree, bugOn } from '@pagelab/lib';
import type { KmemCache } from '@pagelab/slab';
import type { VmStruct } from './vm-struct.ts';

/** Bytes of address space that a node of areas takes at a time. @linux mm/vmalloc.c:vmap_zone_size */
const VMAP_ZONE_SIZE = 16 * PAGE_SIZE;

/** An area of kernel address space. @linux include/linux/vmalloc.h:vmap_area */
export class VmapArea {
  readonly start: VirtAddr;
  readonly end: VirtAddr;
  /** Its slab object. */
  readonly object: VirtAddr;
  /** What lies there; `null` where it was made by `vm_map_ram`, or is to be purged. */
  vm: VmStruct | null = null;
  /** Unmapped, but some TLB may still know it: nobody can have its addresses yet. */
  isLazy = false;

  constructor(start: VirtAddr, end: VirtAddr, object: VirtAddr) {
    this.start = start;
    this.end = end;
    this.object = object;
  }
}

export class VmapSpace {
  /** First address, and one past the last usable one. */
  readonly start: VirtAddr;
  readonly end: VirtAddr;
  /** Areas by address, in use or not yet purged. */
  readonly areas = new RangeTree<VmapArea>();
  /** Areas that wait for a flush. */
  lazy: VmapArea[] = [];
  lazyPages = 0;

  readonly #cache: KmemCache;
  readonly #nrNodes: number;
  /** Objects that stand for the gaps. */
  readonly #freeObjects: VirtAddr[] = [];

  /**
   * @param nrNodes lists of areas that a kernel keeps: 1, or as many as there could be CPUs
   * @linux mm/vmalloc.c:vmap_init_free_space
   */
  constructor(start: VirtAddr, end: VirtAddr, cache: KmemCache, nrNodes: number, gfp: number) {
    this.start = start;
    this.end = end;
    this.#cache = cache;
    this.#nrNodes = nrNodes;
    const whole = cache.alloc(gfp);
    bugOn(whole === 0, 'vmalloc: no memory at boot');
    this.#freeObjects.push(whole);
  }

  /**
   * Takes the lowest addresses that fit.
   *
   * @param size bytes, a multiple of the page size
   * @param align bytes, a power of two
   * @returns the area, −ENOMEM without memory, −EBUSY where no gap fits
   * @linux mm/vmalloc.c:alloc_vmap_area
   */
  alloc(size: number, align: number, low: VirtAddr, high: VirtAddr, gfp: number): VmapArea | number {
    const object = this.#cache.alloc(gfp);
    if (object === 0) return -Errno.ENOMEM;
    const start = this.#lowest(size, align, Math.max(low, this.start), Math.min(high, this.end));
    const area = start === -1 ? -Errno.EBUSY : this.#take(start, start + size, object, gfp);
    if (typeof area === 'number') this.#cache.free(object);
    return area;
  }

  /** As {@link alloc}, but the highest addresses that fit. @linux mm/vmalloc.c:pcpu_get_vm_areas */
  allocHighest(size: number, align: number, gfp: number): VmapArea | number {
    const object = this.#cache.alloc(gfp);
    if (object === 0) return -Errno.ENOMEM;
    const start = this.#highest(size, align);
    const area = start === -1 ? -Errno.EBUSY : this.#take(start, start + size, object, gfp);
    if (typeof area === 'number') this.#cache.free(object);
    return area;
  }

  #highest(size: number, align: number): number {
    let high = this.end;
    for (;;) {
      const found = this.areas.findGapTopDown(this.start, high, size);
      if (found === -1) return -1;
      const start = Math.floor(found / align) * align;
      if (start >= this.start && !this.areas.overlaps(start, start + size)) return start;
      const before = this.areas.prev(found);
      if (before === undefined) return -1;
      high = before.start;
    }
  }

  #lowest(size: number, align: number, low: VirtAddr, high: VirtAddr): number {
    let from = low;
    for (;;) {
      const found = this.areas.findGapBottomUp(from, high, size);
      if (found === -1 || align <= PAGE_SIZE) return found;
      const start = Math.ceil(found / align) * align;
      if (start === found || (start + size <= high && !this.areas.overlaps(start, start + size))) return start;
      // The gap is wide enough, but not where it would have to begin: on behind it.
      const next = this.areas.find(found);
      if (next === undefined) return -1;
      from = next.end;
    }
  }

  /** Enters an area; a gap that falls apart takes another object. */
  #take(start: VirtAddr, end: VirtAddr, object: VirtAddr, gfp: number): VmapArea | number {
    const change = 1 - this.#touching(start, end);
    if (change > 0) {
      const gap = this.#cache.alloc(gfp);
      if (gap === 0) return -Errno.ENOMEM;
      this.#freeObjects.push(gap);
    } else if (change < 0) {
      this.#cache.free(this.#freeObjects.pop()!);
    }
    const area = new VmapArea(start, end, object);
    this.areas.insert(start, end, area);
    return area;
  }

  /** How many areas lie right before and right behind a range. */
  #touching(start: VirtAddr, end: VirtAddr): number {
    return (this.areas.prev(start)?.end === start ? 1 : 0) + (this.areas.next(end - 1)?.start === end ? 1 : 0);
  }

  /** Gives an area's addresses back. Its object serves a gap, where there is one more. @linux mm/vmalloc.c:merge_or_add_vmap_area_augment */
  release(area: VmapArea): void {
    this.areas.remove(area.start);
    const change = this.#touching(area.start, area.end) - 1;
    if (change > 0) {
      this.#freeObjects.push(area.object);
      return;
    }
    this.#cache.free(area.object);
    if (change < 0) this.#cache.free(this.#freeObjects.pop()!);
  }

  /** Keeps an unmapped area's addresses back until a purge. @linux mm/vmalloc.c:free_vmap_area_noflush */
  makeLazy(area: VmapArea): void {
    area.isLazy = true;
    area.vm = null;
    this.lazy.push(area);
    this.lazyPages += (area.end - area.start) / PAGE_SIZE;
  }

  /** The areas as `/proc/vmallocinfo` shows them: node by node, by address. @linux mm/vmalloc.c:vmalloc_info_show */
  shown(): VmapArea[] {
    const nodes: VmapArea[][] = Array.from({ length: this.#nrNodes }, () => []);
    this.areas.forEach((area) => {
      if (!area.isLazy) nodes[this.#nodeOf(area.start)].push(area);
    });
    return nodes.flat();
  }

  /** @linux mm/vmalloc.c:addr_to_node_id */
  #nodeOf(addr: VirtAddr): number {
    const zone = Math.floor(addr / VMAP_ZONE_SIZE) + (addr < 0 ? 2 ** 48 : 0);
    return zone % this.#nrNodes;
  }

  /** Recomputes gaps and counts. @throws KernelBug for the first that does not fit */
  validate(): void {
    this.areas.validate();
    let runs = 0;
    let lazy = 0;
    let last = Number.NaN;
    this.areas.forEach((area, start, end) => {
      bugOn(area.start !== start || area.end !== end, 'vmalloc: an area is elsewhere in the tree');
      bugOn(start % PAGE_SIZE !== 0 || end % PAGE_SIZE !== 0 || start < this.start || end > this.end, 'vmalloc: bounds of an area');
      if (start !== last) runs++;
      last = end;
      if (area.isLazy) lazy += (end - start) / PAGE_SIZE;
    });
    bugOn(this.#freeObjects.length !== runs + 1, `vmalloc: ${this.#freeObjects.length} objects for ${runs + 1} gaps`);
    bugOn(lazy !== this.lazyPages, `vmalloc: ${this.lazyPages} pages to be purged, found ${lazy}`);
    const objects = this.areas.size + this.#freeObjects.length;
    bugOn(this.#cache.activeObjects < objects, `vmalloc: ${objects} areas and gaps, but ${this.#cache.activeObjects} objects`);
  }
}
