import { readdirSync } from 'node:fs';
import { boot } from '@pagelab/kernel';
import type { Machine, MachineConfigInput, MachineStats } from '@pagelab/kernel';
import type { Program } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
  .map((file) => file.replace(/\.ts$/, ''));

const DEFAULT: MachineConfigInput = { memory: '3G', cpus: 2 };

async function load(name: string): Promise<{ default: Program; machine?: MachineConfigInput }> {
  return (await import(/* @vite-ignore */ new URL(`./${name}.ts`, import.meta.url).href)) as { default: Program; machine?: MachineConfigInput };
}

/** Frames by owner, and live objects by cache: what a program must leave as it found it. */
function inUse({ framesByOwner, kernelPageTables, slabs }: MachineStats): unknown {
  const { free: _free, 'page table': tables = 0, ...others } = framesByOwner;
  const owners = { ...others, tables: tables - kernelPageTables };
  return { owners, objects: Object.fromEntries(slabs.map(({ name, activeObjects }) => [name, activeObjects])) };
}

function runOn(machine: Machine, program: Program, name: string): void {
  machine.quiesce();
  const before = inUse(machine.stats());
  const result = machine.run(program, { name });
  expect(result.error).toBeUndefined();
  expect(result.status).toBe(0);
  machine.validate();
  machine.quiesce();
  expect(inUse(machine.stats())).toEqual(before);
}

describe.each(names)('example %s', (name) => {
  it('prints what it should and leaves nothing behind', async () => {
    const { default: program, machine: wanted } = await load(name);
    const machine = boot(wanted ?? DEFAULT);
    runOn(machine, program, name);
    await expect(machine.consoleText).toMatchFileSnapshot(`expected/${name}.txt`);
  });

  it('runs on a machine of 1 TiB', async () => {
    const { default: program } = await load(name);
    runOn(boot({ memory: '1T', cpus: 4 }), program, name);
  });
});
