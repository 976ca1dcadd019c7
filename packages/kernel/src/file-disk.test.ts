/** Regular files on a disk that takes time, fills up and fails. */
import { MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE, SIGBUS, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { REQ_OP_READ, REQ_OP_WRITE } from '@pagelab/hw';
import type { BlockDevice } from '@pagelab/hw';
import { PG_ANON, PG_SWAPBACKED } from '@pagelab/mm-core';
import { DiskBlockStore } from '@pagelab/vm';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { createMachine } from './machine.ts';
import type { Machine } from './machine.ts';

const POSIX_FADV_DONTNEED = 4;
const [EIO, ENOSPC] = [-5, -28];

function machineWithDisk(size: string): { machine: Machine; disk: BlockDevice } {
  const kernel = bootKernel(parseMachineConfig({ memory: '256M', disk: { size, model: 'nvme' } }));
  const { store } = kernel.vm.blockFs;
  if (!(store instanceof DiskBlockStore)) throw new Error('no disk');
  return { machine: createMachine(kernel), disk: store.disk };
}

/** Runs a program; what it expects in vain is told here. */
function run(machine: Machine, program: (os: Os) => void): void {
  const { error } = machine.run(program);
  if (error !== undefined) throw error as Error;
}

/** Makes a file of `nrPages` pages, each full of its number, synced and out of the cache; returns its descriptor. */
function makeFile(os: Os, nrPages: number): number {
  const buffer = os.mmap(0, 4096, PROT_READ | PROT_WRITE, 0x22);
  os.mem.storeCString(buffer, '/home/file');
  const fd = os.syscall(Syscall.open, buffer, O_CREAT | O_RDWR, 0o600);
  for (let page = 0; page < nrPages; page++) {
    os.mem.fill(buffer, 4096, page);
    expect(os.syscall(Syscall.pwrite64, fd, buffer, 4096, page * 4096)).toBe(4096);
  }
  expect(os.syscall(Syscall.fsync, fd)).toBe(0);
  expect(os.syscall(Syscall.fadvise64, fd, 0, 0, POSIX_FADV_DONTNEED)).toBe(0);
  return fd;
}

test('blocks come from the disk when they are wanted, which takes time and is a major fault', () => {
  const { machine, disk } = machineWithDisk('64M');
  run(machine, (os) => {
    const fd = makeFile(os, 64);
    expect(disk.opStats[REQ_OP_WRITE]!.sectors).toBe(64 * 8);
    const at = os.mmap(0, 64 * 4096, PROT_READ, MAP_SHARED, fd, 0);
    const reads = disk.opStats[REQ_OP_READ]!.sectors;
    const { majflt } = os.getrusage();
    const before = machine.stats().timeNs;
    expect(os.mem.load8(at + 40 * 4096)).toBe(40);
    expect(os.getrusage().majflt).toBe(majflt + 1);
    expect(machine.stats().timeNs - before).toBeGreaterThan(10_000);
    expect(disk.opStats[REQ_OP_READ]!.sectors).toBeGreaterThan(reads);
  });
  machine.validate();
});

test('a full disk is ENOSPC, and room that a file gave up can be had again', () => {
  const { machine } = machineWithDisk('1M');
  run(machine, (os) => {
    const fd = makeFile(os, 200);
    const buffer = os.mmap(0, 4096, PROT_READ | PROT_WRITE, 0x22);
    const write = (page: number): number => os.syscall(Syscall.pwrite64, fd, buffer, 4096, page * 4096);
    let page = 200;
    while (write(page) === 4096) page++;
    expect([page, write(page)]).toEqual([255, ENOSPC]);
    os.syscall(Syscall.ftruncate, fd, 4096);
    expect(write(300)).toBe(4096);
  });
  machine.validate();
});

test('a failed read is EIO or SIGBUS, a failed write is told by fsync once; the machine stays valid', () => {
  const { machine, disk } = machineWithDisk('64M');
  run(machine, (os) => {
    const fd = makeFile(os, 8);
    disk.inject({ op: REQ_OP_READ });
    const buffer = os.mmap(0, 4096, PROT_READ | PROT_WRITE, 0x22);
    expect(os.syscall(Syscall.pread64, fd, buffer, 4096, 0)).toBe(EIO);
    const at = os.mmap(0, 8 * 4096, PROT_READ, MAP_SHARED, fd, 0);
    let signal = 0;
    os.sigaction(SIGBUS, ({ signo }) => {
      signal = signo;
      disk.faults.clear();
    });
    expect(os.mem.load8(at + 3 * 4096)).toBe(3);
    expect(signal).toBe(SIGBUS);
    disk.inject({ op: REQ_OP_WRITE, times: 1 });
    expect(os.syscall(Syscall.pwrite64, fd, buffer, 4096, 0)).toBe(4096);
    expect([os.syscall(Syscall.fsync, fd), os.syscall(Syscall.fsync, fd)]).toEqual([EIO, 0]);
  });
  machine.validate();
});

test('a mapped file larger than memory is read whole: the page that is wanted is not taken back to read ahead of it', () => {
  const nrPages = 20_000;
  const machine = createMachine(bootKernel(parseMachineConfig({ memory: '64M' })));
  const { error } = machine.run((os) => {
    const buffer = os.mmap(0, 4096, PROT_READ | PROT_WRITE, 0x22);
    os.mem.storeCString(buffer, '/home/file');
    const fd = os.syscall(Syscall.open, buffer, O_CREAT | O_RDWR, 0o600);
    for (let page = 0; page < nrPages; page++) {
      os.mem.store8(buffer, page % 251);
      os.syscall(Syscall.pwrite64, fd, buffer, 4096, page * 4096);
    }
    os.syscall(Syscall.fsync, fd);
    os.syscall(Syscall.fadvise64, fd, 0, 0, POSIX_FADV_DONTNEED);
    const at = os.mmap(0, nrPages * 4096, PROT_READ, MAP_SHARED, fd, 0);
    let wrong = 0;
    for (let page = 0; page < nrPages; page++) if (os.mem.load8(at + page * 4096) !== page % 251) wrong++;
    expect(wrong).toBe(0);
  });
  expect(error).toBeUndefined();
  machine.validate();
});

test.each([['6.18', true], ['6.12', false], ['6.1', false]] as const)('a file that is read through has folios of several pages under %s: %s', (release, has) => {
  const kernel = bootKernel(parseMachineConfig({ memory: '256M', disk: { size: '64M' }, kernel: release }));
  const machine = createMachine(kernel);
  run(machine, (os) => {
    // The first window has single pages, the next one folios.
    const fd = makeFile(os, 1024);
    const buffer = os.mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, 0x22);
    for (let page = 0; page < 1024; page += 64) expect(os.syscall(Syscall.pread64, fd, buffer, 64 * 4096, page * 4096)).toBe(64 * 4096);
    const { flags, mapping, private: orders, nrFrames } = kernel.vm.frames;
    let large = 0;
    for (let pfn = 0; pfn < nrFrames; pfn++) if (mapping[pfn] !== 0 && (flags[pfn]! & (PG_ANON | PG_SWAPBACKED)) === 0 && orders[pfn]! > 0) large++;
    expect(large > 100).toBe(has);
  });
  machine.validate();
});

