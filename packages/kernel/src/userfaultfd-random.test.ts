/** Write protection by userfaultfd under everything that happens to pages: what is told is what was stored to, no more and no less. */
import {
  MADV_COLLAPSE, MADV_DONTNEED, MADV_PAGEOUT, MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, O_CREAT, O_NONBLOCK, O_RDWR, PAGEMAP_SCAN, PAGE_IS_WRITTEN, PAGE_SIZE, PM_SCAN_ARG_BYTES,
  PM_SCAN_WP_MATCHING, PROT_READ, PROT_WRITE, Syscall, UFFDIO_API, UFFDIO_REGISTER, UFFDIO_REGISTER_MODE_WP, UFFD_API, UFFD_FEATURE_WP_ASYNC, isError,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import { boot } from './boot.ts';

const HUGE = 2 ** 21;
const RW = PROT_READ | PROT_WRITE;
const MAX_REGIONS = 600;

interface Watched {
  readonly start: number;
  readonly pages: number;
  /** Pages that are told of together. */
  readonly unit: number;
  readonly isAnon: boolean;
  /** What a scan has to find: units stored to, or that nobody can say. */
  readonly written: Set<number>;
  /** What each page holds in its first byte. */
  readonly contents: number[];
}

class Watcher {
  private readonly os: Os;
  private readonly scratch: number;
  private readonly vec: number;
  private readonly pagemap: number;
  readonly uffd: number;

  constructor(os: Os) {
    this.os = os;
    this.scratch = os.mmap(0, 8 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    this.vec = this.scratch + PAGE_SIZE;
    os.mem.fill(this.scratch, 8 * PAGE_SIZE, 0);
    this.uffd = os.userfaultfd(O_NONBLOCK);
    expect(this.request(this.uffd, UFFDIO_API, UFFD_API, UFFD_FEATURE_WP_ASYNC, 0)).toBe(0);
    os.mem.storeCString(this.scratch, '/proc/self/pagemap');
    this.pagemap = os.syscall(Syscall.open, this.scratch, 0, 0);
  }

  request(fd: number, number: number, ...words: number[]): number {
    words.forEach((word, i) => this.os.mem.storeAddress(this.scratch + i * 8, word));
    return this.os.syscall(Syscall.ioctl, fd, number, this.scratch);
  }

  register(region: Watched): void {
    expect(this.request(this.uffd, UFFDIO_REGISTER, region.start, region.pages * PAGE_SIZE, UFFDIO_REGISTER_MODE_WP, 0)).toBe(0);
  }

  /** Units that were stored to, which are protected again. */
  scan({ pages, start, unit }: Watched): number[] {
    const { mem } = this.os;
    const count = this.request(this.pagemap, PAGEMAP_SCAN, PM_SCAN_ARG_BYTES, PM_SCAN_WP_MATCHING, start, start + pages * PAGE_SIZE, 0, this.vec, MAX_REGIONS, 0, 0, PAGE_IS_WRITTEN, 0, PAGE_IS_WRITTEN);
    expect(count).toBeGreaterThanOrEqual(0);
    const found: number[] = [];
    for (let i = 0; i < count; i++) {
      const [from, to] = [0, 8].map((at) => (mem.loadAddress(this.vec + i * 24 + at) - start) / PAGE_SIZE) as [number, number];
      for (let page = from; page < to; page += unit) found.push(page / unit);
    }
    return found;
  }
}

describe.each([1, 2, 3])('stores that are noted, seed %i', (seed) => {
  it('tells of each, once', () => {
    const machine = boot({ memory: '1G', cpus: 2, cmdline: 'transparent_hugepage=madvise', swap: [{ size: '64M' }] });
    machine.writeFile('/proc/sys/vm/nr_hugepages', '8');
    const process = machine.createProcess();
    const { os } = process;
    const prng = new Prng(seed);
    const watcher = new Watcher(os);
    const name = os.sbrk(PAGE_SIZE);
    os.mem.storeCString(name, '/data');
    const fd = os.syscall(Syscall.open, name, O_RDWR | O_CREAT, 0o600);
    os.syscall(Syscall.ftruncate, fd, 24 * PAGE_SIZE);
    const huge = Math.ceil(os.mmap(0, 3 * HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS) / HUGE) * HUGE;
    os.madvise(huge, 2 * HUGE, 14);
    const make = (start: number, pages: number, isAnon: boolean, unit = 1): Watched => ({ start, pages, isAnon, unit, written: new Set(), contents: new Array<number>(pages).fill(0) });
    const regions = [
      make(os.mmap(0, 24 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS), 24, true),
      make(os.mmap(0, 24 * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS), 24, false),
      make(os.mmap(0, 24 * PAGE_SIZE, RW, MAP_SHARED, fd), 24, false),
      make(huge, 1024, true),
      make(os.mmap(0, 2 * HUGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB), 1024, false, 512),
    ];
    for (const region of regions) {
      watcher.register(region);
      watcher.scan(region);
      // A huge page of the pool without a table cannot be told from one that was not stored to: each has a marker now.
      watcher.request(watcher.uffd, 0xc018_aa06, region.start, region.pages * PAGE_SIZE, 1);
    }
    machine.validate();
    for (let turn = 0; turn < 250; turn++) {
      const region = regions[prng.below(regions.length)]!;
      const page = prng.below(region.pages);
      const address = region.start + page * PAGE_SIZE;
      const unit = Math.floor(page / region.unit);
      switch (prng.below(10)) {
        case 0:
          expect(watcher.scan(region).sort((a, b) => a - b), `turn ${turn}`).toEqual([...region.written].sort((a, b) => a - b));
          region.written.clear();
          break;
        case 1:
          os.syscall(Syscall.madvise, address, Math.min(4, region.pages - page) * PAGE_SIZE, MADV_PAGEOUT);
          break;
        case 2: {
          if (region.unit > 1) break;
          // What is given up of private memory is gone, with its protection; a file has it still.
          const count = Math.min(1 + prng.below(3), region.pages - page);
          expect(isError(os.syscall(Syscall.madvise, address, count * PAGE_SIZE, MADV_DONTNEED))).toBe(false);
          for (let i = page; i < page + count && region.isAnon; i++) {
            region.contents[i] = 0;
            region.written.add(i);
          }
          break;
        }
        case 3: {
          const whole = region.unit > 1 ? region.start : address;
          const length = region.unit > 1 ? region.pages * PAGE_SIZE : PAGE_SIZE;
          os.mprotect(whole, length, PROT_READ);
          os.mprotect(whole, length, RW);
          break;
        }
        case 4: {
          const child = process.fork();
          if (typeof child === 'number') break;
          expect(child.os.mem.load8(address)).toBe(region.contents[page]);
          child.os.mem.store8(address, region.contents[page]!);
          if (!region.isAnon && region.unit === 1) expect(os.mem.load8(address)).toBe(region.contents[page]);
          child.exit(0);
          break;
        }
        case 5:
          os.syscall(Syscall.madvise, huge, 2 * HUGE, MADV_COLLAPSE);
          break;
        case 6:
          expect(os.mem.load8(address)).toBe(region.contents[page]);
          break;
        default: {
          const value = 1 + prng.below(250);
          os.mem.store8(address, value);
          region.contents[page] = value;
          region.written.add(unit);
        }
      }
      if (turn % 5 === 0) machine.validate();
    }
    os.syscall(Syscall.close, watcher.uffd);
    for (const { contents, start } of regions) contents.forEach((value, i) => expect(os.mem.load8(start + i * PAGE_SIZE)).toBe(value));
    machine.validate();
    process.exit(0);
    machine.validate();
  });
});
