/** Memory errors at random places of programs that share, fork, map files and swap: what was not lost is what it was. */
import { MADV_COLLAPSE, MADV_HWPOISON, MADV_PAGEOUT, MADV_SOFT_OFFLINE, MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, O_CREAT, O_RDWR, PAGE_SIZE, SIGBUS, Syscall, isError } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import { boot } from './boot.ts';
import type { Process } from './machine.ts';

const PAGES = 32;
const RW = 3;

class Lost extends Error {}

describe.each([
  ['x86-64', 1],
  ['x86-64', 2],
  ['x86-pae', 3],
  ['x86-32', 4],
] as const)('memory that breaks on %s, seed %i', (arch, seed) => {
  const HUGE = arch === 'x86-32' ? 2 ** 22 : 2 ** 21;

  it('loses what broke and nothing else', () => {
    const machine = boot({ arch, memory: '1G', cpus: 2, cmdline: 'transparent_hugepage=madvise', swap: [{ size: '32M' }] });
    machine.writeFile('/proc/sys/vm/nr_hugepages', '6');
    const prng = new Prng(seed);
    const processes: Process[] = [machine.createProcess()];
    const { os } = processes[0]!;
    const watch = (process: Process): void => {
      process.os.sigaction(SIGBUS, () => {
        throw new Lost();
      });
    };
    watch(processes[0]!);
    const text = os.mmap(0, PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    os.mem.storeCString(text, '/data');
    const fd = os.syscall(Syscall.open, text, O_RDWR | O_CREAT, 0o600);
    const shm = os.syscall(Syscall.memfd_create, text, 0);
    for (const each of [fd, shm]) os.syscall(Syscall.ftruncate, each, PAGES * PAGE_SIZE);
    const huge = os.mmap(0, 4 * HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    os.madvise(huge, 4 * HUGE, 14);
    const regions = [
      { start: os.mmap(0, PAGES * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS), step: 1, isShared: false },
      { start: os.mmap(0, PAGES * PAGE_SIZE, RW, MAP_SHARED, shm), step: 1, isShared: true },
      { start: os.mmap(0, PAGES * PAGE_SIZE, RW, MAP_SHARED, fd), step: 1, isShared: true },
      { start: os.mmap(0, PAGES * PAGE_SIZE, RW, MAP_PRIVATE, fd), step: 1, isShared: false },
      { start: Math.ceil(huge / HUGE) * HUGE, step: 48, isShared: false },
      { start: os.mmap(0, 3 * HUGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB), step: 48, isShared: true },
    ];
    for (let turn = 0; turn < 120; turn++) {
      const process = processes[prng.below(processes.length)]!;
      const region = regions[prng.below(regions.length)]!;
      const page = prng.below(PAGES);
      const address = region.start + page * region.step * PAGE_SIZE;
      const call = (advice: number, length = PAGE_SIZE): number => process.os.syscall(Syscall.madvise, address, length, advice);
      try {
        switch (prng.below(9)) {
          case 0:
            call(MADV_HWPOISON);
            break;
          case 1:
            call(MADV_SOFT_OFFLINE);
            break;
          case 2:
            call(MADV_PAGEOUT);
            break;
          case 3:
            if (processes.length < 4) {
              const child = process.fork();
              if (typeof child !== 'number') {
                processes.push(child);
                watch(child);
              }
            } else {
              processes.pop()!.exit(0);
            }
            break;
          case 4:
            if (region.step > 1) call(MADV_COLLAPSE, HUGE);
            else process.os.syscall(Syscall.fsync, fd);
            break;
          default: {
            const value = 1 + prng.below(200);
            process.os.mem.store8(address, value);
            expect(process.os.mem.load8(address)).toBe(value);
            if (region.isShared) for (const other of processes) expect(other.os.mem.load8(address)).toBe(value);
          }
        }
      } catch (error) {
        if (!(error instanceof Lost)) throw error;
        // What is lost is mapped anew where it can be, or given up.
        const length = region.step > 1 && region.isShared ? HUGE : PAGE_SIZE;
        const from = Math.floor(address / length) * length;
        if (!region.isShared) for (const each of processes) expect(isError(each.os.syscall(Syscall.madvise, from, length, 4))).toBe(false);
      }
      machine.validate();
    }
    for (const process of processes.reverse()) process.exit(0);
    machine.validate();
  });
});
