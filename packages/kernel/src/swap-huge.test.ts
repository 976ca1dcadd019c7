import { MADV_HUGEPAGE, MADV_PAGEOUT, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os, Program } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { MemorySwapDevice, enableSwapArea } from '@pagelab/vm';
import { describe, expect, it } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { createMachine } from './machine.ts';
import type { Machine } from './machine.ts';
import { inUse, runChecked } from './testing/run.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const HUGE = 2 * MIB;
const PARTS = HUGE / PAGE;
/** A huge page in the cache is mapped whole since 6.11. */
const KERNELS = ['6.18', '6.12', '6.1'] as const;
const RW = PROT_READ | PROT_WRITE;

function bench(config: object = {}) {
  const kernel = bootKernel(parseMachineConfig({ memory: '96M', cpus: 1, seed: 1, swap: [{ size: '64M' }], ...config }));
  const machine = createMachine(kernel);
  // So little memory has no huge pages unless they are asked for.
  machine.writeFile('/sys/kernel/mm/transparent_hugepage/enabled', 'madvise');
  return { kernel, machine };
}

const vmstat = (machine: Machine, name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(machine.readFile('/proc/vmstat'))![1]);

/** Memory for `count` huge pages, with a number in each small page. */
function hugeMemory(os: Os, count: number): number {
  const raw = os.mmap(0, (count + 1) * HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  const at = Math.ceil(raw / HUGE) * HUGE;
  os.madvise(at, count * HUGE, MADV_HUGEPAGE);
  for (let page = 0; page < count * PARTS; page++) os.mem.store32(at + page * PAGE, page + 1);
  return at;
}

/** Pages that do not hold what {@link hugeMemory} stored. */
function wrong(os: Os, at: number, nrPages: number): number {
  let found = 0;
  for (let page = 0; page < nrPages; page++) if (os.mem.load32(at + page * PAGE) !== page + 1) found++;
  return found;
}

describe('a huge page that goes to swap', () => {
  it('goes as it is, into slots that lie together, and comes back page by page', () => {
    const { kernel, machine } = bench();
    const before = inUse(machine);
    const program: Program = (os) => {
      const at = hugeMemory(os, 2);
      os.madvise(at, 2 * HUGE, MADV_PAGEOUT);
      machine.validate();
      expect(vmstat(machine, 'thp_swpout')).toBe(2);
      expect(vmstat(machine, 'pswpout')).toBe(2 * PARTS);
      expect(vmstat(machine, 'thp_split_pmd')).toBe(2);
      expect([vmstat(machine, 'thp_split_page'), vmstat(machine, 'thp_swpout_fallback'), vmstat(machine, 'thp_deferred_split_page')]).toEqual([0, 0, 0]);
      expect(os.readFile('/proc/self/status')).toMatch(/VmSwap:\s+4096 kB/);
      return wrong(os, at, 2 * PARTS);
    };
    expect(runChecked(machine, program).status).toBe(0);
    expect(kernel.vm.swap.nrFree).toBe(kernel.vm.totalSwapPages);
    expect(inUse(machine)).toEqual(before);
  });

  it('is split where there is no cluster of slots: in a file, in an area too small, or with tables of 32 bits', () => {
    const small = { swap: [{ size: '1500K' }, { size: '1500K' }] };
    for (const config of [{ swap: [] }, small, { arch: 'x86-pae' }]) {
      const { kernel, machine } = bench(config);
      const { vm } = kernel;
      const device = new MemorySwapDevice(kernel.ram, 4096);
      if (vm.swap.areas.length === 0) enableSwapArea(vm, device, { path: '/swap', kind: 'file', inode: null, max: 4096, badPages: [] }, 0);
      const program: Program = (os) => {
        const at = hugeMemory(os, 1);
        os.madvise(at, HUGE, MADV_PAGEOUT);
        machine.validate();
        expect([vmstat(machine, 'thp_swpout'), vmstat(machine, 'thp_swpout_fallback'), vmstat(machine, 'thp_split_page')]).toEqual([0, 1, 1]);
        return wrong(os, at, PARTS);
      };
      expect(runChecked(machine, program).status).toBe(0);
    }
  });

  it('is split first where parts of it are gone', () => {
    const { machine } = bench();
    const program: Program = (os) => {
      const at = hugeMemory(os, 1);
      os.munmap(at + 100 * PAGE, 50 * PAGE);
      os.madvise(at, 100 * PAGE, MADV_PAGEOUT);
      machine.validate();
      expect([vmstat(machine, 'thp_swpout'), vmstat(machine, 'thp_swpout_fallback')]).toEqual([0, 0]);
      return wrong(os, at, 100);
    };
    expect(runChecked(machine, program).status).toBe(0);
  });

  it('comes back whole where it is still in the swap cache, and goes out again with what was stored since', () => {
    const { kernel, machine } = bench();
    const program: Program = (os) => {
      const at = hugeMemory(os, 1);
      // Writing fails: it stays in the cache, unmapped.
      const { device } = kernel.vm.swap.areas[0]!;
      const write = device.write.bind(device);
      device.write = () => -5;
      os.madvise(at, HUGE, MADV_PAGEOUT);
      device.write = write;
      machine.validate();
      expect(machine.readFile('/proc/meminfo')).toMatch(/SwapCached:\s+2048 kB/);
      const faults = os.getrusage().minflt;
      os.mem.store32(at + 7 * PAGE, 77);
      machine.validate();
      expect(os.mem.load32(at + 300 * PAGE)).toBe(301);
      expect(os.getrusage().minflt).toBe(faults + 1);
      os.mem.store32(at + 7 * PAGE, 78);
      os.madvise(at, HUGE, MADV_PAGEOUT);
      machine.validate();
      expect(os.mem.load32(at + 7 * PAGE)).toBe(78);
      os.mem.store32(at + 7 * PAGE, 8);
      return wrong(os, at, PARTS);
    };
    expect(runChecked(machine, program).status).toBe(0);
    expect(kernel.vm.swap.nrFree).toBe(kernel.vm.totalSwapPages);
  });

  it('keeps what it holds, whatever is done to its parts and copies meanwhile', () => {
    for (const seed of [1, 2, 3]) {
      const { kernel, machine } = bench({ memory: '64M', kernel: KERNELS[seed % 3], swap: [{ size: '48M' }, { size: '32M', priority: 3 }] });
      machine.writeFile('/proc/sys/vm/drop_caches', '2');
      const before = inUse(machine);
      const prng = new Prng(seed);
      const program: Program = (os) => {
        const count = 22;
        const at = hugeMemory(os, count);
        const expected = Array.from({ length: count * PARTS }, (_, page) => page + 1);
        for (let step = 0; step < 120; step++) {
          const page = prng.below(count * PARTS);
          const length = 1 + prng.below(Math.min(700, count * PARTS - page));
          switch (prng.below(6)) {
            case 0:
              if (prng.below(2) === 0) os.madvise(at + page * PAGE, length * PAGE, MADV_PAGEOUT);
              else os.madvise(at + Math.floor(page / PARTS) * HUGE, HUGE, MADV_PAGEOUT);
              break;
            case 1:
              os.mmap(at + page * PAGE, length * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
              os.madvise(at + page * PAGE, length * PAGE, MADV_HUGEPAGE);
              expected.fill(0, page, page + length);
              break;
            case 2:
              for (let i = 0; i < length; i++) {
                os.mem.store32(at + (page + i) * PAGE, step);
                expected[page + i] = step;
              }
              break;
            case 3: {
              const child = os.fork((each) => {
                each.madvise(at + page * PAGE, length * PAGE, MADV_PAGEOUT);
                for (let i = 0; i < length; i += 3) each.mem.store32(at + (page + i) * PAGE, 99_999);
                return each.mem.load32(at + page * PAGE) === 99_999 ? 0 : 1;
              });
              if (os.waitpid(child)!.status !== 0) return 2;
              break;
            }
            default:
              for (let i = 0; i < length; i += 5) if (os.mem.load32(at + (page + i) * PAGE) !== expected[page + i]) return 3;
          }
          if (step % 15 === 0) machine.validate();
        }
        for (let page = 0; page < count * PARTS; page++) if (os.mem.load32(at + page * PAGE) !== expected[page]) return 4;
        return 0;
      };
      expect([seed, runChecked(machine, program).status]).toEqual([seed, 0]);
      expect(vmstat(machine, 'thp_swpout')).toBeGreaterThan(3);
      expect(kernel.vm.swap.nrFree).toBe(kernel.vm.totalSwapPages);
      // The huge page of zeros goes when memory is wanted.
      machine.writeFile('/proc/sys/vm/drop_caches', '2');
      expect(inUse(machine)).toEqual(before);
    }
  });
});
