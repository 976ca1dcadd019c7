/**
 * Caches of SLUB whose free pointers are not 8 plain bytes: those of 32 bits, and those that are encoded. They read and write
 * pointers through methods, where a {@link SlubCache} does in place.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { __GFP_ZERO } from '@pagelab/mm-core';
import type { SlabGeometry } from './geometry.ts';
import type { CacheSpec, SlabHost } from './host.ts';
import type { CpuSlab } from './slub-state.ts';
import { SlubCache } from './slub.ts';

/** A cache of a kernel of 32 bits. */
export class IndirectSlubCache extends SlubCache {
  override alloc(gfp: number): VirtAddr {
    const c = this.cpu[this.smp.processorId];
    const word = c.freeWord;
    if (word < 0) return this.allocSlow(c, gfp, -1);
    c.freeWord = this.nextFreeWord(c, word);
    if (c.freeWord < 0) this.endOfList(c, word);
    const object = c.start + (((word - c.base) << 2) - this.offset);
    if ((gfp & __GFP_ZERO) !== 0) this.clear(word - (this.offset >> 2), object);
    if (this.trace.enabled) this.traceAlloc(object, gfp);
    return object;
  }

  override free(object: VirtAddr): void {
    const c = this.cpu[this.smp.processorId];
    const at = object - c.start;
    const word = c.base + ((at + this.offset) >> 2);
    if (!(at >= 0 && at < c.bytes) || (at & 3) !== 0 || word === c.freeWord) {
      this.freeSlow(object, c);
      return;
    }
    this.setFreePointer(object, c.freeWord < 0 ? 0 : c.start + (((c.freeWord - c.base) << 2) - this.offset));
    c.freeWord = word;
    if (this.trace.enabled) this.trace.emit(this.host.tracepoints.kmemCacheFree, object);
  }
}

/** Swaps the bytes of 32 bits. */
function swab32(value: number): number {
  return (value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24);
}

/**
 * A cache whose free pointers are encoded: a pointer is stored XOR a secret of the cache XOR its own address, bytes swapped,
 * so that who overwrites one cannot choose where it leads.
 *
 * @linux mm/slub.c:freelist_ptr_encode
 */
export class HardenedSlubCache extends IndirectSlubCache {
  /** The two halves of the secret. */
  private readonly keyLow: number;
  private readonly keyHigh: number;

  constructor(host: SlabHost, spec: CacheSpec, geometry: SlabGeometry) {
    super(host, spec, geometry);
    this.keyLow = host.freelist.prng.u32() | 0;
    this.keyHigh = host.freelist.prng.u32() | 0;
  }

  /** Encodes or decodes the low half at `word`: by the half of the pointer's address that the swap brings there. */
  private decodeLow(word: number, address: VirtAddr): number {
    const high = Math.floor(address / 2 ** 32);
    return this.words[word] ^ this.keyLow ^ swab32(this.wide ? high : address - high * 2 ** 32);
  }

  private decodeHigh(word: number, address: VirtAddr): number {
    return this.words[word + 1] ^ this.keyHigh ^ swab32(address - Math.floor(address / 2 ** 32) * 2 ** 32);
  }

  override freePointer(object: VirtAddr): VirtAddr {
    const at = object + this.offset;
    const word = this.pointerWord(object);
    const low = this.decodeLow(word, at) >>> 0;
    return this.wide ? this.decodeHigh(word, at) * 2 ** 32 + low : low;
  }

  override setFreePointer(object: VirtAddr, next: VirtAddr): void {
    super.setFreePointer(object, next);
    const at = object + this.offset;
    const word = this.pointerWord(object);
    const low = this.decodeLow(word, at);
    if (this.wide) this.words[word + 1] = this.decodeHigh(word, at);
    this.words[word] = low;
  }

  protected override linkAscending(pfn: Pfn, objects: number): VirtAddr {
    const first = this.host.pages.pageAddress(pfn) + this.geometry.redLeftPad;
    for (let i = 0; i < objects; i++) this.setFreePointer(first + i * this.size, i + 1 < objects ? first + (i + 1) * this.size : 0);
    return first;
  }

  override nextFreeWord(c: CpuSlab, word: number): number {
    const at = c.start + ((word - c.base) << 2);
    const next = (this.decodeLow(word, at) - c.low) | 0;
    const inside = next >>> 0 < c.bytes && (!this.wide || this.decodeHigh(word, at) === c.high);
    return inside ? c.base + ((next + this.offset) >> 2) : -1;
  }
}
