import { PAGE_SIZE } from '@pagelab/abi';
import { beforeEach, expect, test } from 'vitest';
import { MM_ANONPAGES, MM_SHMEMPAGES, MM_SWAPENTS } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { OOM_NEVER, OOM_SCORE_ADJ_MIN, oomBadness, oomScore, oomSelect } from './oom.ts';
import { testMm, testVm } from './testing/test-machine.ts';
import type { Vm } from './vm.ts';

const TOTAL = 250_000;

let vm: Vm;

beforeEach(() => {
  vm = testVm();
});

function mmOf(anon: number, shmem = 0, swap = 0, tables = 0): MmStruct {
  const mm = testMm(vm);
  mm.rss[MM_ANONPAGES] = anon;
  mm.rss[MM_SHMEMPAGES] = shmem;
  mm.rss[MM_SWAPENTS] = swap;
  mm.pgtablesBytes = tables * PAGE_SIZE;
  return mm;
}

test('badness is what killing would bring, and a thousandth of all for each point of adjustment', () => {
  const mm = mmOf(1000, 200, 30, 4);
  expect(oomBadness(mm, 0, TOTAL)).toBe(1234);
  expect(oomBadness(mm, 10, TOTAL)).toBe(1234 + 2500);
  expect(oomBadness(mm, -999, TOTAL)).toBe(1234 - 249_750);
  expect(oomBadness(mm, OOM_SCORE_ADJ_MIN, TOTAL)).toBe(OOM_NEVER);
});

test('the score that /proc shows', () => {
  expect(oomScore(mmOf(0), 0, TOTAL)).toBe(666);
  expect(oomScore(mmOf(TOTAL), 0, TOTAL)).toBe(1333);
  expect(oomScore(mmOf(0), 1000, TOTAL)).toBe(1333);
  expect(oomScore(mmOf(5), OOM_SCORE_ADJ_MIN, TOTAL)).toBe(0);
});

test('the worst is chosen, the last of equals; never one that is exempt', () => {
  const small = { mm: mmOf(10), oomScoreAdj: 0 };
  const big = { mm: mmOf(100_000), oomScoreAdj: 0 };
  const exempt = { mm: mmOf(200_000), oomScoreAdj: OOM_SCORE_ADJ_MIN };
  const volunteer = { mm: mmOf(10), oomScoreAdj: 1000 };
  expect(oomSelect([small, big, exempt], TOTAL)).toBe(big);
  expect(oomSelect([big, volunteer, small], TOTAL)).toBe(volunteer);
  expect(oomSelect([small, { ...small }], TOTAL)).not.toBe(small);
  expect(oomSelect([exempt], TOTAL)).toBeUndefined();
  expect(oomSelect([{ mm: mmOf(1), oomScoreAdj: -999 }], TOTAL)).toBeDefined();
});
