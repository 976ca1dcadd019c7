/** Pipes: packets, pages that a program shows in them, and how much of them a user may have. As measured on Linux 6.18. */
import {
  Errno,
  F_GETPIPE_SZ,
  F_SETFL,
  F_SETPIPE_SZ,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  O_DIRECT,
  O_NONBLOCK,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  RLIMIT_NOFILE,
  SIGPIPE,
  SPLICE_F_GIFT,
  SPLICE_F_NONBLOCK,
  Syscall,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { inUse, runChecked, small } from './testing/run.ts';

const { EAGAIN, EBADF, EBUSY, EFAULT, EINVAL, ENFILE, EPERM, EPIPE } = Errno;
const P = 4096;
const RW = PROT_READ | PROT_WRITE;

/** Calls with memory of the program's: 40 pages at `m`, and a page for arrays. */
function tools(os: Os) {
  const m = os.mmap(0, 40 * P, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  const scratch = os.mmap(0, P, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  const bytes = os.mmap(0, 64 * P, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  const fcntl = (fd: number, command: number, value = 0): number => os.syscall(Syscall.fcntl, fd, command, value);
  return {
    m,
    fcntl,
    pipe: (flags = 0): [reader: number, writer: number] => {
      const result = os.syscall(Syscall.pipe2, scratch, flags);
      return result < 0 ? [result, result] : [os.mem.load32(scratch), os.mem.load32(scratch + 4)];
    },
    vmsplice: (fd: number, ranges: readonly (readonly [base: number, length: number])[], flags = 0): number => {
      for (const [i, [base, length]] of ranges.entries()) {
        os.mem.store64(scratch + i * 16, BigInt(base));
        os.mem.store64(scratch + i * 16 + 8, BigInt(length));
      }
      return os.syscall(Syscall.vmsplice, fd, scratch, ranges.length, flags);
    },
    /** Reads, and tells how much and the first byte. */
    read: (fd: number, length: number): [number, number] => {
      const done = os.syscall(Syscall.read, fd, bytes, length);
      return [done, done > 0 ? os.mem.load8(bytes) : -1];
    },
    write: (fd: number, text: string): number => {
      os.mem.storeCString(scratch, text);
      return os.syscall(Syscall.write, fd, scratch, text.length);
    },
  };
}

test('vmsplice shows the pages themselves, which stay when they are unmapped', () => {
  const machine = small();
  const before = inUse(machine);
  runChecked(machine, (os) => {
    const { m, pipe, vmsplice, read, write } = tools(os);
    os.mem.fill(m, 4 * P, 1);
    const [reader, writer] = pipe();
    expect(vmsplice(writer, [[m, P], [m + P + 100, 2 * P]])).toBe(3 * P);
    machine.validate();
    os.mem.store8(m, 7);
    expect([read(reader, 10), read(reader, P), read(reader, 3 * P)]).toEqual([[10, 7], [P, 1], [3 * P - 10 - P, 1]]);
    expect(vmsplice(writer, [[m + 3 * P, P]], SPLICE_F_GIFT)).toBe(P);
    os.munmap(m + 3 * P, P);
    machine.validate();
    expect(read(reader, P)).toEqual([P, 1]);
    // What was never touched is the zero page; the program's own page comes with its store.
    expect(vmsplice(writer, [[m + 10 * P, P]])).toBe(P);
    os.mem.store8(m + 10 * P, 9);
    expect(read(reader, P)).toEqual([P, 0]);
    // Nothing is put behind a page that is the program's.
    expect(vmsplice(writer, [[m, 100]])).toBe(100);
    expect([write(writer, 'abc'), write(writer, 'def'), read(reader, 1000)]).toEqual([3, 3, [106, 7]]);
    // Some stay in the pipe when the program ends.
    expect(vmsplice(writer, [[m, P]])).toBe(P);
  });
  expect(inUse(machine)).toEqual(before);
});

test('vmsplice fills a pipe as far as there is room, and takes out what is there', () => {
  runChecked(small(), (os) => {
    const { m, pipe, vmsplice, read, write, fcntl } = tools(os);
    const [reader, writer] = pipe();
    expect(vmsplice(writer, [[m + 11 * P, 25 * P]], SPLICE_F_NONBLOCK)).toBe(16 * P);
    expect(vmsplice(writer, [[m + 11 * P, 25 * P]], SPLICE_F_NONBLOCK)).toBe(-EAGAIN);
    expect(fcntl(writer, F_SETPIPE_SZ, P)).toBe(-EBUSY);
    expect(vmsplice(reader, [[m, 100], [m + 200, 5000]])).toBe(5100);
    expect(read(reader, 16 * P)[0]).toBe(16 * P - 5100);
    expect(vmsplice(reader, [[m, 100]], SPLICE_F_NONBLOCK)).toBe(-EAGAIN);
    // A hole behind what could be shown; and at once.
    os.munmap(m + 3 * P, P);
    expect(vmsplice(writer, [[m, P], [m + 3 * P, P]])).toBe(P);
    expect(read(reader, P)[0]).toBe(P);
    expect([vmsplice(writer, [[m + 3 * P, P]]), vmsplice(writer, [[-P, P]])]).toEqual([-EFAULT, -EFAULT]);
    os.mprotect(m + 5 * P, P, PROT_NONE);
    expect(vmsplice(writer, [[m + 5 * P, P]])).toBe(-EFAULT);
    // What cannot be stored whole stays in the pipe.
    expect([write(writer, 'hello'), vmsplice(reader, [[m + 3 * P - 2, 5]]), read(reader, 100)]).toEqual([5, -EFAULT, [5, 104]]);
    expect([
      vmsplice(writer, [[m, 1]], 16), vmsplice(99, [[m, 1]], 16), vmsplice(99, [[m, 1]]), vmsplice(1, [[m, 1]]), vmsplice(writer, []),
      vmsplice(writer, [[m, -1]]),
    ]).toEqual([-EINVAL, -EINVAL, -EBADF, -EBADF, 0, -EINVAL]);
    os.sigaction(SIGPIPE, 'ignore');
    os.syscall(Syscall.close, reader);
    expect([vmsplice(writer, [[m, 10]]), write(writer, 'x')]).toEqual([-EPIPE, -EPIPE]);
  });
});

test('with O_DIRECT each write is a packet', () => {
  runChecked(small(), (os) => {
    const { m, pipe, read, write, fcntl } = tools(os);
    const [reader, writer] = pipe(O_DIRECT | O_NONBLOCK);
    expect([write(writer, 'aaaaa'), write(writer, 'bbb'), read(reader, 2), read(reader, 100)]).toEqual([5, 3, [2, 97], [3, 98]]);
    expect([os.syscall(Syscall.write, writer, m, 5000), write(writer, 'c')]).toEqual([5000, 1]);
    expect([read(reader, 10_000)[0], read(reader, 10_000)[0], read(reader, 10)]).toEqual([4096, 904, [1, 99]]);
    for (let i = 0; i < 16; i++) expect(write(writer, 'd')).toBe(1);
    expect(write(writer, 'd')).toBe(-EAGAIN);
    expect(read(reader, 100)).toEqual([1, 100]);
    fcntl(writer, F_SETFL, O_NONBLOCK);
    expect([write(writer, 'ee'), write(writer, 'ff')]).toEqual([2, 2]);
    for (let i = 0; i < 15; i++) expect(read(reader, 100)).toEqual([1, 100]);
    expect(read(reader, 100)).toEqual([4, 101]);
  });
});

test('a write that cannot be read whole leaves nothing of its page behind', () => {
  runChecked(small(), (os) => {
    const { m, pipe, read, write } = tools(os);
    const [reader, writer] = pipe(O_NONBLOCK);
    os.munmap(m + 3 * P, P);
    expect(os.syscall(Syscall.write, writer, m + 3 * P - 4, 100)).toBe(-EFAULT);
    expect(os.syscall(Syscall.write, writer, m, 4 * P)).toBe(3 * P);
    expect([read(reader, 8 * P)[0], read(reader, 1)[0]]).toEqual([3 * P, -EAGAIN]);
    expect(write(writer, 'hello')).toBe(5);
    expect(os.syscall(Syscall.read, reader, m + 3 * P - 2, 5)).toBe(-EFAULT);
    expect(read(reader, 9)).toEqual([5, 104]);
  });
});

test('who has many pages in pipes gets small ones, and in the end none', () => {
  const machine = small();
  const before = inUse(machine);
  runChecked(machine, (os) => {
    os.syscall(Syscall.setrlimit, RLIMIT_NOFILE, limitAt(os, 4096));
    const drop = (own: Os): void => {
      own.syscall(Syscall.setgid, 4321);
      own.syscall(Syscall.setuid, 4321);
    };
    os.waitpid(
      os.fork((own) => {
        drop(own);
        const { pipe, fcntl } = tools(own);
        const pipes = Array.from({ length: 1100 }, () => pipe());
        expect([fcntl(pipes[1023]![0], F_GETPIPE_SZ), fcntl(pipes[1024]![0], F_GETPIPE_SZ)]).toEqual([65_536, 8192]);
        expect([fcntl(pipes[0]![0], F_SETPIPE_SZ, 131_072), fcntl(pipes[1050]![0], F_SETPIPE_SZ, 65_536)]).toEqual([-EPERM, -EPERM]);
        expect([fcntl(pipes[0]![0], F_SETPIPE_SZ, 32_768), fcntl(pipes[0]![0], F_SETPIPE_SZ, 65_536)]).toEqual([32_768, -EPERM]);
        for (const ends of pipes.splice(0, 1000)) for (const fd of ends) own.syscall(Syscall.close, fd);
        const [reader] = pipe();
        expect([fcntl(reader, F_GETPIPE_SZ), fcntl(reader, F_SETPIPE_SZ, 1 << 20), fcntl(reader, F_SETPIPE_SZ, (1 << 20) + 1)]).toEqual([65_536, 1 << 20, -EPERM]);
        return 0;
      }),
    );
    os.writeFile('/proc/sys/fs/pipe-user-pages-hard', '100');
    os.waitpid(
      os.fork((own) => {
        drop(own);
        const { pipe, fcntl } = tools(own);
        const made = Array.from({ length: 3 }, () => pipe());
        expect(fcntl(made[0]![0], F_SETPIPE_SZ, 1 << 20)).toBe(-EPERM);
        for (let i = 0; i < 3; i++) expect(pipe()[0]).toBeGreaterThan(0);
        expect(pipe()).toEqual([-ENFILE, -ENFILE]);
        return 0;
      }),
    );
    // Who may administer the machine is not held to it.
    const { pipe } = tools(os);
    for (let i = 0; i < 8; i++) expect(pipe()[0]).toBeGreaterThan(0);
    os.writeFile('/proc/sys/fs/pipe-max-size', '5000');
    expect(os.readFile('/proc/sys/fs/pipe-max-size')).toBe('8192\n');
  });
  expect(inUse(machine)).toEqual(before);
});

/** A `struct rlimit` with both limits. */
function limitAt(os: Os, value: number): number {
  const at = os.mmap(0, P, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  os.mem.store64(at, BigInt(value));
  os.mem.store64(at + 8, BigInt(value));
  return at;
}
