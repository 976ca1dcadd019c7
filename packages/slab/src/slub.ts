/**
 * SLUB: a cache allocates from one slab per CPU, without looking at anything but that slab's free list.
 *
 *     CPU:   freelist -> objects of its slab     partial -> slabs with free objects, up to cpuPartialSlabs
 *     node:  partial <-> slabs with free objects; a full slab is on no list
 *
 * A free list runs through the free objects: each holds the address of the next at `offset`, and the last holds 0. The
 * heads that CPUs hold are host words of those pointers, so that taking an object is two loads from RAM and an addition.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_OFFSET, PAGE_SIZE, PAGE_WORDS } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { KernelBug, bugOn } from '@pagelab/lib';
import {
  __GFP_DIRECT_RECLAIM,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_COMP,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_RECLAIM,
  __GFP_RECLAIMABLE,
  __GFP_ZERO,
  PG_SLAB,
  blockOrder,
  compoundHead,
} from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import { SLAB_CACHE_DMA, SLAB_CACHE_DMA32, SLAB_RECLAIM_ACCOUNT, SLAB_RED_ZONE, SLAB_POISON, SLAB_STORE_USER, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import { calculateSizes } from './geometry.ts';
import type { SlabGeometry } from './geometry.ts';
import type { CacheSpec, SlabAllocator, SlabHost } from './host.ts';
import { KmemCache } from './kmem-cache.ts';
import type { SlabInfo, SlabOwnershipCheck } from './kmem-cache.ts';
import { formatAddress } from './report.ts';
import type { SlabReport } from './report.ts';
import {
  PartialList,
  SLAB_FROZEN,
  SLAB_ON_PARTIAL,
  frameAddress,
  giveSlabPages,
  packCounters,
  slabInuse,
  slabObjects,
  takeSlabPages,
} from './slab-pages.ts';

const NO_NODE = -1;
/** Largest order whose pages lie in one piece of host memory. */
const MAX_CONTIGUOUS_ORDER = 9;
/** Objects at most this large, in words, are cleared by a loop: a call of `fill` costs more than it saves. */
const CLEAR_BY_LOOP_WORDS = 48;
/** Slabs with at most this many free objects are brought to the front by a shrink. @linux mm/slub.c:SHRINK_PROMOTE_MAX */
const SHRINK_PROMOTE_MAX = 32;

/** What a CPU holds of a cache. @linux mm/slub.c:kmem_cache_cpu */
class CpuSlab {
  /** Host word of the first free object's pointer; −1 when there is none. */
  freeWord = -1;
  /** First page of the slab the CPU allocates from, or 0. */
  pfn: Pfn = 0;
  /** Host word, direct-map address and length in bytes of that slab; the length is 0 where there is none. */
  base = 0;
  start: VirtAddr = PAGE_OFFSET;
  bytes = 0;
  /** Low and high half of `start`, as signed 32 bits. */
  low = 0;
  high = 0;
  /** First slab of the CPU's own partial list, linked by `next`, and how many there are. */
  partial: Pfn = 0;
  partialSlabs = 0;
}

/** A cache of SLUB. @linux mm/slub.c */
class SlubCache extends KmemCache {
  readonly geometry: SlabGeometry;

  private readonly host: SlabHost;
  private readonly smp: SlabHost['smp'];
  private readonly trace: SlabHost['trace'];
  private readonly words: Int32Array;
  private readonly cpu: CpuSlab[];
  private readonly nodes: PartialList[];
  /** First page of every slab. Linux keeps no such list; checks and views need one. */
  private readonly slabs = new Set<Pfn>();
  private readonly offset: number;
  private readonly allocFlags: number;
  private nrObjects = 0;
  private pageCount = 0;

