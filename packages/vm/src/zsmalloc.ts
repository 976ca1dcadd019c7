/**
 * A pool for objects smaller than a page that are only looked at through the pool: compressed pages. Since nobody holds an
 * object's address, it may lie across the border of two frames that are no neighbours, and may be moved.
 *
 *     zspage   one to eight frames that objects of one class lie in, one behind the other
 *     class    the zspages of one object size, in groups by how full they are
 *     handle   names an object: a slab object that says where it lies
 *
 *     pages      === sum over zspages of their frames === NR_ZSPAGES of this pool
 *     inuse      === handles of a zspage
 *
 * A free object holds the number of the next one; one in use begins with the address of its handle.
 *
 * @linux mm/zsmalloc.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { ZONE_STAT, __GFP_HIGHMEM, __GFP_MOVABLE } from '@pagelab/mm-core';
import { SHRINK_STOP } from '@pagelab/slab';
import type { KmemCache, ShrinkerSpec } from '@pagelab/slab';
import type { Vm } from './vm.ts';
import { minAllocSize, sizeClassIndex, sizeClasses } from './zsmalloc-classes.ts';
import type { SizeClass } from './zsmalloc-classes.ts';

/** Bytes of `struct zspage` on 64 bits and on 32. */
const ZSPAGE_BYTES = 56;
const ZSPAGE_BYTES_32 = 36;

/** Groups of zspages by how full they are, in tenths: empty, below 10 %, …, below 100 %, full. @linux mm/zsmalloc.c:fullness_group */
const RATIO_0 = 0;
const RATIO_10 = 1;
const RATIO_99 = 10;
const RATIO_100 = 11;
const NR_GROUPS = 12;

/** A link of a free object to none. */
const NO_OBJECT = -1;

/** What names an object of a pool. */
export interface ZsHandle {
  /** Address of its object in the pool's `zs_handle` cache. */
  readonly object: VirtAddr;
  zspage: Zspage;
  index: number;
}

/** Frames that objects of one class lie in. @linux mm/zsmalloc.c:zspage */
interface Zspage {
  readonly classIndex: number;
  readonly frames: readonly Pfn[];
  /** By object; `null` for one that is free. */
  readonly handles: (ZsHandle | null)[];
  inuse: number;
  /** The first free object. */
  free: number;
  group: number;
  prev: Zspage | null;
  next: Zspage | null;
  /** Address of its object in the pool's `zspage` cache. */
  readonly object: VirtAddr;
}

export class ZsPool {
  readonly name: string;
  /** Frames it has. */
  pages = 0;
  readonly #vm: Vm;
  readonly #minSize: number;
  readonly #headerBytes: number;
  readonly #classes: readonly SizeClass[];
  /** Head of each list of zspages, by class and group: the last that came first. */
  readonly #lists: (Zspage | null)[];
  /** Objects there is room for, and that are in use, by class. */
  readonly #allocated: Int32Array;
  readonly #inuse: Int32Array;
  readonly #handleCache: KmemCache;
  readonly #zspageCache: KmemCache;
  readonly #shrinker: ShrinkerSpec;

  /**
   * Makes a pool.
   *
   * @returns it, or −ENOMEM
   * @linux mm/zsmalloc.c:zs_create_pool
   */
  static create(vm: Vm, name: string): ZsPool | number {
    const wide = vm.tables.format.addressBits > 32;
    const handles = vm.slab.kmemCacheCreate({ name: `zs_handle-${name}`, size: wide ? 8 : 4 });
    if (typeof handles === 'number') return handles;
    const zspages = vm.slab.kmemCacheCreate({ name: `zspage-${name}`, size: wide ? ZSPAGE_BYTES : ZSPAGE_BYTES_32 });
    if (typeof zspages === 'number') {
      vm.slab.kmemCacheDestroy(handles);
      return zspages;
    }
    return new ZsPool(vm, name, handles, zspages);
  }

  private constructor(vm: Vm, name: string, handleCache: KmemCache, zspageCache: KmemCache) {
    this.name = name;
    this.#vm = vm;
    this.#handleCache = handleCache;
    this.#zspageCache = zspageCache;
    this.#headerBytes = vm.tables.format.addressBits > 32 ? 8 : 4;
    this.#minSize = minAllocSize(vm.tables.entryWords === 2 ? 36 : 32, this.#headerBytes);
    this.#classes = sizeClasses(this.#minSize);
    this.#lists = Array.from({ length: this.#classes.length * NR_GROUPS }, () => null);
    this.#allocated = new Int32Array(this.#classes.length);
    this.#inuse = new Int32Array(this.#classes.length);
    this.#shrinker = {
      name: `mm-zspool:${name}`,
      countObjects: () => this.#compactable(),
      scanObjects: () => this.compact() || SHRINK_STOP,
    };
    vm.slab.shrinkers.register(this.#shrinker);
  }

