/**
 * What a sweep runs: a workload with one allocator at each level on one machine, and the sweep's list of these.
 */
import { createHash } from 'node:crypto';
import { UsageError } from '../../errors.ts';
import { isReclaimFile } from './reclaim-option.ts';
import { loadMachineJson, readMachineConfig } from '../../machine-option.ts';
import type { MachineConfig } from '@pagelab/kernel';

/** The axes of a sweep, as its options name them. */
export const AXES = ['workload', 'malloc', 'slab', 'pageAllocator', 'thp', 'reclaim', 'machine'] as const;
export type Axis = (typeof AXES)[number];

/** One value of each axis. An empty one leaves the machine's own. */
export type Combination = Readonly<Record<Axis, string>>;

/** A combination in one line, the same for the same combination everywhere. */
export function combinationKey(combination: Combination): string {
  return AXES.map((axis) => combination[axis]).join(' | ');
}

/** Every combination of the values of each axis, the last axis changing first. */
export function allCombinations(values: Readonly<Record<Axis, readonly string[]>>): Combination[] {
  return AXES.reduce<Partial<Record<Axis, string>>[]>(
    (sofar, axis) => sofar.flatMap((combination) => values[axis].map((value) => ({ ...combination, [axis]: value }))),
    [{}],
  ) as Combination[];
}

/** Which part of a sweep to run: every `count`th combination from the `index`th, from 1. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** @throws UsageError for what is not `I/N` with I from 1 to N */
export function parseShard(text: string | undefined): Shard {
  if (text === undefined) return { index: 1, count: 1 };
  const [, index, count] = /^(\d{1,6})\/(\d{1,6})$/.exec(text)?.map(Number) ?? [];
  if (index === undefined || count === undefined || index < 1 || index > count) {
    throw new UsageError(`--shard takes a part and their number, as in 2/8; not '${text}'`);
  }
  return { index, count };
}

export function shardOf<T>(all: readonly T[], { index, count }: Shard): T[] {
  return all.filter((_, at) => at % count === index - 1);
}

/** The machine of a combination. @throws UsageError where it cannot be */
export function machineOf({ machine, slab, pageAllocator, thp, reclaim }: Combination, tlb?: string): MachineConfig {
  const json = loadMachineJson(machine);
  const cmdline = [typeof json.cmdline === 'string' ? json.cmdline : '', thp === '' ? '' : `transparent_hugepage=${thp}`].filter((words) => words !== '').join(' ');
  return readMachineConfig({
    ...json,
    ...(cmdline === '' ? {} : { cmdline }),
    ...(slab === '' ? {} : { slab }),
    ...(pageAllocator === '' ? {} : { pageAllocator }),
    ...(reclaim === '' || isReclaimFile(reclaim) ? {} : { reclaim }),
    ...(tlb === undefined ? {} : { tlb }),
  }, `machine '${machine}'`);
}

/** What names a sweep: parts of the same one can be joined, and an interrupted one goes on. */
export function planId(combinations: readonly Combination[], seed: number, rounds: number): string {
  return createHash('sha256').update(JSON.stringify([combinations.map(combinationKey), seed, rounds])).digest('hex').slice(0, 16);
}
