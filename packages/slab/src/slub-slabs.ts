/**
 * The slabs of a cache of SLUB: making them, and the lists of those that have free objects.
 *
 *     CPU:  partial -> slabs, up to cpuPartialSlabs          node:  partial <-> slabs
 *
 * A slab is allocated from by one CPU, or is on one list, or is full and on none.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import type { Prng } from '@pagelab/lib';
import {
  __GFP_COMP,
  __GFP_DIRECT_RECLAIM,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_RECLAIM,
  __GFP_RECLAIMABLE,
  blockOrder,
  compoundHead,
} from '@pagelab/mm-core';
import type { PageFrames } from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import {
  SLAB_CACHE_DMA,
  SLAB_CACHE_DMA32,
  SLAB_DEBUG_FLAGS,
  SLAB_POISON,
  SLAB_RECLAIM_ACCOUNT,
  SLAB_RED_ZONE,
  SLAB_STORE_USER,
  SLAB_TYPESAFE_BY_RCU,
} from './flags.ts';
import type { SlabGeometry } from './geometry.ts';
import type { CacheSpec, SlabHost } from './host.ts';
import { KmemCache } from './kmem-cache.ts';
import type { SlabInfo, SlabOwnershipCheck } from './kmem-cache.ts';
import {
  PartialList,
  SLAB_FROZEN,
  SLAB_PAGE_GFP_MASK,
  giveSlabPages,
  packCounters,
  slabInuse,
  slabObjects,
  takeSlabPages,
} from './slab-pages.ts';
import { countFree, countFreeOnNodes, liveObjects, validateSlub } from './slub-inspect.ts';
import { CpuSlab } from './slub-state.ts';
import type { SlubState } from './slub-state.ts';

/** Largest order whose pages lie in one piece of host memory. */
export const MAX_CONTIGUOUS_ORDER = 9;
/** Slabs with at most this many free objects are brought to the front by a shrink. @linux mm/slub.c:SHRINK_PROMOTE_MAX */
const SHRINK_PROMOTE_MAX = 32;

/** The slower half of a cache of SLUB: its slabs and their lists. */
export abstract class SlubSlabs extends KmemCache implements SlubState {
  readonly geometry: SlabGeometry;
  readonly host: SlabHost;
  readonly frames: PageFrames;
  readonly words: Int32Array;
  readonly cpu: CpuSlab[];
  readonly nodes: PartialList[];
  /** First page of every slab. Linux keeps no such list; checks and views need one. */
  readonly slabs = new Set<Pfn>();
  /** First page of each slab that is none any more, and waits until nobody looks at its objects. */
  readonly leaving = new Set<Pfn>();
  readonly offset: number;
  /** Where the kernel has frame 0. */
  protected readonly pageOffset: VirtAddr;
  /** A pointer has 8 bytes. */
  protected readonly wide: boolean;
  nrObjects = 0;
  nrPages = 0;
  private readonly allocFlags: number;
  /** The order in which objects of a new slab are handed out, where that is not ascending. */
  private readonly randomOrder: Uint16Array | undefined;

  constructor(host: SlabHost, spec: CacheSpec, geometry: SlabGeometry) {
    super(spec, geometry);
    this.host = host;
    this.frames = host.pages.frames;
    this.pageOffset = host.pages.pageOffset;
    this.wide = host.machine.wordBytes === 8;
    this.words = host.ram.i32;
    this.geometry = geometry;
    // An object that spans two pieces of host memory keeps its pointer in the first, unless it is debugged, when a pointer is
    // looked for page by page.
    const scattered = geometry.minOrder > MAX_CONTIGUOUS_ORDER && (spec.flags & SLAB_DEBUG_FLAGS) === 0;
    this.offset = scattered ? 0 : geometry.offset;
    this.cpu = Array.from({ length: host.smp.cpus.length }, () => new CpuSlab());
    this.nodes = Array.from({ length: host.pages.nodes.length }, () => new PartialList());
    let flags = geometry.order > 0 ? __GFP_COMP : 0;
    if ((spec.flags & SLAB_CACHE_DMA) !== 0) flags |= __GFP_DMA;
    if ((spec.flags & SLAB_CACHE_DMA32) !== 0) flags |= __GFP_DMA32;
    if ((spec.flags & SLAB_RECLAIM_ACCOUNT) !== 0) flags |= __GFP_RECLAIMABLE;
    this.allocFlags = flags;
    if (host.freelist.random && this.objectsPerSlab > 1) this.randomOrder = shuffled(this.objectsPerSlab, host.freelist.prng);
  }

