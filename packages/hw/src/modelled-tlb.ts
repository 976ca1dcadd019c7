import { Prng } from '@pagelab/lib';
import { FullyAssociativeTlb } from './fully-associative-tlb.ts';
import { TlbArray } from './tlb-array.ts';
import type { TlbReplacement } from './tlb-array.ts';
import { TLB_GEOMETRIES, TLB_SKYLAKE } from './tlb-geometry.ts';
import type { TlbArrayGeometry, TlbGeometry } from './tlb-geometry.ts';
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
import type { TlbModel, TlbModelFactory, TlbModelStats } from './tlb-model.ts';

/** An array, and one size of pages that it holds. */
interface Place {
  readonly array: TlbArray;
  readonly shift: number;
}

/** What may differ from the processor's shape. */
export interface SetAssociativeTlbOptions {
  readonly replacement?: TlbReplacement;
  /** Seed for replacement by chance. */
  readonly seed?: number;
}

/**
 * Two levels of set-associative arrays with a walk cache, of a real processor's shape or any other.
 *
 * A walk fills both levels, a hit in the second fills the first. The walk cache holds entries that name tables, so that
 * a walk begins with the table below the deepest one it has.
 */
export class SetAssociativeTlb implements TlbModel {
  readonly name: string;
  readonly geometry: TlbGeometry;
  readonly stats: TlbModelStats = tlbModelStats();
  /** Places of the first level, by side; then of the second. */
  readonly #first: readonly [Place[], Place[]];
  readonly #second: readonly [Place[], Place[]];
  readonly #arrays: readonly TlbArray[];
  /** For the level above the last, then the one above that, … */
  readonly #walkCache: readonly (TlbArray | undefined)[];

