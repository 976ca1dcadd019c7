/** `prctl`: what each call answers, as Linux 6.18 did. */
import { BUS_MCEERR_AO, MADV_HWPOISON, PR_MCE_KILL, PR_MCE_KILL_EARLY, PR_MCE_KILL_SET, SIGBUS, Syscall, errnoName, isError } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';
import { boot } from './boot.ts';
import type { Process } from './machine.ts';

const PAGE = 4096;

/** In order. */
const OBSERVED: readonly (readonly [args: readonly number[], expected: number | string])[] = [
  [[67, 1, 0, 0, 0], 0], [[68, 0, 0, 0, 0], 1], [[67, 1, 1, 0, 0], 'EINVAL'], [[68, 0, 1, 0, 0], 'EINVAL'], [[68, 1, 0, 0, 0], 'EINVAL'],
  [[67, 2, 0, 0, 0], 0], [[67, 0, 0, 0, 0], 0], [[68, 0, 0, 0, 0], 0],
  [[34, 0, 0, 0, 0], 2], [[33, 0, 0, 0, 0], 0], [[33, 1, 1, 0, 0], 0], [[34, 0, 0, 0, 0], 1], [[33, 1, 0, 0, 0], 0], [[34, 0, 0, 0, 0], 0],
  [[33, 1, 2, 0, 0], 0], [[34, 0, 0, 0, 0], 2], [[33, 1, 3, 0, 0], 'EINVAL'], [[33, 2, 0, 0, 0], 'EINVAL'], [[33, 1, 1, 1, 0], 'EINVAL'],
  [[34, 1, 0, 0, 0], 'EINVAL'], [[33, 0, 0, 0, 0], 0], [[33, 0, 1, 0, 0], 'EINVAL'], [[34, 0, 0, 0, 0], 2],
  [[42, 0, 0, 0, 0], 0], [[41, 1, 0, 0, 0], 0], [[42, 0, 0, 0, 0], 1], [[41, 1, 1, 0, 0], 'EINVAL'], [[41, 1, 2, 0, 0], 0], [[42, 0, 0, 0, 0], 3],
  [[41, 0, 1, 0, 0], 'EINVAL'], [[41, 0, 0, 0, 0], 0], [[42, 1, 0, 0, 0], 'EINVAL'], [[41, 1, 0, 1, 0], 'EINVAL'], [[41, 2, 0, 0, 0], 0],
  [[42, 0, 0, 0, 0], 1],
  [[999, 0, 0, 0, 0], 'EINVAL'], [[-1, 0, 0, 0, 0], 'EINVAL'], [[15, 8, 0, 0, 0], 'EFAULT'], [[16, 8, 0, 0, 0], 'EFAULT'],
];

const prctl = (os: Os, ...args: readonly number[]): number => os.syscall(Syscall.prctl, ...args);
const vmFlags = (os: Os, start: number): string =>
  new RegExp(`^${start.toString(16)}-[^]*?VmFlags: (.*?) ?$`, 'm').exec(os.readFile('/proc/self/smaps'))![1]!;