  /** Gives up the pool, which must be empty. @linux mm/zsmalloc.c:zs_destroy_pool */
  destroy(): void {
    bugOn(this.pages !== 0, `zsmalloc: pool ${this.name} is in use`);
    const { slab } = this.#vm;
    slab.shrinkers.unregister(this.#shrinker);
    slab.kmemCacheDestroy(this.#handleCache);
    slab.kmemCacheDestroy(this.#zspageCache);
  }

  /**
   * Takes room for an object.
   *
   * @param size in bytes, 1 to 4096
   * @param nid node that its frames are to come from
   * @returns what names it; −EINVAL for a size that it cannot have; −ENOMEM
   * @linux mm/zsmalloc.c:zs_malloc
   */
  malloc(size: number, gfp: number, nid: number): ZsHandle | number {
    if (size <= 0 || size > PAGE_SIZE) return -Errno.EINVAL;
    const object = this.#handleCache.alloc(gfp & ~(__GFP_HIGHMEM | __GFP_MOVABLE));
    if (object === 0) return -Errno.ENOMEM;
    const classIndex = this.#indexOf(size + this.#headerBytes);
    let zspage = this.#fullest(classIndex, RATIO_99, RATIO_0);
    if (zspage === null) {
      zspage = this.#allocZspage(classIndex, gfp, nid);
      if (zspage === null) {
        this.#handleCache.free(object);
        return -Errno.ENOMEM;
      }
    }
    const handle: ZsHandle = { object, zspage, index: 0 };
    this.#takeObject(zspage, handle);
    this.#regroup(zspage);
    return handle;
  }

  /** Gives an object back, and the frames that no object lies in any more. @linux mm/zsmalloc.c:zs_free */
  free(handle: ZsHandle): void {
    const { zspage } = handle;
    this.#releaseObject(zspage, handle.index);
    this.#handleCache.free(handle.object);
    this.#regroup(zspage);
    if (zspage.inuse === 0) this.#freeZspage(zspage);
  }

  /** Writes an object: as many bytes as it was asked for, or fewer. @linux mm/zsmalloc.c:zs_obj_write */
  write({ zspage, index }: ZsHandle, bytes: Uint8Array): void {
    const { ram } = this.#vm;
    const start = this.#dataOffset(zspage, index);
    for (let done = 0; done < bytes.length; ) {
      const at = start + done;
      const inFrame = at % PAGE_SIZE;
      const run = Math.min(bytes.length - done, PAGE_SIZE - inFrame);
      ram.u8.set(bytes.subarray(done, done + run), ram.frameWord(zspage.frames[(at - inFrame) / PAGE_SIZE]) * 4 + inFrame);
      done += run;
    }
  }

  /** Reads an object into `bytes`, all of it. @linux mm/zsmalloc.c:zs_obj_read_begin */
  read({ zspage, index }: ZsHandle, bytes: Uint8Array): void {
    const { ram } = this.#vm;
    const start = this.#dataOffset(zspage, index);
    for (let done = 0; done < bytes.length; ) {
      const at = start + done;
      const inFrame = at % PAGE_SIZE;
      const run = Math.min(bytes.length - done, PAGE_SIZE - inFrame);
      const host = ram.frameWord(zspage.frames[(at - inFrame) / PAGE_SIZE]) * 4 + inFrame;
      bytes.set(ram.u8.subarray(host, host + run), done);
      done += run;
    }
  }

  /** The node of the first frame that an object lies in. */
  nid({ zspage }: ZsHandle): number {
    return this.#vm.pages.zoneOf(zspage.frames[0])!.nid;
  }

  /**
   * Moves objects out of sparse zspages into fuller ones.
   *
   * @returns frames that came free
   * @linux mm/zsmalloc.c:zs_compact
   */
  compact(): number {
    let freed = 0;
    for (let i = this.#classes.length - 1; i >= 0; i--) if (this.#isOwnClass(i)) freed += this.#compactClass(i);
    return freed;
  }

  /** Checks lists, counts and objects. @throws KernelBug at the first that does not hold */
  validate(): void {
    let pages = 0;
    for (const [at, head] of this.#lists.entries()) {
      const classIndex = Math.floor(at / NR_GROUPS);
      const { objectsPerZspage } = this.#classes[classIndex];
      let prev: Zspage | null = null;
      for (let zspage = head; zspage !== null; zspage = zspage.next) {
        bugOn(zspage.prev !== prev || zspage.classIndex !== classIndex, `zsmalloc: list ${at} of ${this.name} is broken`);
        bugOn(zspage.group !== at % NR_GROUPS || this.#groupOf(zspage) !== zspage.group, `zsmalloc: a zspage of ${this.name} is in a wrong group`);
        pages += zspage.frames.length;
        const used = zspage.handles.filter((handle) => handle !== null);
        bugOn(used.length !== zspage.inuse, `zsmalloc: a zspage of ${this.name} counts ${zspage.inuse} objects, and has ${used.length}`);
        for (const handle of used) bugOn(zspage.handles[handle.index] !== handle, 'zsmalloc: a handle leads elsewhere');
        let free = 0;
        for (let index = zspage.free; index !== NO_OBJECT; index = this.#header(zspage, index)) {
          bugOn(zspage.handles[index] !== null || free++ > objectsPerZspage, 'zsmalloc: a free list is broken');
        }
        bugOn(free + zspage.inuse !== objectsPerZspage, 'zsmalloc: an object is neither free nor used');
        prev = zspage;
      }
    }
    bugOn(pages !== this.pages, `zsmalloc: ${this.name} has ${pages} frames, and counts ${this.pages}`);
  }

  // ---- classes and groups

  /** Index of the class that holds objects of a size: of several that are one, the largest. */
  #indexOf(size: number): number {
    let index = sizeClassIndex(this.#minSize, size);
    while (!this.#isOwnClass(index)) index++;
    return index;
  }

  #isOwnClass(index: number): boolean {
    return this.#classes[index] !== this.#classes[index + 1];
  }

  /** The first zspage of the fullest, or emptiest, group that has one. */
  #fullest(classIndex: number, from: number, to: number): Zspage | null {
    const step = from < to ? 1 : -1;
    for (let group = from; group !== to + step; group += step) {
      const zspage = this.#lists[classIndex * NR_GROUPS + group];
      if (zspage !== null) return zspage;
    }
    return null;
  }

  /** @linux mm/zsmalloc.c:get_fullness_group */
  #groupOf({ classIndex, inuse }: Zspage): number {
    const { objectsPerZspage } = this.#classes[classIndex];
    if (inuse === 0) return RATIO_0;
    return inuse === objectsPerZspage ? RATIO_100 : Math.floor((100 * inuse) / objectsPerZspage / 10) + 1;
  }

  #link(zspage: Zspage): void {
    zspage.group = this.#groupOf(zspage);
    const at = zspage.classIndex * NR_GROUPS + zspage.group;
    const first = this.#lists[at];
    zspage.next = first;
    zspage.prev = null;
    if (first !== null) first.prev = zspage;
    this.#lists[at] = zspage;
  }

  #unlink(zspage: Zspage): void {
    const { prev, next } = zspage;
    if (prev === null) this.#lists[zspage.classIndex * NR_GROUPS + zspage.group] = next;
    else prev.next = next;
    if (next !== null) next.prev = prev;
  }

  /** @linux mm/zsmalloc.c:fix_fullness_group */
  #regroup(zspage: Zspage): void {
    if (this.#groupOf(zspage) === zspage.group) return;
    this.#unlink(zspage);
    this.#link(zspage);
  }

  // ---- zspages

  /** @linux mm/zsmalloc.c:alloc_zspage */
  #allocZspage(classIndex: number, gfp: number, nid: number): Zspage | null {
    const { pages } = this.#vm;
    const { pagesPerZspage, objectsPerZspage } = this.#classes[classIndex];
    const object = this.#zspageCache.alloc(gfp & ~(__GFP_HIGHMEM | __GFP_MOVABLE));
    if (object === 0) return null;
    const frames: Pfn[] = [];
    while (frames.length < pagesPerZspage) {
      const pfn = pages.allocPagesNode(nid, gfp, 0);
      if (pfn < 0) {
        this.#freeFrames(frames);
        this.#zspageCache.free(object);
        return null;
      }
      pages.modZoneState(pfn, ZONE_STAT.NR_ZSPAGES, 1);
      frames.push(pfn);
    }
    const handles = Array.from({ length: objectsPerZspage }, () => null);
    const zspage: Zspage = { classIndex, frames, handles, inuse: 0, free: 0, group: RATIO_0, prev: null, next: null, object };
    for (let i = 0; i < objectsPerZspage; i++) this.#setHeader(zspage, i, i + 1 < objectsPerZspage ? i + 1 : NO_OBJECT);
    this.pages += pagesPerZspage;
    this.#allocated[classIndex] += objectsPerZspage;
    this.#link(zspage);
    return zspage;
  }

