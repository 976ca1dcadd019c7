/**
 * The tables of flags are what the calls do: each bit and each value that is in none of them is refused, where Linux refuses
 * what it does not know, and each that is in one is taken.
 */
import { Errno, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, Syscall } from '@pagelab/abi';
import { flagMask, flagValues, syscallFlags } from '@pagelab/syscalls';
import type { FlagTable } from '@pagelab/syscalls';
import { doMadvise, doMprotect, doMremap } from '@pagelab/vm';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { startProcess } from './exec.ts';
import { runChecked, small } from './testing/run.ts';

const EINVAL = -Errno.EINVAL;
const BITS = Array.from({ length: 32 }, (_, bit) => 1 << bit);

function tableOf(syscall: string, argument: string): FlagTable {
  return syscallFlags.find((table) => table.syscall === syscall && table.argument === argument)!;
}

test('each argument has one table, and each flag one row', () => {
  const keys = syscallFlags.map(({ syscall, argument }) => `${syscall} ${argument}`);
  expect(new Set(keys).size).toBe(keys.length);
  for (const { syscall, flags } of syscallFlags) {
    expect(Object.keys(Syscall)).toContain(syscall);
    expect(new Set(flags.map(({ name }) => name)).size).toBe(flags.length);
  }
});

test('virtual memory checks what the tables say', () => {
  const kernel = bootKernel(parseMachineConfig({ memory: '64M' }));
  const task = startProcess(kernel, null, {});
  if (typeof task === 'number') throw new Error(String(task));
  const { mm } = task;
  const { heapStart } = task.process.image;
  const advice = flagValues(tableOf('madvise', 'advice'));
  for (let value = -2; value < 300; value++) expect(doMadvise(mm, 0, 0, value) !== EINVAL, `advice ${value}`).toBe(advice.has(value));
  const prot = flagMask(tableOf('mprotect', 'prot'));
  for (const bit of BITS) {
    if (bit === PROT_GROWSDOWN || bit === PROT_GROWSUP) continue;
    expect(doMprotect(mm, task.process.image.dataStart, 4096, bit | PROT_READ) !== EINVAL, `prot ${bit}`).toBe((prot & bit) !== 0);
  }
  // An unmapped address is EFAULT, once the flags are taken.
  const remap = flagMask(tableOf('mremap', 'flags'));
  for (const bit of BITS) {
    const taken = doMremap(mm, heapStart + 2 ** 30, 4096, 4096, bit | 1, 2 ** 40) !== EINVAL;
    expect(taken, `mremap ${bit}`).toBe((remap & bit) !== 0);
  }
});

test('calls refuse what is in no table', () => {
  runChecked(small(), (os) => {
    const page = os.mmap(0, 4096, 3, 0x22);
    const { msync, mlock2, mlockall, wait4, pidfd_open, process_madvise, memfd_create, pipe2, shmctl, fcntl, getrusage } = Syscall;
    const refused: readonly (readonly [FlagTable, (flags: number) => number])[] = [
      [tableOf('msync', 'flags'), (flags) => os.syscall(msync, page, 4096, flags)],
      [tableOf('mlock2', 'flags'), (flags) => os.syscall(mlock2, page, 4096, flags)],
      [tableOf('mlockall', 'flags'), (flags) => os.syscall(mlockall, flags | 1)],
      [tableOf('wait4', 'options'), (flags) => os.syscall(wait4, -1, 0, flags, 0)],
      [tableOf('pidfd_open', 'flags'), (flags) => os.syscall(pidfd_open, os.getpid(), flags)],
      [tableOf('memfd_create', 'flags'), (flags) => os.syscall(memfd_create, page, flags)],
      [tableOf('pipe2', 'flags'), (flags) => os.syscall(pipe2, page, flags)],
    ];
    for (const [table, call] of refused) {
      const mask = table.flags.reduce((bits, { value }) => bits | value, 0);
      for (const bit of BITS) if ((mask & bit) === 0) expect(call(bit), `${table.syscall} ${bit}`).toBe(EINVAL);
    }
    const values: readonly (readonly [FlagTable, (value: number) => number])[] = [
      [tableOf('shmctl', 'cmd'), (value) => os.syscall(shmctl, 0, value, 0)],
      [tableOf('fcntl', 'cmd'), (value) => os.syscall(fcntl, 0, value, 0)],
      [tableOf('getrusage', 'who'), (value) => os.syscall(getrusage, value, page)],
    ];
    for (const [table, call] of values) {
      const known = flagValues(table);
      for (let value = -5; value < 40; value++) if (!known.has(value)) expect(call(value), `${table.syscall} ${value}`).toBe(EINVAL);
    }
    expect(os.syscall(process_madvise, -10_000, page, 0, 0, 1)).toBe(EINVAL);
  });
});