  // ------------------------------------------------------------------------------------------------- free pointers

  /** Host word of an object's free pointer. */
  protected pointerWord(object: VirtAddr): number {
    const pa = object + this.offset - this.pageOffset;
    return this.host.ram.frameWord(Math.floor(pa / PAGE_SIZE)) + ((pa & (PAGE_SIZE - 1)) >> 2);
  }

  freePointer(object: VirtAddr): VirtAddr {
    const word = this.pointerWord(object);
    const low = this.words[word] >>> 0;
    return this.wide ? this.words[word + 1] * 2 ** 32 + low : low;
  }

  setFreePointer(object: VirtAddr, next: VirtAddr): void {
    const word = this.pointerWord(object);
    this.words[word] = next;
    if (this.wide) this.words[word + 1] = Math.floor(next / 2 ** 32);
  }

  nextFreeWord(c: CpuSlab, word: number): number {
    const next = (this.words[word] - c.low) | 0;
    return next >>> 0 < c.bytes && (!this.wide || this.words[word + 1] === c.high) ? c.base + ((next + this.offset) >> 2) : -1;
  }

  // ------------------------------------------------------------------------------------------------- making slabs

  /** Makes a slab: pages, constructor, free list in ascending order. @linux mm/slub.c:allocate_slab */
  protected newSlab(gfp: number, node: number): Pfn {
    const { host, size, geometry, ctor } = this;
    const { redLeftPad, minOrder } = geometry;
    const flags = (gfp & SLAB_PAGE_GFP_MASK) | this.allocFlags;
    let order = minOrder > MAX_CONTIGUOUS_ORDER ? minOrder : Math.min(geometry.order, MAX_CONTIGUOUS_ORDER);
    // The larger block is a wish: no effort is made for it while a smaller one would do.
    let hopeful = (flags | __GFP_NOWARN | __GFP_NORETRY) & ~__GFP_NOFAIL;
    if ((hopeful & __GFP_DIRECT_RECLAIM) !== 0 && order > minOrder) {
      hopeful = (hopeful | __GFP_NOMEMALLOC) & ~__GFP_RECLAIM;
    }
    let pfn = takeSlabPages(host, this, hopeful, order, node);
    if (pfn < 0) {
      order = minOrder;
      pfn = takeSlabPages(host, this, flags, order, node);
      if (pfn < 0) return 0;
    }
    const objects = Math.floor((PAGE_SIZE * 2 ** order) / size);
    const first = this.host.pages.pageAddress(pfn) + redLeftPad;
    this.prepareSlab(pfn, order, objects);
    if (ctor !== undefined) for (let i = 0; i < objects; i++) ctor(first + i * size);
    const head = this.randomOrder === undefined ? this.linkAscending(pfn, objects) : this.linkShuffled(pfn, objects, this.randomOrder);
    const { frames } = this;
    frames.index[pfn] = head;
    frames.private[pfn] = packCounters(objects, 0, 0);
    frames.next[pfn] = 0;
    frames.prev[pfn] = 0;
    this.slabs.add(pfn);
    this.nrObjects += objects;
    this.nrPages += 2 ** order;
    return pfn;
  }

  /** Is told of the pages of a new slab before its objects are constructed. @linux mm/slub.c:setup_slab_debug */
  protected prepareSlab(_pfn: Pfn, _order: number, _objects: number): void {}

  /** Links a slab's objects into a list in ascending order. Returns the first. */
  protected linkAscending(pfn: Pfn, objects: number): VirtAddr {
    const { words, size, wide } = this;
    const { redLeftPad } = this.geometry;
    const first = this.host.pages.pageAddress(pfn) + redLeftPad;
    const high = Math.floor(first / 2 ** 32);
    let low = (first - high * 2 ** 32) | 0;
    let word = this.host.ram.frameWord(pfn) + ((redLeftPad + this.offset) >> 2);
    for (let i = objects - 1; i > 0; i--, word += size >> 2) {
      low = (low + size) | 0;
      words[word] = low;
      if (wide) words[word + 1] = high;
    }
    words[word] = 0;
    if (wide) words[word + 1] = 0;
    return first;
  }