  constructor(host: SlabHost, spec: CacheSpec, geometry: SlabGeometry) {
    super(spec, geometry);
    this.host = host;
    this.smp = host.smp;
    this.trace = host.trace;
    this.words = new Int32Array(host.ram.u32.buffer);
    this.geometry = geometry;
    // An object that spans two pieces of host memory keeps its pointer in the first.
    this.offset = geometry.minOrder > MAX_CONTIGUOUS_ORDER ? 0 : geometry.offset;
    this.cpu = Array.from({ length: host.smp.cpus.length }, () => new CpuSlab());
    this.nodes = Array.from({ length: host.nrNodes }, () => new PartialList());
    let flags = geometry.order > 0 ? __GFP_COMP : 0;
    if ((spec.flags & SLAB_CACHE_DMA) !== 0) flags |= __GFP_DMA;
    if ((spec.flags & SLAB_CACHE_DMA32) !== 0) flags |= __GFP_DMA32;
    if ((spec.flags & SLAB_RECLAIM_ACCOUNT) !== 0) flags |= __GFP_RECLAIMABLE;
    this.allocFlags = flags;
  }

  // ------------------------------------------------------------------------------------------------ the fast paths

  override alloc(gfp: number): VirtAddr {
    const c = this.cpu[this.smp.processorId];
    const word = c.freeWord;
    if (word < 0) return this.allocSlow(c, gfp, NO_NODE);
    const { words } = this;
    const next = (words[word] - c.low) | 0;
    // One comparison finds the end of the list and a pointer out of the slab.
    if (next >>> 0 < c.bytes && words[word + 1] === c.high) c.freeWord = c.base + ((next + this.offset) >> 2);
    else this.endOfList(c, word);
    const object = c.start + (((word - c.base) << 2) - this.offset);
    if ((gfp & __GFP_ZERO) !== 0) this.clear(word - (this.offset >> 2), object);
    if (this.trace.enabled) this.traceAlloc(object, gfp);
    return object;
  }

  override free(object: VirtAddr): void {
    const c = this.cpu[this.smp.processorId];
    const at = object - c.start;
    if (at >= 0 && at < c.bytes) {
      const { words } = this;
      const word = c.base + ((at + this.offset) >> 2);
      const head = c.freeWord;
      if ((at & 3) === 0 && word !== head) {
        if (head < 0) {
          words[word] = 0;
          words[word + 1] = 0;
        } else {
          words[word] = c.low + (((head - c.base) << 2) - this.offset);
          words[word + 1] = c.high;
        }
        c.freeWord = word;
        if (this.trace.enabled) this.trace.emit(this.host.tracepoints.kmemCacheFree, object);
        return;
      }
    }
    this.freeSlow(object, c);
  }

  override allocNode(gfp: number, node: number): VirtAddr {
    if (node === NO_NODE || this.nodes.length === 1) return this.alloc(gfp);
    const c = this.cpu[this.smp.processorId];
    if (c.pfn !== 0 && nodeOfPage(this.host.pages, c.pfn) === node && c.freeWord >= 0) return this.alloc(gfp);
    return this.allocSlow(c, gfp, node);
  }

  /** The list ends at `word`, or what it holds there is no object of the slab. */
  private endOfList(c: CpuSlab, word: number): void {
    c.freeWord = -1;
    if (this.words[word] === 0 && this.words[word + 1] === 0) return;
    // As Linux does: the objects behind the broken pointer are given up.
    this.report('freelist-corrupt', c.start + (((word - c.base) << 2) - this.offset), 'Freepointer corrupt');
  }

  /** Sets an object to zero; `word` is its host word. */
  private clear(word: number, object: VirtAddr): void {
    const { words } = this;
    const nrWords = (this.objectSize + 3) >> 2;
    const end = word + nrWords;
    if (nrWords <= CLEAR_BY_LOOP_WORDS) {
      for (let i = word; i < end; i++) words[i] = 0;
    } else if (this.geometry.minOrder <= MAX_CONTIGUOUS_ORDER) {
      words.fill(0, word, end);
    } else {
      const first = (object - PAGE_OFFSET) / PAGE_SIZE;
      for (let i = 0; i * PAGE_WORDS < nrWords; i++) this.host.ram.zeroFrame(first + i);
    }
  }

  private traceAlloc(object: VirtAddr, gfp: number): void {
    this.trace.emit(this.host.tracepoints.kmemCacheAlloc, object, this.objectSize, this.size, gfp);
  }

  // -------------------------------------------------------------------------------------------------- allocating