  /** @linux mm/zsmalloc.c:__free_zspage */
  #freeZspage(zspage: Zspage): void {
    this.#unlink(zspage);
    this.#freeFrames(zspage.frames);
    this.#zspageCache.free(zspage.object);
    this.pages -= zspage.frames.length;
    this.#allocated[zspage.classIndex] -= zspage.handles.length;
  }

  #freeFrames(frames: readonly Pfn[]): void {
    const { pages } = this.#vm;
    for (const pfn of frames) {
      pages.modZoneState(pfn, ZONE_STAT.NR_ZSPAGES, -1);
      pages.freePage(pfn);
    }
  }

  /** @linux mm/zsmalloc.c:obj_malloc */
  #takeObject(zspage: Zspage, handle: ZsHandle): void {
    const index = zspage.free;
    zspage.free = this.#header(zspage, index);
    zspage.handles[index] = handle;
    zspage.inuse++;
    this.#inuse[zspage.classIndex]++;
    handle.zspage = zspage;
    handle.index = index;
    // Handles are aligned: bit 0 says that the object is in use. In one that fills its frame there is no room to say so.
    if (this.#isHuge(zspage)) return;
    const { ram } = this.#vm;
    const address = this.#headerAddress(zspage, index);
    if (this.#headerBytes === 8) ram.storeAddress(address, handle.object + 1);
    else ram.store32(address, handle.object + 1);
  }

  /** @linux mm/zsmalloc.c:obj_free */
  #releaseObject(zspage: Zspage, index: number): void {
    this.#setHeader(zspage, index, zspage.free);
    zspage.free = index;
    zspage.handles[index] = null;
    zspage.inuse--;
    this.#inuse[zspage.classIndex]--;
  }

  /** Physical address where an object begins. Objects are multiples of 16 bytes, so that no header lies across two frames. */
  #headerAddress({ classIndex, frames }: Zspage, index: number): number {
    const at = index * this.#classes[classIndex].size;
    const inFrame = at % PAGE_SIZE;
    return frames[(at - inFrame) / PAGE_SIZE] * PAGE_SIZE + inFrame;
  }

  /** What a free object links to. */
  #header(zspage: Zspage, index: number): number {
    return (this.#vm.ram.load32(this.#headerAddress(zspage, index)) | 0) >> 1;
  }

  #setHeader(zspage: Zspage, index: number, next: number): void {
    this.#vm.ram.store32(this.#headerAddress(zspage, index), next << 1);
  }

  /** Whether one object is all that a zspage holds, without a header. */
  #isHuge({ frames, handles }: Zspage): boolean {
    return frames.length === 1 && handles.length === 1;
  }

  /** Where an object's bytes begin in its zspage. One that fills a frame has no header. */
  #dataOffset(zspage: Zspage, index: number): number {
    return index * this.#classes[zspage.classIndex].size + (this.#isHuge(zspage) ? 0 : this.#headerBytes);
  }

  // ---- compaction

  /** Frames that moving objects could free. @linux mm/zsmalloc.c:zs_can_compact */
  #compactable(): number {
    let pages = 0;
    for (const [i, { pagesPerZspage, objectsPerZspage }] of this.#classes.entries()) {
      if (this.#isOwnClass(i)) pages += Math.floor((this.#allocated[i] - this.#inuse[i]) / objectsPerZspage) * pagesPerZspage;
    }
    return pages;
  }

  /** @linux mm/zsmalloc.c:__zs_compact */
  #compactClass(classIndex: number): number {
    const { pagesPerZspage, objectsPerZspage, size } = this.#classes[classIndex];
    let freed = 0;
    while (this.#allocated[classIndex] - this.#inuse[classIndex] >= objectsPerZspage) {
      const to = this.#fullest(classIndex, RATIO_99, RATIO_10);
      if (to === null) break;
      const from = this.#emptiestBut(classIndex, to);
      if (from === null) break;
      const bytes = new Uint8Array(size - this.#headerBytes);
      for (let index = 0; index < objectsPerZspage && to.inuse < objectsPerZspage; index++) {
        const handle = from.handles[index];
        if (handle === null) continue;
        this.read(handle, bytes);
        this.#takeObject(to, handle);
        this.write(handle, bytes);
        this.#releaseObject(from, index);
      }
      this.#regroup(to);
      this.#regroup(from);
      if (from.inuse > 0) continue;
      this.#freeZspage(from);
      freed += pagesPerZspage;
    }
    return freed;
  }

  #emptiestBut(classIndex: number, other: Zspage): Zspage | null {
    for (let group = RATIO_10; group <= RATIO_99; group++) {
      const first = this.#lists[classIndex * NR_GROUPS + group];
      if (first !== null && first !== other) return first;
      if (first !== null && first.next !== null) return first.next;
    }
    return null;
  }
}
