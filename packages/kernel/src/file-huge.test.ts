/** Files on a disk whose folios are as large as a huge page. What is expected was seen on Linux 6.18, of ext4. */
import { MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, O_CREAT, O_RDWR, Syscall } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { boot } from './index.ts';

const PAGE = 4096;
const HUGE = 512 * PAGE;
const RW = 3;

test('a folio that is written at once is shown by one entry, and told of the next store after it was written back', () => {
  const machine = boot({ memory: '1G', cmdline: 'transparent_hugepage=madvise' });
  const { error } = machine.run((os) => {
    const path = os.mmap(0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    const room = os.mmap(0, 8 * HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    // What is written may come from a huge page itself.
    const source = Math.ceil(room / HUGE) * HUGE;
    os.madvise(source, 4 * HUGE, MADV_HUGEPAGE);
    os.mem.fill(source, 4 * HUGE, 7);
    os.mem.storeCString(path, '/home/f');
    const fd = os.syscall(Syscall.open, path, O_CREAT | O_RDWR, 0o600);
    expect(os.syscall(Syscall.write, fd, source, 4 * HUGE)).toBe(4 * HUGE);
    /** In blocks: folios as large, those that entries show, what is dirty; and faults. */
    const state = (): number[] => {
      const meminfo = machine.readFile('/proc/meminfo');
      const blocks = ['FileHugePages', 'FilePmdMapped', 'Dirty'].map((name) => Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(meminfo)![1]) / 2048);
      return [...blocks, os.getrusage().minflt];
    };
    const before = state()[3]!;
    expect(state()).toEqual([4, 0, 4, before]);
    const addr = source + 5 * HUGE;
    os.mmap(addr, 2 * HUGE, 1, MAP_SHARED | MAP_FIXED, fd, 0);
    expect(os.mem.load8(addr + 5)).toBe(7);
    expect(state()).toEqual([4, 1, 4, before + 1]);
    os.syscall(Syscall.fsync, fd);
    expect(state()).toEqual([4, 1, 0, before + 1]);
    os.mmap(addr, 2 * HUGE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
    os.mem.store8(addr, 1);
    os.mem.store8(addr + PAGE, 1);
    expect(state()).toEqual([4, 1, 1, before + 2]);
    machine.validate();
    os.syscall(Syscall.fsync, fd);
    os.mem.store8(addr + 2 * PAGE, 1);
    expect(state()).toEqual([4, 1, 1, before + 3]);
    os.mem.store8(addr + HUGE, 1);
    expect(state()).toEqual([4, 2, 2, before + 4]);
    machine.validate();
    os.syscall(Syscall.ftruncate, fd, HUGE + 5 * PAGE);
    expect(state().slice(0, 2)).toEqual([2, 1]);
    expect(os.mem.load8(addr + HUGE)).toBe(1);
    machine.validate();
  });
  expect(error).toBe(undefined);
  machine.validate();
});
