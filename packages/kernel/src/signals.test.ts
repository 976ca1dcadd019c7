/**
 * Signals as Linux shows them: codes and addresses, what is held back, one-time and nested handlers, stacks.
 */
import {
  BUS_ADRERR,
  CLD_EXITED,
  CLD_KILLED,
  SA_NOCLDWAIT,
  SA_NODEFER,
  SA_ONSTACK,
  SA_RESETHAND,
  SEGV_ACCERR,
  SEGV_MAPERR,
  SIGBUS,
  SIGCHLD,
  SIGKILL,
  SIGSEGV,
  SIGTERM,
  SIGUSR1,
  SIGUSR2,
  SIG_BLOCK,
  SIG_SETMASK,
  SIG_UNBLOCK,
  SI_KERNEL,
  SI_TKILL,
  SI_USER,
  SS_AUTODISARM,
  SS_DISABLE,
  SS_ONSTACK,
  Syscall,
  WNOHANG,
  __WNOTHREAD,
} from '@pagelab/abi';
import type { Os, SigInfo } from '@pagelab/abi';
import { describe, expect, test } from 'vitest';
import { inUse, runChecked, small } from './testing/run.ts';

const RW = 3;
const PRIVATE_ANON = 0x22;

/** Thrown by handlers that do not return. */
class Jump extends Error {}

/** What a handler of the signal is told when `body` runs. */
function caught(os: Os, signal: number, body: () => void): SigInfo | undefined {
  let told: SigInfo | undefined;
  os.sigaction(signal, (info) => {
    told = info;
    throw new Jump();
  });
  try {
    body();
  } catch (error) {
    if (!(error instanceof Jump)) throw error;
  }
  os.sigaction(signal, 'default');
  return told;
}

describe('a handler is told', () => {
  test('code and address of a fault', () => {
    runChecked(small(), (os) => {
      const page = os.mmap(0, 8192, 1, PRIVATE_ANON);
      expect(caught(os, SIGSEGV, () => os.mem.load8(12_345))).toEqual({ signo: SIGSEGV, code: SEGV_MAPERR, addr: 12_345, pid: 0 });
      expect(caught(os, SIGSEGV, () => os.mem.store8(page + 5, 1))).toMatchObject({ code: SEGV_ACCERR, addr: page + 5 });
      expect(caught(os, SIGSEGV, () => os.mem.load8(2 ** 50))).toMatchObject({ code: SI_KERNEL, addr: 0 });
      expect(caught(os, SIGSEGV, () => os.mem.load8(-4096))).toMatchObject({ code: SEGV_MAPERR, addr: -4096 });
      const name = os.sbrk(4096);
      os.mem.storeCString(name, 'file');
      const fd = os.syscall(Syscall.memfd_create, name, 0);
      const empty = os.mmap(0, 4096, RW, 1, fd);
      expect(caught(os, SIGBUS, () => os.mem.store8(empty + 9, 1))).toMatchObject({ code: BUS_ADRERR, addr: empty + 9 });
    });
  });

  test('who sent it, and by which call', () => {
    runChecked(small(), (os) => {
      const pid = os.getpid();
      expect(caught(os, SIGUSR1, () => os.kill(pid, SIGUSR1))).toEqual({ signo: SIGUSR1, code: SI_USER, addr: 0, pid });
      expect(caught(os, SIGUSR1, () => os.syscall(Syscall.tgkill, pid, pid, SIGUSR1))).toMatchObject({ code: SI_TKILL, pid });
    });
  });

  test('which child ended, and how', () => {
    runChecked(small(), (os) => {
      const told: SigInfo[] = [];
      os.sigaction(SIGCHLD, (info) => void told.push(info));
      const exited = os.fork(() => 1);
      os.waitpid(exited);
      const killed = os.fork((child) => child.kill(child.getpid(), SIGKILL));
      os.waitpid(killed);
      expect(told.map(({ code, pid }) => [code, pid])).toEqual([[CLD_EXITED, exited], [CLD_KILLED, killed]]);
    });
  });
});

