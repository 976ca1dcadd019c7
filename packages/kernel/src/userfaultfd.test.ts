/** Faults that a program serves: what each request answers, as Linux 6.18 did; and programs that do it. */
import {
  MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, O_NONBLOCK, PAGE_SIZE, PROT_READ, PROT_WRITE, SIGBUS, Syscall, UFFDIO_API, UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFDIO_CONTINUE, UFFDIO_COPY, UFFDIO_MOVE, UFFDIO_POISON,
  UFFDIO_REGISTER, UFFDIO_REGISTER_MODE_MINOR, UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP, UFFDIO_UNREGISTER, UFFDIO_WRITEPROTECT, UFFDIO_ZEROPAGE, UFFD_API,
  UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_POISON, UFFD_FEATURE_SIGBUS, UFFD_FEATURE_THREAD_ID, UFFD_FEATURE_WP_UNPOPULATED, UFFD_MSG_BYTES, UFFD_PAGEFAULT_FLAG_MINOR,
  UFFD_PAGEFAULT_FLAG_WP, UFFD_PAGEFAULT_FLAG_WRITE, UFFD_USER_MODE_ONLY, errnoName, isError,
} from '@pagelab/abi';
import type { Os, Program } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';
import { boot } from './boot.ts';
import { DeadlockError } from './scheduler.ts';

type Arg = number | readonly [name: string, offset: number];
type Row = readonly [request: string, args: readonly Arg[], expected: string];

/** In order. `copy`, `move` and `ioctls` tell what was stored. */
const OBSERVED: readonly Row[] = [
  ['api', [1099511627776], 'EINVAL'],
  ['api', [90112], '0'],
  ['ioctls', [], '8000000000000003'],
  ['api', [0], 'EINVAL'],
  ['reg', [['p', 1], 4096, 1], 'EINVAL'],
  ['reg', [['p', 0], 0, 1], 'EINVAL'],
  ['reg', [['p', 0], 4097, 1], 'EINVAL'],
  ['reg', [['p', 0], 4096, 0], 'EINVAL'],
  ['reg', [['p', 0], 4096, 8], 'EINVAL'],
  ['reg', [['p', 0], 4096, 4], 'EINVAL'],
  ['reg', [65536, 4096, 1], 'EINVAL'],
  ['reg', [['p', 0], 32768, 1], '0'],
  ['ioctls', [], '13c'],
  ['reg', [['p', 0], 32768, 3], '0'],
  ['ioctls', [], '17c'],
  ['cp', [['p', 0], ['q', 0], 4096, 0], '0'],
  ['copy', [], '4096'],
  ['cp', [['p', 0], ['q', 0], 4096, 0], 'EEXIST'],
  ['copy', [], '-17'],
  ['cp', [['p', 4096], ['q', 1], 4096, 0], '0'],
  ['cp', [['p', 4096], ['q', 0], 4096, 4], 'EINVAL'],
  ['cp', [['p', 8192], ['q', 0], 8192, 2], '0'],
  ['cp', [['p', 28672], ['q', 0], 8192, 0], 'ENOENT'],
  ['cp', [['p', 36864], ['q', 0], 4096, 0], 'ENOENT'],
  ['cp', [['p', 16384], 16, 4096, 0], 'EFAULT'],
  ['cp', [['q', 0], ['q', 0], 4096, 0], 'ENOENT'],
  ['cp', [['p', 12288], ['q', 0], 12288, 0], 'EEXIST'],
  ['copy', [], '-17'],
  ['zp', [['p', 16384], 4096, 0], '0'],
  ['zp', [['p', 16384], 4096, 0], 'EEXIST'],
  ['zp', [['p', 20480], 4096, 2], 'EINVAL'],
  ['wp', [['p', 0], 4096, 1], '0'],
  ['wp', [['p', 0], 4096, 3], 'EINVAL'],
  ['wp', [['p', 0], 4096, 4], 'EINVAL'],
  ['wp', [['q', 0], 4096, 1], 'ENOENT'],
  ['wp', [['p', 0], 4096, 0], '0'],
  ['po', [['p', 20480], 4096, 0], '0'],
  ['po', [['p', 20480], 4096, 0], 'EEXIST'],
  ['ct', [['p', 24576], 4096, 0], 'EINVAL'],
  ['mv', [['p', 24576], ['q', 0], 4096, 0], '0'],
  ['move', [], '4096'],
  ['mv', [['p', 24576], ['q', 4096], 4096, 0], 'EEXIST'],
  ['mv', [['p', 28672], ['q', 0], 4096, 0], 'ENOENT'],
  ['mv', [['p', 28672], ['q', 0], 4096, 2], '0'],
  ['mv', [['q', 0], ['p', 0], 4096, 0], 'EINVAL'],
  ['mv', [['p', 28672], ['q', 8192], 4096, 4], 'EINVAL'],
  ['unreg', [['q', 0], 4096], '0'],
  ['unreg', [['p', 0], 4096], '0'],
  ['unreg', [['p', 1], 4096], 'EINVAL'],
];

