import { Prng } from '@pagelab/lib';

/**
 * A rule by which requests of a disk fail: those that match are counted, and each `every`-th of them, or one by chance,
 * is struck. Everything left out matches all.
 *
 * @linux lib/fault-inject.c:should_fail
 */
export interface DiskFault {
  /** Only operations of this kind, a `REQ_OP_…`. */
  readonly op?: number;
  /** Only operations that touch a sector from here on. */
  readonly fromSector?: number;
  /** Only those that touch one before this. */
  readonly toSector?: number;
  /** Each n-th that matches; 1, the default, is every one. */
  readonly every?: number;
  /** Each that is left with this chance, from 0 to 1; by the device's seed. */
  readonly chance?: number;
  /** So many in all, after which the rule is spent. */
  readonly times?: number;
}

/** Decides which requests of a disk fail. */
export class FaultInjector {
  /** Requests struck so far. */
  struck = 0;
  readonly #rules: { readonly fault: DiskFault; matched: number; struck: number }[] = [];
  readonly #prng: Prng;

  constructor(seed: number) {
    this.#prng = new Prng(seed);
  }

  /** @throws RangeError for a rule that makes no sense */
  add(fault: DiskFault): void {
    const { every = 1, chance = 1, times = 1, fromSector = 0, toSector = Infinity } = fault;
    if (!(Number.isInteger(every) && every >= 1)) throw new RangeError(`every ${every}-th request is none`);
    if (!(chance >= 0 && chance <= 1)) throw new RangeError(`a chance is from 0 to 1, not ${chance}`);
    if (!(times >= 0) || !(fromSector < toSector)) throw new RangeError('a rule that strikes nothing');
    this.#rules.push({ fault: Object.freeze({ ...fault }), matched: 0, struck: 0 });
  }

  /** Drops every rule. */
  clear(): void {
    this.#rules.length = 0;
  }

  /** The rule that strikes a request, or `undefined`. Each rule that matches counts it. */
  decide(op: number, sector: number, nrSectors: number): DiskFault | undefined {
    let found: DiskFault | undefined;
    for (const rule of this.#rules) {
      const { fault } = rule;
      const { every = 1, chance = 1, times = Infinity } = fault;
      if ((fault.op !== undefined && fault.op !== op) || !FaultInjector.strikes(fault, sector, nrSectors)) continue;
      rule.matched += 1;
      if (rule.struck >= times || rule.matched % every !== 0) continue;
      if (chance < 1 && this.#prng.float() >= chance) continue;
      rule.struck += 1;
      found ??= fault;
    }
    if (found !== undefined) this.struck += 1;
    return found;
  }

  /** Whether a rule's sectors are among those given. Of a request that was merged, only these operations fail. */
  static strikes(fault: DiskFault, sector: number, nrSectors: number): boolean {
    const { fromSector = 0, toSector = Infinity } = fault;
    return sector < toSector && sector + Math.max(nrSectors, 1) > fromSector;
  }
}
