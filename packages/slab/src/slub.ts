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
import { PAGE_SIZE, PAGE_WORDS } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import type { TraceRing } from '@pagelab/lib';
import { PG_SLAB, __GFP_ZERO, compoundHead } from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import { freeForeign } from './foreign-free.ts';
import type { SlabGeometry } from './geometry.ts';
import type { CacheSpec, SlabCpus, SlabHost } from './host.ts';
import type { SlabReport } from './report.ts';
import { SLAB_FROZEN, SLAB_ON_PARTIAL, packCounters, slabInuse, slabObjects } from './slab-pages.ts';
import { MAX_CONTIGUOUS_ORDER, SlubSlabs } from './slub-slabs.ts';
import type { CpuSlab } from './slub-state.ts';

const NO_NODE = -1;
/** Objects at most this large, in words, are cleared by a loop: a call of `fill` costs more than it saves. */
const CLEAR_BY_LOOP_WORDS = 64;

/** A cache of SLUB. @linux mm/slab.h:kmem_cache */
export class SlubCache extends SlubSlabs {
  protected readonly smp: SlabCpus;
  protected readonly trace: TraceRing;
  /** RAM in units of 8 bytes. */
  private readonly doubles: Float64Array;

  constructor(host: SlabHost, spec: CacheSpec, geometry: SlabGeometry) {
    super(host, spec, geometry);
    this.smp = host.smp;
    this.trace = host.trace;
    this.doubles = new Float64Array(host.ram.u32.buffer);
  }

  // ------------------------------------------------------------------------------------------------ the fast paths