/** Requests by their short names: number, and the words of the structure by argument. */
const REQUESTS: Readonly<Record<string, readonly [request: number, before: readonly number[]]>> = {
  api: [UFFDIO_API, [UFFD_API]],
  reg: [UFFDIO_REGISTER, []], unreg: [UFFDIO_UNREGISTER, []], cp: [UFFDIO_COPY, []], zp: [UFFDIO_ZEROPAGE, []], wp: [UFFDIO_WRITEPROTECT, []],
  po: [UFFDIO_POISON, []], ct: [UFFDIO_CONTINUE, []], mv: [UFFDIO_MOVE, []],
};

/** A userfaultfd and a page for its structures. */
class Server {
  readonly os: Os;
  readonly fd: number;
  readonly page: number;

  constructor(os: Os, features = 0, flags = O_NONBLOCK) {
    this.os = os;
    this.page = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    os.mem.store8(this.page, 0);
    this.fd = os.userfaultfd(flags);
    if (features >= 0) expect(this.request(UFFDIO_API, UFFD_API, features)).toBe('0');
  }

  request(request: number, ...words: number[]): string {
    words.forEach((word, i) => this.os.mem.storeAddress(this.page + i * 8, word));
    const result = this.os.syscall(Syscall.ioctl, this.fd, request, this.page);
    return isError(result) ? errnoName(result) : String(result);
  }

  word(i: number): number {
    return this.os.mem.loadAddress(this.page + i * 8);
  }

  /** The next message: flags, address and thread; `null` where there is none. */
  message(): { flags: number; address: number; thread: number } | null {
    const { os } = this;
    const at = this.page + 512;
    const got = os.syscall(Syscall.read, this.fd, at, UFFD_MSG_BYTES);
    if (isError(got)) return null;
    expect(os.mem.load8(at)).toBe(0x12);
    return { flags: os.mem.loadAddress(at + 8), address: os.mem.loadAddress(at + 16), thread: os.mem.load32(at + 24) };
  }
}

const map = (os: Os, pages: number, flags = MAP_PRIVATE): number => os.mmap(0, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS);

it('answers as Linux does', () => {
  const machine = boot({ memory: '128M', cmdline: 'transparent_hugepage=never', sysctl: { 'vm.mmap_min_addr': 0 } });
  const process = machine.createProcess();
  const { os } = process;
  const server = new Server(os, -1);
  const hole = os.mmap(0, PAGE_SIZE, 0, MAP_PRIVATE | MAP_ANONYMOUS);
  const at: Record<string, number> = { p: map(os, 16) };
  os.mmap(0, PAGE_SIZE, 0, MAP_PRIVATE | MAP_ANONYMOUS);
  at['q'] = map(os, 16);
  os.munmap(hole, PAGE_SIZE);
  for (let page = 0; page < 16; page++) os.mem.store8(at['q'] + page * PAGE_SIZE, 7);
  const seen = OBSERVED.map(([name, args]): Row => {
    if (name === 'ioctls') return [name, args, os.mem.load64(server.page + (server.word(0) === UFFD_API ? 16 : 24)).toString(16)];
    if (name === 'copy' || name === 'move') return [name, args, String(server.word(4))];
    const [request, before] = REQUESTS[name]!;
    const words = args.map((arg) => (typeof arg === 'number' ? arg : at[arg[0]]! + arg[1]));
    return [name, args, server.request(request, ...before, ...words)];
  });
  expect(seen).toEqual(OBSERVED);
  machine.validate();
  process.exit(0);
  machine.validate();
});

