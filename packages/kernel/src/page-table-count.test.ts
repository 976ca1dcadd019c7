import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { NODE_STAT } from '@pagelab/mm-core';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { createMachine } from './machine.ts';

// A page in a place of its own takes a table of each level below the top; a process has one at the top, too.
test.each([
  ['6.18', 'x86-64', 3],
  ['6.12', 'x86-64', 3],
  ['6.1', 'x86-64', 2],
  ['6.1', 'x86-pae', 1],
  ['6.1', 'x86-32', 1],
] as const)('Linux %s on %s counts %i tables for a page far from others', (kernel, arch, counted) => {
  const running = bootKernel(parseMachineConfig({ memory: '128M', kernel, arch }));
  const machine = createMachine(running);
  const tables = (): number => running.vm.pages.nodeState(NODE_STAT.NR_PAGETABLE);
  const before = tables();
  machine.run((os) => {
    const at = arch === 'x86-64' ? 0x100_0000_0000 : 0x6000_0000;
    const started = tables();
    os.mem.store8(os.mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS), 1);
    expect(tables() - started).toBe(counted);
    expect(Number(/^nr_page_table_pages (\d+)/m.exec(os.readFile('/proc/vmstat'))![1])).toBe(tables());
  });
  machine.quiesce();
  expect(tables()).toBe(before);
  machine.validate();
});
