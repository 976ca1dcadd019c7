/**
 * The slabs of a cache of SLAB: making and giving them back, and moving objects between them and the arrays.
 *
 * A slab's state lies in the columns of its first page frame:
 *
 *     mapping    id of the cache
 *     index      address of its free list, 0 for none
 *     private    | colour:16 | active:16 |
 *     next, prev links of the list it is on
 *
 * Of the free list, the entries from `active` on number the objects that are free.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { __GFP_COMP, __GFP_DMA, __GFP_DMA32, __GFP_NOWARN, __GFP_RECLAIMABLE, __GFP_THISNODE, __GFP_ZERO, compoundHead } from '@pagelab/mm-core';
import type { PageFrames } from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import type { ArrayCache } from './classic-array.ts';
import type { ClassicGeometry } from './classic-geometry.ts';
import { classicLiveObjects, validateClassic } from './classic-inspect.ts';
import { ClassicNode } from './classic-state.ts';
import { SLAB_CACHE_DMA, SLAB_CACHE_DMA32, SLAB_RECLAIM_ACCOUNT, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import type { CacheSpec, SlabHost } from './host.ts';
import { KmemCache } from './kmem-cache.ts';
import type { SlabInfo, SlabOwnershipCheck } from './kmem-cache.ts';
import { SLAB_PAGE_GFP_MASK, giveSlabPages, takeSlabPages } from './slab-pages.ts';

const ACTIVE_MASK = 0xffff;
const COLOUR_SHIFT = 16;

/** A cache's slabs. Addresses within here are those where objects begin, in a debugged cache with their first red zone. */
export abstract class ClassicSlabs extends KmemCache {
  readonly host: SlabHost;
  readonly geometry: ClassicGeometry;
  readonly frames: PageFrames;
  readonly nodes: readonly ClassicNode[];
  readonly slabs = new Set<Pfn>();
  /** First page of each slab that is none any more, and waits until nobody looks at its objects. */
  readonly leaving = new Set<Pfn>();
  protected readonly bytes: Uint8Array;
  private readonly allocFlags: number;

  protected constructor(host: SlabHost, spec: CacheSpec, geometry: ClassicGeometry) {
    super(spec, geometry);
    this.host = host;
    this.geometry = geometry;
    this.frames = host.pages.frames;
    this.bytes = host.ram.u8;
    this.nodes = host.pages.nodes.map(() => new ClassicNode());
    let flags = __GFP_COMP;
    if ((spec.flags & SLAB_CACHE_DMA) !== 0) flags |= __GFP_DMA;
    if ((spec.flags & SLAB_CACHE_DMA32) !== 0) flags |= __GFP_DMA32;
    if ((spec.flags & SLAB_RECLAIM_ACCOUNT) !== 0) flags |= __GFP_RECLAIMABLE;
    this.allocFlags = flags;
  }

  /** Where a slab's first object lies, behind its colour. */
  firstObject(pfn: Pfn): VirtAddr {
    return this.host.pages.pageAddress(pfn) + (this.frames.private[pfn] >>> COLOUR_SHIFT) * this.geometry.colourOff;
  }

  /** Free objects in arrays. */
  abstract arrayObjects(): VirtAddr[];

  // ------------------------------------------------------------------------------------------------------- taking

  /** The slab to take from, on its list still. @linux mm/slab.c:get_first_slab */
  protected firstSlab(node: ClassicNode): Pfn {
    if (node.partial.head !== 0) return node.partial.head;
    node.freeTouched = true;
    return node.free.head;
  }

  /** Puts a slab that was taken from on the list it belongs on now. @linux mm/slab.c:fixup_slab_list */
  protected settle(node: ClassicNode, pfn: Pfn): void {
    const { frames, objectsPerSlab, geometry } = this;
    const active = frames.private[pfn] & ACTIVE_MASK;
    const list = node.partial.head === pfn ? node.partial : node.free;
    list.remove(frames, pfn);
    if (active < objectsPerSlab) {
      node.partial.addHead(frames, pfn);
      return;
    }
    node.full.addHead(frames, pfn);
    if (geometry.freeList !== 'object') return;
    // The object that held the list has been taken.
    const holder = frames.index[pfn] - geometry.objectOffset;
    frames.index[pfn] = 0;
    this.listLeft(holder);
  }

  /** Is told of an object that held its slab's free list, and does no longer. @linux mm/slab.c:fixup_objfreelist_debug */
  protected listLeft(_object: VirtAddr): void {}

