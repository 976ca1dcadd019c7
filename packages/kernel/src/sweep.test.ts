/**
 * One run for each point at which something can go wrong: a program is killed at every entry into the kernel that it makes,
 * and every single allocation inside its calls fails once. Whatever the point: the machine is valid, and when the
 * program is gone nothing of it is left.
 */
import {
  MADV_DONTNEED,
  MAP_ANONYMOUS,
  MAP_LOCKED,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
  SIGKILL,
  SIGUSR1,
  SI_USER,
  Syscall,
  SyscallError,
} from '@pagelab/abi';
import type { Os, Program } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import type { MachineConfig } from './config.ts';
import type { Kernel } from './kernel.ts';
import { createMachine } from './machine.ts';
import type { Machine } from './machine.ts';
import { inUse } from './testing/run.ts';

const PAGE = 4096;
const RW = PROT_READ | PROT_WRITE;
const PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS;
const SHARED = MAP_SHARED | MAP_ANONYMOUS;

interface Bench {
  readonly kernel: Kernel;
  readonly machine: Machine;
}

function bench(arch: MachineConfig['arch'] = 'x86-64'): Bench {
  const kernel = bootKernel(parseMachineConfig({ arch, memory: '64M', cpus: 2, seed: 1 }));
  return { kernel, machine: createMachine(kernel) };
}

/** Makes mappings of every kind and uses them, in two generations, with threads and signals. */
const script: Program = (os) => {
  const memory = (each: Os, base: number): void => {
    each.mem.fill(base, 3 * PAGE, 1);
    each.mprotect(base + PAGE, PAGE, PROT_READ);
    each.madvise(base, PAGE, MADV_DONTNEED);
    each.mem.store8(base, 2);
  };
  const base = os.mmap(0, 16 * PAGE, RW, PRIVATE);
  memory(os, base);
  const shared = os.mmap(0, 4 * PAGE, RW, SHARED | MAP_POPULATE);
  os.mem.store8(shared, 1);
  os.mmap(0, 2 * PAGE, RW, PRIVATE | MAP_LOCKED);
  os.mem.store8(os.sbrk(5 * PAGE), 1);
  os.mremap(base + 8 * PAGE, 4 * PAGE, 8 * PAGE, 1);
  const name = os.sbrk(PAGE);
  os.mem.storeCString(name, 'file');
  const fd = os.syscall(Syscall.memfd_create, name, 0);
  os.syscall(Syscall.ftruncate, fd, 3 * PAGE);
  const file = os.mmap(0, 3 * PAGE, RW, MAP_PRIVATE, fd);
  os.mem.store8(file + PAGE, 1);
  os.syscall(Syscall.pipe, name);
  os.sigaction(SIGUSR1, () => os.mem.store8(base + 5 * PAGE, 1));
  os.kill(os.getpid(), SIGUSR1);
  os.thread(function* (thread) {
    yield;
    thread.mem.store8(base + 6 * PAGE, 1);
  });
  const child = os.fork((each) => {
    memory(each, base + 4 * PAGE);
    each.mem.store8(shared + PAGE, 1);
    each.waitpid(each.vfork((other) => other.execve((next) => next.mem.store8(next.sbrk(PAGE), 1))));
    each.execve((next) => {
      next.mem.store8(next.mmap(0, PAGE, RW, PRIVATE), 1);
      next.fork(() => 0);
    });
  });
  os.mem.store8(base + 4 * PAGE, 3);
  os.waitpid(child);
  os.munmap(base, 2 * PAGE);
  os.readFile('/proc/self/smaps');
};

test('a task that is killed at any call or fault leaves nothing behind', () => {
  /** Runs the script; at the `point`-th entry into the kernel the task that enters is sent SIGKILL. @returns entries made */
  const run = (point: number): number => {
    const { kernel, machine } = bench();
    const before = inUse(machine);
    let entries = 0;
    const advance = kernel.clock.advance.bind(kernel.clock);
    kernel.clock.advance = (ns) => {
      advance(ns);
      const { current } = kernel;
      if (current === null || (ns !== kernel.costs.syscall && ns !== kernel.costs.pageFault)) return;
      entries += 1;
      if (entries === point) current.pending.push({ signo: SIGKILL, code: SI_USER, addr: 0, pid: 0 });
    };
    const result = machine.run(script);
    if (point === Infinity) expect([result.error, result.status]).toEqual([undefined, 0]);
    machine.validate();
    expect(machine.stats().processes, `killed at entry ${point}`).toEqual([]);
    expect(inUse(machine), `killed at entry ${point}`).toEqual(before);
    machine.dispose();
    return entries;
  };
  const entries = run(Infinity);
  expect(entries).toBeGreaterThan(40);
  for (let point = 1; point <= entries; point++) run(point);
}, 120_000);