describe('signals held back', () => {
  test('wait until they are let through: the lowest is set up first, and runs last; each once', () => {
    runChecked(small(), (os) => {
      const order: number[] = [];
      for (const signal of [SIGUSR1, SIGUSR2, 40]) os.sigaction(signal, ({ signo }) => void order.push(signo));
      expect(os.sigprocmask(SIG_BLOCK, [SIGUSR1, SIGUSR2, 40, SIGKILL])).toEqual([]);
      for (const signal of [40, 40, SIGUSR2, SIGUSR2, SIGUSR1]) os.kill(os.getpid(), signal);
      expect(order).toEqual([]);
      expect(os.readFile('/proc/self/status')).toMatch(/SigPnd:\t0{16}\nShdPnd:\t0000008000000a00\nSigBlk:\t0000008000000a00\n/);
      expect(os.sigprocmask(SIG_UNBLOCK, [SIGUSR1])).toEqual([SIGUSR1, SIGUSR2, 40]);
      expect(order).toEqual([SIGUSR1]);
      os.sigprocmask(SIG_SETMASK, []);
      expect(order).toEqual([SIGUSR1, 40, 40, SIGUSR2]);
    });
  });

  test('are forgotten once they are ignored, and kept while they are held back', () => {
    runChecked(small(), (os) => {
      let count = 0;
      os.sigprocmask(SIG_BLOCK, [SIGTERM, SIGUSR1]);
      os.kill(os.getpid(), SIGTERM);
      os.sigaction(SIGTERM, 'ignore');
      os.sigaction(SIGTERM, 'default');
      os.sigaction(SIGUSR1, 'ignore');
      os.kill(os.getpid(), SIGUSR1);
      os.sigaction(SIGUSR1, () => void (count += 1));
      os.sigprocmask(SIG_SETMASK, []);
      expect(count).toBe(1);
    });
  });

  test('end another process only when it lets them through', () => {
    runChecked(small(), (os) => {
      const cell = os.mmap(0, 4096, RW, 0x21);
      const pid = os.fork(function* (child) {
        child.sigprocmask(SIG_BLOCK, [SIGTERM]);
        child.mem.store8(cell, 1);
        while (child.mem.load8(cell) < 2) yield;
        child.mem.store8(cell, 3);
        child.sigprocmask(SIG_UNBLOCK, [SIGTERM]);
        child.mem.store8(cell, 4);
      });
      while (os.mem.load8(cell) < 1) os.syscall(Syscall.sched_yield);
      os.kill(pid, SIGTERM);
      os.mem.store8(cell, 2);
      expect(os.waitpid(pid)).toEqual({ pid, status: null, signal: SIGTERM });
      expect(os.mem.load8(cell)).toBe(3);
    });
  });

  test('that a fault forces end the task', () => {
    const result = runChecked(small(), (os) => {
      os.sigaction(SIGSEGV, () => undefined);
      os.sigprocmask(SIG_BLOCK, [SIGSEGV]);
      os.mem.load8(0);
    });
    expect(result.signal).toBe(SIGSEGV);
  });

  test('the raw call takes and tells sets in memory', () => {
    runChecked(small(), (os) => {
      const at = os.sbrk(4096);
      os.mem.store64(at, 1n << 9n);
      const { rt_sigprocmask } = Syscall;
      expect(os.syscall(rt_sigprocmask, SIG_BLOCK, at, 0, 8)).toBe(0);
      expect(os.syscall(rt_sigprocmask, 77, 0, at + 8, 8)).toBe(0);
      expect(os.mem.load64(at + 8)).toBe(1n << 9n);
      expect([os.syscall(rt_sigprocmask, 77, at, 0, 8), os.syscall(rt_sigprocmask, 0, at, 0, 4), os.syscall(rt_sigprocmask, 0, 1, 0, 8)]).toEqual([-22, -22, -14]);
    });
  });
});