  /** @linux mm/slub.c:___slab_alloc */
  private allocSlow(c: CpuSlab, gfp: number, node: number): VirtAddr {
    const { frames } = this.host.pages;
    if (c.pfn !== 0 && node !== NO_NODE && nodeOfPage(this.host.pages, c.pfn) !== node) this.deactivate(c);
    if (c.pfn !== 0 && c.freeWord < 0) {
      // Other CPUs may have freed objects of this slab meanwhile.
      if (frames.index[c.pfn] !== 0) {
        this.takeFreeList(c);
      } else {
        frames.private[c.pfn] &= ~SLAB_FROZEN;
        this.detach(c);
      }
    }
    if (c.pfn === 0) {
      const pfn = this.nextSlab(c, gfp, node);
      if (pfn === 0) return 0;
      this.attach(c, pfn);
      this.takeFreeList(c);
    }
    return this.alloc(gfp);
  }

  /** A slab with free objects, on no list any more: the CPU's own, the node's, another node's, or a new one; 0: none. */
  private nextSlab(c: CpuSlab, gfp: number, node: number): Pfn {
    const { frames } = this.host.pages;
    while (c.partial !== 0) {
      const pfn = c.partial;
      c.partial = frames.next[pfn];
      c.partialSlabs--;
      if (node === NO_NODE || nodeOfPage(this.host.pages, pfn) === node) return pfn;
      this.putPartial(pfn);
    }
    const local = node === NO_NODE ? this.localNode() : node;
    const partial = this.getPartial(c, local);
    if (partial !== 0) return partial;
    if (node === NO_NODE) {
      // Rather another node's slab than a new one, as long as that node has slabs to spare.
      for (let i = 1; i < this.nodes.length; i++) {
        const other = (local + i) % this.nodes.length;
        if (this.nodes[other].length <= this.geometry.minPartial) continue;
        const pfn = this.getPartial(c, other);
        if (pfn !== 0) return pfn;
      }
    }
    return this.newSlab(gfp);
  }

  /** Takes a slab of a node's list, and some more for the CPU's own. @linux mm/slub.c:get_partial_node */
  private getPartial(c: CpuSlab, node: number): Pfn {
    const list = this.nodes[node];
    const { frames } = this.host.pages;
    const pfn = list.head;
    if (pfn === 0) return 0;
    list.remove(frames, pfn);
    const { cpuPartialSlabs } = this.geometry;
    if (cpuPartialSlabs > 0) {
      for (let taken = 0; list.head !== 0 && taken <= cpuPartialSlabs / 2; taken++) {
        const more = list.head;
        list.remove(frames, more);
        this.pushCpuPartial(c, more);
      }
    }
    return pfn;
  }

  private attach(c: CpuSlab, pfn: Pfn): void {
    const { frames } = this.host.pages;
    frames.private[pfn] |= SLAB_FROZEN;
    const start = frameAddress(pfn);
    const high = Math.floor(start / 2 ** 32);
    c.pfn = pfn;
    c.base = this.host.ram.frameWord(pfn);
    c.start = start;
    c.bytes = slabObjects(frames, pfn) * this.size;
    c.low = (start - high * 2 ** 32) | 0;
    c.high = high | 0;
    c.freeWord = -1;
  }

  private detach(c: CpuSlab): void {
    c.pfn = 0;
    c.bytes = 0;
    c.freeWord = -1;
  }

  /** Moves the slab's own free list to the CPU. @linux mm/slub.c:get_freelist */
  private takeFreeList(c: CpuSlab): void {
    const { frames } = this.host.pages;
    const first = frames.index[c.pfn];
    c.freeWord = c.base + ((first - c.start + this.offset) >> 2);
    frames.index[c.pfn] = 0;
    frames.private[c.pfn] = packCounters(slabObjects(frames, c.pfn), slabObjects(frames, c.pfn), SLAB_FROZEN);
  }

