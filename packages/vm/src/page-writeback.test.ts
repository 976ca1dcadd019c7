import { Errno } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { NODE_STAT } from '@pagelab/mm-core';
import { beforeEach, describe, expect, test } from 'vitest';
import type { MemoryBlockStore } from './block-store.ts';
import type { Inode } from './file.ts';
import { KernelBuffer, fileRead, fileSync, fileWrite } from './filemap.ts';
import { allocFile, filePut, inodePut } from './open-file.ts';
import { endWritebacks } from './folio-writeback.ts';
import { flushDirtyPages } from './fs-writeback.ts';
import { dirtyLimits } from './page-writeback.ts';
import { testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const SECOND = 1e9;

let vm: Vm;
let disk: MemoryBlockStore;

beforeEach(() => {
  vm = testVm();
  disk = vm.blockFs.store as MemoryBlockStore;
});

function makeFile(): Inode {
  const inode = vm.blockFs.makeFile(0o644, 0);
  if (typeof inode === 'number') throw new Error('makeFile');
  return inode;
}

function write(inode: Inode, pgoff: number, nrPages: number): void {
  const bytes = new Uint8Array(nrPages * PAGE_SIZE).fill(5);
  expect(fileWrite(vm, inode, pgoff * PAGE_SIZE, bytes.length, new KernelBuffer(bytes))).toBe(bytes.length);
}

const dirty = (): number => vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY);

describe('the flusher', () => {
  test('writes what has been dirty for 30 seconds, not what has been for less', () => {
    const old = makeFile();
    write(old, 0, 3);
    vm.clock.advance(20 * SECOND);
    const young = makeFile();
    write(young, 0, 2);
    expect(flushDirtyPages(vm)).toBe(0);
    vm.clock.advance(10 * SECOND);
    expect(flushDirtyPages(vm)).toBe(3);
    expect([dirty(), disk.writes]).toEqual([2, 3]);
    // A page that is stored to again begins anew.
    write(old, 2, 1);
    vm.clock.advance(20 * SECOND);
    expect(flushDirtyPages(vm)).toBe(2);
    vm.clock.advance(10 * SECOND);
    expect(flushDirtyPages(vm)).toBe(1);
    endWritebacks(vm);
    expect([dirty(), vm.pages.nodeState(NODE_STAT.NR_WRITTEN), vm.pages.nodeState(NODE_STAT.NR_DIRTIED)]).toEqual([0, 6, 6]);
    inodePut(old);
    inodePut(young);
    validateVm(vm);
  });

  test('writes the oldest first while more than the background limit is dirty', () => {
    vm.sysctl.dirtyBytes = 64 * PAGE_SIZE;
    vm.sysctl.dirtyBackgroundBytes = 8 * PAGE_SIZE;
    const files = [makeFile(), makeFile(), makeFile()];
    for (const file of files) {
      write(file, 0, 4);
      vm.clock.advance(1);
    }
    expect(flushDirtyPages(vm)).toBe(4);
    expect(files.map(({ mapping }) => vm.writeback.dirtied.has(mapping.id))).toEqual([false, true, true]);
    for (const file of files) inodePut(file);
    validateVm(vm);
  });

  test('forgets a file that goes', () => {
    const inode = makeFile();
    write(inode, 0, 1);
    inodePut(inode);
    vm.clock.advance(60 * SECOND);
    expect([flushDirtyPages(vm), vm.writeback.dirtied.size]).toEqual([0, 0]);
    validateVm(vm);
  });

  test('an error counts as written; each open file is told of it once', () => {
    const inode = makeFile();
    const open = { readable: true, writable: true };
    const [first, second] = [allocFile(vm, inode, '/a', open)!, allocFile(vm, inode, '/b', open)!];
    write(inode, 0, 2);
    disk.badBlocks.add(inode.blockMap!.get(1));
    vm.clock.advance(30 * SECOND);
    flushDirtyPages(vm);
    expect(dirty()).toBe(0);
    expect([fileSync(first, 0, Infinity), fileSync(first, 0, Infinity), fileSync(second, 0, Infinity)]).toEqual([-Errno.EIO, 0, -Errno.EIO]);
    const later = allocFile(vm, inode, '/c', open)!;
    expect(fileSync(later, 0, Infinity)).toBe(0);
    expect(fileRead(vm, later, 0, 10, new KernelBuffer(new Uint8Array(10)))).toBe(10);
    for (const file of [first, second, later]) filePut(vm, file);
    inodePut(inode);
    validateVm(vm);
  });
});

describe('who writes much', () => {
  test('wakes the flusher beyond the background limit, and waits half way to the limit', () => {
    let woken = 0;
    vm.writeback.wakeFlusher = () => woken++;
    vm.sysctl.dirtyBytes = 300 * PAGE_SIZE;
    vm.sysctl.dirtyBackgroundBytes = 100 * PAGE_SIZE;
    expect(dirtyLimits(vm)).toEqual({ background: 100, limit: 300 });
    const files = Array.from({ length: 12 }, () => {
      const inode = makeFile();
      write(inode, 0, 40);
      expect(dirty()).toBeLessThanOrEqual(200);
      return inode;
    });
    expect(woken).toBeGreaterThan(0);
    expect(disk.writes).toBeGreaterThanOrEqual(12 * 40 - 200);
    for (const file of files) inodePut(file);
    validateVm(vm);
  });

  test('the limits are shares of what files may use; a background limit above the other is half of it', () => {
    const { limit, background } = dirtyLimits(vm);
    expect(limit / background).toBeCloseTo(2, 1);
    expect(limit).toBeLessThan(vm.pages.nrFreePages() / 5 + 1);
    vm.sysctl.dirtyBackgroundRatio = 50;
    expect(dirtyLimits(vm)).toEqual({ limit, background: Math.floor(limit / 2) });
  });
});
