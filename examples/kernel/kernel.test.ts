import { readdirSync } from 'node:fs';
import { boot } from '@pagelab/kernel';
import type { Machine, MachineConfigInput } from '@pagelab/kernel';
import { expect, it } from 'vitest';

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
  .map((file) => file.replace(/\.ts$/, ''));

interface Example {
  readonly default: (machine: Machine, print: (line: string) => void) => void;
  readonly machine?: MachineConfigInput;
}

it.each(names)('%s prints what it should', async (name) => {
  const { default: run, machine: wanted } = (await import(/* @vite-ignore */ new URL(`./${name}.ts`, import.meta.url).href)) as Example;
  const machine = boot(wanted ?? { memory: '1G', cpus: 2 });
  let printed = '';
  run(machine, (line) => {
    printed += `${line}\n`;
  });
  machine.validate();
  await expect(printed).toMatchFileSnapshot(`../expected/kernel/${name}.txt`);
});
