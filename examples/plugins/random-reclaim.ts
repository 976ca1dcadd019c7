/**
 * A reclaim policy of one's own: any page may go, whatever its kind, and chance decides which; one that was used since it was
 * last drawn is spared once. What it costs to know more than nothing of pages can be read off against it.
 *
 *     boot({ memory: '64M', swap: [{ size: '256M' }] }, { reclaimPolicy: randomReclaim })
 *     pagelab bench matrix --workload pressure --machine swapping --reclaim classic,mglru,random-reclaim.ts
 */
import {
  FOLIOREF_KEEP, FOLIOREF_RECLAIM, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, PG_ACTIVE, PG_REFERENCED, PG_SWAPBACKED, Prng,
  canReclaimAnon, evictFolios, folioNrPages, isolateFolio, lruAddDrain, newReclaimStat,
} from '@pagelab/kernel/reclaim';
import type { LruPlacement, Lruvec, ReclaimPolicy, ReclaimPolicyFactory, ScanControl, Vm } from '@pagelab/kernel/reclaim';

const BATCH = 32;

/** The pages of a node: a ring that they are linked in, and an array to draw from. */
interface Pool {
  readonly ring: number;
  readonly pfns: number[];
}

const poolOf = (lruvec: Lruvec): Pool => lruvec.policyState as Pool;

/** Where pages are. A page stands in the array at the place that `#places` has. */
class Pools implements LruPlacement {
  readonly #vm: Vm;
  readonly #places = new Map<number, number>();

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  enter(lruvec: Lruvec, pfn: number): number {
    const { frames, pages } = this.#vm;
    const { ring, pfns } = poolOf(lruvec);
    frames.flags[pfn]! &= ~PG_ACTIVE;
    this.#places.set(pfn, pfns.push(pfn) - 1);
    pages.lru.count(lruvec, pfn, this.countedOn(lruvec, pfn), folioNrPages(frames, pfn));
    return ring;
  }

  leave(lruvec: Lruvec, pfn: number): void {
    const { pfns } = poolOf(lruvec);
    const place = this.#places.get(pfn)!;
    const last = pfns.pop()!;
    if (last !== pfn) {
      pfns[place] = last;
      this.#places.set(last, place);
    }
    this.#places.delete(pfn);
    this.#vm.pages.lru.count(lruvec, pfn, this.countedOn(lruvec, pfn), -folioNrPages(this.#vm.frames, pfn));
  }

  /** A part of a huge page that was split can be drawn by itself. */
  split(lruvec: Lruvec, _head: number, pfn: number): void {
    this.#places.set(pfn, poolOf(lruvec).pfns.push(pfn) - 1);
  }

  rowOf(lruvec: Lruvec): number {
    return poolOf(lruvec).ring;
  }

  rows(lruvec: Lruvec): number[] {
    return [poolOf(lruvec).ring];
  }

  mayLieOn(lruvec: Lruvec, pfn: number, row: number): boolean {
    return row === poolOf(lruvec).ring && poolOf(lruvec).pfns[this.#places.get(pfn)!] === pfn;
  }

  countedOn(_lruvec: Lruvec, pfn: number): number {
    return (this.#vm.frames.flags[pfn]! & PG_SWAPBACKED) === 0 ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
  }
}

class RandomReclaim implements ReclaimPolicy {
  readonly name = 'random';
  readonly activatesFaulted = false;
  readonly placement: Pools;
  readonly #vm: Vm;
  readonly #prng = new Prng(1);

  constructor(vm: Vm) {
    this.#vm = vm;
    this.placement = new Pools(vm);
  }

  initLruvec(lruvec: Lruvec): void {
    const pool: Pool = { ring: this.#vm.frames.allocListHeads(1), pfns: [] };
    lruvec.policyState = pool;
  }

  exitLruvec(lruvec: Lruvec): void {
    this.#vm.frames.freeListHeads(poolOf(lruvec).ring, 1);
  }

  markAccessed(pfn: number): void {
    this.#vm.frames.flags[pfn]! |= PG_REFERENCED;
  }

  age(): void {}

  shrink(lruvec: Lruvec, sc: ScanControl): void {
    const vm = this.#vm;
    const { pfns } = poolOf(lruvec);
    const takesAnon = sc.maySwap && canReclaimAnon(vm, lruvec.nid);
    lruAddDrain(vm);
    for (let left = Math.floor(pfns.length / 2 ** sc.priority); left > 0 && sc.nrReclaimed < sc.nrToReclaim; left -= BATCH) {
      const drawn: [anon: number[], file: number[]] = [[], []];
      for (let draw = Math.min(left, BATCH); draw > 0 && pfns.length > 0; draw--) {
        const pfn = pfns[this.#prng.below(pfns.length)]!;
        const file = (vm.frames.flags[pfn]! & PG_SWAPBACKED) === 0 ? 1 : 0;
        if ((file === 1 || takesAnon) && isolateFolio(vm, lruvec, sc, pfn)) drawn[file].push(pfn);
      }
      for (const file of [0, 1] as const) {
        const pages = drawn[file].reduce((sum, pfn) => sum + folioNrPages(vm.frames, pfn), 0);
        sc.nrReclaimed += evictFolios(vm, lruvec, sc, drawn[file], file, pages, newReclaimStat());
      }
    }
  }

  checkReferences(pfn: number): number {
    const { flags } = this.#vm.frames;
    const wasUsed = this.#vm.reclaim.rmap.referenced(pfn) > 0 || (flags[pfn]! & PG_REFERENCED) !== 0;
    flags[pfn]! &= ~PG_REFERENCED;
    return wasUsed ? FOLIOREF_KEEP : FOLIOREF_RECLAIM;
  }

  eviction(): number {
    return 0;
  }

  refault(): void {}
}

/** Chance. */
const randomReclaim: ReclaimPolicyFactory = { name: 'random', create: (vm) => new RandomReclaim(vm) };
export default randomReclaim;
