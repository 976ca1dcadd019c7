/** Pages of files on their way to a disk that takes time. */
import { MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { REQ_OP_WRITE } from '@pagelab/hw';
import type { BlockDevice } from '@pagelab/hw';
import { NODE_STAT } from '@pagelab/mm-core';
import { DiskBlockStore } from '@pagelab/vm';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import type { Kernel } from './kernel.ts';
import { createMachine } from './machine.ts';
import type { Machine } from './machine.ts';

const [FADV_DONTNEED, WAIT_BEFORE, WRITE, WAIT_AFTER] = [4, 1, 2, 4];
const EIO = -5;

function machineWithDisk(model: string, sysctl: Record<string, number> = {}): { kernel: Kernel; machine: Machine; disk: BlockDevice } {
  const kernel = bootKernel(parseMachineConfig({ memory: '128M', disk: { size: '64M', model }, sysctl }));
  const { store } = kernel.vm.blockFs;
  if (!(store instanceof DiskBlockStore)) throw new Error('no disk');
  return { kernel, machine: createMachine(kernel), disk: store.disk };
}

interface File {
  readonly fd: number;
  readonly buffer: number;
}

function open(os: Os, name: string): File {
  const buffer = os.mmap(0, 65536, PROT_READ | PROT_WRITE, 0x22);
  os.mem.storeCString(buffer, `/home/${name}`);
  return { fd: os.syscall(Syscall.open, buffer, O_CREAT | O_RDWR, 0o600), buffer };
}

function write(os: Os, { fd, buffer }: File, page: number, nrPages: number): void {
  expect(os.syscall(Syscall.pwrite64, fd, buffer, nrPages * 4096, page * 4096)).toBe(nrPages * 4096);
}

/** Dirty pages and pages under writeback, in pages, as `/proc/meminfo` has them. */
function meminfo(os: Os): { dirty: number; writeback: number } {
  const text = os.readFile('/proc/meminfo');
  const pages = (name: string): number => Number(new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(text)![1]) / 4;
  return { dirty: pages('Dirty'), writeback: pages('Writeback') };
}

const residents = (os: Os, at: number, pages: number): number => os.mincore(at, pages * 4096).reduce((sum, byte) => sum + (byte & 1), 0);

test('pages are clean and under writeback until the disk is done, and stay cached; stored to meanwhile they are dirty again', () => {
  const { machine, disk } = machineWithDisk('hdd');
  machine.run((os) => {
    const file = open(os, 'a');
    write(os, file, 0, 8);
    expect(meminfo(os)).toEqual({ dirty: 8, writeback: 0 });
    expect(os.syscall(Syscall.sync_file_range, file.fd, 0, 0, WRITE)).toBe(0);
    expect(meminfo(os)).toEqual({ dirty: 0, writeback: 8 });
    const at = os.mmap(0, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
    // What is on its way is not dropped.
    expect(os.syscall(Syscall.fadvise64, file.fd, 0, 0, FADV_DONTNEED)).toBe(0);
    expect(residents(os, at, 8)).toBe(8);
    os.mem.store8(at + 4096, 7);
    expect(meminfo(os)).toEqual({ dirty: 8, writeback: 8 });
    // The flusher leaves it for later; who syncs waits for both.
    const before = machine.stats().timeNs;
    expect(os.syscall(Syscall.fsync, file.fd)).toBe(0);
    expect(machine.stats().timeNs - before).toBeGreaterThan(1e6);
    expect(meminfo(os)).toEqual({ dirty: 0, writeback: 0 });
    expect(disk.opStats[REQ_OP_WRITE]!.ios).toBe(2);
    os.munmap(at, 8 * 4096);
    expect(os.syscall(Syscall.fadvise64, file.fd, 0, 0, FADV_DONTNEED)).toBe(0);
    const again = os.mmap(0, 8 * 4096, PROT_READ, MAP_SHARED, file.fd, 0);
    expect(residents(os, again, 8)).toBe(0);
    expect([os.mem.load8(again + 4096), os.mem.load8(again)]).toEqual([7, '/'.charCodeAt(0)]);
  });
  machine.validate();
});

test('truncation waits for what is on its way; its blocks are free only then', () => {
  const { kernel, machine } = machineWithDisk('hdd');
  machine.run((os) => {
    const file = open(os, 'a');
    write(os, file, 0, 4);
    os.syscall(Syscall.sync_file_range, file.fd, 0, 0, WRITE);
    const before = machine.stats().timeNs;
    expect(os.syscall(Syscall.ftruncate, file.fd, 4096 + 100)).toBe(0);
    expect(machine.stats().timeNs - before).toBeGreaterThan(1e6);
    expect(meminfo(os).writeback).toBe(0);
  });
  expect(kernel.vm.writeback.bios.size).toBe(0);
  machine.validate();
});

test('time that passes ends it; the flusher goes on when the queue has room again', () => {
  const { machine, disk } = machineWithDisk('ssd', { 'vm.dirty_expire_centisecs': 100, 'vm.dirty_writeback_centisecs': 100 });
  machine.run((os) => {
    const file = open(os, 'a');
    // Every other page: blocks that do not lie side by side, and more of them than the queue holds.
    for (let page = 0; page < 600; page += 2) write(os, file, page, 1);
    for (let page = 1; page < 600; page += 2) write(os, file, page, 1);
    os.syscall(Syscall.fsync, file.fd);
    const { ios } = disk.opStats[REQ_OP_WRITE]!;
    for (let page = 0; page < 600; page += 2) write(os, file, page, 1);
    expect(meminfo(os)).toEqual({ dirty: 300, writeback: 0 });
    const timespec = os.mmap(0, 4096, PROT_READ | PROT_WRITE, 0x22);
    os.mem.store64(timespec, 3n);
    os.syscall(Syscall.nanosleep, timespec, 0);
    expect(meminfo(os)).toEqual({ dirty: 0, writeback: 0 });
    expect(disk.opStats[REQ_OP_WRITE]!.ios).toBeGreaterThan(ios);
  });
  machine.validate();
});

test('who makes pages dirty faster than the disk takes them sleeps; what is dirty stays below the limit', () => {
  const { kernel, machine, disk } = machineWithDisk('hdd', { 'vm.dirty_bytes': 800 * 4096, 'vm.dirty_background_bytes': 200 * 4096 });
  machine.run((os) => {
    const file = open(os, 'a');
    const before = machine.stats().timeNs;
    let most = 0;
    const pages = 8000;
    for (let page = 0; page < pages; page += 8) {
      write(os, file, page, 8);
      const { vm } = kernel;
      most = Math.max(most, vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY) + vm.pages.nodeState(NODE_STAT.NR_WRITEBACK));
    }
    expect(most).toBeLessThanOrEqual(800);
    expect(most).toBeGreaterThan(500);
    const seconds = (machine.stats().timeNs - before) / 1e9;
    const { throttle } = kernel.vm.writeback;
    expect(throttle.pauses).toBeGreaterThan(10);
    // No single sleep is longer than 200 ms, and the disk was busy nearly all the time.
    expect(throttle.pausedNs / throttle.pauses).toBeLessThanOrEqual(2e8);
    const busyMs = disk.diskstats()[9]!;
    expect(busyMs / 1000 / seconds).toBeGreaterThan(0.8);
    expect(pages * 4096 / seconds / disk.model.writeBytesPerSecond).toBeGreaterThan(0.4);
  });
  machine.validate();
});

test('an error is told by the sync that waits for it, and once to each open file', () => {
  const { machine, disk } = machineWithDisk('ssd');
  machine.run((os) => {
    const [first, second] = [open(os, 'a'), open(os, 'a')];
    write(os, first, 0, 4);
    disk.inject({ op: REQ_OP_WRITE });
    expect(os.syscall(Syscall.sync_file_range, first.fd, 0, 0, WRITE)).toBe(0);
    expect(os.syscall(Syscall.sync_file_range, first.fd, 0, 0, WAIT_BEFORE | WAIT_AFTER)).toBe(EIO);
    disk.faults.clear();
    expect(os.syscall(Syscall.fsync, first.fd)).toBe(EIO);
    expect(os.syscall(Syscall.fsync, first.fd)).toBe(0);
    expect(os.syscall(Syscall.fsync, second.fd)).toBe(EIO);
    expect(meminfo(os)).toEqual({ dirty: 0, writeback: 0 });
  });
  machine.validate();
});
