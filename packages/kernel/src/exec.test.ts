/**
 * Programs that take another's place, and how they are laid out.
 */
import {
  ADDR_COMPAT_LAYOUT,
  ADDR_NO_RANDOMIZE,
  F_GETFD,
  F_SETFD,
  FD_CLOEXEC,
  MCL_CURRENT,
  MCL_FUTURE,
  O_CLOEXEC,
  PERSONALITY_QUERY,
  READ_IMPLIES_EXEC,
  SIGTERM,
  SIGUSR1,
  SIGUSR2,
  SIG_BLOCK,
  Syscall,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { describe, expect, test } from 'vitest';
import { boot } from './boot.ts';
import { inUse, runChecked, small } from './testing/run.ts';

const RW = 3;
const PRIVATE_ANON = 0x22;
const SHARED_ANON = 0x21;

/** Where parts of a program begin, by their name in /proc/self/maps. */
function starts(os: Os): Record<string, number> {
  const found: Record<string, number> = {};
  for (const line of os.readFile('/proc/self/maps').split('\n')) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) .*\[(\w+)\]$/.exec(line);
    if (match !== null) found[match[3]!] = parseInt(match[3] === 'stack' ? match[2]! : match[1]!, 16);
  }
  return found;
}

describe('execve', () => {
  test('puts a new address space in the place of the old one, which is gone', () => {
    const machine = small();
    const before = inUse(machine);
    const { status } = runChecked(machine, function first(os) {
      const page = os.mmap(0, 4096, RW, PRIVATE_ANON);
      os.mem.store8(page, 1);
      os.sbrk(100_000);
      const pid = os.getpid();
      os.execve(
        function second(next, where, who) {
          expect(() => os.getpid()).toThrow('runs another program');
          expect(() => os.mem.load8(page)).toThrow('runs another program');
          expect(next.getpid()).toBe(Number(who));
          expect(() => next.mincore(Number(where), 4096)).toThrow('ENOMEM');
          expect(next.readFile('/proc/self/comm')).toBe('second\n');
          expect(next.sbrk(0)).toBe(next.syscall(Syscall.brk, 0));
          next.mem.store32(next.sbrk(4096), 7);
          return 42;
        },
        String(page),
        String(pid),
      );
    });
    expect(status).toBe(42);
    expect(inUse(machine)).toEqual(before);
  });

  test('is no way back for a program that catches what it throws', () => {
    const machine = small();
    const { status } = runChecked(machine, function* (os) {
      try {
        os.execve(() => 5);
      } catch {
        yield;
      }
      return 6;
    });
    expect(status).toBe(5);
    const again = runChecked(machine, (os) => {
      try {
        os.execve(() => 5);
      } catch {
        // It goes on, for nothing.
      }
      return 6;
    });
    expect(again.status).toBe(5);
  });

  test('closes what is to be closed, and keeps the rest', () => {
    const machine = small();
    runChecked(machine, (os) => {
      const path = os.sbrk(4096);
      os.mem.storeCString(path, '/dev/zero');
      const kept = os.syscall(Syscall.open, path, 0, 0);
      const closed = os.syscall(Syscall.open, path, O_CLOEXEC, 0);
      const marked = os.syscall(Syscall.open, path, 0, 0);
      os.syscall(Syscall.fcntl, marked, F_SETFD, FD_CLOEXEC);
      os.execve((next) => {
        expect([kept, closed, marked].map((fd) => next.syscall(Syscall.fcntl, fd, F_GETFD) >= 0)).toEqual([true, false, false]);
      });
    });
  });

  test('resets handlers, keeps what is ignored, held back and pending, and gives root its capabilities', () => {
    const machine = small();
    const result = runChecked(machine, (os) => {
      os.sigaction(SIGUSR1, () => undefined);
      os.sigaction(SIGTERM, 'ignore');
      os.sigprocmask(SIG_BLOCK, [SIGUSR2]);
      os.kill(os.getpid(), SIGUSR2);
      os.setrlimit(8, { cur: 0, max: 0 });
      os.mlockall(MCL_CURRENT | MCL_FUTURE);
      os.execve((next) => {
        expect(next.sigaction(SIGUSR1, 'default')).toBe('default');
        expect(next.sigaction(SIGTERM, 'default')).toBe('ignore');
        expect(next.sigprocmask(SIG_BLOCK, [])).toEqual([SIGUSR2]);
        expect(next.readFile('/proc/self/status')).toMatch(/VmLck:\s+0 kB/);
        expect(next.readFile('/proc/self/status')).toContain('CapEff:\t000001ffffffffff');
        next.sigprocmask(2, []);
      });
    });
    expect(result.signal).toBe(SIGUSR2);
  });

  test('by a thread ends the others, and gives it the number of the process', () => {
    const machine = small();
    const before = inUse(machine);
    const { status, pid } = runChecked(machine, function* (os) {
      const pid = os.getpid();
      os.thread(function* () {
        for (;;) yield;
      });
      os.thread(function* (thread) {
        expect(thread.gettid()).not.toBe(pid);
        yield;
        thread.execve((next) => {
          expect([next.getpid(), next.gettid()]).toEqual([pid, pid]);
          machine.validate();
          return 9;
        });
      });
      for (;;) yield;
    });
    expect(status).toBe(9);
    expect(pid).toBeGreaterThan(0);
    expect(inUse(machine)).toEqual(before);
  });

  test('of a process that is driven from outside', () => {
    const machine = small();
    const process = machine.createProcess();
    const { os } = process;
    const page = os.mmap(0, 4096, RW, PRIVATE_ANON);
    expect(process.execve({ name: 'other' })).toBe(0);
    expect(() => os.getpid()).toThrow('runs another program');
    expect(() => process.os.mincore(page, 4096)).toThrow('ENOMEM');
    machine.validate();
    expect(() => process.os.execve((next) => next.getpid() % 2 + 3)).toThrow('runs another program');
    machine.schedule();
    expect(process.status).toBe((process.pid % 2) + 3);
    machine.validate();
  });
});