test('a page that reading around a hole could not get is read again when it is wanted', () => {
  const { machine, disk } = machineWithDisk('64M');
  const [hole, nrPages] = [40, 64];
  run(machine, (os) => {
    const fd = makeFile(os, hole);
    const buffer = os.mmap(0, 4096, PROT_READ | PROT_WRITE, 0x22);
    for (let page = hole + 1; page < nrPages; page++) {
      os.mem.fill(buffer, 4096, page);
      os.syscall(Syscall.pwrite64, fd, buffer, 4096, page * 4096);
    }
    expect(os.syscall(Syscall.fsync, fd)).toBe(0);
    expect(os.syscall(Syscall.fadvise64, fd, 0, 0, POSIX_FADV_DONTNEED)).toBe(0);
    // What frames held before shall not be taken for what was read.
    const other = os.mmap(0, 2 ** 27, PROT_READ | PROT_WRITE, 0x22);
    os.mem.fill(other, 2 ** 27, 0xee);
    os.munmap(other, 2 ** 27);
    const at = os.mmap(0, nrPages * 4096, PROT_READ, MAP_SHARED, fd, 0);
    disk.inject({ op: REQ_OP_READ, every: 5, times: 1 });
    expect(os.mem.load8(at + hole * 4096)).toBe(0);
    expect(disk.errors).toBe(1);
    const pages = Array.from({ length: nrPages }, (_, page) => os.mem.load8(at + page * 4096 + 100));
    expect(pages).toEqual(Array.from({ length: nrPages }, (_, page) => (page === hole ? 0 : page)));
  });
  machine.validate();
});
