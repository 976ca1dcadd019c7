/** A directory of the host that programs read at `/host`. Errors as an ext4 or tmpfs gives them that is mounted read-only. */
import {
  Errno,
  MADV_DONTNEED,
  MAP_PRIVATE,
  MAP_SHARED,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  PROT_READ,
  PROT_WRITE,
  SIGBUS,
  Syscall,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { encodeUtf8 } from '@pagelab/syscalls';
import type { HostDirectory } from '@pagelab/vm';
import { describe, expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import type { Kernel } from './kernel.ts';
import { createMachine } from './machine.ts';
import type { Machine } from './machine.ts';

const NR_PAGES = 200;
const TAIL = 100;
const FILE_BYTES = (NR_PAGES - 1) * 4096 + TAIL;
const POSIX_FADV_DONTNEED = 4;
const { EACCES, EBADF, EBUSY, EEXIST, EINVAL, EIO, EISDIR, ENOENT, ENOTDIR, EROFS, EXDEV } = Errno;

/** A directory in the test's memory that counts what is read of it, in pages. */
class TestDirectory implements HostDirectory {
  readonly files = new Map<string, Uint8Array>();
  readonly directories = new Set(['', 'sub', 'sub/deep']);
  pagesRead = 0;
  /** The host fails. */
  isBroken = false;

  stat(path: string) {
    const bytes = this.files.get(path);
    if (bytes !== undefined) return { kind: 'file', size: bytes.length, mode: 0o644 } as const;
    return this.directories.has(path) ? ({ kind: 'directory', size: 0, mode: 0o755 } as const) : undefined;
  }

  read(path: string, position: number, target: Uint8Array): number {
    if (this.isBroken) throw new Error('the host cannot read');
    this.pagesRead++;
    const part = this.files.get(path)!.subarray(position, position + target.length);
    target.set(part);
    return part.length;
  }
}

/** A machine with a big file, whose every page is full of its number, and a small one. */
function rig(memory = '256M'): { kernel: Kernel; machine: Machine; host: TestDirectory } {
  const host = new TestDirectory();
  host.files.set('big', new Uint8Array(FILE_BYTES).map((_, at) => at >>> 12));
  host.files.set('sub/deep/small', encodeUtf8('hello'));
  host.files.set('sub/empty', new Uint8Array(0));
  const kernel = bootKernel(parseMachineConfig({ memory }), { hostDirectory: host });
  return { kernel, machine: createMachine(kernel), host };
}

/** Calls with paths and buffers in the program's memory. */
function calls(os: Os) {
  const buffer = os.mmap(0, 8192, PROT_READ | PROT_WRITE, 0x22);
  const other = buffer + 4096;
  const withPath = (nr: number, path: string, ...args: number[]): number => {
    os.mem.storeCString(buffer, path);
    return os.syscall(nr, buffer, ...args);
  };
  return {
    buffer,
    withPath,
    open: (path: string, flags = O_RDONLY): number => withPath(Syscall.open, path, flags, 0o644),
    withPaths: (nr: number, from: string, to: string): number => {
      os.mem.storeCString(other, to);
      return withPath(nr, from, other);
    },
  };
}

function runs(machine: Machine, body: (os: Os) => void): void {
  const { error, status, description } = machine.run(body);
  expect({ error, status, description }).toEqual({ error: undefined, status: 0, description: '' });
  machine.validate();
}

describe('a directory of the host', () => {
  test('is read through the page cache, ahead of its use', () => {
    const { machine, host } = rig();
    runs(machine, (os) => {
      const { open, buffer } = calls(os);
      const small = open('/host/sub/deep/small');
      expect(os.syscall(Syscall.read, small, buffer, 4096)).toBe(5);
      expect([0, 4].map((at) => String.fromCharCode(os.mem.load8(buffer + at)))).toEqual(['h', 'o']);
      expect(host.pagesRead).toBe(1);
      expect(os.syscall(Syscall.pread64, small, buffer, 4096, 1)).toBe(4);
      expect(host.pagesRead).toBe(1);
      const big = open('/host/big');
      expect(os.syscall(Syscall.pread64, big, buffer, 4096, 0)).toBe(4096);
      // The first window of a read of one page: four.
      expect(host.pagesRead).toBe(1 + 4);
      expect(os.syscall(Syscall.pread64, big, buffer, 4096, FILE_BYTES - TAIL)).toBe(TAIL);
      expect(os.mem.load8(buffer)).toBe(NR_PAGES - 1);
      expect(os.syscall(Syscall.pread64, big, buffer, 4096, FILE_BYTES)).toBe(0);
      expect(os.syscall(Syscall.read, open('/host/sub/empty'), buffer, 1)).toBe(0);
      expect(os.syscall(Syscall.lseek, big, 0, 2)).toBe(FILE_BYTES);
    });
  });

  test('is mapped shared and private: major faults where nothing is cached, zero behind the end, SIGBUS beyond', () => {
    const { machine, host } = rig();
    runs(machine, (os) => {
      const { open, buffer } = calls(os);
      const fd = open('/host/big');
      const shared = os.mmap(0, (NR_PAGES + 2) * 4096, PROT_READ, MAP_SHARED, fd, 0);
      const { majflt, minflt } = os.getrusage();
      expect(os.mem.load8(shared + 100 * 4096)).toBe(100);
      // What lies around is read with it, and needs nothing of the host any more.
      expect(host.pagesRead).toBe(32);
      expect(os.mem.load8(shared + 101 * 4096)).toBe(101);
      expect(os.getrusage().majflt).toBe(majflt + 1);
      expect(host.pagesRead).toBe(32);
      expect(os.getrusage().minflt).toBeLessThanOrEqual(minflt + 1);

      const last = shared + (NR_PAGES - 1) * 4096;
      expect([os.mem.load8(last + TAIL - 1), os.mem.load8(last + TAIL), os.mem.load8(last + 4095)]).toEqual([NR_PAGES - 1, 0, 0]);
      const reached: number[] = [];
      os.sigaction(SIGBUS, ({ addr }) => {
        reached.push(addr - shared);
        os.mmap(shared + NR_PAGES * 4096, 4096, PROT_READ, 0x32);
      });
      expect(os.mem.load8(shared + NR_PAGES * 4096 + 8)).toBe(0);
      expect(reached).toEqual([NR_PAGES * 4096 + 8]);

      // A private copy is the program's own; the file stays.
      const own = os.mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 4096);
      os.mem.store8(own, 77);
      expect([os.mem.load8(own), os.mem.load8(shared + 4096)]).toEqual([77, 1]);
      os.madvise(own, 4096, MADV_DONTNEED);
      expect(os.mem.load8(own)).toBe(1);
      expect(os.syscall(Syscall.pread64, fd, buffer, 1, 4096)).toBe(1);
      expect(host.files.get('big')![4096]).toBe(1);

      // What is dropped comes from the host again.
      os.syscall(Syscall.munmap, shared, (NR_PAGES + 2) * 4096);
      os.syscall(Syscall.munmap, own, 8192);
      const before = host.pagesRead;
      expect(os.syscall(Syscall.fadvise64, fd, 0, 0, POSIX_FADV_DONTNEED)).toBe(0);
      expect(os.syscall(Syscall.pread64, fd, buffer, 1, 150 * 4096)).toBe(1);
      expect(host.pagesRead).toBeGreaterThan(before);
      expect(os.mem.load8(buffer)).toBe(150);
    });
  });

  test('may not be stored to through a mapping', () => {
    const { machine } = rig();
    runs(machine, (os) => {
      const { open } = calls(os);
      const fd = open('/host/big');
      expect(os.syscall(Syscall.mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)).toBe(-EACCES);
      const at = os.mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
      expect(os.syscall(Syscall.mprotect, at, 4096, PROT_READ | PROT_WRITE)).toBe(-EACCES);
      expect(os.syscall(Syscall.write, fd, at, 1)).toBe(-EBADF);
      expect(os.syscall(Syscall.ftruncate, fd, 0)).toBe(-EINVAL);
      expect(os.syscall(Syscall.fallocate, fd, 0, 0, 4096)).toBe(-EBADF);
    });
  });

  test('refuses every change, as a file system does that is mounted read-only', () => {
    const { machine, host } = rig();
    runs(machine, (os) => {
      const { open, withPath, withPaths } = calls(os);
      const { access, link, mkdir, rename, rmdir, truncate, unlink } = Syscall;
      const F = '/host/big';
      expect([
        open('/host/new', O_CREAT | O_RDWR), open('/host/new', O_CREAT), open(F, O_CREAT | O_EXCL), open('/host/new/', O_CREAT),
        open(F, O_RDWR), open(F, O_TRUNC), open('/host/sub', O_RDWR), open(F, O_DIRECTORY | O_RDWR), open('/host/new'),
      ]).toEqual([-EROFS, -EROFS, -EEXIST, -EISDIR, -EROFS, -EROFS, -EISDIR, -ENOTDIR, -ENOENT]);
      expect(open(F, O_CREAT)).toBeGreaterThan(2);
      expect([F, '/host/sub', '/host/new'].map((path) => withPath(truncate, path, 0))).toEqual([-EROFS, -EISDIR, -ENOENT]);
      expect([F, '/host/new', '/host/sub', '/host'].map((path) => withPath(unlink, path))).toEqual([-EROFS, -EROFS, -EROFS, -EISDIR]);
      expect(['/host/new', '/host/sub'].map((path) => withPath(mkdir, path, 0o755))).toEqual([-EROFS, -EEXIST]);
      expect(['/host/sub', '/host/new', F, '/host'].map((path) => withPath(rmdir, path))).toEqual([-EROFS, -EROFS, -EROFS, -EBUSY]);
      expect(open('/home/x', O_CREAT | O_RDWR)).toBeGreaterThan(2);
      expect([
        withPaths(link, F, '/host/new'), withPaths(link, F, '/host/sub'), withPaths(link, F, '/home/n'),
        withPaths(link, '/home/x', '/host/new'), withPaths(link, '/home/x', F), withPaths(link, '/host/sub', '/host/new'), withPaths(link, F, '/host/new/'),
      ]).toEqual([-EROFS, -EEXIST, -EXDEV, -EROFS, -EEXIST, -EROFS, -ENOENT]);
      expect([
        withPaths(rename, F, '/host/new'), withPaths(rename, '/host/new', '/host/o'), withPaths(rename, F, '/home/n'), withPaths(rename, '/home/x', '/host/n'),
        withPaths(rename, '/host', '/home/n'), withPaths(rename, F, F), withPaths(rename, '/host/sub', '/host/sub/k'), withPaths(rename, '/host/n', '/home/n'),
      ]).toEqual([-EROFS, -EROFS, -EXDEV, -EXDEV, -EBUSY, -EROFS, -EROFS, -EXDEV]);
      expect([0, 1, 2, 4].map((mode) => withPath(access, F, mode))).toEqual([0, -EACCES, -EROFS, 0]);
      expect([0, 1, 2, 4].map((mode) => withPath(access, '/host/sub', mode))).toEqual([0, 0, -EROFS, 0]);
    });
    expect(host.files.get('big')!.length).toBe(FILE_BYTES);
  });

  test('that cannot be read is EIO, or SIGBUS, until it can', () => {
    const { machine, host } = rig();
    runs(machine, (os) => {
      const { open, buffer } = calls(os);
      const fd = open('/host/big');
      host.isBroken = true;
      expect(os.syscall(Syscall.pread64, fd, buffer, 4096, 0)).toBe(-EIO);
      const at = os.mmap(0, NR_PAGES * 4096, PROT_READ, MAP_SHARED, fd, 0);
      let signals = 0;
      os.sigaction(SIGBUS, () => {
        signals++;
        host.isBroken = false;
      });
      expect(os.mem.load8(at + 60 * 4096)).toBe(60);
      expect(signals).toBe(1);
      // One that has become shorter.
      host.files.set('big', host.files.get('big')!.subarray(0, 4096));
      os.syscall(Syscall.munmap, at, NR_PAGES * 4096);
      os.syscall(Syscall.fadvise64, fd, 0, 0, POSIX_FADV_DONTNEED);
      expect(os.syscall(Syscall.pread64, fd, buffer, 4096, 8192)).toBe(-EIO);
      expect(os.syscall(Syscall.pread64, fd, buffer, 4096, 0)).toBe(4096);
    });
  });

  test('gives its pages, names and inodes back when memory is short', () => {
    const { kernel, machine } = rig();
    const { caches } = kernel;
    const live = (): number[] => [caches.dentry.activeObjects, caches.inode_cache.activeObjects];
    const before = live();
    runs(machine, (os) => {
      const fd = calls(os).open('/host/sub/deep/small');
      expect(os.syscall(Syscall.read, fd, calls(os).buffer, 5)).toBe(5);
    });
    expect(live()).toEqual([before[0]! + 3, before[1]! + 1]);
    machine.writeFile('/proc/sys/vm/drop_caches', '3');
    machine.writeFile('/proc/sys/vm/drop_caches', '3');
    expect(live()[1]).toBe(before[1]);
    expect(live()[0]).toBeLessThanOrEqual(before[0]!);
    machine.validate();
    runs(machine, (os) => {
      expect(os.syscall(Syscall.read, calls(os).open('/host/sub/deep/small'), calls(os).buffer, 5)).toBe(5);
    });
  });

  test('is reclaimed under pressure and read again', () => {
    const { machine, host } = rig('64M');
    const nrPages = 20_000;
    const huge = new Uint8Array(nrPages * 4096);
    for (let page = 0; page < nrPages; page++) huge[page * 4096 + 9] = page % 251;
    host.files.set('huge', huge);
    runs(machine, (os) => {
      const fd = calls(os).open('/host/huge');
      const at = os.mmap(0, nrPages * 4096, PROT_READ, MAP_SHARED, fd, 0);
      for (let round = 0; round < 2; round++) {
        let wrong = 0;
        for (let page = 0; page < nrPages; page++) if (os.mem.load8(at + page * 4096 + 9) !== page % 251) wrong++;
        expect(wrong).toBe(0);
      }
      expect(host.pagesRead).toBeGreaterThan(nrPages * 1.5);
    });
  });
});

test('without a directory of the host there is no /host', () => {
  const machine = createMachine(bootKernel(parseMachineConfig({ memory: '64M' })));
  runs(machine, (os) => {
    expect(calls(os).open('/host')).toBe(-ENOENT);
  });
});