  /** @throws RangeError for an array whose sets do not come out whole */
  constructor(geometry: TlbGeometry, options: SetAssociativeTlbOptions = {}) {
    this.name = geometry.name;
    this.geometry = geometry;
    const prng = new Prng(options.seed ?? 0);
    const replacement = options.replacement ?? geometry.replacement;
    const arrays: TlbArray[] = [];
    const places = (shapes: readonly TlbArrayGeometry[]): Place[] =>
      shapes.flatMap(({ entries, ways, shifts }) => {
        const array = new TlbArray(entries, ways, replacement, prng);
        arrays.push(array);
        return shifts.map((shift) => ({ array, shift }));
      });
    const second = places(geometry.second);
    this.#first = [places(geometry.data), places(geometry.instruction)];
    this.#second = [second, geometry.secondInstruction === undefined ? second : places(geometry.secondInstruction)];
    this.#arrays = arrays;
    this.#walkCache = geometry.walkCache.map((entries) =>
      entries === 0 ? undefined : new TlbArray(entries, entries, 'lru', prng),
    );
  }

  lookup(hi: number, lo: number, pcid: number, side: number): number {
    const page = pageNumber(hi, lo);
    const counts = side === TLB_DATA ? this.stats.data : this.stats.instruction;
    counts.accesses += 1;
    for (const { array, shift } of this.#first[side]) {
      const span = array.find(page, shift, pcid);
      if (span === 0) continue;
      counts.l1Hits[sizeClass(span)] += 1;
      return 1;
    }
    for (const { array, shift } of this.#second[side]) {
      const span = array.find(page, shift, pcid);
      if (span === 0) continue;
      counts.l2Hits[sizeClass(span)] += 1;
      this.stats.cycles += this.geometry.secondLevelCycles;
      enter(this.#first[side], page, span, pcid, array.isGlobal(page, shift, pcid));
      return 2;
    }
    return 0;
  }

  walked(hi: number, lo: number, pcid: number, side: number, shift: number, flags: number, shifts: readonly number[]): void {
    const { stats, geometry } = this;
    const page = pageNumber(hi, lo);
    const counts = side === TLB_DATA ? stats.data : stats.instruction;
    const depth = shifts.indexOf(shift);
    const references = this.#walk(page, pcid, depth, shifts);
    stats.walkReferences += references;
    stats.walkReferencesSpared += depth + 1 - references;
    stats.cycles += geometry.secondLevelCycles + references * geometry.walkReferenceCycles;
    if ((flags & WALK_FAULT) !== 0) {
      counts.faults += 1;
      return;
    }
    counts.misses[sizeClass(shift)] += 1;
    const isGlobal = (flags & WALK_GLOBAL) !== 0;
    enter(this.#first[side], page, shift, pcid, isGlobal);
    enter(this.#second[side], page, shift, pcid, isGlobal);
  }

  invlpg(hi: number, lo: number, pcid: number): void {
    this.stats.pageFlushes += 1;
    this.#dropPage(pageNumber(hi, lo), pcid, true);
    // The instruction drops the context's walk cache whatever the address.
    for (const cache of this.#walkCache) cache?.dropContext(pcid);
  }

  invpcid(kind: number, pcid: number, hi: number, lo: number): void {
    const { stats } = this;
    const all = [...this.#arrays, ...this.#walkCache];
    switch (kind) {
      case INVPCID_TYPE_INDIV_ADDR:
        stats.pageFlushes += 1;
        this.#dropPage(pageNumber(hi, lo), pcid, false);
        for (const cache of this.#walkCache) cache?.dropContext(pcid);
        return;
      case INVPCID_TYPE_SINGLE_CTXT:
        stats.contextFlushes += 1;
        for (const array of all) array?.dropContext(pcid);
        return;
      case INVPCID_TYPE_ALL_INCL_GLOBAL:
        stats.fullFlushes += 1;
        for (const array of all) array?.dropAll();
        return;
      default:
        stats.fullFlushes += 1;
        for (const array of all) array?.dropNonGlobal();
    }
  }

  validate(): void {
    for (const array of this.#arrays) array.validate();
    for (const cache of this.#walkCache) cache?.validate();
  }

  /** How many entries a walk reads down to level `depth`; what it reads on the way is in the walk cache from then on. */
  #walk(page: number, pcid: number, depth: number, shifts: readonly number[]): number {
    // PAE's top level is in registers: to find nothing there takes no reference.
    if (depth < 0) return 0;
    const last = shifts.length - 1;
    let level = depth - 1;
    while (level >= 0 && !this.#cached(page, pcid, last - level - 1, shifts[level])) level -= 1;
    const references = depth - level;
    for (level += 1; level < depth; level++) {
      this.#walkCache[last - level - 1]?.insert(page, shifts[level], shifts[level], pcid, false);
    }
    return references;
  }

  #cached(page: number, pcid: number, cache: number, shift: number): boolean {
    return (this.#walkCache[cache]?.find(page, shift, pcid) ?? 0) !== 0;
  }

  #dropPage(page: number, pcid: number, withGlobal: boolean): void {
    const drop = ({ array, shift }: Place): void => array.dropPage(page, shift, pcid, withGlobal);
    for (const side of [0, 1]) {
      this.#first[side].forEach(drop);
      this.#second[side].forEach(drop);
    }
  }
}

/** Enters a page of 2^`span` bytes where one of its size may be, or else as the piece that the access needs. */
function enter(places: readonly Place[], page: number, span: number, pcid: number, isGlobal: boolean): void {
  let best: Place | undefined;
  for (const place of places) {
    // Pieces of 4 KiB of a larger page are not made: it would then take hundreds.
    if (place.shift > span || (place.shift === 12 && span !== 12)) continue;
    if (best === undefined || place.shift > best.shift) best = place;
  }
  best?.array.insert(page, best.shift, span, pcid, isGlobal);
}

/** What a TLB may be: the plain one, or `modelled` with the name of a processor or of another model. */
export const TLB_SPECS: readonly string[] = Object.freeze([
  'functional',
  'modelled',
  ...TLB_GEOMETRIES.map(({ name }) => `modelled:${name}`),
  'modelled:fully-associative',
]);

/**
 * The model that a machine's configuration asks for: `functional` is none, `modelled` is Skylake's.
 *
 * @param seed for what a model does by chance; each CPU draws from its own
 * @throws RangeError for another word
 */
export function tlbModelFactory(spec: string, seed = 0): TlbModelFactory | undefined {
  if (spec === 'functional') return undefined;
  if (spec === 'modelled:fully-associative') return () => new FullyAssociativeTlb();
  const geometry =
    spec === 'modelled' ? TLB_SKYLAKE : TLB_GEOMETRIES.find(({ name }) => spec === `modelled:${name}`);
  if (geometry === undefined) throw new RangeError(`a TLB is one of ${TLB_SPECS.join(', ')}, not ${spec}`);
  return (cpu) => new SetAssociativeTlb(geometry, { seed: seed + cpu });
}