  override alloc(gfp: number): VirtAddr {
    const c = this.cpu[this.smp.processorId];
    const word = c.freeWord;
    if (word < 0) return this.allocSlow(c, gfp, NO_NODE);
    const { words } = this;
    const next = (words[word] - c.low) | 0;
    // One comparison finds the end of the list and a pointer that leaves the slab.
    // As unsigned both: V8 would compare the one as a double with the other.
    if (next >>> 0 < c.bytes >>> 0 && words[word + 1] === c.high) c.freeWord = c.base + ((next + this.offset) >> 2);
    else this.endOfList(c, word);
    const object = c.start + (((word - c.base) << 2) - this.offset);
    if ((gfp & __GFP_ZERO) !== 0) this.clear(word - (this.offset >> 2), object);
    if (this.trace.enabled !== false) this.traceAlloc(object, gfp);
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
        if (this.trace.enabled !== false) this.trace.emit(this.host.tracepoints.kmemCacheFree, object);
        return;
      }
    }
    this.freeSlow(object, c);
  }

  override allocNode(gfp: number, node: number): VirtAddr {
    // A node without memory has no slabs to prefer.
    if (node === NO_NODE || this.nodes.length === 1 || this.host.pages.nodes[node].present === 0) return this.alloc(gfp);
    const c = this.cpu[this.smp.processorId];
    if (c.pfn !== 0 && nodeOfPage(this.host.pages, c.pfn) === node && c.freeWord >= 0) return this.alloc(gfp);
    return this.allocSlow(c, gfp, node);
  }

  /** The list ends at `word`, or what it holds there is no object of the slab. */
  protected endOfList(c: CpuSlab, word: number): void {
    c.freeWord = -1;
    const object = c.start + (((word - c.base) << 2) - this.offset);
    // The objects behind a broken pointer are given up.
    if (this.freePointer(object) !== 0) this.report('freelist-corrupt', object, 'Freepointer corrupt');
  }

  /** Sets an object to zero; `word` is its host word, which is even: objects are aligned to 8 bytes. */
  protected clear(word: number, object: VirtAddr): void {
    const nrWords = (this.objectSize + 3) >> 2;
    if (nrWords <= CLEAR_BY_LOOP_WORDS) {
      const { doubles } = this;
      const first = word >> 1;
      const end = first + (nrWords >> 1);
      for (let i = first; i < end; i++) doubles[i] = 0;
      if ((nrWords & 1) !== 0) this.words[word + nrWords - 1] = 0;
    } else if (this.geometry.minOrder <= MAX_CONTIGUOUS_ORDER) {
      this.words.fill(0, word, word + nrWords);
    } else {
      const firstPage = this.host.pages.virtToPfn(object);
      for (let i = 0; i * PAGE_WORDS < nrWords; i++) this.host.ram.zeroFrame(firstPage + i);
    }
  }

  protected traceAlloc(object: VirtAddr, gfp: number): void {
    this.trace.emit(this.host.tracepoints.kmemCacheAlloc, object, this.objectSize, this.size, gfp);
  }

  // ---------------------------------------------------------------------------------------------------- slow paths

  /** @linux mm/slub.c:___slab_alloc */
  protected allocSlow(c: CpuSlab, gfp: number, node: number): VirtAddr {
    const { frames } = this;
    if (c.pfn !== 0 && node !== NO_NODE && nodeOfPage(this.host.pages, c.pfn) !== node) this.deactivate(c);
    if (c.pfn !== 0 && c.freeWord < 0) {
      // Other CPUs may have freed objects of this slab meanwhile.
      if (frames.index[c.pfn] !== 0) {
        this.takeFreeList(c);
      } else {
        frames.private[c.pfn] &= ~SLAB_FROZEN;
        c.detach();
      }
    }
    if (c.pfn === 0) {
      const pfn = this.nextSlab(c, gfp, node);
      if (pfn === 0) return 0;
      // Reclaim on behalf of a new slab may have allocated here.
      if (c.pfn !== 0) this.deactivate(c);
      this.attach(c, pfn);
      this.takeFreeList(c);
    }
    return this.alloc(gfp);
  }

  /** A slab with free objects, on no list any more: the CPU's own, the node's, another node's, or a new one; 0: none. */
  private nextSlab(c: CpuSlab, gfp: number, node: number): Pfn {
    const { frames } = this;
    while (c.partial !== 0) {
      const pfn = c.partial;
      c.partial = frames.next[pfn];
      c.partialSlabs--;
      if (node === NO_NODE || nodeOfPage(this.host.pages, pfn) === node) return pfn;
      this.putPartial(pfn);
    }
    const { pages, cpuNode } = this.host;
    const near = node === NO_NODE ? cpuNode[this.smp.processorId] : node;
    const partial = this.getPartial(c, near);
    if (partial !== 0) return partial;
    if (node === NO_NODE && this.nodes.length > 1) {
      // Rather another node's slab than a new one, as long as that node has slabs to spare.
      for (const other of pages.nodes[near].fallbackOrder) {
        if (this.nodes[other].length <= this.geometry.minPartial) continue;
        const pfn = this.getPartial(c, other);
        if (pfn !== 0) return pfn;
      }
    }
    return this.newSlab(gfp, node);
  }

  private attach(c: CpuSlab, pfn: Pfn): void {
    const { frames } = this;
    frames.private[pfn] |= SLAB_FROZEN;
    const start = this.host.pages.pageAddress(pfn);
    const high = Math.floor(start / 2 ** 32);
    c.pfn = pfn;
    c.base = this.host.ram.frameWord(pfn);
    c.start = start;
    c.bytes = slabObjects(frames, pfn) * this.size;
    c.low = (start - high * 2 ** 32) | 0;
    c.high = high | 0;
    c.freeWord = -1;
  }

  /** Moves the slab's own free list to the CPU. @linux mm/slub.c:get_freelist */
  private takeFreeList(c: CpuSlab): void {
    const { frames } = this;
    const first = frames.index[c.pfn];
    c.freeWord = c.base + ((first - c.start + this.offset) >> 2);
    frames.index[c.pfn] = 0;
    frames.private[c.pfn] = packCounters(slabObjects(frames, c.pfn), slabObjects(frames, c.pfn), SLAB_FROZEN);
  }

  /** The object is not in the running CPU's slab, or something is wrong with it. */
  protected freeSlow(object: VirtAddr, c: CpuSlab): void {
    const { frames } = this;
    const page = (object - this.pageOffset) / PAGE_SIZE;
    const head = page >= 0 && page < frames.nrFrames ? compoundHead(frames, page | 0) : 0;
    if ((frames.flags[head] & PG_SLAB) === 0 || frames.mapping[head] !== this.id) {
      if (object !== 0) freeForeign(this.host, this, object, this.host.freelist.hardening !== 'none');
      return;
    }
    const at = object - this.host.pages.pageAddress(head) - this.geometry.redLeftPad;
    if (at % 4 !== 0 || at < 0 || at >= slabObjects(frames, head) * this.size) {
      this.report('invalid-free', object, 'Invalid object pointer');
      return;
    }
    if (head === c.pfn) {
      // The fast path declined it: it is the head of the free list.
      if (this.host.freelist.hardening === 'none') this.setFreePointer(object, object);
      else this.report('double-free', object, 'Object already free');
      return;
    }
    if (this.trace.enabled) this.trace.emit(this.host.tracepoints.kmemCacheFree, object);
    this.slabFree(head, object, c);
  }

  /** Puts an object on its slab's own list and the slab where it belongs then. @linux mm/slub.c:__slab_free */
  private slabFree(head: Pfn, object: VirtAddr, c: CpuSlab): void {
    const { frames } = this;
    const prior = frames.index[head];
    const counters = frames.private[head];
    const inuse = slabInuse(frames, head) - 1;
    if ((prior === object && this.host.freelist.hardening !== 'none') || inuse < 0) {
      this.report('double-free', object, 'Object already free');
      return;
    }
    this.setFreePointer(object, prior);
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

  private report(kind: SlabReport['kind'], address: VirtAddr, what: string): void {
    const fatal = kind === 'double-free' || kind === 'freelist-corrupt';
    this.host.report({ kind, cache: this.name, address, text: `BUG ${this.name}: ${what} 0x${this.host.memory.format(address)}`, fatal });
  }
}
