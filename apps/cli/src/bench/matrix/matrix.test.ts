import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { UsageError } from '../../errors.ts';
import { AXES, allCombinations, combinationKey, machineOf, parseShard, planId, shardOf } from './combination.ts';
import type { Axis, Combination } from './combination.ts';
import { Journal, mergeResults, readResults, writeResults } from './results.ts';
import type { SweepResults } from './results.ts';
import { checkReclaim, loadReclaim } from './reclaim-option.ts';
import { runCombination } from './run-combination.ts';
import type { RunRecord } from './run-combination.ts';
import { differenceOf, spreadOf } from './statistics.ts';
import { compareSweeps, comparisonTable, markdown, plainText, sweepNotes, sweepPage, sweepTable } from './tables.ts';
import { GENERATED, findWorkload, randomNumbers } from './workloads.ts';

const directory = mkdtempSync(join(tmpdir(), 'pagelab-test-'));
afterAll(() => rmSync(directory, { recursive: true }));

const plain: Combination = { workload: 'comb', malloc: 'glibc', slab: '', pageAllocator: '', thp: '', reclaim: '', machine: 'tiny' };

function record(changes: Partial<Combination>, hostNs: readonly number[], obtainedBytes = 4096): RunRecord {
  const counts = {
    operations: 10, requestedBytes: 100, obtainedBytes, residentBytes: 4096, machineBytes: 8192, slabBytes: 4096, pageTableBytes: 4096,
    fragmentation: 0.5, faults: 3, majorFaults: 0, tlbMisses: 4, cycles: 100, virtualNs: 1000, unusable: 0.01,
  };
  return { combination: { ...plain, ...changes }, counts, hostNs };
}

function sweep(runs: readonly RunRecord[], plan = 'a'): SweepResults {
  return { format: 'pagelab-bench-1', plan, total: 4, seed: 1, rounds: 5, host: { node: '20.0.0', platform: 'linux x64', cpus: 2 }, runs };
}

describe('the combinations of a sweep', () => {
  const values: Record<Axis, string[]> = {
    workload: ['a', 'b'], malloc: ['x', 'y', 'z'], slab: [''], pageAllocator: ['buddy', 'llfree'], thp: [''], reclaim: [''], machine: ['tiny'],
  };

  it('are all of them, once, and shards are all of these, once', () => {
    const all = allCombinations(values);
    expect(new Set(all.map(combinationKey)).size).toBe(12);
    expect(Object.keys(all[0]!)).toEqual([...AXES]);
    const parts = [1, 2, 3, 4, 5].flatMap((index) => shardOf(all, { index, count: 5 }));
    expect(new Set(parts.map(combinationKey)).size).toBe(12);
    expect(parts).toHaveLength(12);
    for (const text of ['0/2', '3/2', '1', 'a/b', '1/0']) expect(() => parseShard(text)).toThrow(UsageError);
    expect(parseShard('2/8')).toEqual({ index: 2, count: 8 });
    expect(planId(all, 1, 5)).not.toBe(planId(all, 2, 5));
  });

  it('are machines, or say what is wrong', () => {
    expect(machineOf({ ...plain, slab: 'slob', pageAllocator: 'llfree', thp: 'never' })).toMatchObject({ slab: 'slob', pageAllocator: 'llfree', commandLine: { transparentHugepage: 'never' } });
    expect(() => machineOf({ ...plain, slab: 'slabby' })).toThrow(/machine 'tiny': .*slab.*"slub", "slab" or "slob"/);
    expect(() => machineOf({ ...plain, machine: 'none' })).toThrow(/no machine 'none'/);
  });
});

describe('workloads', () => {
  it('are found by name or file', () => {
    expect(() => findWorkload('nothing')).toThrow(/no workload 'nothing': give a malloc trace, or one of uniform, .*git-log/);
    expect(findWorkload('git-log').title).toMatch(/git-log/);
  });

  it('draw numbers evenly, the same for the same seed', () => {
    const counts = new Array<number>(10).fill(0);
    const random = randomNumbers(5);
    for (let i = 0; i < 10_000; i++) counts[random(10)]! += 1;
    for (const times of counts) expect(Math.abs(times - 1000)).toBeLessThan(150);
    const [first, second] = [randomNumbers(9), randomNumbers(9)];
    expect([first(1000), first(1000)]).toEqual([second(1000), second(1000)]);
  });

  it.each(GENERATED.map(({ name }) => name))('%s counts the same each time', async (workload) => {
    const task = { combination: { ...plain, workload, machine: 'laptop' }, seed: 3, rounds: 1 };
    const { counts, hostNs } = await runCombination(task);
    expect(hostNs).toHaveLength(1);
    expect(counts.operations).toBeGreaterThan(10);
    expect(counts.faults).toBeGreaterThan(100);
    expect(counts.residentBytes).toBeGreaterThan(100_000);
    if (!['mappings', 'pressure'].includes(workload)) expect(counts.obtainedBytes).toBeGreaterThanOrEqual(counts.requestedBytes);
    expect(counts.machineBytes).toBeGreaterThanOrEqual(counts.residentBytes);
    expect(counts.tlbMisses).toBeGreaterThan(0);
    if (workload === 'comb') expect((await runCombination({ ...task, rounds: 0 })).counts).toEqual(counts);
  });
});