/** Makes the `point`-th allocation of a frame or of an object fail, from when it is called. @returns how many were asked for */
function failAt(kernel: Kernel, point: number): () => number {
  let asked = 0;
  const fails = (): boolean => ++asked === point;
  const { pages } = kernel;
  const allocPage = pages.allocPage.bind(pages);
  const allocPages = pages.allocPages.bind(pages);
  let inside = 0;
  // Allocations that others are made of count once.
  const guarded = (failure: number, allocate: () => number): number => {
    if (inside === 0 && fails()) return failure;
    inside += 1;
    try {
      return allocate();
    } finally {
      inside -= 1;
    }
  };
  pages.allocPage = (gfp) => guarded(-12, () => allocPage(gfp));
  pages.allocPages = (gfp, order) => guarded(-12, () => allocPages(gfp, order));
  for (const cache of kernel.slab.caches()) {
    const alloc = cache.alloc.bind(cache);
    cache.alloc = (gfp) => guarded(0, () => alloc(gfp));
  }
  return () => asked;
}

/** A call to fail inside. */
interface FailingCall {
  /** x86-64 unless told. */
  readonly arch?: MachineConfig['arch'];
  readonly before?: (os: Os) => number;
  readonly call: (os: Os, at: number) => unknown;
}

/** What happens before the call, and the call. Errors are part of what is expected. */
const CALLS: Readonly<Record<string, FailingCall>> = {
  fork: {
    before: (os) => {
      const at = os.mmap(0, 32 * PAGE, RW, PRIVATE);
      os.mem.fill(at, 32 * PAGE, 1);
      os.mprotect(at + 8 * PAGE, PAGE, PROT_READ);
      os.mem.store8(os.mmap(2 ** 40, PAGE, RW, SHARED), 1);
      return at;
    },
    call: (os) => os.waitpid(os.fork((child) => child.mem.store8(child.sbrk(PAGE), 1))),
  },
  vfork: { call: (os) => os.waitpid(os.vfork(() => 0)) },
  // The tables below PAE's top level are there from the start.
  'fork with PAE': { arch: 'x86-pae', call: (os) => os.waitpid(os.fork(() => 0)) },
  thread: { call: (os) => os.thread(() => 0) },
  execve: {
    before: (os) => {
      const at = os.mmap(0, 8 * PAGE, RW, PRIVATE);
      os.mem.fill(at, 8 * PAGE, 1);
      return at;
    },
    call: (os) => os.execve((next) => next.mem.store8(next.sbrk(PAGE), 1)),
  },
  'mmap private': { call: (os) => os.mmap(2 ** 41, 60 * PAGE, RW, PRIVATE | MAP_POPULATE) },
  'mmap shared': { call: (os) => os.mmap(2 ** 41, 8 * PAGE, RW, SHARED | MAP_POPULATE) },
  'mmap over others': {
    before: (os) => {
      const at = os.mmap(2 ** 40, 16 * PAGE, RW, PRIVATE);
      os.mem.fill(at, 16 * PAGE, 1);
      return at;
    },
    call: (os, at) => os.mmap(at + 4 * PAGE, 4 * PAGE, RW, SHARED | 0x10),
  },
  mprotect: {
    before: (os) => os.mmap(0, 16 * PAGE, RW, PRIVATE | MAP_POPULATE),
    call: (os, at) => {
      os.mprotect(at + 4 * PAGE, 4 * PAGE, PROT_READ);
    },
  },
  mremap: {
    before: (os) => os.mmap(0, 16 * PAGE, RW, PRIVATE | MAP_POPULATE),
    call: (os, at) => os.mremap(at + 4 * PAGE, 4 * PAGE, 64 * PAGE, 1),
  },
  munmap: {
    before: (os) => os.mmap(0, 16 * PAGE, RW, PRIVATE | MAP_POPULATE),
    call: (os, at) => {
      os.munmap(at + 4 * PAGE, 4 * PAGE);
    },
  },
  memfd_create: {
    before: (os) => {
      const at = os.sbrk(PAGE);
      os.mem.storeCString(at, 'file');
      return at;
    },
    call: (os, at) => {
      const fd = os.syscall(Syscall.memfd_create, at, 0);
      if (fd < 0) throw new SyscallError('memfd_create', fd);
      if (os.syscall(Syscall.ftruncate, fd, PAGE) === 0) os.mem.store8(os.mmap(0, PAGE, RW, MAP_SHARED, fd), 1);
    },
  },
};

for (const [name, { arch, before, call }] of Object.entries(CALLS)) {
  test(`${name}: each allocation inside it may fail`, () => {
    const run = (point: number): number => {
      const { kernel, machine } = bench(arch);
      const free = inUse(machine);
      let asked = (): number => 0;
      const result = machine.run((os) => {
        const at = before?.(os) ?? 0;
        asked = failAt(kernel, point);
        try {
          call(os, at);
        } catch (error) {
          if (!(error instanceof SyscallError)) throw error;
          // Nothing that a call failed at is half done: what has to hold holds at once, not only at the end.
          machine.validate();
          expect([11, 12, 23], `${name}, allocation ${point}`).toContain(error.errno);
        }
      });
      machine.validate();
      expect([undefined, 'SyscallError'], String(result.error)).toContain((result.error as Error | undefined)?.name);
      expect(machine.stats().processes, `${name}, allocation ${point}`).toEqual([]);
      expect(inUse(machine), `${name}, allocation ${point}`).toEqual(free);
      machine.dispose();
      return asked();
    };
    const total = run(Infinity);
    expect(total).toBeGreaterThan(0);
    for (let point = 1; point <= total; point++) run(point);
  }, 120_000);
}