  /** Puts a new slab on a list. @linux mm/slab.c:cache_grow_end */
  protected settleNew(pfn: Pfn): void {
    const { frames } = this;
    const node = this.nodes[nodeOfPage(this.host.pages, pfn)];
    const active = frames.private[pfn] & ACTIVE_MASK;
    node.freeObjects += this.objectsPerSlab - active;
    if (active === 0) {
      node.free.addTail(frames, pfn);
      return;
    }
    node.free.addHead(frames, pfn);
    this.settle(node, pfn);
  }

  /** Moves up to `wanted` objects of a slab to an array. Returns how many. @linux mm/slab.c:alloc_block */
  protected takeBlock(ac: ArrayCache, pfn: Pfn, wanted: number): number {
    const { frames, bytes, size } = this;
    const active = frames.private[pfn] & ACTIVE_MASK;
    const count = Math.min(wanted, this.objectsPerSlab - active);
    const list = this.host.memory.index(frames.index[pfn]) + active;
    const first = this.firstObject(pfn);
    for (let i = 0; i < count; i++) ac.push(first + bytes[list + i] * size);
    frames.private[pfn] += count;
    return count;
  }

  /** @linux mm/slab.c:slab_get_obj */
  protected takeObject(pfn: Pfn): VirtAddr {
    const { frames } = this;
    const active = frames.private[pfn] & ACTIVE_MASK;
    const slot = this.bytes[this.host.memory.index(frames.index[pfn]) + active];
    frames.private[pfn]++;
    return this.firstObject(pfn) + slot * this.size;
  }

  // -------------------------------------------------------------------------------------------------- putting back

  /** Gives the first `count` objects of an array back to their slabs. @linux mm/slab.c:free_block */
  protected freeBlock(ac: ArrayCache, count: number, nid: number): void {
    const node = this.nodes[nid];
    for (let i = 0; i < count; i++) this.putObject(node, ac.entry(i));
    ac.dropFirst(count);
    this.trim(node);
  }

  /** Puts an object back on its slab's free list. @linux mm/slab.c:slab_put_obj */
  protected putObject(node: ClassicNode, object: VirtAddr): void {
    const { frames, geometry, host } = this;
    const pfn = compoundHead(frames, host.pages.virtToPfn(object));
    const active = (frames.private[pfn] & ACTIVE_MASK) - 1;
    (active === this.objectsPerSlab - 1 ? node.full : node.partial).remove(frames, pfn);
    // A full slab has no list: it gets one in the object that comes back.
    if (geometry.freeList === 'object' && frames.index[pfn] === 0) frames.index[pfn] = object + geometry.objectOffset;
    this.bytes[host.memory.index(frames.index[pfn]) + active] = Math.floor((object - this.firstObject(pfn)) / this.size);
    frames.private[pfn]--;
    node.freeObjects++;
    if (active === 0) node.free.addHead(frames, pfn);
    else node.partial.addTail(frames, pfn);
  }

  /** Gives back free slabs beyond what a node may keep. */
  protected trim(node: ClassicNode): void {
    while (node.freeObjects > node.freeLimit && node.free.tail !== 0) this.destroySlab(node, node.free.tail);
  }

  // --------------------------------------------------------------------------------------------------------- slabs

  /** Makes a slab, on no list yet; 0 where there is no memory. @linux mm/slab.c:cache_grow_begin */
  protected grow(gfp: number, nid: number): Pfn {
    const { host, frames, geometry, order, size } = this;
    const flags = (gfp & (SLAB_PAGE_GFP_MASK | __GFP_THISNODE)) | this.allocFlags;
    let pfn = takeSlabPages(host, this, flags | __GFP_THISNODE | __GFP_NOWARN, order, nid);
    if (pfn < 0 && (gfp & __GFP_THISNODE) === 0) pfn = takeSlabPages(host, this, flags, order, -1);
    if (pfn < 0) return 0;
    const node = this.nodes[nid];
    node.colourNext = node.colourNext + 1 >= geometry.colours ? 0 : node.colourNext + 1;
    frames.private[pfn] = node.colourNext << COLOUR_SHIFT;
    frames.index[pfn] = this.freeListOf(pfn, gfp);
    if (frames.index[pfn] === 0) {
      giveSlabPages(host, pfn, this.flags, order);
      return 0;
    }
    const first = this.firstObject(pfn);
    const { objectsPerSlab } = this;
    for (let i = 0; i < objectsPerSlab; i++) this.initObject(first + i * size);
    const list = host.memory.index(frames.index[pfn]);
    for (let i = 0; i < objectsPerSlab; i++) this.bytes[list + i] = i;
    if (host.freelist.random) {
      for (let i = objectsPerSlab - 1; i > 0; i--) {
        const other = host.freelist.prng.below(i + 1);
        const kept = this.bytes[list + i];
        this.bytes[list + i] = this.bytes[list + other];
        this.bytes[list + other] = kept;
      }
      // The list lies in the object that is handed out last.
      if (geometry.freeList === 'object') this.moveListTo(pfn, first + this.bytes[list + objectsPerSlab - 1] * size);
    }
    this.slabs.add(pfn);
    return pfn;
  }

