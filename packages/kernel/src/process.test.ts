/**
 * Processes as their programs see them: fork, wait, exit, threads, generators, and what is left when they are gone.
 */
import { SIGKILL, SIGTERM, SIGUSR1, Syscall, SyscallError, WNOHANG } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { describe, expect, test } from 'vitest';
import { boot } from './boot.ts';
import { inUse, runChecked, small } from './testing/run.ts';

const RW = 3;
const PRIVATE_ANON = 0x22;
const SHARED_ANON = 0x21;

describe('fork and wait', () => {
  test('a child has its own copy of memory and a status', () => {
    const machine = small();
    const { status } = runChecked(machine, (os) => {
      const page = os.mmap(0, 4096, RW, PRIVATE_ANON);
      os.mem.store8(page, 1);
      const pid = os.fork((child, word) => {
        expect(child.getppid()).toBe(os.getpid());
        expect(word).toBe('argument');
        child.mem.store8(page, child.mem.load8(page) + 1);
        return child.mem.load8(page) + 40;
      }, 'argument');
      expect(os.waitpid(pid)).toEqual({ pid, status: 42, signal: null });
      expect(() => os.waitpid(pid)).toThrow('ECHILD');
      return os.mem.load8(page);
    });
    expect(status).toBe(1);
    machine.validate();
  });

  test('shared memory is shared', () => {
    const machine = small();
    runChecked(machine, (os) => {
      const page = os.mmap(0, 4096, RW, SHARED_ANON);
      os.waitpid(os.fork((child) => child.mem.store32(page, 77)));
      expect(os.mem.load32(page)).toBe(77);
    });
    machine.validate();
  });

  test('children are waited for at any depth, in any order', () => {
    const machine = small();
    const tree = (os: Os, depth: number): number => {
      if (depth === 0) return 1;
      const pids = [1, 2, 3].map(() => os.fork((child) => tree(child, depth - 1)));
      let sum = 1;
      for (const pid of pids.reverse()) sum += os.waitpid(pid)!.status!;
      return sum;
    };
    expect(runChecked(machine, (os) => tree(os, 3)).status).toBe(40);
    machine.validate();
  });

  test('WNOHANG tells that nobody has ended, and any child will do', () => {
    const machine = small();
    runChecked(machine, (os) => {
      const pid = os.fork(() => 5);
      expect(os.waitpid(-1, WNOHANG)).toBeNull();
      expect(os.waitpid(-1)).toEqual({ pid, status: 5, signal: null });
      expect(() => os.waitpid(-1)).toThrow(SyscallError);
    });
  });

  test('an orphan becomes the machine\'s child and is reaped', () => {
    const machine = small();
    const before = inUse(machine);
    runChecked(machine, (os) => {
      const cell = os.mmap(0, 4096, RW, SHARED_ANON);
      os.waitpid(
        os.fork((child) => {
          child.fork(function* (grandchild) {
            yield;
            grandchild.mem.store32(cell, grandchild.getppid());
          });
        }),
      );
      while (os.mem.load32(cell) === 0) os.syscall(Syscall.sched_yield);
      expect(os.mem.load32(cell)).toBe(1);
    });
    machine.validate();
    expect(inUse(machine)).toEqual(before);
  });

  test('exit ends the program wherever it stands, and catching it does not help', () => {
    const machine = small();
    const result = runChecked(machine, (os) => {
      for (;;) {
        try {
          os.exit(3);
        } catch {
          expect(() => os.getpid()).toThrow('has ended');
          expect(() => os.mem.load8(0)).toThrow('has ended');
          return 99;
        }
      }
    });
    expect(result).toMatchObject({ status: 3, signal: null });
    machine.validate();
  });

  test('an uncaught error ends the program with status 1', () => {
    const machine = small();
    const result = machine.run((os) => os.munmap(1, 0), { name: 'wrong' });
    expect(result).toMatchObject({ status: 1, signal: null, error: expect.any(SyscallError) as SyscallError });
    expect(machine.consoleText).toMatch(/^wrong\[\d+\]: uncaught SyscallError: EINVAL: munmap\n$/);
  });

  test('an async program is refused with a clear message', () => {
    const machine = small();
    const program = (() => Promise.resolve(0)) as unknown as () => number;
    expect(machine.run(program).status).toBe(1);
    expect(machine.consoleText).toContain('programs are not async');
  });
});

