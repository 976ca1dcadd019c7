/**
 * SLOB, the allocator for machines with little memory that Linux had until 6.3: caches share one heap, an object takes its
 * own bytes and nothing more, and is looked for from the start of a list of pages. A `kmalloc` block has a header of eight
 * bytes with its size; what does not fit a page comes from the page allocator.
 *
 * @linux mm/slob.c (up to 6.3)
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import { MAX_PAGE_ORDER, PG_SLAB, __GFP_COMP, __GFP_ZERO, compoundHead } from '@pagelab/mm-core';
import { SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import { getOrder } from './geometry.ts';
import type { CacheSpec, KmallocHeap, SlabAllocator, SlabHost } from './host.ts';
import { KmemCache } from './kmem-cache.ts';
import type { SlabOwnershipCheck } from './kmem-cache.ts';
import type { SlabReportKind } from './report.ts';
import { cacheOfPage, giveSlabPages, takeSlabPages } from './slab-pages.ts';
import { SLOB_UNIT, SlobHeap } from './slob-heap.ts';

/** Bytes of the header of a `kmalloc` block, and its least alignment. */
const MIN_ALIGN = 8;
/** Bytes behind an object that readers may still look at while it is freed. @linux mm/slob.c:slob_rcu */
const RCU_FOOTER = 24;

/** A cache of SLOB: a size, an alignment, and how many objects are out. @linux mm/slab.h:kmem_cache */
class SlobCache extends KmemCache {
  /** Pages of objects too large for the heap. */
  nrPages = 0;
  private readonly host: SlabHost;
  private readonly shared: SlobShared;
  private readonly blocks = new Set<Pfn>();
  /** Objects that were freed, and wait until nobody looks at them. */
  private readonly leaving = new Set<VirtAddr>();
  private live = 0;

  constructor(host: SlabHost, spec: CacheSpec, size: number, shared: SlobShared) {
    const order = size < PAGE_SIZE ? 0 : getOrder(size);
    super(spec, { size, order, objectsPerSlab: size < PAGE_SIZE ? Math.floor(PAGE_SIZE / size) : 1 });
    this.host = host;
    this.shared = shared;
  }

  override alloc(gfp: number): VirtAddr {
    return this.allocNode(gfp, -1);
  }

  /** @linux mm/slob.c:slob_alloc_node */
  override allocNode(gfp: number, node: number): VirtAddr {
    const { host, size, ctor } = this;
    let object: VirtAddr;
    if (size < PAGE_SIZE) {
      object = this.shared.heap.alloc(size, gfp, this.align, node, 0);
      if (object === 0) return 0;
      this.shared.heap.starts.set(object, this.id);
    } else {
      const pfn = takeSlabPages(host, this, (gfp & ~__GFP_ZERO) | __GFP_COMP, this.order, node);
      if (pfn < 0) return 0;
      this.blocks.add(pfn);
      this.nrPages += 2 ** this.order;
      object = this.host.pages.pageAddress(pfn);
    }
    this.live++;
    if ((gfp & __GFP_ZERO) !== 0) host.memory.fill(object, this.objectSize, 0);
    // A free object holds links: it is constructed each time it is handed out.
    if (ctor !== undefined) ctor(object);
    if (host.trace.enabled) host.trace.emit(host.tracepoints.kmemCacheAlloc, object, this.objectSize, size, gfp);
    return object;
  }

  /** @linux mm/slob.c:kmem_cache_free */
  override free(object: VirtAddr): void {
    if (object === 0) return;
    const { host, shared } = this;
    const page = cacheOfPage(host, host.pages.virtToPfn(object));
    if (page === this && object !== host.pages.pageAddress(host.pages.virtToPfn(object))) {
      shared.report(this.name, 'invalid-free', object, 'Invalid object pointer');
      return;
    }
    if (page !== this && !(page === shared && shared.heap.starts.get(object) === this.id)) {
      this.freeForeign(object, page);
      return;
    }
    if (this.leaving.has(object)) {
      if (host.freelist.hardening !== 'none') shared.report(this.name, 'double-free', object, 'Object already free');
      return;
    }
    if (host.trace.enabled) host.trace.emit(host.tracepoints.kmemCacheFree, object);
    this.live--;
    const { rcu } = host;
    if ((this.flags & SLAB_TYPESAFE_BY_RCU) === 0 || rcu === null) {
      this.give(object);
      return;
    }
    // Each object waits by itself, with what stands behind it to say so.
    this.leaving.add(object);
    rcu.rcu.call(rcu.freeMemory, object);
  }

