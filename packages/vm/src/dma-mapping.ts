/**
 * Memory that devices reach: blocks that device and CPU share, and mappings of other memory for the time of a transfer.
 *
 * There is no IOMMU: a bus address is a physical one. What a device cannot reach by its mask is bounced.
 *
 * @linux kernel/dma/direct.c, kernel/dma/mapping.c
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { DmaEngine } from '@pagelab/hw';
import type { DmaMaskBits, Pfn, PhysAddr } from '@pagelab/hw';
import { GFP_KERNEL, __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM, gfpAllowsBlocking } from '@pagelab/mm-core';
import { DmaDebug } from './dma-debug.ts';
import type { DmaPool } from './dma-pool.ts';
import type { Swiotlb } from './swiotlb.ts';
import type { Vm } from './vm.ts';

/** A direction: both, to the device, from it. @linux include/linux/dma-direction.h:dma_data_direction */
export const DMA_BIDIRECTIONAL = 0;
export const DMA_TO_DEVICE = 1;
export const DMA_FROM_DEVICE = 2;
/** What a mapping that failed returns. @linux include/linux/dma-mapping.h:DMA_MAPPING_ERROR */
export const DMA_MAPPING_ERROR = -1;

/** Memory that CPU and device see alike. */
export interface CoherentBlock {
  readonly cpu: VirtAddr;
  readonly dma: PhysAddr;
}

/** Memory set aside for large contiguous blocks. @linux kernel/dma/contiguous.c */
export interface ContiguousArea {
  /** @returns the first of `nrPages` frames side by side, or −1 */
  alloc(nrPages: number, order: number): Pfn;
  /** Takes frames of {@link alloc} back; false where they are none of its. */
  release(pfn: Pfn, nrPages: number): boolean;
}

/** DMA memory of a machine. */
export class Dma {
  readonly vm: Vm;
  /** The bounce buffers; `null` where all memory is reached without. */
  readonly swiotlb: Swiotlb | null;
  /** Whether every mapping is bounced: `swiotlb=force`. */
  readonly forceBounce: boolean;
  readonly debug: DmaDebug;
  /** Where large blocks come from first; `null` without. */
  contiguous: ContiguousArea | null = null;
  readonly devices = new Set<DmaDevice>();

  constructor(vm: Vm, swiotlb: Swiotlb | null, forceBounce = false) {
    this.vm = vm;
    this.swiotlb = swiotlb;
    this.forceBounce = forceBounce;
    this.debug = new DmaDebug(vm.warn);
  }

  /** Makes a device with so many address lines. */
  addDevice(name: string, maskBits: DmaMaskBits): DmaDevice {
    const device = new DmaDevice(this, name, maskBits);
    this.devices.add(device);
    return device;
  }

  /** @throws KernelBug for the first thing that does not hold */
  validate(): void {
    this.swiotlb?.validate();
    for (const device of this.devices) for (const pool of device.pools) pool.validate();
  }
}

/** A device as its driver sees it. @linux include/linux/device.h:device */
export class DmaDevice {
  readonly name: string;
  /** The device's own way to memory. */
  readonly engine: DmaEngine;
  readonly pools = new Set<DmaPool>();
  readonly dma: Dma;

  constructor(dma: Dma, name: string, maskBits: DmaMaskBits) {
    this.dma = dma;
    this.name = name;
    this.engine = new DmaEngine(dma.vm.ram, maskBits);
  }

  // ---- shared memory

  /**
   * Allocates zeroed memory that the device reaches, whole pages side by side. A zone that always reaches is tried where
   * another does not.
   *
   * @returns the block; `null` where there is none
   * @linux kernel/dma/direct.c:dma_direct_alloc
   */
  allocCoherent(size: number, gfp = GFP_KERNEL): CoherentBlock | null {
    if (!(size > 0)) return null;
    const { vm } = this.dma;
    const bytes = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
    const pfn = this.#coherentPages(bytes, gfp & ~(__GFP_DMA | __GFP_DMA32 | __GFP_HIGHMEM));
    if (pfn < 0) return null;
    for (let i = 0; i < bytes / PAGE_SIZE; i++) vm.ram.zeroFrame(pfn + i);
    const block = { cpu: vm.pages.pageAddress(pfn), dma: pfn * PAGE_SIZE };
    this.dma.debug.addCoherent(this, block.dma, size);
    return block;
  }