describe('generators', () => {
  test('take turns at each yield', () => {
    const machine = small(1);
    const order: string[] = [];
    const counter = (name: string) =>
      function* (): Generator<void, number, void> {
        for (let i = 0; i < 3; i++) {
          order.push(`${name}${i}`);
          yield;
        }
        return 0;
      };
    machine.spawn(counter('a'));
    machine.spawn(counter('b'));
    machine.schedule();
    expect(order).toEqual(['a0', 'b0', 'a1', 'b1', 'a2', 'b2']);
    machine.validate();
  });

  test('their return value is the exit status, and an exit inside ends them', () => {
    const machine = small();
    expect(
      runChecked(machine, function* (os) {
        const first = os.fork(function* () {
          yield;
          return 11;
        });
        const second = os.fork(function* (child) {
          yield;
          child.exit(12);
        });
        yield;
        return os.waitpid(first)!.status! + os.waitpid(second)!.status!;
      }).status,
    ).toBe(23);
  });

  test('a seed gives one interleaving, another seed another', () => {
    const trace = (seed: number): string => {
      const machine = small(4, seed);
      let order = '';
      for (const name of 'abcdef') {
        machine.spawn(function* () {
          for (let i = 0; i < 5; i++) {
            order += name;
            yield;
          }
        });
      }
      machine.schedule();
      return order;
    };
    expect(trace(7)).toBe(trace(7));
    expect(new Set([1, 2, 3, 4, 5].map(trace)).size).toBeGreaterThan(1);
  });
});

describe('threads', () => {
  test('share the address space, and the process lives until the last ends', () => {
    const machine = small();
    const { status } = runChecked(machine, function* (os) {
      const page = os.mmap(0, 4096, RW, PRIVATE_ANON);
      const tid = os.thread(function* (thread) {
        expect(thread.getpid()).toBe(os.getpid());
        expect(thread.gettid()).not.toBe(os.gettid());
        for (let i = 0; i < 10; i++) {
          thread.mem.store8(page, i);
          yield;
        }
        return 0;
      });
      expect(tid).toBeGreaterThan(os.getpid());
      while (os.mem.load8(page) < 9) yield;
      return os.mem.load8(page);
    });
    expect(status).toBe(9);
    machine.validate();
  });

  test('the main program returning ends them all', () => {
    const machine = small();
    const before = inUse(machine);
    let turns = 0;
    runChecked(machine, function* (os) {
      os.thread(function* () {
        for (;;) {
          turns += 1;
          yield;
        }
      });
      yield;
      yield;
      return 0;
    });
    expect(turns).toBeLessThan(10);
    machine.validate();
    expect(inUse(machine)).toEqual(before);
  });
});

describe('signals between processes', () => {
  test('kill ends a child, and wait tells the signal', () => {
    const machine = small();
    runChecked(machine, (os) => {
      const pid = os.fork(function* () {
        for (;;) yield;
      });
      os.kill(pid, SIGTERM);
      expect(os.waitpid(pid)).toEqual({ pid, status: null, signal: SIGTERM });
      expect(() => os.kill(pid, 0)).toThrow('ESRCH');
    });
    machine.validate();
  });

  test('a handler runs before the receiver goes on; SIGKILL has none', () => {
    const machine = small();
    runChecked(machine, (os) => {
      expect(() => os.sigaction(SIGKILL, 'ignore')).toThrow('EINVAL');
      const ready = os.mmap(0, 4096, RW, SHARED_ANON);
      const pid = os.fork(function* (child) {
        let got = 0;
        child.sigaction(SIGUSR1, ({ signo, pid: from }) => {
          expect(from).toBe(os.getpid());
          got = signo;
        });
        child.mem.store8(ready, 1);
        while (got === 0) yield;
        return got;
      });
      while (os.mem.load8(ready) === 0) os.syscall(Syscall.sched_yield);
      os.kill(pid, SIGUSR1);
      expect(os.waitpid(pid)!.status).toBe(SIGUSR1);
    });
  });

  test('a signal to oneself is delivered when the call returns', () => {
    const machine = small();
    const result = runChecked(machine, (os) => {
      os.kill(os.getpid(), SIGTERM);
      return 0;
    });
    expect(result).toMatchObject({ status: null, signal: SIGTERM, description: 'Terminated' });
  });

  test('a parent killed in its wait does not go on', () => {
    const machine = small();
    const before = inUse(machine);
    let wentOn = false;
    runChecked(machine, (os) => {
      const parent = os.fork((middle) => {
        const child = middle.fork((inner) => {
          inner.kill(inner.getppid(), SIGKILL);
          return 0;
        });
        middle.waitpid(child);
        wentOn = true;
      });
      expect(os.waitpid(parent)!.signal).toBe(SIGKILL);
    });
    expect(wentOn).toBe(false);
    machine.validate();
    expect(inUse(machine)).toEqual(before);
  });
});

