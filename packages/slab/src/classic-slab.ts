/**
 * SLAB, the allocator that Linux had until 6.7: arrays of free objects at hand for each CPU, and slabs on three lists a node.
 *
 * A slab's state lies in the columns of its first page frame:
 *
 *     mapping    id of the cache
 *     index      address of its free list, 0 for none
 *     private    | colour:16 | active:16 |
 *     next, prev links of the list it is on
 *
 * Of the free list, the entries from `active` on number the objects that are free.
 *
 * @linux mm/slab.c (up to 6.7)
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import {
  PG_SLAB,
  __GFP_COMP,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_NOWARN,
  __GFP_RECLAIMABLE,
  __GFP_THISNODE,
  __GFP_ZERO,
  compoundHead,
} from '@pagelab/mm-core';
import type { PageFrames } from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import { classicGeometry } from './classic-geometry.ts';
import type { ClassicGeometry } from './classic-geometry.ts';
import { classicLiveObjects, validateClassic } from './classic-inspect.ts';
import { ArrayCache, ClassicNode } from './classic-state.ts';
import { SLAB_CACHE_DMA, SLAB_CACHE_DMA32, SLAB_RECLAIM_ACCOUNT } from './flags.ts';
import { freeForeign } from './foreign-free.ts';
import type { CacheSpec, SlabAllocator, SlabCpus, SlabHost } from './host.ts';
import { KmemCache } from './kmem-cache.ts';
import type { SlabInfo, SlabOwnershipCheck } from './kmem-cache.ts';
import type { SlabReportKind } from './report.ts';
import { SLAB_PAGE_GFP_MASK, giveSlabPages, takeSlabPages } from './slab-pages.ts';

/** Objects a CPU's array takes at most at a time when it was not used lately. @linux mm/slab.c:BATCHREFILL_LIMIT */
const BATCHREFILL_LIMIT = 16;
/** Objects of another node that wait to be sent there. @linux mm/slab.c:alloc_alien_cache */
const ALIEN_LIMIT = 12;
/** Jiffies between two visits of the reaper to a node's lists. @linux mm/slab.c:REAPTIMEOUT_NODE */
const REAPTIMEOUT_NODE = 4 * 250;
const ACTIVE_MASK = 0xffff;
const COLOUR_SHIFT = 16;

/** A cache of SLAB. @linux include/linux/slab_def.h:kmem_cache */
export class ClassicCache extends KmemCache {
  readonly host: SlabHost;
  readonly geometry: ClassicGeometry;
  readonly frames: PageFrames;
  readonly cpu: readonly ArrayCache[];
  readonly nodes: readonly ClassicNode[];
  readonly slabs = new Set<Pfn>();
  private readonly smp: SlabCpus;
  private readonly bytes: Uint8Array;
  private readonly allocFlags: number;

  constructor(host: SlabHost, spec: CacheSpec, geometry: ClassicGeometry) {
    super(spec, geometry);
    this.host = host;
    this.geometry = geometry;
    this.frames = host.pages.frames;
    this.smp = host.smp;
    this.bytes = host.ram.u8;
    const { limit, batchcount, shared, objectsPerSlab } = geometry;
    const { nodes } = host.pages;
    this.cpu = Array.from({ length: host.smp.cpus.length }, () => new ArrayCache(limit, batchcount));
    this.nodes = nodes.map(
      ({ nid, cpus }) =>
        new ClassicNode(
          (1 + cpus.length) * batchcount + objectsPerSlab,
          shared > 0 ? new ArrayCache(shared * batchcount, 0) : undefined,
          nodes.map((other) => (other.nid === nid ? undefined : new ArrayCache(limit > 1 ? ALIEN_LIMIT : limit, 0))),
        ),
    );
    let flags = __GFP_COMP;
    if ((spec.flags & SLAB_CACHE_DMA) !== 0) flags |= __GFP_DMA;
    if ((spec.flags & SLAB_CACHE_DMA32) !== 0) flags |= __GFP_DMA32;
    if ((spec.flags & SLAB_RECLAIM_ACCOUNT) !== 0) flags |= __GFP_RECLAIMABLE;
    this.allocFlags = flags;
  }

  // ----------------------------------------------------------------------------------------------------- allocating

