/**
 * Small blocks of memory that a device reaches, cut from pages of coherent memory. The free list runs through the free blocks:
 * each holds the address of the next, and its own bus address.
 *
 * @linux mm/dmapool.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { PhysAddr } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { GFP_KERNEL, __GFP_ZERO } from '@pagelab/mm-core';
import type { CoherentBlock, DmaDevice } from './dma-mapping.ts';

/** Bytes of `struct dma_pool` and `struct dma_page`, by the bytes of a pointer. */
const DMA_POOL_BYTES = { 4: 92, 8: 128 } as const;
const DMA_PAGE_BYTES = { 4: 20, 8: 32 } as const;

/** A page of blocks. */
interface DmaPoolPage extends CoherentBlock {
  readonly object: VirtAddr;
}

export class DmaPool {
  readonly name: string;
  readonly device: DmaDevice;
  /** Bytes of a block; of a page of them; and the power of two that no block crosses. */
  readonly size: number;
  readonly allocation: number;
  readonly boundary: number;
  nrBlocks = 0;
  nrActive = 0;
  readonly pages: DmaPoolPage[] = [];

  readonly #object: VirtAddr;
  /** The first free block, or 0. */
  #next: VirtAddr = 0;

  private constructor(device: DmaDevice, name: string, shape: { size: number; allocation: number; boundary: number }, object: VirtAddr) {
    this.device = device;
    this.name = name;
    this.size = shape.size;
    this.allocation = shape.allocation;
    this.boundary = shape.boundary;
    this.#object = object;
  }

  /**
   * Makes a pool of blocks.
   *
   * @param align a power of two
   * @param boundary a power of two that no block may cross, at least a block's size; 0 for none
   * @returns the pool; −EINVAL for numbers that make no sense, −ENOMEM
   * @linux mm/dmapool.c:dma_pool_create_node
   */
  static create(device: DmaDevice, name: string, size: number, align = 1, boundary = 0): DmaPool | number {
    const { slab } = device.dma.vm;
    if (!isPowerOfTwo(Math.max(align, 1)) || !(size > 0)) return -Errno.EINVAL;
    const alignment = Math.max(align, 1);
    const { wordBytes } = slab.memory;
    const bytes = Math.ceil(Math.max(size, 2 * wordBytes) / alignment) * alignment;
    const allocation = Math.max(bytes, PAGE_SIZE);
    if (boundary !== 0 && (boundary < bytes || !isPowerOfTwo(boundary))) return -Errno.EINVAL;
    const object = slab.kzalloc(DMA_POOL_BYTES[wordBytes], GFP_KERNEL);
    if (object === 0) return -Errno.ENOMEM;
    const pool = new DmaPool(device, name, { size: bytes, allocation, boundary: boundary === 0 ? allocation : Math.min(boundary, allocation) }, object);
    device.pools.add(pool);
    return pool;
  }

  /** Takes a block. @returns both its addresses, or `null` without memory @linux mm/dmapool.c:dma_pool_alloc */
  alloc(gfp = GFP_KERNEL): CoherentBlock | null {
    if (this.#next === 0 && !this.#addPage(gfp & ~__GFP_ZERO)) return null;
    const { memory } = this.device.dma.vm.slab;
    const cpu = this.#next;
    this.#next = memory.pointer(cpu);
    const dma = memory.pointer(cpu + memory.wordBytes);
    this.nrActive += 1;
    memory.fill(cpu, (gfp & __GFP_ZERO) !== 0 ? this.size : 2 * memory.wordBytes, 0);
    return { cpu, dma };
  }

  /** Cuts another page into blocks. @linux mm/dmapool.c:pool_alloc_page, pool_initialise_page */
  #addPage(gfp: number): boolean {
    const { slab } = this.device.dma.vm;
    const object = slab.kmalloc(DMA_PAGE_BYTES[slab.memory.wordBytes], gfp);
    if (object === 0) return false;
    const block = this.device.allocCoherent(this.allocation, gfp);
    if (block === null) {
      slab.kfree(object);
      return false;
    }
    this.pages.push({ ...block, object });
    const offsets = this.#offsets();
    for (let i = offsets.length - 1; i >= 0; i--) this.#push(block.cpu + offsets[i], block.dma + offsets[i]);
    this.nrBlocks += offsets.length;
    return true;
  }

  /** Where blocks begin in a page. */
  #offsets(): number[] {
    const offsets: number[] = [];
    let offset = 0;
    let boundary = this.boundary;
    while (offset + this.size <= this.allocation) {
      if (offset + this.size > boundary) {
        offset = boundary;
        boundary += this.boundary;
        continue;
      }
      offsets.push(offset);
      offset += this.size;
    }
    return offsets;
  }

  #push(cpu: VirtAddr, dma: PhysAddr): void {
    const { memory } = this.device.dma.vm.slab;
    memory.setPointer(cpu, this.#next);
    memory.setPointer(cpu + memory.wordBytes, dma);
    this.#next = cpu;
  }

  /** Gives a block back. One that is none of the pool's, or free already, is reported. @linux mm/dmapool.c:dma_pool_free */
  free(cpu: VirtAddr, dma: PhysAddr): void {
    const { debug } = this.device.dma;
    const page = this.pages.find((each) => dma >= each.dma && dma < each.dma + this.allocation);
    if (page === undefined) {
      debug.warn('dma-pool-bad-dma', this.device, dma, `dma_pool_free ${this.name}, ${cpu}/0x${dma.toString(16)} (bad dma)`);
    } else if (cpu - page.cpu !== dma - page.dma || !this.#offsets().includes(dma - page.dma)) {
      debug.warn('dma-pool-bad-vaddr', this.device, dma, `dma_pool_free ${this.name}, ${cpu} (bad vaddr)/0x${dma.toString(16)}`);
    } else if (this.#freeBlocks().includes(cpu)) {
      debug.warn('dma-pool-double-free', this.device, dma, `dma_pool_free ${this.name}, dma 0x${dma.toString(16)} already free`);
    } else {
      this.#push(cpu, dma);
      this.nrActive -= 1;
    }
  }

  #freeBlocks(): VirtAddr[] {
    const { memory } = this.device.dma.vm.slab;
    const blocks: VirtAddr[] = [];
    for (let at = this.#next; at !== 0 && blocks.length <= this.nrBlocks; at = memory.pointer(at)) blocks.push(at);
    return blocks;
  }

  /**
   * Ends the pool. While blocks are out that is reported, and its pages are never freed.
   *
   * @returns 0, or −EBUSY
   * @linux mm/dmapool.c:dma_pool_destroy
   */
  destroy(): number {
    const { slab } = this.device.dma.vm;
    const busy = this.nrActive > 0;
    if (busy) this.device.dma.debug.warn('dma-pool-busy', this.device, 0, `dma_pool_destroy ${this.name} busy`);
    for (const { cpu, dma, object } of this.pages) {
      if (!busy) this.device.freeCoherent(this.allocation, cpu, dma);
      slab.kfree(object);
    }
    this.pages.length = 0;
    this.device.pools.delete(this);
    slab.kfree(this.#object);
    return busy ? -Errno.EBUSY : 0;
  }

  /** @throws KernelBug where the free list is not what it should be */
  validate(): void {
    const free = this.#freeBlocks();
    bugOn(free.length !== this.nrBlocks - this.nrActive, `dma pool ${this.name}: ${free.length} blocks free, ${this.nrActive} of ${this.nrBlocks} out`);
    bugOn(new Set(free).size !== free.length, `dma pool ${this.name}: a block is free twice`);
  }
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}