  /** Links them in the cache's order, from a place of the slab's own. @linux mm/slub.c:shuffle_freelist */
  private linkShuffled(pfn: Pfn, objects: number, order: Uint16Array): VirtAddr {
    const base = this.host.pages.pageAddress(pfn) + this.geometry.redLeftPad;
    const start = this.host.freelist.prng.below(order.length);
    let head = 0;
    let last = 0;
    for (let i = 0; i < order.length; i++) {
      const slot = order[(start + i) % order.length];
      // A slab of the least order has fewer objects.
      if (slot >= objects) continue;
      const object = base + slot * this.size;
      if (last === 0) head = object;
      else this.setFreePointer(last, object);
      last = object;
    }
    this.setFreePointer(last, 0);
    return head;
  }

  /** @linux mm/slub.c:discard_slab */
  protected discard(pfn: Pfn): void {
    bugOn(!this.slabs.delete(pfn), 'slab: a slab given back that the cache does not own');
    this.nrObjects -= slabObjects(this.frames, pfn);
    const { rcu, pages } = this.host;
    if ((this.flags & SLAB_TYPESAFE_BY_RCU) === 0 || rcu === null) {
      this.give(pfn);
      return;
    }
    this.leaving.add(pfn);
    rcu.rcu.call(rcu.freeMemory, pages.pageAddress(pfn));
  }

  private give(pfn: Pfn): void {
    const order = blockOrder(this.frames, pfn);
    this.nrPages -= 2 ** order;
    giveSlabPages(this.host, pfn, this.flags, order);
  }

  override freeAfterGracePeriod(address: VirtAddr): void {
    const pfn = this.host.pages.virtToPfn(address);
    bugOn(!this.leaving.delete(pfn), 'slab: a slab given back that did not wait for it');
    this.give(pfn);
  }

  // -------------------------------------------------------------------------------------------------------- lists

