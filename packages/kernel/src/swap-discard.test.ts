/** SWAP_FLAG_DISCARD: what a swap device is told of pages that hold nothing of use any more. */
import { MADV_PAGEOUT, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import { MemorySwapDevice, SWAP_FLAG_DISCARD, SWAP_FLAG_DISCARD_ONCE, SWAP_FLAG_DISCARD_PAGES } from '@pagelab/vm';
import { expect, it } from 'vitest';
import { boot } from './boot.ts';

const AREA_PAGES = 4096;
const CLUSTER = 512;

/** What the device was told after each step: at swapon, when 1024 swapped pages were freed. */
function told(flags: number): { atSwapon: string[]; afterwards: string[] } {
  const discards: string[] = [];
  const machine = boot({ memory: '64M' }, {
    swapDevices: [{
      name: 'told',
      create: (ram) => {
        const device = new MemorySwapDevice(ram, AREA_PAGES);
        return {
          nrPages: AREA_PAGES,
          solidState: true,
          read: (page, pfn) => device.read(page, pfn),
          write: (page, pfn) => device.write(page, pfn),
          discard: (page, nrPages) => {
            discards.push(`${page}+${nrPages}`);
            device.discard(page, nrPages);
          },
        };
      },
    }],
  });
  const { os } = machine.createProcess();
  const path = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  os.mem.storeCString(path, '/dev/told');
  expect(os.syscall(Syscall.swapoff, path)).toBe(0);
  expect(discards).toEqual([]);
  expect(os.syscall(Syscall.swapon, path, flags)).toBe(0);
  const atSwapon = discards.splice(0);
  const bytes = 2 * CLUSTER * PAGE_SIZE;
  const start = os.mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let at = 0; at < bytes; at += PAGE_SIZE) os.mem.store32(start + at, at + 1);
  os.madvise(start, bytes, MADV_PAGEOUT);
  expect(discards).toEqual([]);
  os.munmap(start, bytes);
  machine.validate();
  return { atSwapon, afterwards: discards };
}

it('tells of the whole area at swapon, of clusters as they come free, of both, or of nothing', () => {
  const whole = [`1+${AREA_PAGES - 1}`];
  expect(told(0)).toEqual({ atSwapon: [], afterwards: [] });
  const both = told(SWAP_FLAG_DISCARD);
  expect(both.atSwapon).toEqual(whole);
  expect(both.afterwards.every((range) => range.endsWith(`+${CLUSTER}`))).toBe(true);
  expect(both.afterwards.length).toBeGreaterThanOrEqual(1);
  expect(told(SWAP_FLAG_DISCARD | SWAP_FLAG_DISCARD_ONCE)).toEqual({ atSwapon: whole, afterwards: [] });
  const pages = told(SWAP_FLAG_DISCARD | SWAP_FLAG_DISCARD_PAGES);
  expect(pages).toEqual({ atSwapon: [], afterwards: both.afterwards });
  // Without the first flag the others say nothing.
  expect(told(SWAP_FLAG_DISCARD_ONCE)).toEqual({ atSwapon: [], afterwards: [] });
});