describe('reclaim policies', () => {
  const plugin = fileURLToPath(new URL('../../../../../examples/plugins/random-reclaim.ts', import.meta.url));

  it('are known by name or come from a file', async () => {
    for (const known of ['', 'classic', 'mglru', plugin]) checkReclaim(known);
    for (const unknown of ['best', 'missing.ts']) expect(() => checkReclaim(unknown)).toThrow(/no reclaim policy '.*': give some of classic, mglru, fifo, second-chance, clock, lru, arc, working-set, all, or/);
    await expect(loadReclaim(fileURLToPath(import.meta.url).replace('matrix.test', 'statistics'))).rejects.toThrow(/exports no reclaim policy/);
  });

  it('differ where memory is short', async () => {
    const run = async (reclaim: string): Promise<number> => {
      const { counts } = await runCombination({ combination: { ...plain, workload: 'pressure', machine: 'swapping', reclaim }, seed: 1, rounds: 0 });
      return counts.majorFaults;
    };
    const [classic, fifo, random] = [await run('classic'), await run('fifo'), await run(plugin)];
    expect(Math.min(classic, fifo, random)).toBeGreaterThan(500);
    expect(new Set([classic, fifo, random]).size).toBe(3);
    expect(classic).toBeLessThan(fifo);
  });
});

describe('results', () => {
  it('go through a file, and through a journal that was cut off', () => {
    const file = join(directory, 'results.json');
    const runs = [record({}, [1, 2, 3]), record({ malloc: 'bump' }, [2, 2, 2])];
    writeResults(file, sweep(runs));
    expect(readResults(file)).toEqual(sweep(runs));
    const journal = new Journal(join(directory, 'other.json'), 'plan');
    expect(journal.read()).toEqual([]);
    journal.add(runs[0]!);
    appendFileSync(join(directory, 'other.json.partial'), '{"combination":{"work');
    journal.add(runs[1]!);
    expect(journal.read()).toEqual(runs);
    expect(() => new Journal(join(directory, 'other.json'), 'another').read()).toThrow(/belongs to another sweep/);
    journal.remove();
    expect(journal.read()).toEqual([]);
  });

  it('are told from other files', () => {
    const file = join(directory, 'not.json');
    writeFileSync(file, '{"format":"x"}');
    expect(() => readResults(file)).toThrow(/not\.json holds no results of 'bench matrix': format/);
    writeFileSync(file, 'x');
    expect(() => readResults(file)).toThrow(/cannot read/);
    expect(() => readResults(join(directory, 'missing.json'))).toThrow(/cannot read/);
  });

  it('of parts join to the whole, of other sweeps do not', () => {
    const parts = [{ file: 'a', sweep: sweep([record({}, [1])]) }, { file: 'b', sweep: sweep([record({ malloc: 'bump' }, [1])]) }];
    expect(mergeResults(parts).runs).toHaveLength(2);
    expect(() => mergeResults([...parts, { file: 'c', sweep: sweep([], 'b') }])).toThrow(/c is of another sweep than a/);
  });
});

describe('statistics', () => {
  it('give an interval that holds the median', () => {
    expect(spreadOf([5, 1, 4, 2, 3])).toEqual({ median: 3, low: 1, high: 5, confidence: 1 - 2 / 32 });
    const ten = spreadOf([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    expect([ten.low, ten.high]).toEqual([2, 9]);
    expect(ten.confidence).toBeCloseTo(1 - 22 / 1024, 10);
    expect(spreadOf([7])).toEqual({ median: 7, low: 7, high: 7, confidence: 0 });
  });

  it('tell a difference from noise, the same each time', () => {
    const before = [10, 11, 10.5, 10.2, 10.8, 10.4];
    expect(differenceOf(before, before.map((value) => value + 0.1)).withinNoise).toBe(true);
    const slower = differenceOf(before, before.map((value) => value * 1.5));
    expect(slower.withinNoise).toBe(false);
    expect(slower.ratio).toBeCloseTo(1.5, 10);
    expect(differenceOf(before, before.map((value) => value * 1.5))).toEqual(slower);
    expect(differenceOf([1], [2]).withinNoise).toBe(true);
  });
});

describe('tables', () => {
  const before = sweep([record({}, [1e6, 1.1e6, 1.2e6, 1e6, 1.1e6]), record({ malloc: 'bump' }, [2e6, 2e6, 2e6, 2e6, 2e6])]);
  const after = sweep([record({}, [1e6, 1.1e6, 1.2e6, 1e6, 1.1e6]), record({ malloc: 'bump' }, [3e6, 3e6, 3e6, 3e6, 3e6], 8192)]);

  it('have a row a combination, and columns for what differs', () => {
    const { head, rows } = sweepTable(before);
    expect(head.slice(0, 3)).toEqual(['malloc', 'ms', '±']);
    expect(rows.map(([name, time]) => [name, time])).toEqual([['glibc', '1.10'], ['bump', '2.00']]);
    expect(sweepNotes(before)).toMatch(/2 of 4 combinations, all with workload comb, machine tiny; seed 1/);
    expect(markdown(sweepTable(before)).split('\n')).toHaveLength(4);
    expect(plainText(sweepTable(before))).toMatch(/bump +2\.00/);
    expect(sweepPage(before).map(({ kind }) => kind)).toEqual(['text', 'bars', 'bars']);
  });

  it('compare two sweeps', () => {
    const { rows } = comparisonTable(compareSweeps(before, after));
    expect(rows).toEqual([
      ['glibc', '1.10', '1.10', '=', expect.any(String), 'within noise', '=', '=', '=', '=', '='],
      ['bump', '2.00', '3.00', '+50.0 %', expect.any(String), 'slower', '+100.0 %', '=', '=', '=', '='],
    ]);
  });

  it('keep what they say of a sweep', () => {
    writeResults(join(directory, 'kept.json'), before);
    expect(JSON.parse(readFileSync(join(directory, 'kept.json'), 'utf8'))).toEqual(before);
  });
});
