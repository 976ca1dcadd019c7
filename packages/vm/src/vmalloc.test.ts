import { PAGE_SIZE } from '@pagelab/hw';
import { GFP_KERNEL } from '@pagelab/mm-core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { testMm, testVm } from './testing/test-machine.ts';
import { KernelFault, KernelMemory, VMALLOC_X86_64, VM_NO_GUARD, validateVm } from './index.ts';
import type { Vm } from './index.ts';

/** Frames and live objects in use. */
function inUse(vm: Vm): unknown {
  vm.vmalloc.purge();
  for (const cache of vm.slab.caches()) cache.shrink();
  vm.pages.drainAllPages();
  const tables = vm.vmalloc.initMm.tables.length;
  return { free: vm.pages.nrFreePages() + tables, objects: [...vm.slab.caches()].map((cache) => [cache.name, cache.activeObjects]) };
}

/** A machine whose kernel page tables have the direct map, as far as the tests look. */
function access(vm: Vm): KernelMemory {
  for (const cpu of vm.smp.cpus) cpu.loadCr3(vm.kernelPgd * PAGE_SIZE);
  return new KernelMemory(vm.ram, vm.smp);
}

test('areas follow one another from the lowest address, a guard page apart', () => {
  const vm = testVm();
  const { vmalloc } = vm;
  const a = vmalloc.vmalloc(1);
  const b = vmalloc.vmalloc(3 * PAGE_SIZE + 1);
  const c = vmalloc.vmallocNodeRange(PAGE_SIZE, { flags: VM_NO_GUARD });
  const d = vmalloc.vmallocNodeRange(PAGE_SIZE, { align: 2 ** 16 });
  expect(a).toBe(VMALLOC_X86_64.start);
  expect([b, c, d].map((at) => (at - a) / PAGE_SIZE)).toEqual([2, 7, 16]);
  expect(vmalloc.nrPages).toBe(1 + 4 + 1 + 1);
  expect(vmalloc.findVmArea(b)).toMatchObject({ addr: b, size: 5 * PAGE_SIZE, requested: 3 * PAGE_SIZE + 1 });
  validateVm(vm);
});

test('memory is read and written through the page tables of any address space; a guard page faults', () => {
  const vm = testVm();
  const before = testMm(vm);
  const at = vm.vmalloc.vzalloc(2 * PAGE_SIZE);
  const after = testMm(vm);
  for (const mm of [before, after]) {
    const mem = access(vm);
    vm.smp.current.loadCr3(mm.pgd * PAGE_SIZE);
    mem.store32(at + PAGE_SIZE - 2, 0xdead_beef + mm.id);
    expect(mem.load32(at + PAGE_SIZE - 2)).toBe(0xdead_beef + mm.id);
    expect(vm.ram.load8(vm.vmalloc.vmallocToPfn(at + PAGE_SIZE) * PAGE_SIZE + 1)).toBe(0xde);
    expect(() => mem.load8(at + 2 * PAGE_SIZE)).toThrow(KernelFault);
    // Nothing is stored where one of two pages is not there.
    expect(() => mem.store32(at + 2 * PAGE_SIZE - 2, 1)).toThrow(expect.objectContaining({ address: at + 2 * PAGE_SIZE + 1, errorCode: 2 }));
    expect(mem.load16(at + 2 * PAGE_SIZE - 2)).toBe(0);
  }
  validateVm(vm);
});

test('frames come back at once, addresses after one flush for all of them', () => {
  const vm = testVm({ cpus: 4 });
  const { vmalloc } = vm;
  vmalloc.vfree(vmalloc.vmalloc(PAGE_SIZE));
  vmalloc.purge();
  const free = inUse(vm);
  const first = vmalloc.vmalloc(PAGE_SIZE);
  const mem = access(vm);
  mem.store8(first, 1);
  vmalloc.vfree(first);
  expect(vmalloc.nrPages).toBe(0);
  expect(() => mem.load8(first)).toThrow(KernelFault);
  const second = vmalloc.vmalloc(PAGE_SIZE);
  expect(second).toBe(first + 2 * PAGE_SIZE);
  vmalloc.vfree(second);
  const { shootdowns, ipis } = vm.smp.stats;
  expect(vmalloc.purge()).toBe(2);
  expect([vm.smp.stats.shootdowns - shootdowns, vm.smp.stats.ipis - ipis]).toEqual([1, 3]);
  expect(vmalloc.vmalloc(PAGE_SIZE)).toBe(first);
  vmalloc.vfree(first);
  expect(inUse(vm)).toEqual(free);
});

test('freed areas are purged by themselves when there is 32 MiB of them for each doubling of the CPUs', () => {
  const vm = testVm({ cpus: 4 });
  const { vmalloc } = vm;
  expect(vmalloc.lazyMaxPages).toBe(3 * 8192);
  const size = 511 * PAGE_SIZE;
  for (let i = 0; i < 48; i++) vmalloc.vfree(vmalloc.vmalloc(size));
  expect(vmalloc.stats.purges).toBe(0);
  vmalloc.vfree(vmalloc.vmalloc(PAGE_SIZE));
  expect([vmalloc.stats.purges, vmalloc.stats.purgedAreas, vmalloc.space.lazyPages]).toEqual([1, 49, 0]);
  validateVm(vm);
});