test('calls on other processes\' memory, and on shared files, return what the host\'s kernel does', () => {
  runChecked(small(), (os) => {
    const area = os.mmap(0, 8192, 3, 0x22);
    const ranges = os.mmap(0, 4096, 3, 0x22);
    const range = (index: number, base: number): void => {
      os.mem.storeAddress(ranges + index * 16, base);
      os.mem.storeAddress(ranges + index * 16 + 8, 4096);
    };
    const advise = (fd: number, count: number, advice: number): number => os.syscall(Syscall.process_madvise, fd, ranges, count, advice, 0);
    range(0, area);
    range(1, area + 4096);
    expect([advise(-10_000, 2, 4), advise(-1, 2, 4), advise(0, 2, 4), advise(-10_000, 2, 99)]).toEqual([8192, -9, -9, -22]);
    range(1, 4096);
    expect(advise(-10_000, 2, 4)).toBe(4096);
    range(0, 4096);
    expect(advise(-10_000, 2, 4)).toBe(-12);
    range(0, area);
    const child = os.fork(function* () {
      for (;;) yield;
    });
    const { pidfd_open, remap_file_pages } = Syscall;
    const fd = os.syscall(pidfd_open, child, 0);
    expect([advise(fd, 1, 4), advise(fd, 1, 20), advise(fd, 1, 3)]).toEqual([-22, 4096, 4096]);
    expect([os.syscall(pidfd_open, child, 4), os.syscall(pidfd_open, 0, 0), os.syscall(pidfd_open, 30_000, 0)]).toEqual([-22, -22, -3]);
    os.kill(child, 9);
    os.waitpid(child);
    expect(advise(fd, 1, 20)).toBe(-3);

    const shared = os.mmap(0, 16_384, 3, 0x21);
    for (let i = 0; i < 4; i++) os.mem.store8(shared + i * 4096, i);
    const remap = (start: number, size: number, pgoff: number, prot = 0): number => os.syscall(remap_file_pages, start, size, prot, pgoff, 0);
    expect([remap(shared, 4096, 3), remap(shared + 100, 8191, 2, 1), remap(area, 4096, 0), remap(shared, 32_768, 0), remap(shared, 100, 0)]).toEqual([0, -22, -22, -22, -22]);
    expect([0, 1, 2, 3].map((i) => os.mem.load8(shared + i * 4096))).toEqual([3, 1, 2, 3]);
    os.mem.store8(shared, 9);
    expect(os.mem.load8(shared + 3 * 4096)).toBe(9);
  });
});

test('protection keys are refused as by a processor without them', () => {
  runChecked(small(), (os) => {
    const { pkey_alloc, pkey_free, pkey_mprotect } = Syscall;
    const page = os.mmap(0, 4096, 3, 0x22);
    const protect = (key: number): number => os.syscall(pkey_mprotect, page, 4096, 1, key);
    expect([os.syscall(pkey_alloc, 0, 0), os.syscall(pkey_free, 0), protect(0), protect(20), protect(-1)]).toEqual([-22, -22, -22, -22, 0]);
    expect(() => os.mprotect(2 ** 40, 4096, 1)).toThrow('ENOMEM');
  });
});
