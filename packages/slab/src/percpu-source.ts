/**
 * Per-CPU memory for those who need it before, or without, a kernel that has it.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { PhysicalMemory } from '@pagelab/hw';
import { PAGE_SIZE } from '@pagelab/hw';
import { GFP_KERNEL, __GFP_ZERO } from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';
import { getOrder } from './geometry.ts';
import { Percpu } from './percpu.ts';
import type { PercpuPtr } from './percpu.ts';
import type { Slab } from './slab.ts';

/** Per-CPU memory as an allocator uses it. {@link Percpu} is one, with a translation of its addresses. */
export interface PercpuSource {
  /** @returns a pointer, or 0 @linux mm/percpu.c:__alloc_percpu */
  alloc(bytes: number, align: number, gfp: number): PercpuPtr;
  free(pointer: PercpuPtr): void;
  ptr(pointer: PercpuPtr, cpu: number): VirtAddr;
  /** The physical address behind one of its addresses. */
  physAddr(address: VirtAddr): number;
}

/** Bytes of a unit of {@link percpuOfPages}. */
const UNIT_BYTES = 256 * 1024;

/** Per-CPU memory whose chunks are blocks of the page allocator: for a slab layer without the layers above it. */
export function percpuOfPages(parts: { readonly pages: PageAlloc; readonly ram: PhysicalMemory; readonly slab: Slab; readonly nrCpus: number }): PercpuSource {
  const { pages, ram, slab, nrCpus } = parts;
  const orders = new Map<VirtAddr, number>();
  const block = (bytes: number): VirtAddr => {
    const order = getOrder(bytes);
    const pfn = pages.allocPages(GFP_KERNEL | __GFP_ZERO, order);
    if (pfn < 0) return 0;
    const address = pages.pageAddress(pfn);
    orders.set(address, order);
    return address;
  };
  const percpu = new Percpu(
    {
      smp: { processorId: 0 },
      wordBytes: slab.memory.wordBytes,
      firstChunk: ({ unitSize, nrUnits }) => block(unitSize * nrUnits),
      getArea: block,
      putArea: (base) => pages.freePages(pages.virtToPfn(base), orders.get(base) ?? 0),
      populate: () => 0,
      depopulate: () => {},
      memZalloc: (bytes, gfp) => slab.kzalloc(bytes, gfp),
      memFree: (address) => slab.kfree(address),
      zero: (address, bytes) => {
        for (let at = address; at < address + bytes; ) {
          const run = Math.min(PAGE_SIZE - (at & (PAGE_SIZE - 1)), address + bytes - at);
          slab.memory.fill(at, run, 0);
          at += run;
        }
      },
      warn: () => {},
    },
    {
      staticSize: 64,
      reservedSize: 0,
      dynSize: Math.min(UNIT_BYTES, Math.max(32 * 1024, Math.floor((ram.maxPfn * PAGE_SIZE) / 256 / nrCpus))) - 64,
      atomSize: PAGE_SIZE,
      groups: [Array.from({ length: nrCpus }, (_, cpu) => cpu)],
    },
  );
  return {
    alloc: (bytes, align, gfp) => percpu.alloc(bytes, align, gfp),
    free: (pointer) => percpu.free(pointer),
    ptr: (pointer, cpu) => percpu.ptr(pointer, cpu),
    physAddr: (address) => address - pages.pageOffset,
  };
}