  /** Makes a slab: pages, constructor, free list in ascending order. @linux mm/slub.c:allocate_slab */
  private newSlab(gfp: number): Pfn {
    const { host, size, geometry, offset, ctor, words } = this;
    const { redLeftPad, minOrder } = geometry;
    const flags = (gfp & ~__GFP_ZERO) | this.allocFlags;
    let order = minOrder > MAX_CONTIGUOUS_ORDER ? minOrder : Math.min(geometry.order, MAX_CONTIGUOUS_ORDER);
    // The larger block is a wish: no effort is made for it while a smaller one would do.
    let hopeful = (flags | __GFP_NOWARN | __GFP_NORETRY) & ~__GFP_NOFAIL;
    if ((hopeful & __GFP_DIRECT_RECLAIM) !== 0 && order > minOrder) {
      hopeful = (hopeful | __GFP_NOMEMALLOC) & ~__GFP_RECLAIM;
    }
    let pfn = takeSlabPages(host, this.id, this.flags, hopeful, order);
    if (pfn < 0) {
      order = minOrder;
      pfn = takeSlabPages(host, this.id, this.flags, flags, order);
      if (pfn < 0) return 0;
    }
    const objects = Math.floor((PAGE_SIZE * 2 ** order) / size);
    const first = frameAddress(pfn) + redLeftPad;
    if (ctor !== undefined) for (let i = 0; i < objects; i++) ctor(first + i * size);
    const high = Math.floor(first / 2 ** 32);
    let low = (first - high * 2 ** 32) | 0;
    let word = host.ram.frameWord(pfn) + ((redLeftPad + offset) >> 2);
    for (let i = objects - 1; i > 0; i--, word += size >> 2) {
      low = (low + size) | 0;
      words[word] = low;
      words[word + 1] = high;
    }
    words[word] = 0;
    words[word + 1] = 0;
    const { frames } = host.pages;
    frames.index[pfn] = first;
    frames.private[pfn] = packCounters(objects, 0, 0);
    frames.next[pfn] = 0;
    frames.prev[pfn] = 0;
    this.slabs.add(pfn);
    this.nrObjects += objects;
    this.pageCount += 2 ** order;
    return pfn;
  }

  /** @linux mm/slub.c:discard_slab */
  private discard(pfn: Pfn): void {
    bugOn(!this.slabs.delete(pfn), 'slab: a slab given back that the cache does not own');
    const order = blockOrder(this.host.pages.frames, pfn);
    this.nrObjects -= slabObjects(this.host.pages.frames, pfn);
    this.pageCount -= 2 ** order;
    giveSlabPages(this.host, pfn, this.flags, order);
  }

  // ------------------------------------------------------------------------------------------------------ freeing

  /** The object is not in the running CPU's slab, or something is wrong with it. */
  private freeSlow(object: VirtAddr, c: CpuSlab): void {
    if (object === 0) return;
    const pfn = Math.floor((object - PAGE_OFFSET) / PAGE_SIZE);
    const owner = this.host.cacheOfPage(pfn);
    if (owner === undefined) {
      this.report('invalid-free', object, 'Not a slab object');
      return;
    }
    if (owner !== this) {
      this.report('wrong-cache', object, `Wrong slab cache. Object is from ${owner.name}`);
      owner.free(object);
      return;
    }
    const head = compoundHead(this.host.pages.frames, pfn);
    const at = object - frameAddress(head) - this.geometry.redLeftPad;
    if (at % 4 !== 0 || at < 0) {
      this.report('invalid-free', object, 'Invalid object pointer');
      return;
    }
    if (this.trace.enabled) this.trace.emit(this.host.tracepoints.kmemCacheFree, object);
    if (head === c.pfn) {
      // The fast path declined it: it is the head of the free list, or beyond the last object.
      this.report('double-free', object, 'Object already free');
      return;
    }
    this.slabFree(head, object, c);
  }

  /** Puts an object on its slab's own list and the slab where it belongs then. @linux mm/slub.c:__slab_free */
  private slabFree(head: Pfn, object: VirtAddr, c: CpuSlab): void {
    const { frames } = this.host.pages;
    const prior = frames.index[head];
    const counters = frames.private[head];
    const inuse = slabInuse(frames, head) - 1;
    if (prior === object || inuse < 0) {
      this.report('double-free', object, 'Object already free');
      return;
    }
    this.setFreePointer(head, object, prior);
    frames.index[head] = object;
    frames.private[head] = counters - 1;
    if ((counters & SLAB_FROZEN) !== 0) return;
    const { minPartial, cpuPartialSlabs } = this.geometry;
    if (prior === 0) {
      // It was full, so on no list.
      if (cpuPartialSlabs > 0) this.putCpuPartial(c, head);
      else this.putPartial(head);
      return;
    }
    if (inuse > 0 || (counters & SLAB_ON_PARTIAL) === 0) return;
    const list = this.nodes[nodeOfPage(this.host.pages, head)];
    if (list.length < minPartial) return;
    list.remove(frames, head);
    this.discard(head);
  }