describe('handlers', () => {
  test('hold their own signal back, and those of their mask, and nest in others', () => {
    runChecked(small(), (os) => {
      const log: string[] = [];
      const pid = os.getpid();
      os.sigaction(SIGUSR2, () => void log.push('usr2'));
      os.sigaction(SIGTERM, () => void log.push('term'));
      os.sigaction(
        SIGUSR1,
        () => {
          log.push('in');
          if (log.length === 1) os.kill(pid, SIGUSR1);
          os.kill(pid, SIGUSR2);
          os.kill(pid, SIGTERM);
          log.push('out');
        },
        { mask: [SIGTERM] },
      );
      os.kill(pid, SIGUSR1);
      expect(log).toEqual(['in', 'usr2', 'out', 'in', 'usr2', 'out', 'term']);
    });
  });

  test('with SA_NODEFER nest in themselves; with SA_RESETHAND run once', () => {
    const result = runChecked(small(), (os) => {
      const pid = os.getpid();
      let depth = 0;
      let deepest = 0;
      os.sigaction(
        SIGUSR1,
        () => {
          depth += 1;
          deepest = Math.max(depth, deepest);
          if (depth < 3) os.kill(pid, SIGUSR1);
          depth -= 1;
        },
        { flags: SA_NODEFER },
      );
      os.kill(pid, SIGUSR1);
      expect(deepest).toBe(3);
      let once = 0;
      os.sigaction(SIGUSR2, () => void (once += 1), { flags: SA_RESETHAND });
      os.kill(pid, SIGUSR2);
      expect([once, os.sigaction(SIGUSR1, 'default')]).toEqual([1, expect.any(Function)]);
      os.kill(pid, SIGUSR2);
    });
    expect(result.signal).toBe(SIGUSR2);
  });

  test('that are left by an exception let their signal through again', () => {
    runChecked(small(), (os) => {
      for (let i = 0; i < 3; i++) expect(caught(os, SIGSEGV, () => os.mem.load8(i))).toMatchObject({ addr: i });
      expect(os.sigprocmask(SIG_BLOCK, [])).toEqual([]);
    });
  });
});

describe('the stack of a handler', () => {
  /** Uses the whole stack, until it cannot grow: the program's stack pointer is where it faulted. */
  const exhaust = (os: Os): void => {
    const top = os.stackPointer();
    for (let sp = top; ; sp -= 65_536) {
      os.stackPointer(sp);
      os.mem.store8(sp, 1);
    }
  };

  test('is the alternate one, with SA_ONSTACK, and a stack that is exhausted does no harm', () => {
    runChecked(small(), (os) => {
      const sp = os.mmap(0, 8192, RW, PRIVATE_ANON);
      expect(os.sigaltstack({ sp, size: 8192, flags: 0 })).toMatchObject({ size: 0, flags: SS_DISABLE });
      let inside: number | undefined;
      let again = '';
      os.sigaction(
        SIGSEGV,
        ({ code, addr }) => {
          inside = os.sigaltstack().flags;
          try {
            os.sigaltstack({ sp, size: 8192, flags: 0 });
          } catch (error) {
            again = (error as { code: string }).code;
          }
          expect(os.stackPointer()).toBeGreaterThan(sp);
          expect(os.stackPointer()).toBeLessThan(sp + 8192);
          // siginfo lies in the frame.
          expect([os.mem.load32(os.stackPointer() + 312), os.mem.load32(os.stackPointer() + 320)]).toEqual([SIGSEGV, SEGV_MAPERR]);
          expect(os.mem.loadAddress(os.stackPointer() + 328)).toBe(addr);
          expect(code).toBe(SEGV_MAPERR);
          throw new Jump();
        },
        { flags: SA_ONSTACK },
      );
      expect(() => exhaust(os)).toThrow(Jump);
      expect([inside, again, os.sigaltstack().flags]).toEqual([SS_ONSTACK, 'EPERM', 0]);
    });
  });

  test('is the exhausted one otherwise, which ends the program', () => {
    for (const flags of [0, SA_ONSTACK]) {
      const machine = small();
      let ran = false;
      const result = runChecked(machine, (os) => {
        os.sigaction(SIGSEGV, () => void (ran = true), { flags });
        if (flags === 0) os.sigaltstack({ sp: os.mmap(0, 8192, RW, PRIVATE_ANON), size: 8192, flags: 0 });
        exhaust(os);
      });
      expect([result.signal, ran]).toEqual([SIGSEGV, false]);
    }
  });

  test('must be writable', () => {
    const result = runChecked(small(), (os) => {
      os.sigaltstack({ sp: os.mmap(0, 8192, 1, PRIVATE_ANON), size: 8192, flags: 0 });
      os.sigaction(SIGUSR1, () => undefined, { flags: SA_ONSTACK });
      os.kill(os.getpid(), SIGUSR1);
    });
    expect(result.signal).toBe(SIGSEGV);
  });

  test('is used up by nested handlers, unless it is disarmed', () => {
    const nest = (size: number, flags: number): number | null =>
      runChecked(small(), (os) => {
        const sp = os.mmap(0, 65_536, RW, PRIVATE_ANON);
        os.sigaltstack({ sp, size, flags });
        let depth = 0;
        os.sigaction(
          SIGUSR1,
          () => {
            if (++depth < 5) os.kill(os.getpid(), SIGUSR1);
          },
          { flags: SA_ONSTACK | SA_NODEFER },
        );
        os.kill(os.getpid(), SIGUSR1);
      }).signal;
    expect([nest(65_536, 0), nest(4096, 0)]).toEqual([null, SIGSEGV]);
    // With the alternate stack disarmed, the handler's handler pushes below it: what is mapped there decides.
    expect(nest(65_536, SS_AUTODISARM)).toBeNull();
  });

  test('is checked as Linux does', () => {
    runChecked(small(), (os) => {
      const at = os.sbrk(4096);
      const set = (sp: number, flags: number, size: number): number => {
        os.mem.storeAddress(at, sp);
        os.mem.storeAddress(at + 8, flags >>> 0);
        os.mem.storeAddress(at + 16, size);
        return os.syscall(Syscall.sigaltstack, at, at + 24);
      };
      expect([set(4096, 4, 8192), set(4096, 0, 2047), set(4096, 0, 2048), set(0, SS_DISABLE, 0), set(1, 3, 8192)]).toEqual([-22, -12, 0, 0, -22]);
      expect(os.syscall(Syscall.sigaltstack, 1, 0)).toBe(-14);
      os.syscall(Syscall.sigaltstack, 0, at);
      expect([os.mem.loadAddress(at), os.mem.load32(at + 8), os.mem.loadAddress(at + 16)]).toEqual([0, SS_DISABLE, 0]);
    });
  });
});