describe('vfork', () => {
  test('lends the address space until the child runs another program', () => {
    const machine = small();
    const before = inUse(machine);
    runChecked(machine, (os) => {
      const page = os.mmap(0, 4096, RW, PRIVATE_ANON);
      const log = os.mmap(0, 4096, RW, SHARED_ANON);
      const pid = os.vfork(function* (child) {
        child.mem.store8(page, 3);
        yield;
        machine.validate();
        child.execve(function* (next) {
          expect(() => next.mincore(page, 4096)).toThrow('ENOMEM');
          yield;
          return 8;
        });
      });
      expect(os.mem.load8(page)).toBe(3);
      expect(os.mem.load8(log)).toBe(0);
      machine.validate();
      expect(os.waitpid(pid)).toMatchObject({ status: 8 });
      // Or until it ends.
      const second = os.vfork((child) => child.mem.store8(page, 4));
      expect(os.mem.load8(page)).toBe(4);
      expect(os.waitpid(second, 1)).toMatchObject({ pid: second, status: 0 });
    });
    expect(inUse(machine)).toEqual(before);
  });

  test('a child that is killed gives the address space back too', () => {
    const machine = small();
    const before = inUse(machine);
    runChecked(machine, (os) => {
      const pid = os.vfork((child) => child.mem.store8(0, 1));
      expect(os.waitpid(pid)).toMatchObject({ signal: 11 });
      os.mem.store8(os.sbrk(4096), 1);
    });
    expect(inUse(machine)).toEqual(before);
  });
});

describe('layout', () => {
  // `setarch -R -L cat /proc/self/maps` and `setarch -R cat /proc/self/maps`
  test('is fixed by default, and bottom-up where the personality says so', () => {
    const machine = small();
    runChecked(machine, (os) => {
      expect(starts(os)).toMatchObject({ vvar: 0x7fff_f7ff_7000, stack: 0x7fff_ffff_f000 });
      expect(os.personality(ADDR_COMPAT_LAYOUT)).toBe(0);
      expect(os.personality(PERSONALITY_QUERY)).toBe(ADDR_COMPAT_LAYOUT);
      os.execve((next) => {
        expect(starts(next)).toMatchObject({ vvar: 0x2aaa_aaaa_b000, stack: 0x7fff_ffff_f000 });
        const [low, high] = [next.mmap(0, 4096, 1, PRIVATE_ANON), next.mmap(0, 4096, 1, SHARED_ANON)];
        expect([low, high - low]).toEqual([0x2aaa_aaab_3000, 4096]);
        const child = next.fork((each) => Number(each.mmap(0, 4096, 1, SHARED_ANON) !== high + 4096));
        expect(next.waitpid(child)!.status).toBe(0);
      });
    });
    const process = machine.createProcess({ personality: ADDR_COMPAT_LAYOUT });
    expect(process.os.mmap(0, 4096, 1, PRIVATE_ANON)).toBe(0x2aaa_aaab_3000);
    machine.writeFile('/proc/sys/vm/legacy_va_layout', '1\n');
    expect(machine.createProcess().os.mmap(0, 4096, 1, PRIVATE_ANON)).toBe(0x2aaa_aaab_3000);
  });

  test('READ_IMPLIES_EXEC makes what may be read executable', () => {
    const machine = small();
    runChecked(machine, (os) => {
      os.personality(READ_IMPLIES_EXEC);
      const page = os.mmap(0, 8192, 1, PRIVATE_ANON);
      os.mprotect(page, 4096, 3);
      expect([os.mem.fetch8(page), os.mem.fetch8(page + 4096)]).toEqual([0, 0]);
    });
  });

  const randomized = (seed: number, level: number): Record<string, number>[] => {
    const machine = boot({ memory: '64M', seed, sysctl: { 'kernel.randomize_va_space': level } });
    return Array.from({ length: 20 }, () => {
      const { os } = machine.createProcess();
      const page = os.mmap(0, 4096, RW, PRIVATE_ANON);
      machine.validate();
      return { ...starts(os), page, heap: os.syscall(Syscall.brk, 0) };
    });
  };

  test('is displaced by the seed where that is switched on, within Linux\'s ranges', () => {
    expect(randomized(1, 2)).toEqual(randomized(1, 2));
    expect(randomized(1, 2)).not.toEqual(randomized(2, 2));
    const spread = (key: string, level: number): number => {
      const values = randomized(3, level).map((each) => each[key]!);
      return Math.max(...values) - Math.min(...values);
    };
    // 22 bits of pages for the stack, 28 for mappings, 1 GiB for the heap.
    expect(spread('stack', 1)).toBeGreaterThan(2 ** 32);
    expect(spread('stack', 1)).toBeLessThan(2 ** 34);
    expect(spread('page', 1)).toBeGreaterThan(2 ** 38);
    expect(spread('page', 1)).toBeLessThan(2 ** 40);
    expect(spread('heap', 1)).toBe(0);
    expect(spread('heap', 2)).toBeGreaterThan(2 ** 28);
    expect(spread('heap', 2)).toBeLessThan(2 ** 30);
    for (const { stack, page } of randomized(4, 2)) expect(page!).toBeLessThan(stack! - 8 * 2 ** 20);
  });

  test('is fixed for a program that asks for it', () => {
    const machine = boot({ memory: '64M', sysctl: { 'kernel.randomize_va_space': 2 } });
    const { os } = machine.createProcess({ personality: ADDR_NO_RANDOMIZE });
    expect(starts(os)).toMatchObject({ vvar: 0x7fff_f7ff_7000, stack: 0x7fff_ffff_f000 });
  });
});