describe('what a program leaves', () => {
  test('is nothing: every frame and object it caused is free again', () => {
    const machine = boot({ memory: '128M', cpus: 2 });
    const before = inUse(machine);
    runChecked(machine, (os) => {
      const big = os.mmap(0, 64 * 4096, RW, PRIVATE_ANON);
      os.mem.fill(big, 64 * 4096, 1);
      os.mprotect(big + 4096, 4096, 1);
      os.sbrk(100_000);
      os.mmap(0, 4 * 4096, RW, SHARED_ANON);
      os.fork((child) => {
        child.mem.fill(big + 8192, 8192, 2);
        child.fork(() => 0);
      });
      os.thread(() => 0);
      os.readFile('/proc/self/smaps');
    });
    machine.validate();
    expect(inUse(machine)).toEqual(before);
  });

  test('holds for one that is killed, too', () => {
    const machine = small();
    const before = inUse(machine);
    runChecked(machine, (os) => {
      os.mem.fill(os.mmap(0, 40_960, RW, PRIVATE_ANON), 40_960, 1);
      os.mem.store8(0, 1);
    });
    expect(inUse(machine)).toEqual(before);
  });
});

test('figures of a program: at its end, and while it lives', () => {
  const machine = small();
  const { memory, faults, maxRssKb } = runChecked(machine, (os) => {
    os.sbrk(100_000);
    const area = os.mmap(0, 64 * 4096, RW, PRIVATE_ANON);
    os.mem.fill(area, 32 * 4096, 1);
    os.munmap(area, 64 * 4096);
  });
  expect(memory).toMatchObject({ heap: 100_000, locked: 0, resident: 0, peakResident: 32 * 4096 });
  expect(memory!.peakMapped - memory!.mapped).toBe(64 * 4096);
  expect([faults, maxRssKb]).toEqual([32, 128]);
  const driven = machine.createProcess({ name: 'alive' });
  driven.os.mem.store8(driven.image.bssStart, 1);
  const [stats] = machine.stats().processes;
  expect(stats).toMatchObject({ pid: driven.pid, name: 'alive', threads: 1, faults: 1, memory: { resident: 4096, heap: 0 } });
});

test('driven processes are used a call at a time, in any order', () => {
  const machine = small();
  const before = inUse(machine);
  const main = machine.createProcess({ name: 'main' });
  const page = main.os.mmap(0, 4096, RW, PRIVATE_ANON);
  main.os.mem.store8(page, 1);
  const child = main.fork();
  if (typeof child === 'number') throw new Error(String(child));
  child.os.mem.store8(page, 2);
  main.os.mem.store8(page + 1, 3);
  expect([main.os.mem.load16(page), child.os.mem.load16(page)]).toEqual([0x0301, 2]);
  expect(machine.readFile(`/proc/${child.pid}/status`)).toContain(`PPid:\t${main.pid}\n`);
  child.exit(4);
  expect([child.alive, child.status, child.lastSignal]).toEqual([false, 4, null]);
  expect(machine.readFile(`/proc/${child.pid}/status`)).toContain('State:\tZ (zombie)\n');
  expect(main.os.waitpid(child.pid)).toEqual({ pid: child.pid, status: 4, signal: null });
  expect(() => child.os.getpid()).toThrow('has ended');
  expect(() => main.os.mem.store8(0, 1)).toThrow('has ended');
  expect([main.alive, main.lastSignal]).toEqual([false, 11]);
  machine.validate();
  expect(inUse(machine)).toEqual(before);
});

describe('a process that is driven from outside', () => {
  test('has threads that are driven too, on the CPUs there are, and end with it', () => {
    const machine = small(4);
    const before = inUse(machine);
    const process = machine.createProcess();
    const page = process.os.mmap(0, 4096, RW, PRIVATE_ANON);
    const threads = [1, 2, 3].map(() => process.thread());
    for (const [index, thread] of threads.entries()) {
      if (typeof thread === 'number') throw new SyscallError('clone', thread);
      expect(thread.os.getpid()).toBe(process.pid);
      expect(thread.os.syscall(Syscall.gettid)).toBe(thread.tid);
      thread.os.mem.store32(page + 4 * index, thread.tid);
      expect(process.os.mem.load32(page + 4 * index)).toBe(thread.tid);
    }
    const [first, second] = threads;
    if (typeof first !== 'object' || typeof second !== 'object') throw new Error('there is no thread');
    expect(machine.readFile(`/proc/${process.pid}/status`)).toMatch(/^Threads:\t4$/m);
    first.exit();
    expect([first.alive, second.alive, process.alive]).toEqual([false, true, true]);
    expect(() => first.os.getpid()).toThrow('has ended');
    machine.validate();
    process.exit(0);
    expect(second.alive).toBe(false);
    expect(() => process.thread()).toThrow('has ended');
    machine.quiesce();
    machine.validate();
    expect(inUse(machine)).toEqual(before);
  });
});