describe('a program that serves its own faults', () => {
  function run(program: Program): void {
    const machine = boot({ memory: '128M', cpus: 2, cmdline: 'transparent_hugepage=never' });
    machine.quiesce();
    const before = machine.stats().framesByOwner;
    const result = machine.run(program);
    expect(result.error).toBeUndefined();
    expect(result.status).toBe(0);
    machine.validate();
    machine.quiesce();
    expect(machine.stats().framesByOwner).toEqual(before);
  }

  it('fills pages as they are touched, by itself and by the kernel', () => {
    run((os) => {
      const server = new Server(os, UFFD_FEATURE_THREAD_ID);
      const memory = map(os, 8);
      const source = map(os, 1);
      expect(server.request(UFFDIO_REGISTER, memory, 8 * PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING)).toBe('0');
      const seen: number[] = [];
      let done = false;
      os.thread(function* () {
        while (!done) {
          const message = server.message();
          if (message === null) {
            yield;
            continue;
          }
          expect(message.thread).toBe(os.getpid());
          seen.push((message.address - memory) / PAGE_SIZE);
          os.mem.fill(source, PAGE_SIZE, 100 + seen.length);
          expect(server.request(UFFDIO_COPY, message.address, source, PAGE_SIZE, 0, 0)).toBe('0');
        }
      });
      expect(os.mem.load8(memory + 3 * PAGE_SIZE + 5)).toBe(101);
      os.mem.store8(memory, 9);
      expect([os.mem.load8(memory), os.mem.load8(memory + 1)]).toEqual([9, 102]);
      // The kernel waits for it, too.
      const fds = memory + 5 * PAGE_SIZE;
      expect(os.syscall(Syscall.pipe, fds)).toBe(0);
      expect(os.mem.load32(fds + 8)).toBe(0x67676767);
      expect(seen).toEqual([3, 0, 5]);
      const { minflt } = os.getrusage();
      os.mem.load8(memory + 3 * PAGE_SIZE);
      expect(os.getrusage().minflt).toBe(minflt);
      done = true;
    });
  });

  it('hears of stores to what it protects, there or not', () => {
    run((os) => {
      const server = new Server(os, UFFD_FEATURE_WP_UNPOPULATED);
      const memory = map(os, 4);
      os.mem.store8(memory, 1);
      expect(server.request(UFFDIO_REGISTER, memory, 4 * PAGE_SIZE, UFFDIO_REGISTER_MODE_WP)).toBe('0');
      expect(server.request(UFFDIO_WRITEPROTECT, memory, 4 * PAGE_SIZE, 1)).toBe('0');
      const seen: string[] = [];
      let done = false;
      os.thread(function* () {
        while (!done) {
          const message = server.message();
          if (message === null) {
            yield;
            continue;
          }
          seen.push(`${(message.address - memory) / PAGE_SIZE}:${message.flags}`);
          expect(server.request(UFFDIO_WRITEPROTECT, message.address, PAGE_SIZE, 0)).toBe('0');
        }
      });
      expect(os.mem.load8(memory)).toBe(1);
      os.mem.store8(memory, 2);
      os.mem.store8(memory + 1, 3);
      os.mem.store8(memory + 2 * PAGE_SIZE, 4);
      expect(os.mem.load8(memory + PAGE_SIZE)).toBe(0);
      const both = UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_WRITE;
      expect(seen).toEqual([`0:${both}`, `2:${both}`]);
      expect([os.mem.load8(memory), os.mem.load8(memory + 1), os.mem.load8(memory + 2 * PAGE_SIZE)]).toEqual([2, 3, 4]);
      done = true;
    });
  });

  it('maps what shared memory has, when it says so', () => {
    run((os) => {
      const server = new Server(os, UFFD_FEATURE_MINOR_SHMEM);
      const name = os.sbrk(PAGE_SIZE);
      os.mem.storeCString(name, 'm');
      const fd = os.syscall(Syscall.memfd_create, name, 0);
      os.syscall(Syscall.ftruncate, fd, 2 * PAGE_SIZE);
      const memory = os.mmap(0, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
      const other = os.mmap(0, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
      os.mem.store8(other, 5);
      expect(server.request(UFFDIO_REGISTER, memory, 2 * PAGE_SIZE, UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_MISSING)).toBe('0');
      const seen: number[] = [];
      let done = false;
      os.thread(function* () {
        while (!done) {
          const message = server.message();
          if (message === null) {
            yield;
            continue;
          }
          seen.push(message.flags);
          if ((message.flags & UFFD_PAGEFAULT_FLAG_MINOR) !== 0) {
            os.mem.store8(other, 6);
            expect(server.request(UFFDIO_CONTINUE, message.address, PAGE_SIZE, 0, 0)).toBe('0');
          } else expect(server.request(UFFDIO_ZEROPAGE, message.address, PAGE_SIZE, 0, 0)).toBe('0');
        }
      });
      expect(os.mem.load8(memory)).toBe(6);
      expect(os.mem.load8(memory + PAGE_SIZE)).toBe(0);
      os.mem.store8(memory + PAGE_SIZE, 8);
      expect(os.mem.load8(other + PAGE_SIZE)).toBe(8);
      expect(seen).toEqual([UFFD_PAGEFAULT_FLAG_MINOR, 0]);
      done = true;
    });
  });

  it('may say that pages are broken, or that nobody is to be asked', () => {
    run((os) => {
      const codes: number[] = [];
      os.sigaction(SIGBUS, (info) => {
        codes.push(info.code);
        throw new Error('bus');
      });
      const broken = new Server(os, UFFD_FEATURE_POISON);
      const memory = map(os, 2);
      broken.request(UFFDIO_REGISTER, memory, 2 * PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING);
      expect(broken.request(UFFDIO_POISON, memory, PAGE_SIZE, 0, 0)).toBe('0');
      expect(() => os.mem.load8(memory)).toThrow('bus');
      const quiet = new Server(os, UFFD_FEATURE_SIGBUS);
      const other = map(os, 1);
      quiet.request(UFFDIO_REGISTER, other, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING);
      expect(() => os.mem.load8(other)).toThrow('bus');
      expect(codes).toEqual([4, 2]);
      os.munmap(memory, 2 * PAGE_SIZE);
      // Closing the file leaves the memory to the kernel again.
      os.syscall(Syscall.close, quiet.fd);
      expect(os.mem.load8(other)).toBe(0);
    });
  });

  it('is not asked for a child\'s faults, nor for moved memory; and nobody waits for ever', () => {
    const machine = boot({ memory: '128M', cmdline: 'transparent_hugepage=never' });
    const process = machine.createProcess();
    const { os } = process;
    const server = new Server(os);
    const memory = map(os, 4);
    server.request(UFFDIO_REGISTER, memory, 4 * PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
    expect(() => os.mem.load8(memory)).toThrow(DeadlockError);
    const child = process.fork() as typeof process;
    expect(child.os.mem.load8(memory)).toBe(0);
    expect(machine.readFile(`/proc/${process.pid}/smaps`)).toMatch(/VmFlags: .*\bum\b.*\buw\b/);
    const moved = os.mremap(memory, PAGE_SIZE, PAGE_SIZE, 3, memory - 64 * PAGE_SIZE);
    expect(os.mem.load8(moved)).toBe(0);
    // What the kernel does not wait for fails.
    const user = new Server(os, 0, UFFD_USER_MODE_ONLY | O_NONBLOCK);
    const other = map(os, 1);
    user.request(UFFDIO_REGISTER, other, PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING);
    expect(os.syscall(Syscall.pipe, other)).toBe(-14);
    machine.validate();
    child.exit(0);
    process.exit(0);
    machine.validate();
  });
});

it.each(['x86-pae', 'x86-32'] as const)('fills pages of %s, and has no write protection there', (arch) => {
  const machine = boot({ arch, memory: '64M' });
  const process = machine.createProcess();
  const { os } = process;
  expect(new Server(os, -1).request(UFFDIO_API, UFFD_API, UFFD_FEATURE_PAGEFAULT_FLAG_WP)).toBe('EINVAL');
  const server = new Server(os);
  const at = map(os, 2);
  for (const mode of [UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP]) {
    expect(server.request(UFFDIO_REGISTER, at, 2 * PAGE_SIZE, mode)).toBe('EINVAL');
  }
  expect(server.request(UFFDIO_REGISTER, at, 2 * PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING)).toBe('0');
  const from = map(os, 1);
  os.mem.store32(from, 77);
  expect(server.request(UFFDIO_COPY, at, from, PAGE_SIZE, 0, 0)).toBe('0');
  expect(os.mem.load32(at)).toBe(77);
  expect(server.request(UFFDIO_POISON, at + PAGE_SIZE, PAGE_SIZE, 0, 0)).toBe('0');
  let signal = 0;
  os.sigaction(SIGBUS, ({ signo }) => {
    signal = signo;
    throw new Error('poisoned');
  });
  expect(() => os.mem.load8(at + PAGE_SIZE)).toThrow('poisoned');
  expect(signal).toBe(SIGBUS);
  machine.validate();
});