  /** Adds a slab to the CPU's partial list; a full list goes to the nodes first. @linux mm/slub.c:put_cpu_partial */
  private putCpuPartial(c: CpuSlab, pfn: Pfn): void {
    if (c.partialSlabs >= this.geometry.cpuPartialSlabs) this.flushPartial(c);
    this.pushCpuPartial(c, pfn);
  }

  private pushCpuPartial(c: CpuSlab, pfn: Pfn): void {
    this.host.pages.frames.next[pfn] = c.partial;
    c.partial = pfn;
    c.partialSlabs++;
  }

  /** @linux mm/slub.c:__put_partials */
  private flushPartial(c: CpuSlab): void {
    const { frames } = this.host.pages;
    let pfn = c.partial;
    c.partial = 0;
    c.partialSlabs = 0;
    while (pfn !== 0) {
      const next = frames.next[pfn];
      this.putPartial(pfn);
      pfn = next;
    }
  }

  /** Puts a slab that is on no list on its node's, or gives it back where it is empty and the node has enough. */
  private putPartial(pfn: Pfn): void {
    const { frames } = this.host.pages;
    const list = this.nodes[nodeOfPage(this.host.pages, pfn)];
    if (slabInuse(frames, pfn) === 0 && list.length >= this.geometry.minPartial) this.discard(pfn);
    else list.addTail(frames, pfn);
  }

  /** Takes the CPU's slab away from it. @linux mm/slub.c:deactivate_slab */
  private deactivate(c: CpuSlab): void {
    const { frames } = this.host.pages;
    const { pfn } = c;
    const remote = frames.index[pfn];
    let held = 0;
    if (c.freeWord >= 0) {
      const first = c.start + (((c.freeWord - c.base) << 2) - this.offset);
      // The CPU's objects come first, then those that others freed.
      let last = c.freeWord;
      for (let word = c.freeWord; word >= 0; word = this.nextWord(c, word)) {
        last = word;
        held++;
        bugOn(held > slabObjects(frames, pfn), 'slab: free list longer than its slab');
      }
      this.words[last] = remote;
      this.words[last + 1] = Math.floor(remote / 2 ** 32);
      frames.index[pfn] = first;
    }
    frames.private[pfn] = (frames.private[pfn] - held) & ~SLAB_FROZEN;
    this.detach(c);
    if (frames.index[pfn] === 0) return; // full
    const list = this.nodes[nodeOfPage(this.host.pages, pfn)];
    if (slabInuse(frames, pfn) === 0 && list.length >= this.geometry.minPartial) this.discard(pfn);
    else if (remote !== 0) list.addTail(frames, pfn);
    else list.addHead(frames, pfn);
  }

  private nextWord(c: CpuSlab, word: number): number {
    const { words } = this;
    const next = (words[word] - c.low) | 0;
    return next >>> 0 < c.bytes && words[word + 1] === c.high ? c.base + ((next + this.offset) >> 2) : -1;
  }

  private setFreePointer(head: Pfn, object: VirtAddr, next: VirtAddr): void {
    const word = this.host.ram.frameWord(head) + ((object - frameAddress(head) + this.offset) >> 2);
    this.words[word] = next;
    this.words[word + 1] = Math.floor(next / 2 ** 32);
  }

  // ---------------------------------------------------------------------------------------- giving back and looking

  /** @linux mm/slub.c:flush_all */
  private flushAll(): void {
    for (const c of this.cpu) {
      if (c.pfn !== 0) this.deactivate(c);
      this.flushPartial(c);
    }
  }

