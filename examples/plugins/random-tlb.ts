/**
 * A TLB of one's own: one level, any page of any size in any entry, and chance decides which entry a new translation takes.
 *
 *     boot({ memory: '1G' }, { tlbModel: (cpu) => new RandomTlb(64, cpu) })
 */
import {
  INVPCID_TYPE_ALL_INCL_GLOBAL, INVPCID_TYPE_INDIV_ADDR, INVPCID_TYPE_SINGLE_CTXT, TLB_1G, TLB_2M, TLB_4K, TLB_DATA, WALK_FAULT, WALK_GLOBAL,
  pageNumber, tlbModelStats,
} from '@pagelab/hw';
import type { TlbModel } from '@pagelab/hw';
import { Prng, bugOn } from '@pagelab/lib';

/** A translation that is held: pages of 4 KiB from `first` on. */
interface Entry {
  readonly first: number;
  readonly pages: number;
  /** Of a global page: any context finds it. */
  readonly global: boolean;
  readonly pcid: number;
}

const CYCLES_A_REFERENCE = 12;

function sizeOf({ pages }: Entry): 0 | 1 | 2 {
  return pages === 1 ? TLB_4K : pages < 2 ** 18 ? TLB_2M : TLB_1G;
}

export class RandomTlb implements TlbModel {
  readonly name = 'random';
  readonly stats = tlbModelStats();
  readonly #size: number;
  readonly #random: Prng;
  #entries: Entry[] = [];

  /** @param size entries: 1 or more */
  constructor(size = 64, seed = 0) {
    this.#size = size;
    this.#random = new Prng(seed);
  }

  lookup(hi: number, lo: number, pcid: number, side: number): number {
    const counts = side === TLB_DATA ? this.stats.data : this.stats.instruction;
    counts.accesses += 1;
    const page = pageNumber(hi, lo);
    const found = this.#entries.find(({ first, pages, global, pcid: own }) => page >= first && page < first + pages && (global || own === pcid));
    if (found === undefined) return 0;
    counts.l1Hits[sizeOf(found)] += 1;
    return 1;
  }

  walked(hi: number, lo: number, pcid: number, side: number, shift: number, flags: number, shifts: readonly number[]): void {
    const counts = side === TLB_DATA ? this.stats.data : this.stats.instruction;
    const references = shifts.indexOf(shift) + 1;
    this.stats.walkReferences += references;
    this.stats.cycles += references * CYCLES_A_REFERENCE;
    if ((flags & WALK_FAULT) !== 0) {
      counts.faults += 1;
      return;
    }
    const pages = 2 ** (shift - 12);
    const page = pageNumber(hi, lo);
    const entry = { first: page - (page % pages), pages, global: (flags & WALK_GLOBAL) !== 0, pcid };
    counts.misses[sizeOf(entry)] += 1;
    if (this.#entries.length < this.#size) this.#entries.push(entry);
    else this.#entries[this.#random.below(this.#size)] = entry;
  }

  invlpg(hi: number, lo: number, pcid: number): void {
    this.stats.pageFlushes += 1;
    const page = pageNumber(hi, lo);
    this.#drop(({ first, pages, global, pcid: own }) => page >= first && page < first + pages && (global || own === pcid));
  }

  invpcid(kind: number, pcid: number, hi: number, lo: number): void {
    const page = pageNumber(hi, lo);
    if (kind === INVPCID_TYPE_INDIV_ADDR) {
      this.stats.pageFlushes += 1;
      this.#drop(({ first, pages, global, pcid: own }) => page >= first && page < first + pages && !global && own === pcid);
    } else if (kind === INVPCID_TYPE_SINGLE_CTXT) {
      this.stats.contextFlushes += 1;
      this.#drop(({ global, pcid: own }) => !global && own === pcid);
    } else {
      this.stats.fullFlushes += 1;
      this.#drop(({ global }) => kind === INVPCID_TYPE_ALL_INCL_GLOBAL || !global);
    }
  }

  validate(): void {
    bugOn(this.#entries.length > this.#size, `random TLB: ${this.#entries.length} entries in ${this.#size}`);
  }

  #drop(gone: (entry: Entry) => boolean): void {
    this.#entries = this.#entries.filter((entry) => !gone(entry));
  }
}