describe('groups and children', () => {
  test('kill reaches a group; wait chooses by it', () => {
    const machine = small();
    const before = inUse(machine);
    runChecked(machine, (os) => {
      const loop = function* (): Generator<void, void, void> {
        for (;;) yield;
      };
      const [first, second, third] = [os.fork(loop), os.fork(loop), os.fork(() => 7)];
      const { setpgid, getpgid, wait4 } = Syscall;
      expect([os.syscall(setpgid, first, 0), os.syscall(setpgid, second, first), os.syscall(getpgid, second)]).toEqual([0, 0, first]);
      expect([os.syscall(setpgid, first, 99), os.syscall(setpgid, 1, 0), os.syscall(setpgid, 0, -1)]).toEqual([-1, -3, -22]);
      os.kill(-first, SIGTERM);
      expect(os.syscall(wait4, -99, 0, 0, 0)).toBe(-10);
      expect(os.waitpid(0)).toMatchObject({ pid: third, status: 7 });
      expect(() => os.waitpid(0)).toThrow('ECHILD');
      const ended = [os.waitpid(-first)!, os.waitpid(-first)!];
      expect(ended.map(({ pid }) => pid).sort()).toEqual([first, second]);
      expect(ended.every(({ signal }) => signal === SIGTERM)).toBe(true);
    });
    expect(inUse(machine)).toEqual(before);
  });

  test('children of a process that ignores SIGCHLD, or says SA_NOCLDWAIT, are no zombies', () => {
    runChecked(small(), (os) => {
      os.sigaction(SIGCHLD, 'ignore');
      const gone = os.fork(() => 0);
      expect(() => os.waitpid(gone)).toThrow('ECHILD');
      let told = 0;
      os.sigaction(SIGCHLD, () => void (told += 1), { flags: SA_NOCLDWAIT });
      os.fork(() => 0);
      expect(() => os.waitpid(-1)).toThrow('ECHILD');
      expect(told).toBe(1);
      os.sigaction(SIGCHLD, 'default');
      const kept = os.fork(() => 3);
      expect(os.waitpid(kept)).toMatchObject({ status: 3 });
    });
  });

  test('threads of an address space on several CPUs are told of its changes', () => {
    const machine = small(4, 3);
    let ipis = 0;
    runChecked(machine, function* (os) {
      const page = os.mmap(0, 64 * 4096, RW, PRIVATE_ANON);
      let stop = false;
      const cpus = new Set<number>();
      const out = os.mmap(0, 4096, RW, PRIVATE_ANON);
      for (let i = 0; i < 6; i++) {
        os.thread(function* (thread) {
          thread.syscall(Syscall.getcpu, out, 0, 0);
          cpus.add(thread.mem.load32(out));
          while (!stop) {
            thread.mem.store8(page + i * 4096, 1);
            yield;
          }
        });
      }
      for (let turn = 0; turn < 60; turn++) yield;
      expect(cpus.size).toBeGreaterThan(1);
      const before = machine.stats().tlb.ipis;
      os.mprotect(page, 64 * 4096, 1);
      ipis = machine.stats().tlb.ipis - before;
      stop = true;
    });
    expect(ipis).toBeGreaterThan(0);
    expect(ipis).toBeLessThan(4);
  });
});

