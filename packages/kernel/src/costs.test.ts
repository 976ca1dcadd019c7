/// <reference types="node" />
import { readFileSync } from 'node:fs';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { DEFAULT_COSTS } from '@pagelab/hw';
import { describe, expect, it, test } from 'vitest';
import { boot } from './boot.ts';
import type { MachineConfigInput } from './config.ts';

test('the page of costs says what the machine reckons with', () => {
  const page = readFileSync(new URL('../../../docs/cost-model.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `(\w+)` \| (\d+) \|/gm)].map(([, event, ns]) => [event, Number(ns)]);
  expect(Object.fromEntries(rows)).toEqual(DEFAULT_COSTS);
});

/** Virtual nanoseconds that a program takes. */
function timeOf(config: Partial<MachineConfigInput>, program: (os: Os) => void): number {
  const machine = boot({ memory: '64M', ...config });
  const before = machine.stats().timeNs;
  machine.run(program);
  return machine.stats().timeNs - before;
}

describe('costs', () => {
  it('are those of the configuration', () => {
    const calls = (os: Os): void => {
      for (let i = 0; i < 1000; i++) os.syscall(Syscall.getppid);
    };
    expect(timeOf({ costs: { syscall: 1250 } }, calls) - timeOf({}, calls)).toBeGreaterThanOrEqual(1_000_000);
    expect(() => boot({ memory: '64M', costs: { sleep: 3 } } as unknown as MachineConfigInput)).toThrow(/costs: unknown key "sleep"/);
    expect(() => boot({ memory: '64M', costs: { ipi: -1 } })).toThrow(/costs/);
  });

  it('let time pass for walks and for pages dropped', () => {
    const touch = (os: Os): void => {
      const at = os.mmap(0, 2 ** 22, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
      for (let page = 0; page < 1024; page++) os.mem.store8(at + page * 4096, 1);
      for (let page = 0; page < 1024; page++) os.madvise(at + page * 4096, 4096, 4);
    };
    const plain = timeOf({}, touch);
    expect(timeOf({ costs: { pageWalk: 1017 } }, touch) - plain).toBeGreaterThan(1_000_000);
    expect(timeOf({ costs: { invlpg: 1070 } }, touch) - plain).toBeGreaterThan(1_000_000);
  });
});

describe('a shootdown', () => {
  /** Interrupts that unmapping takes while threads of the same program were last on other CPUs. */
  function interrupts(threads: 'waiting' | 'ready'): number {
    const machine = boot({ memory: '64M', cpus: 4 });
    let ipis = 0;
    machine.run(function* (os) {
      const at = os.mmap(0, 2 ** 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
      const tids = Array.from({ length: 12 }, () =>
        os.thread(function* (thread) {
          for (let turn = 0; turn < (threads === 'ready' ? 400 : 1); turn++) {
            thread.mem.store8(at, turn);
            yield;
          }
        }),
      );
      for (let turn = 0; turn < 20; turn++) yield;
      const before = machine.stats().tlb.ipis;
      os.mem.store8(at + 4096, 1);
      os.madvise(at + 4096, 4096, 4);
      ipis = machine.stats().tlb.ipis - before;
      void tids;
    });
    machine.validate();
    return ipis;
  }

  it('interrupts the CPUs that may hold the entry, and not those with nothing to run', () => {
    expect(interrupts('ready')).toBe(3);
    expect(interrupts('waiting')).toBe(0);
  });

  it('interrupts nobody on account of programs that have ended', () => {
    const machine = boot({ memory: '64M', cpus: 4 });
    machine.run((os) => {
      for (let i = 0; i < 8; i++) os.waitpid(os.fork((child) => child.mem.store8(child.sbrk(4096), 1)));
      const before = machine.stats().tlb.ipis;
      os.mem.store8(os.sbrk(4096), 1);
      os.sbrk(-4096);
      expect(machine.stats().tlb.ipis).toBe(before);
    });
    machine.validate();
  });
});
