/**
 * Memory running out: who is killed, and that his memory comes back.
 */
import { SIGKILL, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import { inUse, runChecked, small } from './testing/run.ts';

const MIB = 2 ** 20;

/** Maps and touches `mib` MiB, page by page. */
function eat(os: Os, mib: number): number {
  const area = os.mmap(0, mib * MIB, 3, 0x4022);
  for (let offset = 0; offset < mib * MIB; offset += 4096) os.mem.store8(area + offset, 1);
  return area;
}

test('a program that takes all memory is killed, with the kernel\'s report', () => {
  const machine = small();
  const before = inUse(machine);
  const result = machine.run((os) => void eat(os, 256), { name: 'hog' });
  expect(result).toMatchObject({ status: null, signal: SIGKILL, description: 'Killed' });
  expect(machine.dmesg()).toContain('hog invoked oom-killer: gfp_mask=0x');
  expect(machine.dmesg()).toMatch(/Out of memory: Killed process \d+ \(hog\) total-vm:\d+kB, anon-rss:\d+kB, file-rss:0kB/);
  machine.validate();
  expect(inUse(machine)).toEqual(before);
  // The machine goes on.
  expect(machine.run((os) => void eat(os, 4)).status).toBe(0);
});

test('vm.oom_kill_allocating_task takes who asked, vm.panic_on_oom stops the machine', () => {
  const spiteful = boot({ memory: '64M', sysctl: { 'vm.oom_kill_allocating_task': 1, 'vm.oom_dump_tasks': 0 } });
  runChecked(spiteful, (os) => {
    const large = os.fork(function* (child) {
      const room = Number(/MemFree:\s+(\d+)/.exec(child.readFile('/proc/meminfo'))![1]) / 1024;
      eat(child, Math.floor(room * 0.7));
      for (;;) yield;
    });
    os.syscall(Syscall.sched_yield);
    const asker = os.fork((child) => void eat(child, 256));
    expect(os.waitpid(asker)!.signal).toBe(SIGKILL);
    os.kill(large, SIGKILL);
    os.waitpid(large);
  });
  expect(spiteful.dmesg()).toMatch(/Out of memory \(oom_kill_allocating_task\): Killed process \d+/);
  expect(spiteful.dmesg()).toMatch(/Node 0 DMA32: \d+\*4kB .* = \d+kB/);
  expect(spiteful.dmesg()).not.toContain('Tasks state');
  const strict = boot({ memory: '64M', sysctl: { 'vm.panic_on_oom': 1 } });
  expect(() => strict.run((os) => void eat(os, 256))).toThrow('Out of memory: system-wide panic_on_oom is enabled');
});

test('the largest is killed, and its memory serves the one that asked', () => {
  const machine = small();
  runChecked(machine, (os) => {
    const cell = os.mmap(0, 4096, 3, 0x21);
    const victim = os.fork(function* (child) {
      const room = (): number => Number(/MemFree:\s+(\d+)/.exec(child.readFile('/proc/meminfo'))![1]) / 1024;
      eat(child, Math.floor(room() * 0.6));
      child.mem.store8(cell, 1);
      for (;;) yield;
    });
    while (os.mem.load8(cell) === 0) os.syscall(Syscall.sched_yield);
    const room = Number(/MemFree:\s+(\d+)/.exec(os.readFile('/proc/meminfo'))![1]) / 1024;
    eat(os, Math.floor(room) + 2);
    expect(os.waitpid(victim)!.signal).toBe(SIGKILL);
  });
});

test('oom_score_adj exempts, and makes a victim', () => {
  const machine = small();
  runChecked(machine, (os) => {
    const spared = os.fork(function* (child) {
      child.writeFile('/proc/self/oom_score_adj', '-1000');
      eat(child, 8);
      for (;;) yield;
    });
    const chosen = os.fork(function* (child) {
      child.writeFile('/proc/self/oom_score_adj', '1000');
      for (;;) yield;
    });
    while (!os.readFile(`/proc/${chosen}/oom_score_adj`).startsWith('1000')) os.syscall(Syscall.sched_yield);
    while (!os.readFile(`/proc/${spared}/oom_score_adj`).startsWith('-1000')) os.syscall(Syscall.sched_yield);
    expect(os.readFile(`/proc/${spared}/oom_score`)).toBe('0\n');
    const hog = os.fork((child) => void eat(child, 256));
    expect(os.waitpid(hog)!.signal).toBe(SIGKILL);
    expect(os.waitpid(chosen)!.signal).toBe(SIGKILL);
    os.kill(spared, SIGKILL);
    os.waitpid(spared);
  });
});

test('a fork that there is no memory for fails, and leaves nothing', () => {
  const machine = boot({ memory: '64M', sysctl: { 'vm.overcommit_memory': 2, 'vm.overcommit_ratio': 100 } });
  runChecked(machine, (os) => {
    const limit = Number(/CommitLimit:\s+(\d+)/.exec(os.readFile('/proc/meminfo'))![1]) * 1024;
    os.mmap(0, Math.floor(limit * 0.6) - (limit % 4096), 3, 0x22);
    expect(() => os.fork(() => 0)).toThrow('ENOMEM');
  });
});