test('a range that is full is purged before an allocation in it fails', () => {
  const warnings: string[] = [];
  const vm = testVm({ warn: ({ text }) => warnings.push(text) });
  const { vmalloc } = vm;
  const { start } = vmalloc.layout;
  const request = { start: start + 2 ** 30, end: start + 2 ** 30 + 8 * PAGE_SIZE };
  const areas = [1, 2, 3, 4].map(() => vmalloc.vmallocNodeRange(PAGE_SIZE, request));
  expect(areas).not.toContain(0);
  expect(vmalloc.vmallocNodeRange(PAGE_SIZE, request)).toBe(0);
  expect(warnings).toEqual([
    'vmalloc_node_range for size 8192 failed: Address range restricted to 0xffffc90040000000 - 0xffffc90040008000',
  ]);
  vmalloc.vfree(areas[1]);
  vmalloc.vfree(areas[2]);
  expect(vmalloc.vmallocNodeRange(3 * PAGE_SIZE, request)).toBe(areas[1]);
  validateVm(vm);
});

test('vmap shows frames twice, and leaves them to their owner', () => {
  const vm = testVm();
  const mem = access(vm);
  const frames = [0, 1, 2].map(() => vm.pages.allocPage(GFP_KERNEL));
  const straight = vm.vmalloc.vmap(frames);
  const reversed = vm.vmalloc.vmMapRam([...frames].reverse());
  mem.store32(straight, 7);
  expect(mem.load32(reversed + 2 * PAGE_SIZE)).toBe(7);
  vm.vmalloc.vunmap(straight);
  vm.vmalloc.vmUnmapRam(reversed);
  expect(frames.map((pfn) => vm.pages.pageCount(pfn))).toEqual([1, 1, 1]);
  validateVm(vm);
});

test('misuse is reported, and the kernel goes on', () => {
  const kinds: string[] = [];
  const vm = testVm({ warn: ({ kind }) => kinds.push(kind) });
  const at = vm.vmalloc.vmalloc(2 * PAGE_SIZE);
  vm.vmalloc.vfree(at + 1);
  vm.vmalloc.vfree(at + PAGE_SIZE);
  vm.vmalloc.vfree(at);
  vm.vmalloc.vfree(at);
  vm.vmalloc.vunmap(at);
  vm.vmalloc.vmUnmapRam(at);
  expect(vm.vmalloc.vmalloc(2 ** 40)).toBe(0);
  expect(kinds).toEqual([
    'vfree-bad-address',
    'vfree-nonexistent',
    'vfree-nonexistent',
    'vunmap-nonexistent',
    'vunmap-nonexistent',
    'vmalloc-failed',
  ]);
  validateVm(vm);
});

test('a failure at any allocation inside vmalloc leaves nothing behind', () => {
  const run = (point: number): number => {
    const vm = testVm({ memoryBytes: 64 * 2 ** 20, warn: () => undefined });
    const before = inUse(vm);
    let asked = 0;
    const failing = (failure: number, allocate: () => number): number => (++asked === point ? failure : allocate());
    const allocPage = vm.pages.allocPage.bind(vm.pages);
    vm.pages.allocPage = (gfp) => failing(-12, () => allocPage(gfp));
    for (const cache of vm.slab.caches()) {
      const alloc = cache.alloc.bind(cache);
      cache.alloc = (gfp) => failing(0, () => alloc(gfp));
    }
    // Its array of pages is an area of its own.
    const at = vm.vmalloc.vmalloc(600 * PAGE_SIZE);
    // A slab allocator that gets no large slab takes a small one: only a page of the area's own cannot be replaced.
    if (point === Infinity) expect(at).not.toBe(0);
    validateVm(vm);
    vm.vmalloc.vfree(at);
    expect(inUse(vm)).toEqual(before);
    return asked;
  };
  const total = run(Infinity);
  expect(total).toBeGreaterThan(606);
  for (let point = 1; point <= total; point += point < 14 ? 1 : 131) run(point);
});

test('random areas never overlap, keep their contents, and all come back', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(5), fc.integer({ min: 1, max: 9 }), fc.nat(3)), { maxLength: 60 }), (steps) => {
      const vm = testVm({ memoryBytes: 64 * 2 ** 20 });
      const mem = access(vm);
      const before = inUse(vm);
      const live: { at: number; pages: number; mark: number }[] = [];
      for (const [what, pages, log] of steps) {
        if (what < 3) {
          const at = vm.vmalloc.vmallocNodeRange(pages * PAGE_SIZE, { align: PAGE_SIZE << log });
          expect(Math.abs(at % (PAGE_SIZE << log))).toBe(0);
          for (let i = 0; i < pages; i++) mem.store32(at + i * PAGE_SIZE, at % 2 ** 32);
          live.push({ at, pages, mark: at % 2 ** 32 });
        } else if (what < 5 && live.length > 0) {
          const [gone] = live.splice(pages % live.length, 1);
          for (let i = 0; i < gone.pages; i++) expect(mem.load32(gone.at + i * PAGE_SIZE) | 0).toBe(gone.mark | 0);
          vm.vmalloc.vfree(gone.at);
        } else {
          vm.vmalloc.purge();
        }
        vm.vmalloc.validate();
      }
      for (const { at } of live) vm.vmalloc.vfree(at);
      expect(inUse(vm)).toEqual(before);
    }),
    { numRuns: 15, verbose: true },
  );
});
