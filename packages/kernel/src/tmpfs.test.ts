/** How much `/dev/shm` holds. What is expected is what a tmpfs of 16 pages did on Linux 6.18. */
import { Errno, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE, SIGBUS, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { ConfigError, parseMachineConfig } from './config.ts';
import type { MachineConfigInput } from './config.ts';
import { createMachine } from './machine.ts';

const PAGE = 4096;
const { ENOSPC } = Errno;

function run(config: MachineConfigInput, body: (os: Os, shm: ReturnType<typeof shmCalls>, used: () => number) => void): void {
  const kernel = bootKernel(parseMachineConfig(config));
  const machine = createMachine(kernel);
  const { error, description } = machine.run((os) => {
    body(os, shmCalls(os), () => {
      machine.validate();
      return kernel.vm.tmpfs.usedBlocks;
    });
  });
  expect({ error, description }).toEqual({ error: undefined, description: '' });
  machine.validate();
}

function shmCalls(os: Os) {
  const buffer = os.mmap(0, 32 * PAGE, PROT_READ | PROT_WRITE, 0x22);
  os.mem.fill(buffer, 32 * PAGE, 7);
  const path = os.mmap(0, PAGE, PROT_READ | PROT_WRITE, 0x22);
  return {
    open: (name: string): number => {
      os.mem.storeCString(path, `/dev/shm/${name}`);
      return os.syscall(Syscall.open, path, O_CREAT | O_RDWR, 0o600);
    },
    unlink: (name: string): number => {
      os.mem.storeCString(path, `/dev/shm/${name}`);
      return os.syscall(Syscall.unlink, path);
    },
    write: (fd: number, offset: number, bytes: number): number => os.syscall(Syscall.pwrite64, fd, buffer, bytes, offset),
    truncate: (fd: number, bytes: number): number => os.syscall(Syscall.ftruncate, fd, bytes),
    allocate: (fd: number, pages: number, mode = 0): number => os.syscall(Syscall.fallocate, fd, mode, 0, pages * PAGE),
  };
}

test('when it is full, write and fallocate are ENOSPC; what is there can be written, what is freed used again', () => {
  run({ memory: '64M', devShm: '64K' }, (os, { open, unlink, write, truncate, allocate }, used) => {
    const fd = open('f');
    expect(truncate(fd, 2 ** 20)).toBe(0);
    truncate(fd, 0);
    expect([write(fd, 0, 20 * PAGE), used()]).toEqual([16 * PAGE, 16]);
    expect([write(fd, 16 * PAGE, 1), write(fd, 0, PAGE), os.syscall(Syscall.lseek, fd, 0, 2)]).toEqual([-ENOSPC, PAGE, 16 * PAGE]);
    const other = open('g');
    expect(write(other, 0, 1)).toBe(-ENOSPC);
    truncate(fd, 10 * PAGE);
    expect([allocate(other, 7), used()]).toEqual([-ENOSPC, 10]);
    expect([allocate(other, 6), used()]).toEqual([0, 16]);
    expect([allocate(other, 1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), used()]).toEqual([0, 15]);
    expect([write(other, 0, 1), used()]).toEqual([1, 16]);
    expect([allocate(fd, 17), allocate(fd, 11), used()]).toEqual([-ENOSPC, -ENOSPC, 16]);
    unlink('g');
    expect(write(fd, 15 * PAGE, 1)).toBe(-ENOSPC);
    os.syscall(Syscall.close, other);
    expect([used(), write(fd, 15 * PAGE, 1), used()]).toEqual([10, 1, 11]);
  });
});

test('a fault on a page for which there is no room is SIGBUS, also a read; memory without a name has no limit', () => {
  run({ memory: '64M', devShm: '64K' }, (os, { open, truncate }, used) => {
    const fd = open('f');
    truncate(fd, 32 * PAGE);
    const at = os.mmap(0, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (let page = 0; page < 16; page++) os.mem.store8(at + page * PAGE, page);
    const faults: number[] = [];
    os.sigaction(SIGBUS, ({ addr }) => {
      faults.push((addr - at) / PAGE);
      truncate(fd, 4 * PAGE);
      truncate(fd, 32 * PAGE);
    });
    expect(os.mem.load8(at + 20 * PAGE)).toBe(0);
    expect([faults, used()]).toEqual([[20], 5]);
    const unnamed = os.mmap(0, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20);
    os.mem.fill(unnamed, 64 * PAGE, 1);
    expect(used()).toBe(5);
  });
});

test('pages that are swapped out, and come back, keep their room', () => {
  run({ memory: '64M', devShm: '40M', swap: [{ size: '64M' }] }, (os, { open, truncate, write, unlink }, used) => {
    const fd = open('f');
    truncate(fd, 2 ** 26);
    const nrPages = (40 * 2 ** 20) / PAGE;
    const at = os.mmap(0, 2 ** 26, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (let page = 0; page < nrPages; page++) os.mem.store8(at + page * PAGE, page % 251);
    const anonymous = os.mmap(0, 24 * 2 ** 20, PROT_READ | PROT_WRITE, 0x22);
    os.mem.fill(anonymous, 24 * 2 ** 20, 3);
    expect([used(), write(fd, nrPages * PAGE, 1)]).toEqual([nrPages, -ENOSPC]);
    os.syscall(Syscall.munmap, anonymous, 24 * 2 ** 20);
    let wrong = 0;
    for (let page = 0; page < nrPages; page++) if (os.mem.load8(at + page * PAGE) !== page % 251) wrong++;
    expect([wrong, used()]).toEqual([0, nrPages]);
    unlink('f');
    os.syscall(Syscall.munmap, at, 2 ** 26);
    os.syscall(Syscall.close, fd);
    expect(used()).toBe(0);
  });
});

test('it holds half of memory, unless the configuration says otherwise', () => {
  const { vm, pages } = bootKernel(parseMachineConfig({ memory: '128M' }));
  expect(vm.tmpfs).toEqual({ maxBlocks: Math.floor(pages.totalramPages / 2), usedBlocks: 0, huge: 'never' });
  expect(() => parseMachineConfig({ memory: '128M', devShm: '5K' })).toThrow(ConfigError);
  expect(() => parseMachineConfig({ memory: '128M', devShm: 0 })).toThrow(/devShm: takes a size/);
});
