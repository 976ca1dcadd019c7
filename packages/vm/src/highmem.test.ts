import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL } from '@pagelab/mm-core';
import { PAGE_SIZE, PF_WRITE, TRANSLATE_FAULT } from '@pagelab/hw';
import { beforeEach, describe, expect, test } from 'vitest';
import { FIXADDR_TOP, KM_MAX_IDX, fixmapStart, pageAddress, pkmapBase } from './highmem.ts';
import type { Highmem } from './highmem.ts';
import type { KernelWarning } from './kernel-warning.ts';
import { testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

let vm: Vm;
let highmem: Highmem;
let warnings: KernelWarning[];

/** A machine whose memory above 64 MiB is high; its CPUs run on the kernel's page tables. */
function start(arch: 'x86-pae' | 'x86-32'): void {
  warnings = [];
  vm = testVm({ arch, warn: (warning) => warnings.push(warning) });
  highmem = vm.highmem!;
  for (const cpu of vm.smp.cpus) cpu.loadCr3(vm.kernelPgd * PAGE_SIZE);
}

const highPage = (): number => vm.pages.allocPage(GFP_HIGHUSER_MOVABLE);
const kinds = (): string[] => warnings.map(({ kind }) => kind);

/** The byte of RAM that the kernel reaches at an address. */
const reach = (address: number): number => vm.smp.current.translate(address, PF_WRITE);

test('on 64 bits every page has its address, and 32-bit low memory has', () => {
  const wide = testVm();
  const pfn = wide.pages.allocPage(GFP_HIGHUSER_MOVABLE);
  expect([wide.highmem, pageAddress(wide, pfn)]).toEqual([null, wide.pages.pageAddress(pfn)]);
  start('x86-pae');
  const low = vm.pages.allocPage(GFP_KERNEL);
  expect([pageAddress(vm, low), highmem.kmap(low), highmem.kmapLocal(low)]).toEqual(Array(3).fill(0xc000_0000 + low * PAGE_SIZE));
  highmem.kunmap(low);
  highmem.kunmapLocal(pageAddress(vm, low));
  expect(kinds()).toEqual([]);
});

describe.each([
  ['x86-pae', 512, 0xff00_0000],
  ['x86-32', 1024, 0xfec0_0000],
] as const)('kmap on %s', (arch, entries, base) => {
  beforeEach(() => {
    start(arch);
  });

  test('gives a page one address, which reaches its frame, and counts who uses it', () => {
    expect([highmem.lastPkmap, pkmapBase(vm.tables)]).toEqual([entries, base]);
    const pfn = highPage();
    expect(pageAddress(vm, pfn)).toBe(0);
    const address = highmem.kmap(pfn);
    // The first address is given out last.
    expect(address).toBe(base + PAGE_SIZE);
    expect(reach(address + 12)).toBe(vm.ram.frameWord(pfn) * 4 + 12);
    expect([highmem.kmap(pfn), pageAddress(vm, pfn), highmem.pkmapCount[1]]).toEqual([address, address, 3]);
    highmem.kunmap(pfn);
    highmem.kunmap(pfn);
    // Nobody uses it, and it stays.
    expect([pageAddress(vm, pfn), highmem.pkmapCount[1]]).toEqual([address, 1]);
    expect(highmem.stats).toMatchObject({ kmaps: 1, kmapsFound: 1, flushes: 0 });
    validateVm(vm);
  });

  test('goes through all addresses before the unused ones are flushed, at once', () => {
    const kept = highPage();
    const keptAt = highmem.kmap(kept);
    const { shootdowns } = vm.smp.stats;
    const pages = Array.from({ length: entries - 2 }, highPage);
    for (const pfn of pages) {
      highmem.kmap(pfn);
      highmem.kunmap(pfn);
    }
    expect([highmem.stats.flushes, vm.smp.stats.shootdowns - shootdowns]).toEqual([0, 0]);
    expect(reach(highmem.kmap(pages[0]))).toBeGreaterThan(0);
    highmem.kunmap(pages[0]);
    const [next, behind] = [highPage(), highPage()];
    expect(highmem.kmap(next)).toBe(base);
    expect([highmem.stats.flushes, highmem.stats.flushed, vm.smp.stats.shootdowns - shootdowns]).toEqual([1, entries - 2, 1]);
    // What is in use is passed over.
    expect(highmem.kmap(behind)).toBe(base + 2 * PAGE_SIZE);
    expect([pageAddress(vm, pages[0]), pageAddress(vm, kept)]).toEqual([0, keptAt]);
    expect(reach(base + 5 * PAGE_SIZE)).toBe(TRANSLATE_FAULT);
    validateVm(vm);
  });

  test('runs out where all are in use, until one is given back', () => {
    const pages = Array.from({ length: entries }, highPage);
    for (const pfn of pages) expect(highmem.kmap(pfn)).not.toBe(0);
    const more = highPage();
    expect(highmem.kmap(more)).toBe(0);
    expect(warnings).toEqual([{ kind: 'kmap-exhausted', address: 0, text: `kmap: all ${entries} addresses are in use; the task sleeps until one is given back` }]);
    highmem.kunmap(pages[7]);
    expect(highmem.kmap(more)).toBe(base + 8 * PAGE_SIZE);
    validateVm(vm);
  });

  test('misuse is reported and changes nothing', () => {
    const pfn = highPage();
    highmem.kunmap(pfn);
    highmem.kmap(pfn);
    highmem.kunmap(pfn);
    highmem.kunmap(pfn);
    expect(kinds()).toEqual(['kunmap-not-mapped', 'kunmap-unbalanced']);
    expect(warnings[1]).toMatchObject({ address: base + PAGE_SIZE, text: `kernel BUG: kunmap() of page ${pfn} once more than kmap()` });
    const atomic = highmem.kmapAtomic(pfn);
    highmem.kmap(pfn);
    expect(kinds().at(-1)).toBe('kmap-in-atomic');
    highmem.kunmapAtomic(atomic);
    highmem.kunmapAtomic(atomic);
    expect(kinds().at(-1)).toBe('kunmap-atomic-unbalanced');
    validateVm(vm);
  });
});

describe('kmap_local', () => {
  beforeEach(() => {
    start('x86-pae');
  });

  test('has slots of its own on each CPU, below the top of the addresses', () => {
    const pfn = highPage();
    const first = highmem.kmapLocal(pfn);
    const second = highmem.kmapLocal(pfn);
    expect([FIXADDR_TOP - first, first - second]).toEqual([68 * PAGE_SIZE, PAGE_SIZE]);
    vm.smp.processorId = 1;
    const other = highmem.kmapLocal(pfn);
    expect(first - other).toBe(KM_MAX_IDX * PAGE_SIZE);
    expect(reach(other)).toBe(vm.ram.frameWord(pfn) * 4);
    expect(other).toBeGreaterThanOrEqual(fixmapStart(2));
    highmem.kunmapLocal(other + 100);
    vm.smp.processorId = 0;
    highmem.kunmapLocal(second);
    highmem.kunmapLocal(first);
    expect(reach(first)).toBe(TRANSLATE_FAULT);
    expect([kinds(), highmem.stats.kmapLocals]).toEqual([[], 3]);
    validateVm(vm);
  });

  test('takes back the last one first; slots run out', () => {
    const pages = Array.from({ length: KM_MAX_IDX + 1 }, highPage);
    const addresses = pages.map((pfn) => highmem.kmapLocal(pfn));
    expect(addresses.at(-1)).toBe(0);
    highmem.kunmapLocal(addresses[0]);
    highmem.kunmapLocal(0x1234_5000);
    expect(kinds()).toEqual(['kmap-local-exhausted', 'kunmap-local-order', 'kunmap-local-address']);
    expect(warnings[1].text).toMatch(/^WARNING: kunmap_local\(\) of fffbb000 on CPU 0, where fffac000 was mapped last$/);
    for (const address of addresses.slice(0, -1).reverse()) highmem.kunmapLocal(address);
    expect(warnings).toHaveLength(3);
    highmem.kunmapLocal(addresses[0]);
    expect(warnings[3].text).toContain('where nothing is mapped');
    validateVm(vm);
  });
});
