import { bugOn } from '@pagelab/lib';
import {
  INVPCID_TYPE_ALL_INCL_GLOBAL,
  INVPCID_TYPE_INDIV_ADDR,
  INVPCID_TYPE_SINGLE_CTXT,
  TLB_DATA,
  WALK_FAULT,
  WALK_GLOBAL,
  pageNumber,
  sizeClass,
  tlbModelStats,
} from './tlb-model.ts';
import type { TlbModel, TlbModelStats } from './tlb-model.ts';

/** The context of a global page. */
const GLOBAL = 0x1000;
const CONTEXTS = 0x2000;
const SHIFTS = [12, 21, 22, 30];
/** Pages of 4 KiB in 2^shift bytes. */
const PAGES = Float64Array.from({ length: 48 }, (_, shift) => 2 ** (shift - 12));

/**
 * A TLB as the textbook draws it: one level for everything, any page in any entry, the least recently used dropped, and
 * no walk cache. What a real one falls short of it by, its sets and levels cost.
 */
export class FullyAssociativeTlb implements TlbModel {
  readonly name = 'fully-associative';
  readonly stats: TlbModelStats = tlbModelStats();
  readonly entries: number;
  readonly #walkReferenceCycles: number;
  /** Keys of the pages held, the least recently used first. */
  readonly #held = new Set<number>();

  /** @throws RangeError unless there is an entry */
  constructor(entries = 64, walkReferenceCycles = 12) {
    if (!(Number.isInteger(entries) && entries >= 1)) throw new RangeError(`a TLB of ${entries} entries`);
    this.entries = entries;
    this.#walkReferenceCycles = walkReferenceCycles;
  }

  lookup(hi: number, lo: number, pcid: number, side: number): number {
    const counts = side === TLB_DATA ? this.stats.data : this.stats.instruction;
    counts.accesses += 1;
    const page = pageNumber(hi, lo);
    for (const shift of SHIFTS) {
      for (const context of [pcid, GLOBAL]) {
        const key = keyOf(page, shift, context);
        if (!this.#held.delete(key)) continue;
        this.#held.add(key);
        counts.l1Hits[sizeClass(shift)] += 1;
        return 1;
      }
    }
    return 0;
  }

  walked(hi: number, lo: number, pcid: number, side: number, shift: number, flags: number, shifts: readonly number[]): void {
    const { stats } = this;
    const counts = side === TLB_DATA ? stats.data : stats.instruction;
    const references = shifts.indexOf(shift) + 1;
    stats.walkReferences += references;
    stats.cycles += references * this.#walkReferenceCycles;
    if ((flags & WALK_FAULT) !== 0) {
      counts.faults += 1;
      return;
    }
    counts.misses[sizeClass(shift)] += 1;
    if (this.#held.size === this.entries) for (const oldest of this.#held) {
      this.#held.delete(oldest);
      break;
    }
    this.#held.add(keyOf(pageNumber(hi, lo), shift, (flags & WALK_GLOBAL) !== 0 ? GLOBAL : pcid));
  }

  invlpg(hi: number, lo: number, pcid: number): void {
    this.stats.pageFlushes += 1;
    for (const shift of SHIFTS) {
      for (const context of [pcid, GLOBAL]) this.#held.delete(keyOf(pageNumber(hi, lo), shift, context));
    }
  }

  invpcid(kind: number, pcid: number, hi: number, lo: number): void {
    const { stats } = this;
    if (kind === INVPCID_TYPE_INDIV_ADDR) {
      stats.pageFlushes += 1;
      for (const shift of SHIFTS) this.#held.delete(keyOf(pageNumber(hi, lo), shift, pcid));
    } else if (kind === INVPCID_TYPE_SINGLE_CTXT) {
      stats.contextFlushes += 1;
      for (const key of this.#held) if (key % CONTEXTS === pcid) this.#held.delete(key);
    } else if (kind === INVPCID_TYPE_ALL_INCL_GLOBAL) {
      stats.fullFlushes += 1;
      this.#held.clear();
    } else {
      stats.fullFlushes += 1;
      for (const key of this.#held) if (key % CONTEXTS !== GLOBAL) this.#held.delete(key);
    }
  }

  validate(): void {
    bugOn(this.#held.size > this.entries, `TLB: ${this.#held.size} pages in ${this.entries} entries`);
  }
}

/** A page of 2^`shift` bytes in a context, as one number of up to 51 bits. */
function keyOf(page: number, shift: number, context: number): number {
  return (Math.floor(page / PAGES[shift]) * 4 + SHIFTS.indexOf(shift)) * CONTEXTS + context;
}