describe('prctl', () => {
  it('answers as Linux does', () => {
    const { os } = boot({ memory: '64M' }).createProcess();
    for (const [args, expected] of OBSERVED) {
      const result = prctl(os, ...args);
      expect([args, isError(result) ? errnoName(-result) : result]).toEqual([args, expected]);
    }
  });

  it('names the task', () => {
    const machine = boot({ memory: '64M' });
    const { os, pid } = machine.createProcess();
    const text = os.mmap(0, PAGE, 3, 0x22);
    os.mem.storeCString(text, 'abcdefghijklmnopqrs');
    expect(prctl(os, 15, text, 0, 0, 0)).toBe(0);
    expect(prctl(os, 16, text + 100, 0, 0, 0)).toBe(0);
    expect(os.mem.loadCString(text + 100)).toBe('abcdefghijklmno');
    expect(machine.readFile(`/proc/${pid}/status`)).toContain('Name:\tabcdefghijklmno\n');
  });

  it('has all memory merged, what is mapped later, and what children have', () => {
    const machine = boot({ memory: '64M' });
    const process = machine.createProcess();
    const { os, pid } = process;
    const before = os.mmap(0, PAGE, 3, 0x22);
    os.mprotect(before + 0, 0, 3);
    expect(prctl(os, 67, 1, 0, 0, 0)).toBe(0);
    expect(vmFlags(os, before)).toContain(' mg');
    const shared = os.mmap(0, PAGE, 3, 0x21);
    expect(vmFlags(os, shared)).not.toContain(' mg');
    expect(machine.readFile(`/proc/${pid}/ksm_stat`)).toContain('ksm_merge_any: yes\nksm_mergeable: yes\n');
    const child = process.fork() as Process;
    expect(prctl(child.os, 68, 0, 0, 0, 0)).toBe(1);
    const later = child.os.mmap(0, PAGE, 1, 0x22);
    expect(vmFlags(child.os, later)).toContain(' mg');
    child.execve();
    expect(prctl(child.os, 68, 0, 0, 0, 0)).toBe(1);
    expect(prctl(os, 67, 0, 0, 0, 0)).toBe(0);
    expect(vmFlags(os, before)).not.toContain(' mg');
    machine.validate();
  });

  it('keeps huge pages from a process, but where it asks for them', () => {
    const machine = boot({ memory: '64M' });
    machine.writeFile('/sys/kernel/mm/transparent_hugepage/enabled', 'always');
    const { os } = machine.createProcess();
    const huge = (advised: boolean): boolean => {
      const start = os.mmap(0, 2 ** 22, 3, 0x22);
      if (advised) os.madvise(start, 2 ** 22, 14);
      os.mem.store8(Math.ceil(start / 2 ** 21) * 2 ** 21, 1);
      const rss = Number(/RssAnon:\s+(\d+)/.exec(os.readFile('/proc/self/status'))![1]);
      os.munmap(start, 2 ** 22);
      return rss >= 2048;
    };
    expect([huge(false), huge(true)]).toEqual([true, true]);
    prctl(os, 41, 1, 0, 0, 0);
    expect([huge(false), huge(true)]).toEqual([false, false]);
    prctl(os, 41, 1, 2, 0, 0);
    expect([huge(false), huge(true)]).toEqual([false, true]);
    machine.validate();
  });

  it('has a process told of a broken page before it touches it', () => {
    const machine = boot({ memory: '64M' });
    const parent = machine.createProcess({ name: 'parent' });
    const p = parent.os.mmap(0, PAGE, 3, 0x22);
    parent.os.mem.store8(p, 7);
    const [early, late] = [parent.fork() as Process, parent.fork() as Process];
    const seen: string[] = [];
    for (const [name, { os }] of [['early', early], ['late', late], ['parent', parent]] as const) {
      os.sigaction(SIGBUS, ({ code, addr }) => void seen.push(`${name} ${code} ${addr - p}`));
    }
    expect(prctl(early.os, PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0)).toBe(0);
    parent.os.madvise(p, PAGE, MADV_HWPOISON);
    for (const { os } of [early, late]) os.getpid();
    expect(seen).toEqual(['parent 4 0', `early ${BUS_MCEERR_AO} 0`]);
    const log = machine.dmesg().replace(/0x[0-9a-f]+/g, '0x1');
    expect(log).toContain('Injecting memory failure for pfn 0x1 at process virtual address 0x1');
    expect(log).toMatch(new RegExp(`Memory failure: 0x1: Sending SIGBUS to \\w+:${early.pid} due to hardware memory corruption`));
    expect(log).toContain('Memory failure: 0x1: recovery action for dirty LRU page: Recovered');
    machine.validate();
  });
});