  /** Takes a slab of a node's list, and some more for the CPU's own. @linux mm/slub.c:get_partial_node */
  protected getPartial(c: CpuSlab, node: number): Pfn {
    const list = this.nodes[node];
    const { frames } = this;
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

  /** Adds a slab to the CPU's partial list; a full list goes to the nodes first. @linux mm/slub.c:put_cpu_partial */
  protected putCpuPartial(c: CpuSlab, pfn: Pfn): void {
    if (c.partialSlabs >= this.geometry.cpuPartialSlabs) this.flushPartial(c);
    this.pushCpuPartial(c, pfn);
  }

  private pushCpuPartial(c: CpuSlab, pfn: Pfn): void {
    this.frames.next[pfn] = c.partial;
    c.partial = pfn;
    c.partialSlabs++;
  }

  /** @linux mm/slub.c:__put_partials */
  private flushPartial(c: CpuSlab): void {
    const { frames } = this;
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
  protected putPartial(pfn: Pfn): void {
    const { frames } = this;
    const list = this.nodes[nodeOfPage(this.host.pages, pfn)];
    if (slabInuse(frames, pfn) === 0 && list.length >= this.geometry.minPartial) this.discard(pfn);
    else list.addTail(frames, pfn);
  }

  /** Takes the CPU's slab away from it. @linux mm/slub.c:deactivate_slab */
  protected deactivate(c: CpuSlab): void {
    const { frames } = this;
    const { pfn } = c;
    const remote = frames.index[pfn];
    let held = 0;
    if (c.freeWord >= 0) {
      const first = c.start + (((c.freeWord - c.base) << 2) - this.offset);
      // The CPU's objects come first, then those that others freed.
      let last = c.freeWord;
      const objects = slabObjects(frames, pfn);
      for (let word = c.freeWord; word >= 0 && held < objects; word = this.nextFreeWord(c, word)) {
        last = word;
        held++;
      }
      this.setFreePointer(c.start + (((last - c.base) << 2) - this.offset), remote);
      frames.index[pfn] = first;
    }
    frames.private[pfn] = (frames.private[pfn] - held) & ~SLAB_FROZEN;
    c.detach();
    if (frames.index[pfn] === 0) return; // full
    const list = this.nodes[nodeOfPage(this.host.pages, pfn)];
    if (slabInuse(frames, pfn) === 0 && list.length >= this.geometry.minPartial) this.discard(pfn);
    else if (remote !== 0) list.addTail(frames, pfn);
    else list.addHead(frames, pfn);
  }

  // -------------------------------------------------------------------------------------------------- giving back

  /** @linux mm/slub.c:flush_all */
  private flushAll(): void {
    for (const c of this.cpu) {
      if (c.pfn !== 0) this.deactivate(c);
      this.flushPartial(c);
    }
  }

  override shrink(): number {
    const before = this.nrPages;
    this.flushAll();
    const { frames } = this;
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
    return before - this.nrPages;
  }

  override shutdown(): boolean {
    this.shrink();
    return this.slabs.size === 0;
  }

  // ------------------------------------------------------------------------------------------------------ looking

  override get activeObjects(): number {
    return this.nrObjects - countFree(this);
  }

  override get totalObjects(): number {
    return this.nrObjects;
  }

  override get activeSlabs(): number {
    return this.slabs.size;
  }

  override slabInfo(): SlabInfo {
    // What CPUs hold counts as active there.
    return { ...super.slabInfo(), activeObjects: this.nrObjects - countFreeOnNodes(this) };
  }

  /** @linux mm/slub.c:slab_attrs */
  override attributes(): Record<string, number | string> {
    const { nodes, cpu, frames } = this;
    const byNode = (of: (nid: number) => number): string => {
      const counts = [...nodes.keys()].map(of);
      const shown = counts.flatMap((count, nid) => (count === 0 ? [] : [` N${nid}=${count}`])).join('');
      return `${counts.reduce((sum, count) => sum + count, 0)}${shown}`;
    };
    const slabs = [...this.slabs].map((pfn) => ({ pfn, nid: nodeOfPage(this.host.pages, pfn) }));
    const on = (nid: number, of: (pfn: Pfn) => number): number => slabs.reduce((sum, slab) => (slab.nid === nid ? sum + of(slab.pfn) : sum), 0);
    const inPartial = (nid: number): number => {
      let inuse = 0;
      for (let pfn = nodes[nid].head; pfn !== 0; pfn = frames.next[pfn]) inuse += slabInuse(frames, pfn);
      return inuse;
    };
    const held = cpu.map(({ partialSlabs }, id) => ({ id, partialSlabs })).filter(({ partialSlabs }) => partialSlabs > 0);
    // As many objects as half full slabs have: nobody counts them.
    const objects = (count: number): number => Math.floor((count * this.objectsPerSlab) / 2);
    const total = held.reduce((sum, { partialSlabs }) => sum + partialSlabs, 0);
    return {
      cpu_partial: this.geometry.cpuPartial,
      cpu_slabs: byNode((nid) => cpu.filter(({ pfn }) => pfn !== 0 && nodeOfPage(this.host.pages, pfn) === nid).length),
      min_partial: this.geometry.minPartial,
      objects: byNode((nid) => on(nid, (pfn) => slabInuse(frames, pfn))),
      objects_partial: byNode(inPartial),
      partial: byNode((nid) => nodes[nid].length),
      slabs: byNode((nid) => on(nid, () => 1)),
      slabs_cpu_partial: `${objects(total)}(${total})${held.map(({ id, partialSlabs }) => ` C${id}=${objects(partialSlabs)}(${partialSlabs})`).join('')}`,
      total_objects: byNode((nid) => on(nid, (pfn) => slabObjects(frames, pfn))),
    };
  }

  override get usableSize(): number {
    if ((this.flags & (SLAB_RED_ZONE | SLAB_POISON)) !== 0) return this.objectSize;
    if ((this.flags & (SLAB_TYPESAFE_BY_RCU | SLAB_STORE_USER)) !== 0) return this.geometry.inuse;
    return this.size;
  }

  override objectAt(address: VirtAddr): VirtAddr {
    const head = compoundHead(this.frames, this.host.pages.virtToPfn(address));
    const slot = Math.floor((address - this.host.pages.pageAddress(head)) / this.size);
    return this.host.pages.pageAddress(head) + slot * this.size + this.geometry.redLeftPad;
  }

  override liveObjects(): VirtAddr[] {
    return liveObjects(this);
  }

  override validate(claim: SlabOwnershipCheck): void {
    validateSlub(this);
    for (const pfn of [...this.slabs, ...this.leaving]) claim(pfn, 2 ** blockOrder(this.frames, pfn), this);
  }
}

/** 0 … n − 1 in random order. @linux mm/slab_common.c:freelist_randomize */
function shuffled(n: number, prng: Prng): Uint16Array {
  const order = Uint16Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const other = prng.below(i + 1);
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}