describe('a signal for a process', () => {
  test('is its first thread\'s to deal with, or another\'s that does not hold it back', () => {
    const process = small().createProcess();
    const thread = process.thread();
    if (typeof thread === 'number') throw new Error(`thread: ${thread}`);
    const takers: number[] = [];
    let at = process.os;
    const take = (): void => void takers.push(at.gettid());
    for (const signal of [SIGUSR1, SIGUSR2]) process.os.sigaction(signal, take);
    const enter = (os: Os): void => {
      at = os;
      os.getpid();
    };
    // Sent by the thread itself, which goes on: the first thread is to look.
    at = thread.os;
    thread.os.kill(process.pid, SIGUSR1);
    expect(takers).toEqual([]);
    enter(process.os);
    expect(takers).toEqual([process.pid]);
    process.os.sigprocmask(SIG_BLOCK, [SIGUSR1]);
    process.os.kill(process.pid, SIGUSR1);
    enter(thread.os);
    expect(takers).toEqual([process.pid, thread.tid]);
    // Named by the number of a thread, it is that thread's rather than others'.
    process.os.kill(thread.tid, SIGUSR2);
    enter(thread.os);
    expect(takers).toEqual([process.pid, thread.tid, thread.tid]);
  });

  test('is others\' to deal with once the one that was to holds it back, or ends', () => {
    const process = small().createProcess();
    const thread = process.thread();
    const last = process.thread();
    if (typeof thread === 'number' || typeof last === 'number') throw new Error('no threads');
    const takers: number[] = [];
    let at = last.os;
    process.os.sigaction(SIGUSR1, () => void takers.push(at.gettid()));
    process.os.sigprocmask(SIG_BLOCK, [SIGUSR1]);
    at = process.os;
    process.os.kill(process.pid, SIGUSR1);
    thread.exit();
    at = last.os;
    last.os.getpid();
    expect(takers).toEqual([last.tid]);
  });

  test('is told of while it is held back', () => {
    runChecked(small(), (os) => {
      const set = os.mmap(0, 4096, RW, PRIVATE_ANON);
      os.sigprocmask(SIG_BLOCK, [SIGUSR1, 40]);
      os.kill(os.getpid(), 40);
      os.syscall(Syscall.tkill, os.gettid(), SIGUSR1);
      expect(os.syscall(Syscall.rt_sigpending, set, 8)).toBe(0);
      expect(os.mem.load64(set)).toBe((1n << 39n) | (1n << 9n));
      expect([os.syscall(Syscall.rt_sigpending, set, 9), os.syscall(Syscall.rt_sigpending, 0, 8), os.syscall(Syscall.rt_sigpending, 0, 0)]).toEqual([-22, -14, 0]);
    });
  });

  test('that an instruction could have raised comes first', () => {
    runChecked(small(), (os) => {
      const order: number[] = [];
      for (const signal of [SIGUSR1, SIGSEGV]) os.sigaction(signal, ({ signo }) => void order.push(signo), { mask: [SIGUSR1, SIGSEGV] });
      os.sigprocmask(SIG_BLOCK, [SIGUSR1, SIGSEGV]);
      for (const signal of [SIGUSR1, SIGSEGV]) os.kill(os.getpid(), signal);
      os.sigprocmask(SIG_SETMASK, []);
      expect(order).toEqual([SIGSEGV, SIGUSR1]);
    });
  });
});

test('a thread waits for its own children only, with __WNOTHREAD', () => {
  const process = small().createProcess();
  const thread = process.thread();
  if (typeof thread === 'number') throw new Error(`thread: ${thread}`);
  const child = process.fork();
  if (typeof child === 'number') throw new Error(`fork: ${child}`);
  child.exit(3);
  expect(thread.os.syscall(Syscall.wait4, -1, 0, WNOHANG | __WNOTHREAD, 0)).toBe(-10);
  expect(thread.os.syscall(Syscall.wait4, -1, 0, WNOHANG, 0)).toBe(child.pid);
  expect(thread.os.syscall(Syscall.pidfd_open, thread.tid, 0)).toBe(-2);
});
