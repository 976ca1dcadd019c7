/** Frames that break, and frames that are retired. */
import { BUS_MCEERR_AR, Errno, MADV_HWPOISON, MADV_SOFT_OFFLINE, SIGBUS, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';
import { boot } from './boot.ts';
import type { Process } from './machine.ts';

const PAGE = 4096;
const corrupted = (text: string): string => /HardwareCorrupted: +(\d+)/.exec(text)![1]!;

describe('memory failure', () => {
  it('takes a page away: who had it is told, and who touches it later', () => {
    const machine = boot({ memory: '128M' });
    const seen: string[] = [];
    const result = machine.run((os: Os) => {
      const p = os.mmap(0, 8 * PAGE, 3, 0x22);
      for (let page = 0; page < 8; page++) os.mem.store8(p + page * PAGE, page);
      os.sigaction(SIGBUS, ({ code, addr }) => {
        seen.push(`${code} at ${(addr - p) / PAGE}`);
        // What is lost is mapped anew.
        os.mmap(addr, PAGE, 3, 0x32);
      });
      os.madvise(p + PAGE, PAGE, MADV_HWPOISON);
      seen.push(`${os.mem.load8(p + PAGE)} ${os.mem.load8(p + 2 * PAGE)}`);
      os.print(corrupted(os.readFile('/proc/meminfo')));
      expect(os.syscall(Syscall.madvise, p + 1, PAGE, MADV_HWPOISON)).toBe(-Errno.EINVAL);
      expect(os.syscall(Syscall.madvise, p, 0, MADV_HWPOISON)).toBe(0);
    });
    expect(result.error).toBeUndefined();
    expect(seen).toEqual([`${BUS_MCEERR_AR} at 1`, '0 2']);
    expect(machine.consoleText).toBe('4\n');
    machine.validate();
  });

  it('tells another process when it touches the page, and forks what is gone', () => {
    const machine = boot({ memory: '128M' });
    const parent = machine.createProcess();
    const p = parent.os.mmap(0, 4 * PAGE, 3, 0x22);
    parent.os.mem.fill(p, 4 * PAGE, 7);
    const child = parent.fork() as Process;
    parent.os.sigaction(SIGBUS, () => undefined);
    parent.os.madvise(p, PAGE, MADV_HWPOISON);
    machine.validate();
    const grandchild = child.fork() as Process;
    for (const each of [child, grandchild]) {
      expect(each.os.mem.load8(p + PAGE)).toBe(7);
      expect(() => each.os.mem.load8(p)).toThrow();
      machine.validate();
    }
    parent.exit(0);
    machine.validate();
    expect(corrupted(machine.readFile('/proc/meminfo'))).toBe('4');
  });

  it('splits a huge page around it', () => {
    const machine = boot({ memory: '128M' });
    machine.writeFile('/sys/kernel/mm/transparent_hugepage/enabled', 'always');
    const { os } = machine.createProcess();
    const p = Math.ceil(os.mmap(0, 2 ** 22, 3, 0x22) / 2 ** 21) * 2 ** 21;
    os.mem.fill(p, 2 ** 21, 5);
    os.sigaction(SIGBUS, () => undefined);
    os.madvise(p + 100 * PAGE, PAGE, MADV_HWPOISON);
    expect([os.mem.load8(p + 99 * PAGE), os.mem.load8(p + 101 * PAGE)]).toEqual([5, 5]);
    machine.validate();
  });

  it('moves what a frame holds before it breaks', () => {
    const machine = boot({ memory: '128M' });
    const process = machine.createProcess();
    const { os } = process;
    const p = os.mmap(0, 16 * PAGE, 3, 0x22);
    for (let page = 0; page < 16; page++) os.mem.fill(p + page * PAGE, PAGE, page + 1);
    os.madvise(p, 16 * PAGE, MADV_SOFT_OFFLINE);
    for (let page = 0; page < 16; page++) expect(os.mem.findNot(p + page * PAGE, PAGE, page + 1)).toBe(-1);
    expect(corrupted(machine.readFile('/proc/meminfo'))).toBe('64');
    machine.validate();
    process.exit(0);
    machine.validate();
  });

  it('stops the machine where that is wanted', () => {
    const machine = boot({ memory: '128M' });
    machine.writeFile('/proc/sys/vm/memory_failure_recovery', '0');
    const { os } = machine.createProcess();
    const p = os.mmap(0, PAGE, 3, 0x22);
    os.mem.store8(p, 1);
    expect(() => os.madvise(p, PAGE, MADV_HWPOISON)).toThrow('Memory failure on page');
  });

  it('is for the privileged, and not for pages of the kernel', () => {
    const machine = boot({ memory: '128M' });
    const { os } = machine.createProcess();
    const p = os.mmap(0, 4 * PAGE, 3, 0x22);
    os.mem.load8(p);
    expect(os.syscall(Syscall.madvise, p, PAGE, MADV_HWPOISON)).toBe(-Errno.EBUSY);
    expect(os.syscall(Syscall.madvise, p + 4096 * PAGE, PAGE, MADV_HWPOISON)).toBeLessThan(0);
    expect(os.syscall(Syscall.setuid, 1000)).toBe(0);
    expect(os.syscall(Syscall.madvise, p, PAGE, MADV_HWPOISON)).toBe(-Errno.EPERM);
    machine.validate();
  });
});
