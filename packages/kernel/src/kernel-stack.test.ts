import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import { KernelOops } from './index.ts';
import type { KernelModule, Machine } from './index.ts';
import { inUse, small } from './testing/run.ts';

const PAGE = 4096;

function machineWith(kernelStack: { size?: '4K' | '8K' | '16K'; vmap?: boolean; threadInfo?: 'task' | 'stack' }): Machine {
  return boot({ memory: '64M', cpus: 2, kernelStack });
}

function stackKib(machine: Machine): number {
  return Number(/KernelStack: +(\d+)/.exec(machine.readFile('/proc/meminfo'))![1]);
}

/** Calls itself `depth` times. @returns the deepest it came */
function recurse(k: KernelModule, depth: number, frameBytes: number): number {
  return depth === 0 ? 0 : k.call('recurse', () => 1 + recurse(k, depth - 1, frameBytes), frameBytes);
}

test('a task has a stack of the size that was built in', () => {
  for (const [kernelStack, kib] of [[{}, 16], [{ size: '8K' }, 8], [{ size: '4K', vmap: false }, 4], [{ vmap: false }, 16]] as const) {
    const machine = machineWith(kernelStack);
    const before = inUse(machine);
    const one = machine.createProcess();
    const two = machine.createProcess();
    expect(stackKib(machine)).toBe(2 * kib);
    machine.validate();
    for (const process of [one, two]) process.exit(0);
    expect(stackKib(machine)).toBe(0);
    machine.validate();
    expect(inUse(machine)).toEqual(before);
  }
  expect(() => boot({ arch: 'x86-32', memory: '64M', kernelStack: { vmap: true } })).toThrow('kernelStack: takes');
});

test('a CPU keeps two stacks, which the next tasks get, zeroed; they count as vmalloc, not as stacks', () => {
  const machine = small(1);
  const used = (): number => Number(/VmallocUsed: +(\d+)/.exec(machine.readFile('/proc/meminfo'))![1]);
  const none = used();
  const processes = [1, 2, 3].map(() => machine.createProcess());
  const stacks = machine.module((k) => [k.stack.begin, ...processes.map(({ pid }) => k.stackOf(pid)!.begin)]);
  machine.module((k) => k.mem.fill(stacks[1]! + 100, 3 * PAGE, 0xff));
  for (const process of processes) process.exit(0);
  expect([used() - none, stackKib(machine)]).toEqual([32, 0]);
  const next = machine.createProcess();
  machine.module((k) => {
    const { begin, end } = k.stackOf(next.pid)!;
    expect(stacks).toContain(begin);
    for (let at = begin + 8; at < end; at += 8) if (k.mem.loadAddress(at) !== 0) expect(at).toBe('zero');
    expect(k.mem.load32(begin)).toBe(0x57ac6e9d);
  });
  next.exit(0);
  machine.quiesce();
  expect(used()).toBe(none);
});

test('with VMAP_STACK a stack that runs over faults on the guard page, and nothing else is touched', () => {
  const machine = small();
  const before = inUse(machine);
  let deepest = 0;
  let caught: unknown;
  try {
    machine.module((k) => {
      const go = (): void => k.call('recurse', () => ((deepest += 1), go()), 256);
      go();
    });
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(KernelOops);
  const { kind, text } = caught as KernelOops;
  expect(kind).toBe('stack-guard');
  // 16 KiB less the registers at the top, 256 bytes a call.
  expect(deepest).toBe(Math.floor((16384 - 168) / 256));
  expect(text).toMatch(/^BUG: task stack guard page was hit at ffffc9[0-9a-f]{7}fff \(stack is ffffc9[0-9a-f]{7}000\.\.ffffc9[0-9a-f]{7}000\)\n/);
  expect((caught as KernelOops).callTrace[0]).toBe('recurse [module]');
  machine.validate();
  expect(inUse(machine)).toEqual(before);
});

test('without it, what lies below is overwritten, exactly as far as the stack goes, and nobody notices', () => {
  const machine = machineWith({ size: '8K', vmap: false, threadInfo: 'stack' });
  machine.module((k) => {
    const { begin, end } = k.stack;
    const below = 600;
    // thread_info as it was made: the task, and the limit of user addresses.
    expect(k.mem.loadAddress(begin)).toBeLessThan(0);
    expect(k.mem.loadAddress(begin + 24)).toBe(0x7ffffffff000);
    const victim = k.mem.bytes(begin - PAGE, PAGE);
    recurse(k, 1, end - 168 - begin - 40);
    expect(k.stackEndCorrupted()).toBe(false);
    recurse(k, 1, end - 168 - begin - 39);
    expect(k.stackEndCorrupted()).toBe(true);
    expect(k.mem.loadAddress(begin)).toBeLessThan(0);
    recurse(k, 1, end - 168 - begin + below);
    expect(k.mem.load32(begin)).toBe(0xa5a5a5a5);
    const after = k.mem.bytes(begin - PAGE, PAGE);
    expect(after.subarray(0, PAGE - below)).toEqual(victim.subarray(0, PAGE - below));
    expect(after.subarray(PAGE - below)).toEqual(new Uint8Array(below).fill(0xa5));
    expect(k.stack.pointer).toBe(end - 168);
    expect(k.stack.lowest).toBe(begin - below);
    k.mem.set(begin - PAGE, victim);
  });
  expect(machine.dmesg()).not.toContain('BUG');
  machine.validate();
});

test('an interrupt runs on a stack of its CPU, where nothing sleeps', () => {
  const machine = small();
  machine.module((k) => {
    const task = k.stack;
    const stacks = [0, 1].map((cpu) => k.onCpu(cpu, () => k.interrupt(() => recurse(k, 3, 1000) && k.stack)));
    expect(new Set([task.begin, ...stacks.map((stack) => (stack as typeof task).begin)]).size).toBe(3);
    for (const stack of stacks as (typeof task)[]) expect([stack.end - stack.begin, stack.end - stack.lowest]).toEqual([16384, 168 + 3000]);
    // One inside another goes on where that is.
    k.interrupt(() => k.call('outer', () => k.interrupt(() => expect(k.stack.lowest).toBe(k.stack.end - 168 - 64))));
    expect(k.stack.lowest).toBe(task.lowest);
  });
  expect(() => machine.module((k) => k.interrupt(() => recurse(k, 20, 1000)))).toThrow('IRQ stack guard page was hit');
  expect(machine.readFile('/proc/vmallocinfo').match(/20480 irq_init_percpu_irqstack vmap$/gm)).toHaveLength(2);
});