  override freeAfterGracePeriod(object: VirtAddr): void {
    this.leaving.delete(object);
    this.give(object);
  }

  private give(object: VirtAddr): void {
    const { host, shared } = this;
    if (this.size < PAGE_SIZE) {
      shared.heap.starts.set(object, 0);
      shared.heap.free(object, this.size);
      return;
    }
    const pfn = host.pages.virtToPfn(object);
    this.blocks.delete(pfn);
    this.nrPages -= 2 ** this.order;
    giveSlabPages(host, pfn, this.flags, this.order);
  }

  /** What no object of this cache begins at: Linux would cut it up. */
  private freeForeign(object: VirtAddr, page: KmemCache | undefined): void {
    const { shared, host } = this;
    if (page === undefined) {
      shared.report(this.name, 'invalid-free', object, 'Not a slab object');
      return;
    }
    const owner = page === shared ? host.caches[shared.heap.starts.get(object)] : page;
    if (owner === undefined) {
      if (host.freelist.hardening !== 'none') shared.report(this.name, 'double-free', object, 'Object already free');
      return;
    }
    const text = `cache_from_obj: Wrong slab cache. ${this.name} but object is from ${owner.name}`;
    if (host.freelist.hardening !== 'none') host.report({ kind: 'wrong-cache', cache: this.name, address: object, text });
    owner.free(object);
  }

  override shrink(): number {
    return 0;
  }

  override shutdown(): boolean {
    return this.live === 0;
  }

  override get activeObjects(): number {
    return this.live;
  }

  override get totalObjects(): number {
    return this.live;
  }

  override get activeSlabs(): number {
    return this.blocks.size;
  }

  override get usableSize(): number {
    return this.size;
  }

  override objectAt(address: VirtAddr): VirtAddr {
    if (this.size < PAGE_SIZE) return this.shared.heap.starts.before(address);
    const { pages } = this.host;
    return pages.pageAddress(compoundHead(pages.frames, pages.virtToPfn(address)));
  }

  override liveObjects(): VirtAddr[] {
    const objects = this.size < PAGE_SIZE ? [...this.shared.heap.starts.of(this.id)] : [...this.blocks].map((pfn) => this.host.pages.pageAddress(pfn));
    return this.leaving.size === 0 ? objects : objects.filter((object) => !this.leaving.has(object));
  }

  override validate(claim: SlabOwnershipCheck): void {
    const { frames } = this.host.pages;
    const live = this.liveObjects().length;
    if (live !== this.live) throw new KernelBug(`slob ${this.name}: ${live} objects, ${this.live} by its count`);
    for (const pfn of this.blocks) {
      if ((frames.flags[pfn] & PG_SLAB) === 0 || frames.mapping[pfn] !== this.id) throw new KernelBug(`slob ${this.name}: page ${pfn} is not marked`);
      claim(pfn, 2 ** this.order, this);
    }
  }
}

/**
 * What all caches share: the heap. It stands for the pages of the heap where the cache of a page is asked for, and serves
 * `kmalloc`.
 */
class SlobShared extends KmemCache implements KmallocHeap {
  readonly heap: SlobHeap;
  readonly maxSize = PAGE_SIZE - MIN_ALIGN - 1;
  private readonly host: SlabHost;
  private live = 0;

  constructor(host: SlabHost, id: number) {
    super(
      { id, name: 'slob', objectSize: PAGE_SIZE, align: MIN_ALIGN, flags: 0, userSize: 0 },
      { size: PAGE_SIZE, order: 0, objectsPerSlab: 1 },
    );
    this.host = host;
    this.heap = new SlobHeap(host, this);
  }

