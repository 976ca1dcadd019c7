import { ReplacementRun } from '@pagelab/kernel/replacement';
import { replacementPolicyContract } from '@pagelab/vm/contract';
import { expect, test } from 'vitest';
import leastFrequentlyUsed from './lfu-replacement.ts';

replacementPolicyContract(leastFrequentlyUsed);

test('what is used often stays', () => {
  const run = new ReplacementRun(leastFrequentlyUsed, { frames: 2 });
  run.reference(1, 10, false);
  for (let page = 2; page < 20; page++) run.reference(page, 1, false);
  expect(run.isResident(1)).toBe(true);
  expect(run.result()).toMatchObject({ faults: 19, evictions: 17 });
});