describe('a program\'s description', () => {
  const firstLines = (os: Os, count: number): string[] => os.readFile('/proc/self/maps').split('\n').slice(0, count).map((line) => line.slice(0, 31).trimEnd());

  test('says how large its parts are, for the first of a process and for those after it', () => {
    const machine = small();
    const second = Object.assign((os: Os) => os.print(firstLines(os, 2).join('; ')), { image: { text: 4096, constants: 0, data: 0, bss: 0 } });
    const first = Object.assign((os: Os) => {
      os.print(firstLines(os, 5).join('; '));
      os.mem.store8(os.sbrk(0) - 2 * 4096, 1);
      os.execve(second);
    }, { image: { text: 10_000, bss: 2 ** 20 } });
    runChecked(machine, first);
    expect(machine.consoleText.trim().split('\n')).toEqual([
      '00400000-00403000 r-xp 00000000; 00403000-00405000 r--p 00003000; 00405000-00406000 rw-p 00005000; 00406000-00506000 rw-p 00000000; 00506000-00507000 r--p 00006000',
      '00400000-00401000 r-xp 00000000; 00401000-00402000 r--p 00001000',
    ]);
  });

  test('may leave its place to the kernel, which puts it where Linux does', () => {
    const start = (arch: 'x86-64' | 'x86-pae' | 'x86-32', compat = false): number => {
      const { image, os } = boot({ arch, memory: '64M' }).createProcess({ image: { pie: true }, compat });
      expect(os.syscall(Syscall.brk, 0)).toBe(image.heapStart);
      return image.textStart;
    };
    // As `setarch -R` shows executables made with -pie, and with -m32 -pie.
    expect(start('x86-64')).toBe(0x5555_5555_4000);
    expect(start('x86-64', true)).toBe(0x5655_5000);
    expect(start('x86-pae')).toBe(0x40_0000);
    expect(start('x86-32')).toBe(0x40_0000);
  });

  test('is displaced by 28 bits of pages where that is switched on', () => {
    const machine = boot({ memory: '64M', sysctl: { 'kernel.randomize_va_space': 2 } });
    const found = Array.from({ length: 20 }, () => machine.createProcess({ image: { pie: true } }).image.textStart - 0x5555_5555_4000);
    expect(Math.min(...found)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...found)).toBeGreaterThan(2 ** 38);
    expect(Math.max(...found)).toBeLessThan(2 ** 40);
    machine.validate();
  });

  test('that makes no sense is refused by what is wrong, and the program goes on', () => {
    const machine = small();
    expect(() => machine.createProcess({ image: { text: 0 } })).toThrow('a program\'s text has 1 to 1073741824 bytes, not 0');
    expect(() => machine.createProcess({ image: { stack: 1 } as object })).toThrow('but no \'stack\'');
    runChecked(machine, (os) => {
      expect(() => os.execve(Object.assign(() => {}, { image: { bss: 1.5 } }))).toThrow(RangeError);
      expect(() => os.execve(Object.assign(() => {}, { image: { pie: 1 as unknown as boolean } }))).toThrow(TypeError);
      os.mem.store8(os.sbrk(4096), 1);
    });
  });
});
