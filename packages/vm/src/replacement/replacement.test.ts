import { Prng } from '@pagelab/lib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { replacementPolicyContract, replay } from './contract.ts';
import { naiveFaults } from '../testing/naive-replacement.ts';
import { ReplacementError, ReplacementRun } from './replacement-run.ts';
import { replacementPolicies } from './registry.ts';
import type { ReplacementPolicyFactory } from './replacement-policy.ts';

for (const factory of replacementPolicies) replacementPolicyContract(factory);

function policy(name: string): ReplacementPolicyFactory {
  return replacementPolicies.find((factory) => factory.name === name)!;
}

function faults(name: string, frames: number, pages: readonly number[], window?: number): number {
  return replay(policy(name), { frames, ...(window === undefined ? {} : { window }) }, pages.map((page) => [page, 1, false])).result().faults;
}

describe('replacement policies against what textbooks print', () => {
  // Silberschatz, Galvin, Gagne, Operating System Concepts, section on page replacement: three frames.
  const silberschatz = [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1];
  // Belady's anomaly.
  const belady = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];

  it.each([['fifo', 15], ['opt', 9], ['lru', 12]])('%s: %i faults', (name, expected) => {
    expect(faults(name, 3, silberschatz)).toBe(expected);
  });

  it('first in, first out has more faults with more frames', () => {
    expect([faults('fifo', 3, belady), faults('fifo', 4, belady)]).toEqual([9, 10]);
  });

  it('a clock has its hand behind the frame it filled', () => {
    // Stallings, Operating Systems: 2 3 2 1 5 2 4 5 3 2 5 2 with three frames: 5 faults beyond the first three loads.
    const stallings = [2, 3, 2, 1, 5, 2, 4, 5, 3, 2, 5, 2];
    expect([faults('clock', 3, stallings), faults('lru', 3, stallings), faults('fifo', 3, stallings), faults('opt', 3, stallings)]).toEqual([8, 7, 9, 6]);
  });

  it('a working set holds what its window spans', () => {
    expect(faults('working-set', 10, [1, 2, 1, 3, 4, 1, 2, 2, 1], 3)).toBe(5);
    const { peakResident, evictions } = replay(policy('working-set'), { frames: 10, window: 3 }, [1, 2, 3, 4, 4, 4].map((page) => [page, 1, false])).result();
    expect([peakResident, evictions]).toEqual([3, 3]);
  });
});

describe('replacement policies against naive ones', () => {
  it.each(replacementPolicies.map(({ name }) => name))('%s: the same faults and evictions on random traces', (name) => {
    fc.assert(
      fc.property(fc.array(fc.nat(12), { maxLength: 120 }), fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 20 }), (pages, frames, window) => {
        const { faults: counted, evictions } = replay(policy(name), { frames, window }, pages.map((page) => [page, 1, false])).result();
        expect({ faults: counted, evictions }).toEqual(naiveFaults(name, pages, frames, window));
      }),
      { numRuns: 300 },
    );
  });

  it('none beats the optimum, and second chance is the clock', () => {
    const prng = new Prng(7);
    const pages = Array.from({ length: 20_000 }, () => Math.floor(prng.below(200) * (prng.below(100) / 100)));
    const best = faults('opt', 40, pages);
    for (const { name } of replacementPolicies) expect(faults(name, 40, pages)).toBeGreaterThanOrEqual(best);
    expect(faults('clock', 40, pages)).toBe(faults('second-chance', 40, pages));
  });
});

describe('a replacement run', () => {
  it('believes no policy that lets go what is not there', () => {
    const liar: ReplacementPolicyFactory = {
      name: 'liar', title: '', needsFuture: false, create: () => ({ touched() {}, loaded() {}, victim: () => 99 }),
    };
    const run = new ReplacementRun(liar, { frames: 1 });
    run.reference(1, 1, false);
    expect(() => run.reference(2, 1, false)).toThrow(new ReplacementError('policy liar lets page 99 go, which is not resident'));
  });

  it('counts pages written to when they go', () => {
    const run = new ReplacementRun(policy('fifo'), { frames: 1 });
    run.reference(1, 1, true);
    run.reference(2, 1, false);
    run.reference(3, 5, false);
    expect(run.result()).toMatchObject({ accesses: 7, faults: 3, hits: 4, evictions: 2, writebacks: 1, pages: 3 });
  });

  it('takes whole sizes from 1 on', () => {
    for (const frames of [0, -1, 1.5, NaN]) expect(() => new ReplacementRun(policy('lru'), { frames })).toThrow(/frames: an integer of 1 or more/);
    expect(() => new ReplacementRun(policy('lru'), { frames: 2, window: 0 })).toThrow(/window/);
  });
});
