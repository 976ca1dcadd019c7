import { PAGE_SIZE } from '@pagelab/hw';
import { Dma, IO_TLB_DEFAULT_SIZE, Swiotlb } from '@pagelab/vm';
import type { Vm } from '@pagelab/vm';
import { GFP_KERNEL, MAX_PAGE_ORDER, __GFP_DMA32, cmaAlloc, cmaRelease } from '@pagelab/mm-core';
import type { BootFrames } from './boot-frames.ts';
import type { MachineConfig } from './config.ts';
import type { KernelLog } from './kernel-log.ts';

/** Large blocks are aligned to this order at most. @linux kernel/dma/Kconfig:CMA_ALIGNMENT */
const CMA_ALIGNMENT = 8;
/** The first frame that 32 address lines do not reach. */
const MAX_DMA32_PFN = 2 ** 20;

/**
 * Sets DMA memory up: bounce buffers where RAM lies beyond 4 GiB, out of what boot reserved for them; with `swiotlb=force`
 * everywhere, then out of the largest block of the page allocator; with `swiotlb=noforce` nowhere.
 *
 * @linux arch/x86/kernel/pci-dma.c:pci_swiotlb_detect
 */
export function setupDma(config: MachineConfig, vm: Vm, bootFrames: BootFrames, log: KernelLog): Dma {
  return withContiguous(vm, makeDma(config, vm, bootFrames, log));
}

function makeDma(config: MachineConfig, vm: Vm, bootFrames: BootFrames, log: KernelLog): Dma {
  const { swiotlb: word } = config.commandLine;
  const needed = vm.pages.layout.maxPfn > MAX_DMA32_PFN;
  if (word === 'noforce' || (!needed && word !== 'force')) return new Dma(vm, null);
  const reserved = needed ? bootFrames.takeReserved(IO_TLB_DEFAULT_SIZE / PAGE_SIZE, MAX_DMA32_PFN) : -1;
  const bytes = reserved >= 0 ? IO_TLB_DEFAULT_SIZE : PAGE_SIZE * 2 ** MAX_PAGE_ORDER;
  const pfn = reserved >= 0 ? reserved : vm.pages.allocPages(GFP_KERNEL | __GFP_DMA32, MAX_PAGE_ORDER);
  if (pfn < 0) {
    log.print('software IO TLB: swiotlb_memblock_alloc: Failed to allocate');
    return new Dma(vm, null);
  }
  const swiotlb = new Swiotlb(vm.ram, pfn * PAGE_SIZE, bytes, config.possibleCpus);
  const hex = (address: number): string => `0x${address.toString(16).padStart(16, '0')}`;
  log.print('PCI-DMA: Using software bounce buffering for IO (SWIOTLB)');
  log.print(`software IO TLB: mapped [mem ${hex(swiotlb.start)}-${hex(swiotlb.end)}] (${bytes / 2 ** 20}MB)`);
  return new Dma(vm, swiotlb, word === 'force');
}

/** Large blocks come from the region that `cma=` reserved, where there is one. @linux kernel/dma/contiguous.c:dma_contiguous_default_area */
function withContiguous({ pages }: Vm, dma: Dma): Dma {
  const area = pages.cmaAreas?.[0];
  if (area === undefined) return dma;
  dma.contiguous = {
    alloc: (nrPages, order) => cmaAlloc(pages, area, nrPages, Math.min(order, CMA_ALIGNMENT), true),
    release: (pfn, nrPages) => cmaRelease(pages, area, pfn, nrPages),
  };
  return dma;
}