  /** Prepares an object of a new slab. @linux mm/slab.c:cache_init_objs */
  protected initObject(object: VirtAddr): void {
    this.ctor?.(object);
  }

  /** Where the free list of a new slab lies; 0 where there is no memory for it. @linux mm/slab.c:alloc_slabmgmt */
  private freeListOf(pfn: Pfn, gfp: number): VirtAddr {
    const { geometry, objectsPerSlab, size, order } = this;
    if (geometry.freeList === 'off-slab') return this.host.kmalloc(objectsPerSlab, gfp & ~__GFP_ZERO);
    if (geometry.freeList === 'slab') return this.host.pages.pageAddress(pfn) + PAGE_SIZE * 2 ** order - objectsPerSlab;
    return this.firstObject(pfn) + (objectsPerSlab - 1) * size + geometry.objectOffset;
  }

  private moveListTo(pfn: Pfn, object: VirtAddr): void {
    const { frames, host, objectsPerSlab, bytes, geometry } = this;
    const before = frames.index[pfn];
    const to = object + geometry.objectOffset;
    if (to === before) return;
    const from = host.memory.index(before);
    bytes.copyWithin(host.memory.index(to), from, from + objectsPerSlab);
    frames.index[pfn] = to;
    this.listLeft(before - geometry.objectOffset);
  }

  /** Gives a slab without live objects back. @linux mm/slab.c:slab_destroy */
  protected destroySlab(node: ClassicNode, pfn: Pfn): void {
    const { frames, host, geometry } = this;
    node.free.remove(frames, pfn);
    node.freeObjects -= this.objectsPerSlab;
    bugOn(!this.slabs.delete(pfn), 'slab: a slab given back that the cache does not own');
    const list = frames.index[pfn];
    const { rcu } = host;
    if ((this.flags & SLAB_TYPESAFE_BY_RCU) !== 0 && rcu !== null) {
      this.leaving.add(pfn);
      rcu.rcu.call(rcu.freeMemory, host.pages.pageAddress(pfn));
    } else {
      giveSlabPages(host, pfn, this.flags, this.order);
    }
    if (geometry.freeList === 'off-slab') host.kfree(list);
  }

  override freeAfterGracePeriod(address: VirtAddr): void {
    const pfn = this.host.pages.virtToPfn(address);
    bugOn(!this.leaving.delete(pfn), 'slab: a slab given back that did not wait for it');
    giveSlabPages(this.host, pfn, this.flags, this.order);
  }

  // ------------------------------------------------------------------------------------------------------- looking

  override get activeObjects(): number {
    let free = this.arrayObjects().length;
    for (const node of this.nodes) free += node.freeObjects;
    return this.totalObjects - free;
  }

  override get totalObjects(): number {
    return this.slabs.size * this.objectsPerSlab;
  }

  override get activeSlabs(): number {
    return this.slabs.size;
  }

  override get nrPages(): number {
    return (this.slabs.size + this.leaving.size) * 2 ** this.order;
  }

  override get usableSize(): number {
    return this.objectSize;
  }

  /** @linux mm/slab.c:get_slabinfo */
  override slabInfo(): SlabInfo {
    const sum = (of: (node: ClassicNode) => number): number => this.nodes.reduce((total, node) => total + of(node), 0);
    return {
      ...super.slabInfo(),
      activeObjects: this.totalObjects - sum(({ freeObjects }) => freeObjects),
      activeSlabs: this.slabs.size - sum(({ free }) => free.length),
      sharedAvail: sum((node) => node.shared?.avail ?? 0),
    };
  }

  override objectAt(address: VirtAddr): VirtAddr {
    const first = this.firstObject(compoundHead(this.frames, this.host.pages.virtToPfn(address)));
    return first + Math.floor((address - first) / this.size) * this.size + this.geometry.objectOffset;
  }

  override liveObjects(): VirtAddr[] {
    const { objectOffset } = this.geometry;
    const live = classicLiveObjects(this);
    return objectOffset === 0 ? live : live.map((object) => object + objectOffset);
  }

  override validate(claim: SlabOwnershipCheck): void {
    validateClassic(this);
    for (const pfn of [...this.slabs, ...this.leaving]) claim(pfn, 2 ** this.order, this);
  }
}