  /** @linux kernel/dma/direct.c:__dma_direct_alloc_pages */
  #coherentPages(bytes: number, gfp: number): Pfn {
    const { vm, contiguous } = this.dma;
    const { mask, maskBits } = this.engine;
    const order = Math.ceil(Math.log2(bytes / PAGE_SIZE));
    if (contiguous !== null && bytes > PAGE_SIZE && gfpAllowsBlocking(gfp)) {
      const pfn = contiguous.alloc(bytes / PAGE_SIZE, order);
      if (pfn >= 0 && this.engine.reaches(pfn * PAGE_SIZE, bytes)) return pfn;
      if (pfn >= 0) contiguous.release(pfn, bytes / PAGE_SIZE);
    }
    let zone = maskBits === 24 ? __GFP_DMA : maskBits === 32 ? __GFP_DMA32 : 0;
    for (;;) {
      const pfn = vm.pages.allocPages(gfp | zone, order);
      if (pfn < 0) return pfn;
      if (pfn * PAGE_SIZE + bytes - 1 <= mask) return pfn;
      vm.pages.freePages(pfn, order);
      if (zone === 0) zone = __GFP_DMA32;
      else if (zone === __GFP_DMA32) zone = __GFP_DMA;
      else return -1;
    }
  }

  /** Frees a block: its size, and both its addresses. @linux kernel/dma/direct.c:dma_direct_free */
  freeCoherent(size: number, cpu: VirtAddr, dma: PhysAddr): void {
    const mapped = this.dma.debug.removeCoherent(this, dma, size);
    if (mapped < 0) return;
    const { vm, contiguous } = this.dma;
    const nrPages = Math.ceil(mapped / PAGE_SIZE);
    const pfn = vm.pages.virtToPfn(cpu);
    if (contiguous?.release(pfn, nrPages) === true) return;
    vm.pages.freePages(pfn, Math.ceil(Math.log2(nrPages)));
  }

  // ---- mappings for a transfer

  /**
   * Gives the device bytes of the kernel's memory, of `kmalloc` or pages; of `vmalloc` none, whose pages lie anywhere.
   *
   * @returns the bus address, or DMA_MAPPING_ERROR
   * @linux include/linux/dma-mapping.h:dma_map_single_attrs
   */
  mapSingle(address: VirtAddr, size: number, direction: number): PhysAddr {
    if (this.dma.vm.vmalloc.isVmallocAddr(address)) {
      this.dma.debug.warn('dma-vmalloc', this, address, 'rejecting DMA map of vmalloc memory');
      return DMA_MAPPING_ERROR;
    }
    return this.#map(this.dma.vm.vmalloc.physAddr(address), size, direction);
  }

  /** As {@link mapSingle}, of a frame. @linux kernel/dma/mapping.c:dma_map_page_attrs */
  mapPage(pfn: Pfn, offset: number, size: number, direction: number): PhysAddr {
    return this.#map(pfn * PAGE_SIZE + offset, size, direction);
  }

  /** @linux kernel/dma/direct.h:dma_direct_map_page */
  #map(phys: PhysAddr, size: number, direction: number): PhysAddr {
    const { swiotlb, forceBounce, debug, vm } = this.dma;
    checkDirection(direction);
    if (!(size > 0)) return DMA_MAPPING_ERROR;
    let bus = phys;
    if ((forceBounce && swiotlb !== null) || !this.engine.reaches(phys, size)) {
      if (swiotlb === null) return this.#overflow('DMA addr', phys, size);
      bus = swiotlb.map(phys, size, vm.smp.processorId);
      if (bus < 0) {
        const full = `swiotlb buffer is full (sz: ${size} bytes), total ${swiotlb.nrSlots} (slots), used ${swiotlb.used} (slots)`;
        debug.warn('swiotlb-full', this, phys, full);
        return DMA_MAPPING_ERROR;
      }
      if (!this.engine.reaches(bus, size)) {
        swiotlb.unmap(bus, false);
        return this.#overflow('swiotlb addr', bus, size);
      }
    }
    debug.add(this, bus, size, direction);
    return bus;
  }

  #overflow(what: string, address: PhysAddr, size: number): PhysAddr {
    const at = `0x${address.toString(16).padStart(16, '0')}`;
    this.dma.debug.warn('dma-overflow', this, address, `${what} ${at}+${size} overflow (mask ${this.engine.mask.toString(16)}, bus limit 0).`);
    return DMA_MAPPING_ERROR;
  }

  /** Takes a mapping away: afterwards the CPU sees what the device wrote. @linux kernel/dma/mapping.c:dma_unmap_page_attrs */
  unmap(bus: PhysAddr, size: number, direction: number): void {
    checkDirection(direction);
    if (!this.dma.debug.remove(this, bus, size, direction)) return;
    const { swiotlb } = this.dma;
    if (swiotlb?.holds(bus) === true) swiotlb.unmap(bus, direction !== DMA_TO_DEVICE);
  }

  /**
   * Maps a list of pieces, all or none.
   *
   * @returns their bus addresses; `null` where one cannot be mapped
   * @linux kernel/dma/direct.c:dma_direct_map_sg
   */
  mapSg(list: readonly { readonly pfn: Pfn; readonly offset: number; readonly length: number }[], direction: number): PhysAddr[] | null {
    const done: PhysAddr[] = [];
    for (const { pfn, offset, length } of list) {
      const bus = this.mapPage(pfn, offset, length, direction);
      if (bus === DMA_MAPPING_ERROR) {
        this.unmapSg(done, list, direction);
        return null;
      }
      done.push(bus);
    }
    return done;
  }

  /** Takes the mappings of {@link mapSg} away. @linux kernel/dma/direct.c:dma_direct_unmap_sg */
  unmapSg(bus: readonly PhysAddr[], list: readonly { readonly length: number }[], direction: number): void {
    bus.forEach((address, i) => {
      this.unmap(address, list[i].length, direction);
    });
  }

  /** The CPU is to see what the device wrote so far; the mapping stays. @linux kernel/dma/mapping.c:dma_sync_single_for_cpu */
  syncForCpu(bus: PhysAddr, size: number, direction: number): void {
    checkDirection(direction);
    if (!this.dma.debug.checkSync(this, bus, size, direction, 'CPU')) return;
    const { swiotlb } = this.dma;
    if (swiotlb?.holds(bus) === true && direction !== DMA_TO_DEVICE) swiotlb.sync(bus, size, false);
  }

  /** The device is to see what the CPU wrote so far; the mapping stays. @linux kernel/dma/mapping.c:dma_sync_single_for_device */
  syncForDevice(bus: PhysAddr, size: number, direction: number): void {
    checkDirection(direction);
    if (!this.dma.debug.checkSync(this, bus, size, direction, 'device')) return;
    const { swiotlb } = this.dma;
    if (swiotlb?.holds(bus) === true && direction !== DMA_FROM_DEVICE) swiotlb.sync(bus, size, true);
  }

  /** The driver lets go of the device: what it still has mapped is reported. @linux kernel/dma/debug.c:dma_debug_device_change */
  release(): void {
    this.dma.debug.deviceReleased(this);
    this.dma.devices.delete(this);
  }
}

function checkDirection(direction: number): void {
  if (direction !== DMA_BIDIRECTIONAL && direction !== DMA_TO_DEVICE && direction !== DMA_FROM_DEVICE) {
    throw new RangeError(`a DMA direction is DMA_BIDIRECTIONAL, DMA_TO_DEVICE or DMA_FROM_DEVICE, not ${direction}`);
  }
}