  /** @linux mm/slab.c:____cache_alloc */
  override alloc(gfp: number): VirtAddr {
    const ac = this.cpu[this.smp.processorId];
    let object: VirtAddr;
    if (ac.avail > 0) {
      ac.touched = true;
      object = ac.entry[--ac.avail];
    } else {
      object = this.refill(ac, gfp);
      if (object === 0) return 0;
    }
    return this.finish(object, gfp);
  }

  /** @linux mm/slab.c:kmem_cache_alloc_node */
  override allocNode(gfp: number, node: number): VirtAddr {
    const { pages, cpuNode } = this.host;
    if (node < 0 || this.nodes.length === 1 || pages.nodes[node].present === 0 || node === cpuNode[this.smp.processorId]) {
      return this.alloc(gfp);
    }
    const object = this.takeFromNode(node) || this.growAndTake(gfp, node);
    return object === 0 ? this.alloc(gfp) : this.finish(object, gfp);
  }

  private finish(object: VirtAddr, gfp: number): VirtAddr {
    const { trace, tracepoints, memory } = this.host;
    if ((gfp & __GFP_ZERO) !== 0) memory.fill(object, this.objectSize, 0);
    if (trace.enabled) trace.emit(tracepoints.kmemCacheAlloc, object, this.objectSize, this.size, gfp);
    return object;
  }

  /** Fills the CPU's array and takes one. @linux mm/slab.c:cache_alloc_refill */
  private refill(ac: ArrayCache, gfp: number): VirtAddr {
    const nid = this.host.cpuNode[this.smp.processorId];
    const node = this.nodes[nid];
    let wanted = ac.touched ? ac.batchcount : Math.min(ac.batchcount, BATCHREFILL_LIMIT);
    if (node.shared !== undefined && ac.takeFrom(node.shared, wanted) > 0) {
      node.shared.touched = true;
    } else {
      while (wanted > 0) {
        const pfn = this.firstSlab(node);
        if (pfn === 0) break;
        const taken = this.takeBlock(ac, pfn, wanted);
        node.freeObjects -= taken;
        wanted -= taken;
        this.settle(node, pfn);
      }
    }
    if (ac.avail === 0) {
      const pfn = this.grow(gfp, nid);
      // Reclaim on behalf of the slab may have left objects here.
      if (pfn !== 0) {
        if (ac.avail === 0) this.takeBlock(ac, pfn, wanted);
        this.settleNew(pfn);
      }
      if (ac.avail === 0) return this.takeElsewhere(nid);
    }
    ac.touched = true;
    return ac.entry[--ac.avail];
  }

  /** An object of another node's slabs, where no slab can be made. @linux mm/slab.c:fallback_alloc */
  private takeElsewhere(nid: number): VirtAddr {
    for (const other of this.host.pages.nodes[nid].fallbackOrder) {
      const object = this.takeFromNode(other);
      if (object !== 0) return object;
    }
    return 0;
  }

  /** @linux mm/slab.c:____cache_alloc_node */
  private takeFromNode(nid: number): VirtAddr {
    const node = this.nodes[nid];
    const pfn = this.firstSlab(node);
    if (pfn === 0) return 0;
    const object = this.takeObject(pfn);
    node.freeObjects--;
    this.settle(node, pfn);
    return object;
  }

  private growAndTake(gfp: number, nid: number): VirtAddr {
    const pfn = this.grow(gfp | __GFP_THISNODE, nid);
    if (pfn === 0) return 0;
    const object = this.takeObject(pfn);
    this.settleNew(pfn);
    return object;
  }

  /** The slab to take from, on its list still. @linux mm/slab.c:get_first_slab */
  private firstSlab(node: ClassicNode): Pfn {
    if (node.partial.head !== 0) return node.partial.head;
    node.freeTouched = true;
    return node.free.head;
  }

  /** Puts a slab that was taken from on the list it belongs on now. @linux mm/slab.c:fixup_slab_list */
  private settle(node: ClassicNode, pfn: Pfn): void {
    const { frames, objectsPerSlab, geometry } = this;
    const active = frames.private[pfn] & ACTIVE_MASK;
    const list = node.partial.head === pfn ? node.partial : node.free;
    list.remove(frames, pfn);
    if (active < objectsPerSlab) {
      node.partial.addHead(frames, pfn);
      return;
    }
    node.full.addHead(frames, pfn);
    // The object that held the list has been handed out.
    if (geometry.freeList === 'object') frames.index[pfn] = 0;
  }

