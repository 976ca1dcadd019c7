import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import type { Machine } from './machine.ts';
import { inUse } from './testing/run.ts';

const MIB = 2 ** 20;
const PAGE = 4096;

const areas = (machine: Machine): string[] =>
  machine
    .readFile('/proc/vmallocinfo')
    .split('\n')
    .filter((line) => / pages=\d{3,} vmalloc/.test(line))
    .map((line) => line.replace(/^\S+ +/, ''));

test('vmalloc_huge takes whole large pages, and shows them as such', () => {
  const machine = boot({ memory: '256M', cpus: 2, tlb: 'modelled:skylake' });
  const before = inUse(machine);
  machine.module((k) => {
    const huge = k.vmallocHuge(5 * MIB);
    expect(Number.isInteger(huge / (2 * MIB))).toBe(true);
    // 6 MiB and a guard page; each page is one by itself.
    expect(areas(machine).map((line) => line.split(' ')[0])).toEqual([String(6 * MIB + PAGE)]);
    expect(areas(machine)[0]).toMatch(/ pages=1536 vmalloc vpages N0=1536$/);
    const first = k.vmallocToPage(huge);
    expect(first % 512).toBe(0);
    expect(k.vmallocToPage(huge + 2 * MIB - 1)).toBe(first + 511);
    k.mem.fill(huge, 5 * MIB, 7);
    expect(k.mem.load8(huge + 5 * MIB - 1)).toBe(7);
    expect(() => k.mem.load8(huge + 6 * MIB)).toThrow();
    machine.validate();
    k.vfree(huge);
    // Small pages at the same addresses, once nobody knows the large ones.
    k.vmUnmapAliases();
    const small = Array.from({ length: 8 }, () => k.vmalloc(MIB));
    machine.validate();
    for (const area of small) k.vfree(area);
    // And large ones again, where tables of small ones are.
    k.vmUnmapAliases();
    const again = k.vmallocHuge(4 * MIB);
    machine.validate();
    k.vfree(again);
  });
  expect(inUse(machine)).toEqual(before);
});

test('plain vmalloc, less than a large page, nohugevmalloc and 32 bits have none', () => {
  for (const [config, run] of [
    [{}, 'plain'],
    [{}, 'less'],
    [{ cmdline: 'nohugevmalloc' }, 'huge'],
    [{ arch: 'x86-pae' }, 'huge'],
  ] as const) {
    const machine = boot({ memory: '256M', ...config });
    machine.module((k) => {
      const area = run === 'plain' ? k.vmalloc(5 * MIB) : k.vmallocHuge(run === 'less' ? MIB : 5 * MIB);
      expect(areas(machine)[0]).toContain(` pages=${run === 'less' ? 256 : 1280} vmalloc`);
      k.vfree(area);
    });
    machine.validate();
  }
});

test('where there are no large pages, small ones do', () => {
  const machine = boot({ memory: '64M' });
  machine.module((k) => {
    // Every second page of all memory is taken.
    const taken: number[] = [];
    for (;;) {
      const pfn = k.allocPages(0, 0x2cc0);
      if (pfn < 0) break;
      taken.push(pfn);
    }
    const kept = taken.filter((pfn) => pfn % 2 === 0);
    for (const pfn of taken) if (pfn % 2 !== 0) k.freePages(pfn, 0);
    const area = k.vmallocHuge(5 * MIB);
    expect(area).not.toBe(0);
    expect(areas(machine)[0]).toContain(' pages=1280 vmalloc');
    machine.validate();
    k.vfree(area);
    for (const pfn of kept) k.freePages(pfn, 0);
  });
  machine.validate();
});

test('kvmalloc of more than kmalloc has takes them', () => {
  const machine = boot({ memory: '256M' });
  machine.module((k) => {
    const area = k.kvmalloc(9 * MIB);
    expect(areas(machine)[0]).toContain(' pages=2560 vmalloc');
    k.kvfree(area);
  });
  machine.validate();
});
