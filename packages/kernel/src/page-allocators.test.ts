import { describe, expect, it } from 'vitest';
import { MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { pageAllocators } from '@pagelab/mm-core';
import type { PageAllocatorFactory } from '@pagelab/mm-core';
import { boot } from './boot.ts';
import { parseMachineConfig } from './config.ts';

const NAMES = ['buddy', 'llfree', 'first-fit'] as const;
const PAGES = 600;

/** Touches memory, gives half of it back, and lets a child write to what they share. @returns 0 where all was as it should be */
function program(os: Os): number {
  const base = os.mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let i = 0; i < PAGES; i++) os.mem.store32(base + i * 4096, i);
  os.fork((child) => {
    for (let i = 0; i < PAGES; i += 2) child.mem.store32(base + i * 4096, -1);
    return 0;
  });
  os.munmap(base, (PAGES / 2) * 4096);
  for (let i = PAGES / 2; i < PAGES; i++) if (os.mem.load32(base + i * 4096) !== i) return 1;
  return 0;
}

/** Blocks by order, from a line of `/proc/buddyinfo` or `/proc/pagetypeinfo`. */
function pagesOf(line: string): number {
  const counts = (/(?:zone +\w+|type +\w+) +([\d ]+)$/.exec(line)?.[1] ?? '').trim().split(/ +/);
  expect(counts).toHaveLength(11);
  return counts.reduce((pages, count, order) => pages + Number(count) * 2 ** order, 0);
}

describe.each(NAMES)('a machine whose page allocator is %s', (pageAllocator) => {
  it('runs programs', () => {
    const machine = boot({ memory: '128M', cpus: 2, pageAllocator });
    expect(machine.config.pageAllocator).toBe(pageAllocator);
    for (let i = 0; i < 5; i++) {
      expect(machine.run(program)).toMatchObject({ status: 0, signal: null });
      machine.validate();
    }
    expect(machine.dmesg()).not.toContain('WARNING');
  });

  it('shows the blocks that its free pages make', () => {
    const machine = boot({ memory: '1G', pageAllocator });
    machine.run(program);
    const zoneinfo = machine.readFile('/proc/zoneinfo');
    const free = [...zoneinfo.matchAll(/^ +nr_free_pages +(\d+)$/gm)].map(([, pages]) => Number(pages)).filter((pages) => pages > 0);
    const lines = machine.readFile('/proc/buddyinfo').trimEnd().split('\n');
    expect(lines.map(pagesOf)).toEqual(free);
    const byType = machine.readFile('/proc/pagetypeinfo').split('\n').filter((line) => line.includes(', type '));
    expect(byType.reduce((pages, line) => pages + pagesOf(line), 0)).toBe(free.reduce((sum, pages) => sum + pages, 0));
  });

  it('boots however large, and hands out what there is before it kills', () => {
    const large = boot({ memory: '1T', cpus: 2, pageAllocator });
    expect(large.run(program).status).toBe(0);
    expect(large.stats().hostBytes).toBeLessThan(300 * 2 ** 20);
    const small = boot({ memory: '64M', pageAllocator });
    const result = small.run((os) => {
      const base = os.mmap(0, 2 ** 28, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
      for (let page = 0; page < 2 ** 16; page++) os.mem.store8(base + page * 4096, 1);
      return 0;
    });
    expect(result).toMatchObject({ status: null, signal: 9 });
    expect(result.maxRssKb).toBeGreaterThan(16 * 1024);
    small.validate();
    expect(small.run(program).status).toBe(0);
  });
});

it('the configuration takes the allocators that there are', () => {
  expect(Object.keys(pageAllocators)).toEqual(NAMES);
  expect(() => parseMachineConfig({ memory: '1G', pageAllocator: 'slab' })).toThrow('pageAllocator: takes "buddy", "llfree" or "first-fit", not "slab"');
});

describe("a page allocator of one's own", () => {
  it('serves the machine in place of the configured one', () => {
    let zones = 0;
    const mine: PageAllocatorFactory = {
      name: 'mine',
      create: (context) => {
        zones++;
        return pageAllocators.llfree.create(context);
      },
    };
    expect(boot({ memory: '128M' }, { pageAllocator: mine }).run(program).status).toBe(0);
    expect(zones).toBeGreaterThan(1);
  });

  it('is not believed when it lies, and the log says so', () => {
    let answers = 0;
    const liar: PageAllocatorFactory = {
      name: 'liar',
      create: (context) => {
        const honest = pageAllocators.buddy.create(context);
        const alloc = honest.alloc.bind(honest);
        let last = -1;
        // One answer in ten names a block that was handed out before.
        return Object.assign(honest, {
          name: 'liar',
          alloc: (order: number, type: number, flags: number) => {
            if (++answers % 10 === 0 && last >= 0) return last;
            return (last = alloc(order, type, flags));
          },
        });
      },
    };
    const machine = boot({ memory: '128M' }, { pageAllocator: liar });
    for (let i = 0; i < 3; i++) expect(machine.run(program)).toMatchObject({ status: 0 });
    machine.validate();
    const log = machine.dmesg();
    expect(log).toMatch(/WARNING: page allocator liar: node 0, zone DMA32: frame \d+ for order \d+ refused: not (free: it was handed out|aligned)/);
    expect(log.match(/WARNING/g)?.length).toBeLessThanOrEqual(20);
    expect(log).toContain('page allocator liar: zone DMA32: further wrong answers are not reported');
  });
});