  /** Puts a new slab on a list. @linux mm/slab.c:cache_grow_end */
  private settleNew(pfn: Pfn): void {
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
  private takeBlock(ac: ArrayCache, pfn: Pfn, wanted: number): number {
    const { frames, bytes, size } = this;
    const { entry } = ac;
    const active = frames.private[pfn] & ACTIVE_MASK;
    const count = Math.min(wanted, this.objectsPerSlab - active);
    const list = this.host.memory.index(frames.index[pfn]) + active;
    const first = this.firstObject(pfn);
    for (let i = 0; i < count; i++) entry[ac.avail++] = first + bytes[list + i] * size;
    frames.private[pfn] += count;
    return count;
  }

  /** @linux mm/slab.c:slab_get_obj */
  private takeObject(pfn: Pfn): VirtAddr {
    const { frames } = this;
    const active = frames.private[pfn] & ACTIVE_MASK;
    const slot = this.bytes[this.host.memory.index(frames.index[pfn]) + active];
    frames.private[pfn]++;
    return this.firstObject(pfn) + slot * this.size;
  }

  /** Where a slab's first object lies, behind its colour. */
  firstObject(pfn: Pfn): VirtAddr {
    return this.host.pages.pageAddress(pfn) + (this.frames.private[pfn] >>> COLOUR_SHIFT) * this.geometry.colourOff;
  }

  // ------------------------------------------------------------------------------------------------------- freeing

  override free(object: VirtAddr): void {
    const { frames, host } = this;
    const page = (object - host.pages.pageOffset) / PAGE_SIZE;
    const head = page >= 0 && page < frames.nrFrames ? compoundHead(frames, page | 0) : 0;
    if ((frames.flags[head] & PG_SLAB) === 0 || frames.mapping[head] !== this.id) {
      if (object !== 0) freeForeign(host, this, object, host.freelist.hardening !== 'none');
      return;
    }
    const ac = this.cpu[this.smp.processorId];
    if (ac.avail > 0 && ac.entry[ac.avail - 1] === object && host.freelist.hardening !== 'none') {
      this.report('double-free', object, 'Object already free');
      return;
    }
    if (object < this.firstObject(head)) {
      this.report('invalid-free', object, 'Invalid object pointer');
      return;
    }
    if (host.trace.enabled) host.trace.emit(host.tracepoints.kmemCacheFree, object);
    if (this.nodes.length > 1) {
      const nid = nodeOfPage(host.pages, head);
      const here = host.cpuNode[this.smp.processorId];
      if (nid !== here) {
        this.freeAlien(object, here, nid);
        return;
      }
    }
    if (ac.avail >= ac.limit) this.flushArray(ac);
    ac.push(object);
  }

  /** @linux mm/slab.c:cache_free_alien */
  private freeAlien(object: VirtAddr, here: number, nid: number): void {
    const alien = this.nodes[here].alien[nid]!;
    if (alien.avail === alien.limit) this.drainAlien(alien, nid);
    alien.push(object);
  }

  /** @linux mm/slab.c:__drain_alien_cache */
  private drainAlien(alien: ArrayCache, nid: number): void {
    if (alien.avail === 0) return;
    this.nodes[nid].shared?.takeFrom(alien, alien.limit);
    this.freeBlock(alien, alien.avail, nid);
  }

  /** Makes room in a CPU's array. @linux mm/slab.c:cache_flusharray */
  private flushArray(ac: ArrayCache): void {
    const nid = this.host.cpuNode[this.smp.processorId];
    const { shared } = this.nodes[nid];
    const room = shared === undefined ? 0 : shared.limit - shared.avail;
    if (shared === undefined || room === 0) {
      this.freeBlock(ac, ac.batchcount, nid);
      return;
    }
    const count = Math.min(ac.batchcount, room);
    shared.entry.set(ac.entry.subarray(0, count), shared.avail);
    shared.avail += count;
    ac.dropFirst(count);
  }

  /** Gives the first `count` objects of an array back to their slabs. @linux mm/slab.c:free_block */
  private freeBlock(ac: ArrayCache, count: number, nid: number): void {
    const { frames, geometry } = this;
    const node = this.nodes[nid];
    node.freeObjects += count;
    for (let i = 0; i < count; i++) {
      const object = ac.entry[i];
      const pfn = compoundHead(frames, this.host.pages.virtToPfn(object));
      const active = (frames.private[pfn] & ACTIVE_MASK) - 1;
      (active === this.objectsPerSlab - 1 ? node.full : node.partial).remove(frames, pfn);
      // A full slab has no list: it gets one in the object that comes back.
      if (geometry.freeList === 'object' && frames.index[pfn] === 0) frames.index[pfn] = object;
      this.bytes[this.host.memory.index(frames.index[pfn]) + active] = Math.floor((object - this.firstObject(pfn)) / this.size);
      frames.private[pfn]--;
      if (active === 0) node.free.addHead(frames, pfn);
      else node.partial.addTail(frames, pfn);
    }
    ac.dropFirst(count);
    while (node.freeObjects > node.freeLimit && node.free.tail !== 0) this.destroySlab(node, node.free.tail);
  }

  private report(kind: SlabReportKind, address: VirtAddr, what: string): void {
    const text = `BUG ${this.name}: ${what} 0x${this.host.memory.format(address)}`;
    this.host.report({ kind, cache: this.name, address, text, fatal: kind === 'double-free' });
  }

  // --------------------------------------------------------------------------------------------------------- slabs

  /** Makes a slab, on no list yet; 0 where there is no memory. @linux mm/slab.c:cache_grow_begin */
  private grow(gfp: number, nid: number): Pfn {
    const { host, frames, geometry, order, size, ctor } = this;
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
    const list = host.memory.index(frames.index[pfn]);
    const { objectsPerSlab } = this;
    if (ctor !== undefined) for (let i = 0; i < objectsPerSlab; i++) ctor(first + i * size);
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

  /** Where the free list of a new slab lies; 0 where there is no memory for it. @linux mm/slab.c:alloc_slabmgmt */
  private freeListOf(pfn: Pfn, gfp: number): VirtAddr {
    const { geometry, objectsPerSlab, size, order } = this;
    if (geometry.freeList === 'off-slab') return this.host.kmalloc(objectsPerSlab, gfp & ~__GFP_ZERO);
    if (geometry.freeList === 'slab') return this.host.pages.pageAddress(pfn) + PAGE_SIZE * 2 ** order - objectsPerSlab;
    return this.firstObject(pfn) + (objectsPerSlab - 1) * size;
  }

  private moveListTo(pfn: Pfn, object: VirtAddr): void {
    const { frames, host, objectsPerSlab, bytes } = this;
    const from = host.memory.index(frames.index[pfn]);
    bytes.copyWithin(host.memory.index(object), from, from + objectsPerSlab);
    frames.index[pfn] = object;
  }

  /** Gives a slab without live objects back. @linux mm/slab.c:slab_destroy */
  private destroySlab(node: ClassicNode, pfn: Pfn): void {
    const { frames, host, geometry } = this;
    node.free.remove(frames, pfn);
    node.freeObjects -= this.objectsPerSlab;
    bugOn(!this.slabs.delete(pfn), 'slab: a slab given back that the cache does not own');
    const list = frames.index[pfn];
    giveSlabPages(host, pfn, this.flags, this.order);
    if (geometry.freeList === 'off-slab') host.kfree(list);
  }

  // --------------------------------------------------------------------------------------------------- giving back

  /** Empties every array, then gives back every free slab. @linux mm/slab.c:__kmem_cache_shrink */
  override shrink(): number {
    const before = this.slabs.size;
    const { cpuNode } = this.host;
    this.cpu.forEach((ac, id) => {
      this.freeArray(ac, cpuNode[id]);
    });
    this.nodes.forEach((node, here) => {
      node.alien.forEach((alien, nid) => {
        if (alien !== undefined) this.drainAlien(alien, nid);
      });
      if (node.shared !== undefined) this.freeArray(node.shared, here);
    });
    // What aliens sent to shared arrays before.
    this.nodes.forEach((node, nid) => {
      if (node.shared !== undefined) this.freeArray(node.shared, nid);
      while (node.free.tail !== 0) this.destroySlab(node, node.free.tail);
    });
    return (before - this.slabs.size) * 2 ** this.order;
  }

  /** Frees all of an array: the objects of a CPU's may be of other nodes, when it took them for want of its own. */
  private freeArray(ac: ArrayCache, nid: number): void {
    if (this.nodes.length === 1) {
      this.freeBlock(ac, ac.avail, nid);
      return;
    }
    const objects = ac.entry.slice(0, ac.avail);
    ac.avail = 0;
    for (const object of objects) {
      const pfn = compoundHead(this.frames, this.host.pages.virtToPfn(object));
      ac.push(object);
      this.freeBlock(ac, 1, nodeOfPage(this.host.pages, pfn));
    }
  }

  override shutdown(): boolean {
    this.shrink();
    return this.slabs.size === 0;
  }

  /**
   * What the running CPU does every two seconds: objects that were not needed go back to their slabs, a fifth of what the
   * array may hold at a time, and free slabs that were not needed are given back.
   *
   * @linux mm/slab.c:cache_reap
   */
  override reap(): void {
    const { host } = this;
    const here = host.cpuNode[this.smp.processorId];
    const node = this.nodes[here];
    node.alien.forEach((alien, nid) => {
      if (alien !== undefined) this.drainAlien(alien, nid);
    });
    this.reapArray(this.cpu[this.smp.processorId], here);
    if (node.nextReap > host.tracking.jiffies) return;
    node.nextReap = host.tracking.jiffies + REAPTIMEOUT_NODE;
    if (node.shared !== undefined) this.reapArray(node.shared, here);
    if (node.freeTouched) {
      node.freeTouched = false;
      return;
    }
    let slabs = Math.floor((node.freeLimit + 5 * this.objectsPerSlab - 1) / (5 * this.objectsPerSlab));
    while (slabs-- > 0 && node.free.tail !== 0) this.destroySlab(node, node.free.tail);
  }

  /** @linux mm/slab.c:drain_array */
  private reapArray(ac: ArrayCache, nid: number): void {
    if (ac.touched) {
      ac.touched = false;
      return;
    }
    let count = Math.floor((ac.limit + 4) / 5);
    if (count > ac.avail) count = Math.floor((ac.avail + 1) / 2);
    this.freeBlock(ac, count, nid);
  }

  // ------------------------------------------------------------------------------------------------------- looking

  /** Free objects in arrays. */
  arrayObjects(): VirtAddr[] {
    const arrays = [...this.cpu, ...this.nodes.flatMap(({ shared, alien }) => [shared, ...alien])];
    return arrays.flatMap((ac) => (ac === undefined ? [] : [...ac.entry.subarray(0, ac.avail)]));
  }

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
    return this.slabs.size * 2 ** this.order;
  }

  override get usableSize(): number {
    return this.objectSize;
  }

  /** @linux mm/slab.c:get_slabinfo */
  override slabInfo(): SlabInfo {
    const { limit, batchcount, shared } = this.geometry;
    const sum = (of: (node: ClassicNode) => number): number => this.nodes.reduce((total, node) => total + of(node), 0);
    return {
      ...super.slabInfo(),
      activeObjects: this.totalObjects - sum(({ freeObjects }) => freeObjects),
      activeSlabs: this.slabs.size - sum(({ free }) => free.length),
      tunables: { limit, batchcount, sharedFactor: shared },
      sharedAvail: sum((node) => node.shared?.avail ?? 0),
    };
  }

  override objectAt(address: VirtAddr): VirtAddr {
    const head = compoundHead(this.frames, this.host.pages.virtToPfn(address));
    const first = this.firstObject(head);
    return first + Math.floor((address - first) / this.size) * this.size;
  }

  override liveObjects(): VirtAddr[] {
    return classicLiveObjects(this);
  }

  override validate(claim: SlabOwnershipCheck): void {
    validateClassic(this);
    for (const pfn of this.slabs) claim(pfn, 2 ** this.order, this);
  }
}

/** SLAB, as `"slab": "slab"` asks for it. */
export class ClassicSlabAllocator implements SlabAllocator {
  readonly name = 'slab';
  readonly reaps = true;
  /** @linux include/linux/slab.h:KMALLOC_SHIFT_LOW */
  readonly kmallocMinSize = 32;

  createCache(host: SlabHost, spec: CacheSpec): KmemCache | number {
    const geometry = classicGeometry(
      { objectSize: spec.objectSize, align: spec.align, flags: spec.flags, hasConstructor: spec.ctor !== undefined },
      host.machine,
      (bytes) => {
        const cache = host.kmallocCache(bytes);
        return cache instanceof ClassicCache && cache.geometry.freeList !== 'off-slab' ? cache.size : undefined;
      },
    );
    return typeof geometry === 'number' ? geometry : new ClassicCache(host, spec, geometry);
  }
}