  report(cache: string, kind: SlabReportKind, address: VirtAddr, what: string): void {
    this.host.report({ kind, cache, address, text: `BUG ${cache}: ${what} 0x${this.host.memory.format(address)}`, fatal: kind === 'double-free' });
  }

  /** @linux mm/slob.c:__do_kmalloc_node */
  kmalloc(size: number, gfp: number): VirtAddr {
    const { host, heap } = this;
    const align = Number.isInteger(Math.log2(size)) ? Math.max(size, MIN_ALIGN) : MIN_ALIGN;
    const block = heap.alloc(size + MIN_ALIGN, gfp, align, -1, MIN_ALIGN);
    if (block === 0) return 0;
    host.memory.setWord(block, size);
    const address = block + MIN_ALIGN;
    heap.starts.set(address, this.id);
    this.live++;
    if ((gfp & __GFP_ZERO) !== 0) host.memory.fill(address, size, 0);
    return address;
  }

  /** Frees what begins at an address: a `kmalloc` block, or an object of some cache. @linux mm/slob.c:kfree */
  override free(address: VirtAddr): void {
    const { host, heap } = this;
    const owner = heap.starts.get(address);
    if (owner === this.id) {
      heap.starts.set(address, 0);
      this.live--;
      heap.free(address - MIN_ALIGN, host.memory.word(address - MIN_ALIGN) + MIN_ALIGN);
      return;
    }
    const cache = host.caches[owner];
    if (cache !== undefined) cache.free(address);
    else if (host.freelist.hardening !== 'none') this.report('kmalloc', 'double-free', address, 'Object already free');
  }

  override cacheAt(address: VirtAddr): KmemCache {
    return this.host.caches[this.heap.starts.get(this.heap.starts.before(address))] ?? this;
  }

  override sizeAt(address: VirtAddr): number {
    const cache = this.host.caches[this.heap.starts.get(address)];
    if (cache !== undefined && cache !== this) return cache.usableSize;
    return Math.ceil(this.host.memory.word(address - MIN_ALIGN) / SLOB_UNIT) * SLOB_UNIT;
  }

  override alloc(gfp: number): VirtAddr {
    return this.kmalloc(this.maxSize, gfp);
  }

  override allocNode(gfp: number): VirtAddr {
    return this.alloc(gfp);
  }

  override shrink(): number {
    return 0;
  }

  override shutdown(): boolean {
    return this.heap.nrPages === 0;
  }

  override get activeObjects(): number {
    return this.live;
  }

  override get totalObjects(): number {
    return this.live;
  }

  override get activeSlabs(): number {
    return this.heap.nrPages;
  }

  override get nrPages(): number {
    return this.heap.nrPages;
  }

  override get usableSize(): number {
    return this.maxSize;
  }

  override objectAt(address: VirtAddr): VirtAddr {
    return this.heap.starts.before(address);
  }

  override liveObjects(): VirtAddr[] {
    return [...this.heap.starts.of(this.id)];
  }

  override validate(claim: SlabOwnershipCheck): void {
    this.heap.validate((pfn) => claim(pfn, 1, this));
    const live = this.liveObjects().length;
    if (live !== this.live) throw new KernelBug(`slob: ${live} blocks, ${this.live} by its count`);
  }
}

/** SLOB, as `"slab": "slob"` asks for it: one for a machine. */
export class SlobAllocator implements SlabAllocator {
  readonly name = 'slob';
  readonly merges = false;
  private shared: SlobShared | undefined;

  createHeap(host: SlabHost, id: number): KmallocHeap & KmemCache {
    this.shared = new SlobShared(host, id);
    return this.shared;
  }

  /** @linux mm/slob.c:__kmem_cache_create */
  createCache(host: SlabHost, spec: CacheSpec): KmemCache | number {
    if (this.shared === undefined) throw new KernelBug('slob: a cache before the heap');
    const bytes = spec.objectSize + ((spec.flags & SLAB_TYPESAFE_BY_RCU) === 0 ? 0 : RCU_FOOTER);
    const size = Math.ceil(bytes / SLOB_UNIT) * SLOB_UNIT;
    if (getOrder(size) > MAX_PAGE_ORDER) return -Errno.E2BIG;
    return new SlobCache(host, spec, size, this.shared);
  }
}
