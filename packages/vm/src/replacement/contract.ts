/**
 * What every page replacement policy must do. An author of one runs this suite in their own tests:
 *
 *     import { replacementPolicyContract } from '@pagelab/vm/contract';
 *     replacementPolicyContract(myPolicy);
 */
import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import type { ReplacementPolicyFactory } from './replacement-policy.ts';
import { ReplacementRun } from './replacement-run.ts';
import type { ReplacementSize } from './replacement-run.ts';

const SEED = 0x5eed;

/** A trace: page, accesses in a row, whether one writes. */
type Reference = readonly [page: number, accesses: number, writes: boolean];

/** References that prefer low pages, now and then in a loop, some repeated. */
function randomReferences(prng: Prng, count: number, pages: number): Reference[] {
  const references: Reference[] = [];
  while (references.length < count) {
    const loop = prng.below(8) === 0 ? prng.below(pages) + 1 : 1;
    const first = Math.floor(prng.below(pages) * (prng.below(1000) / 1000));
    for (let at = 0; at < loop; at++) references.push([(first + at) % pages, 1 + prng.below(3), prng.below(4) === 0]);
  }
  return references;
}

/** Runs a trace, telling when each page is used next where the policy asks. */
export function replay(factory: ReplacementPolicyFactory, size: ReplacementSize, references: readonly Reference[]): ReplacementRun {
  const nextUse = new Array<number>(references.length);
  const seen = new Map<number, number>();
  for (let at = references.length - 1; at >= 0; at--) {
    const [page] = references[at];
    nextUse[at] = seen.get(page) ?? Infinity;
    seen.set(page, at);
  }
  const run = new ReplacementRun(factory, size);
  references.forEach(([page, accesses, writes], at) => run.reference(page, accesses, writes, factory.needsFuture ? nextUse[at] : 0));
  return run;
}

/** Runs the suite: a `describe` block named after the policy. */
export function replacementPolicyContract(factory: ReplacementPolicyFactory): void {
  describe(`replacement policy ${factory.name}`, () => {
    it('lets go only what is resident, and counts add up', () => {
      const prng = new Prng(SEED);
      for (const [frames, pages] of [[1, 2], [2, 3], [3, 5], [7, 40], [64, 100], [100, 64]] as const) {
        const references = randomReferences(prng, 3000, pages);
        const run = replay(factory, { frames }, references);
        const result = run.result();
        let resident = 0;
        for (let page = 0; page < pages; page++) if (run.isResident(page)) resident++;
        expect(result.accesses).toBe(references.reduce((sum, [, accesses]) => sum + accesses, 0));
        expect(result.hits + result.faults).toBe(result.accesses);
        expect(result.faults - result.evictions).toBe(resident);
        expect(result.peakResident).toBeLessThanOrEqual(frames);
        expect(result.faults).toBeGreaterThanOrEqual(result.pages);
      }
    });

    it('takes each page in once where all fit for good', () => {
      const references = randomReferences(new Prng(SEED), 2000, 50);
      const { faults, pages, evictions } = replay(factory, { frames: 50, window: 1e9 }, references).result();
      expect([faults, evictions]).toEqual([pages, 0]);
    });

    it('faults at each change of page in one frame', () => {
      const references = randomReferences(new Prng(SEED), 500, 9);
      const changes = references.filter(([page], at) => at === 0 || references[at - 1][0] !== page).length;
      expect(replay(factory, { frames: 1, window: 1e9 }, references).result().faults).toBe(changes);
    });

    it('takes accesses in a row for as many single ones', () => {
      const references = randomReferences(new Prng(SEED + 1), 2000, 30);
      const single = references.flatMap(([page, accesses, writes]) => Array.from({ length: accesses }, (): Reference => [page, 1, writes]));
      expect(replay(factory, { frames: 8 }, references).result()).toEqual(replay(factory, { frames: 8 }, single).result());
    });

    it('does the same again', () => {
      const references = randomReferences(new Prng(SEED + 2), 1000, 30);
      expect(replay(factory, { frames: 8 }, references).result()).toEqual(replay(factory, { frames: 8 }, references).result());
    });
  });
}
