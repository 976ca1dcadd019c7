import type { Program } from '@pagelab/abi';
import { expect } from 'vitest';
import { boot } from '../boot.ts';
import type { Machine, RunResult, StartOptions } from '../machine.ts';

/** A small machine. */
export function small(cpus = 2, seed = 1): Machine {
  return boot({ memory: '64M', cpus, seed });
}

/** Runs a program whose expectations must hold, in it and in its children; the machine must be valid afterwards. */
export function runChecked(machine: Machine, program: Program, options?: StartOptions): RunResult {
  const result = machine.run(program, options);
  if (result.error !== undefined) throw result.error as Error;
  expect(machine.consoleText).not.toContain('uncaught');
  machine.validate();
  return result;
}

/** What is in use: frames by owner, without the page tables that the kernel keeps for good, and live slab objects by cache. */
export function inUse(machine: Machine): unknown {
  machine.quiesce();
  const { framesByOwner, kernelPageTables, slabs } = machine.stats();
  const { free: _free, slab: _slab, 'page table': tables = 0, ...others } = framesByOwner;
  const owners = { ...others, tables: tables - kernelPageTables };
  const objects = Object.fromEntries(slabs.filter((c) => c.activeObjects > 0).map((c) => [c.name, c.activeObjects]));
  return { owners, objects };
}