  override shrink(): number {
    const before = this.pageCount;
    this.flushAll();
    const { frames } = this.host.pages;
    for (const list of this.nodes) {
      const promoted: Pfn[][] = [];
      for (let pfn = list.head, next: Pfn; pfn !== 0; pfn = next) {
        next = frames.next[pfn];
        const free = slabObjects(frames, pfn) - slabInuse(frames, pfn);
        if (slabInuse(frames, pfn) === 0) {
          list.remove(frames, pfn);
          this.discard(pfn);
        } else if (free <= SHRINK_PROMOTE_MAX) {
          list.remove(frames, pfn);
          (promoted[free] ??= []).push(pfn);
        }
      }
      // The fullest slabs come first, so that the emptiest get a chance to run empty.
      for (let free = SHRINK_PROMOTE_MAX; free > 0; free--) {
        for (const pfn of promoted[free]?.reverse() ?? []) list.addHead(frames, pfn);
      }
    }
    return before - this.pageCount;
  }

  override shutdown(): boolean {
    this.shrink();
    return this.slabs.size === 0;
  }

  private localNode(): number {
    return 0;
  }

  override get activeObjects(): number {
    let free = this.freeOnNodes();
    const { frames } = this.host.pages;
    for (const c of this.cpu) {
      for (let pfn = c.partial; pfn !== 0; pfn = frames.next[pfn]) free += slabObjects(frames, pfn) - slabInuse(frames, pfn);
      if (c.pfn === 0) continue;
      free += slabObjects(frames, c.pfn) - slabInuse(frames, c.pfn);
      for (let word = c.freeWord; word >= 0; word = this.nextWord(c, word)) free++;
    }
    return this.nrObjects - free;
  }

  private freeOnNodes(): number {
    const { frames } = this.host.pages;
    let free = 0;
    for (const list of this.nodes) {
      for (let pfn = list.head; pfn !== 0; pfn = frames.next[pfn]) free += slabObjects(frames, pfn) - slabInuse(frames, pfn);
    }
    return free;
  }

  override get totalObjects(): number {
    return this.nrObjects;
  }

  override get activeSlabs(): number {
    return this.slabs.size;
  }

  override get nrPages(): number {
    return this.pageCount;
  }

  override slabInfo(): SlabInfo {
    return {
      name: this.name,
      activeObjects: this.nrObjects - this.freeOnNodes(),
      totalObjects: this.nrObjects,
      objectSize: this.size,
      objectsPerSlab: this.objectsPerSlab,
      pagesPerSlab: 2 ** this.order,
      activeSlabs: this.slabs.size,
      totalSlabs: this.slabs.size,
    };
  }

  override get usableSize(): number {
    if ((this.flags & (SLAB_RED_ZONE | SLAB_POISON)) !== 0) return this.objectSize;
    if ((this.flags & (SLAB_TYPESAFE_BY_RCU | SLAB_STORE_USER)) !== 0) return this.geometry.inuse;
    return this.size;
  }

  override objectAt(address: VirtAddr): VirtAddr {
    const first = frameAddress(compoundHead(this.host.pages.frames, Math.floor((address - PAGE_OFFSET) / PAGE_SIZE))) + this.geometry.redLeftPad;
    return first + Math.floor((address - first) / this.size) * this.size;
  }

  override liveObjects(): VirtAddr[] {
    const live: VirtAddr[] = [];
    for (const pfn of this.slabs) {
      const free = this.freeObjectsOf(pfn);
      const first = frameAddress(pfn) + this.geometry.redLeftPad;
      for (let i = 0; i < free.length; i++) if (free[i] === 0) live.push(first + i * this.size);
    }
    return live;
  }

  /** One byte an object of a slab: 1 where it is on the slab's list, 2 where it is on a CPU's, 0 where it is live. */
  private freeObjectsOf(pfn: Pfn): Uint8Array {
    const { frames } = this.host.pages;
    const state = new Uint8Array(slabObjects(frames, pfn));
    const base = this.host.ram.frameWord(pfn);
    const start = frameAddress(pfn);
    const walk = (from: VirtAddr, mark: number): void => {
      for (let object = from; object !== 0; ) {
        const at = object - start - this.geometry.redLeftPad;
        const index = at / this.size;
        bugOn(!Number.isInteger(index) || !(index >= 0 && index < state.length), `slab ${this.name}: a free pointer out of its slab`);
        bugOn(state[index] !== 0, `slab ${this.name}: an object twice on free lists`);
        state[index] = mark;
        const word = base + ((object - start + this.offset) >> 2);
        object = this.words[word + 1] * 2 ** 32 + (this.words[word] >>> 0);
      }
    };
    walk(frames.index[pfn], 1);
    for (const c of this.cpu) {
      if (c.pfn === pfn && c.freeWord >= 0) walk(c.start + (((c.freeWord - c.base) << 2) - this.offset), 2);
    }
    return state;
  }

  override validate(claim: SlabOwnershipCheck): void {
    const { frames } = this.host.pages;
    const fail = (what: string): never => {
      throw new KernelBug(`slab ${this.name}: ${what}`);
    };
    const listed = new Map<Pfn, string>();
    const list = (pfn: Pfn, where: string): void => {
      if (!this.slabs.has(pfn)) fail(`page ${pfn} on ${where} is no slab of the cache`);
      if (listed.has(pfn)) fail(`slab ${pfn} on ${where} is also on ${listed.get(pfn)}`);
      listed.set(pfn, where);
    };
    this.nodes.forEach((node, i) => {
      let prev = 0;
      let length = 0;
      for (let pfn = node.head; pfn !== 0; prev = pfn, pfn = frames.next[pfn], length++) {
        list(pfn, `the partial list of node ${i}`);
        if (frames.prev[pfn] !== prev) fail(`the partial list of node ${i} is broken at slab ${pfn}`);
        if ((frames.private[pfn] & SLAB_ON_PARTIAL) === 0) fail(`slab ${pfn} is on a node's list without saying so`);
        if (nodeOfPage(this.host.pages, pfn) !== i) fail(`slab ${pfn} is on the list of another node`);
      }
      if (node.tail !== prev || node.length !== length) fail(`the partial list of node ${i} does not add up`);
    });
    this.cpu.forEach((c, i) => {
      let length = 0;
      for (let pfn = c.partial; pfn !== 0; pfn = frames.next[pfn], length++) list(pfn, `the partial list of CPU ${i}`);
      if (c.partialSlabs !== length) fail(`the partial list of CPU ${i} does not add up`);
      if (c.pfn === 0) return;
      list(c.pfn, `CPU ${i}`);
      if ((frames.private[c.pfn] & SLAB_FROZEN) === 0) fail(`slab ${c.pfn} of CPU ${i} is not frozen`);
    });
    let objects = 0;
    let pages = 0;
    for (const pfn of this.slabs) {
      const order = blockOrder(frames, pfn);
      claim(pfn, 2 ** order, this);
      if ((frames.flags[pfn] & PG_SLAB) === 0 || frames.mapping[pfn] !== this.id) fail(`slab ${pfn} is not marked`);
      const nr = slabObjects(frames, pfn);
      if (nr !== Math.floor((PAGE_SIZE * 2 ** order) / this.size)) fail(`slab ${pfn} holds ${nr} objects`);
      const free = this.freeObjectsOf(pfn);
      let own = 0;
      for (const state of free) own += state === 1 ? 1 : 0;
      if (own !== nr - slabInuse(frames, pfn)) {
        fail(`slab ${pfn} has ${own} free objects on its list, ${nr - slabInuse(frames, pfn)} by its count`);
      }
      const where = listed.get(pfn);
      if (where === undefined && own > 0) fail(`slab ${pfn} has free objects and is on no list`);
      const onNode = (frames.private[pfn] & SLAB_ON_PARTIAL) !== 0;
      if (onNode !== (where?.includes('node') ?? false)) fail(`slab ${pfn} is not on the list it says`);
      objects += nr;
      pages += 2 ** order;
    }
    if (objects !== this.nrObjects || pages !== this.pageCount) fail('its objects or pages do not add up');
  }

  private report(kind: SlabReport['kind'], address: VirtAddr, what: string): void {
    this.host.report({ kind, cache: this.name, address, text: `BUG ${this.name}: ${what} 0x${formatAddress(address)}` });
  }
}

/** The SLUB allocator. @linux mm/slub.c */
export class SlubAllocator implements SlabAllocator {
  readonly name = 'slub';

  createCache(host: SlabHost, spec: CacheSpec): KmemCache | number {
    const shape = { ...spec, hasConstructor: spec.ctor !== undefined };
    const geometry = calculateSizes(shape, host.machine);
    return typeof geometry === 'number' ? geometry : new SlubCache(host, spec, geometry);
  }
}
