/**
 * Bounce buffers: memory that every device reaches, for transfers to memory that some do not.
 *
 * ```
 *   pool   | segment of 128 slots | segment | …        a mapping has slots side by side, in one segment
 *   slot   2 KiB: list = free slots from here on in its segment, 0 where it is taken
 * ```
 *
 * Mapping copies to the buffer, unmapping copies back what the device wrote; in between the device and the CPU see different
 * bytes, until someone syncs them.
 *
 * @linux kernel/dma/swiotlb.c
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { PhysAddr, PhysicalMemory } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';

/** Bytes of a slot. @linux include/linux/swiotlb.h:IO_TLB_SIZE */
export const IO_TLB_SIZE = 2048;
/** Slots of a segment: no mapping is larger. @linux include/linux/swiotlb.h:IO_TLB_SEGSIZE */
export const IO_TLB_SEGSIZE = 128;
/** Bytes of the pool that boot reserves. @linux include/linux/swiotlb.h:IO_TLB_DEFAULT_SIZE */
export const IO_TLB_DEFAULT_SIZE = 64 * 2 ** 20;

/** Counts since boot. */
export interface SwiotlbStats {
  /** Mappings that were bounced, and bytes that were copied either way. */
  bounced: number;
  copiedBytes: number;
  /** Mappings for which there was no room. */
  full: number;
}

export class Swiotlb {
  readonly start: PhysAddr;
  readonly nrSlots: number;
  /** Slots in use, and the most there ever were. */
  used = 0;
  usedHigh = 0;
  readonly stats: SwiotlbStats = { bounced: 0, copiedBytes: 0, full: 0 };

  readonly #ram: PhysicalMemory;
  /** Of each slot: free ones from it on; where the bytes belong; and, of a mapping's first, its bytes. */
  #list = new Int32Array(0);
  #origAddr = new Float64Array(0);
  #allocSize = new Int32Array(0);
  /** The CPUs' areas: each its own part of the pool, with the slot at which to look next. */
  readonly #areaSlots: number;
  readonly #next: Int32Array;

  /**
   * @param bytes a multiple of 256 KiB
   * @param nrAreas parts of the pool, one for each CPU; rounded up to a power of two
   */
  constructor(ram: PhysicalMemory, start: PhysAddr, bytes: number, nrAreas: number) {
    this.#ram = ram;
    this.start = start;
    this.nrSlots = bytes / IO_TLB_SIZE;
    bugOn(this.nrSlots % IO_TLB_SEGSIZE !== 0, 'swiotlb: a pool of broken segments');
    const areas = Math.min(2 ** Math.ceil(Math.log2(nrAreas)), this.nrSlots / IO_TLB_SEGSIZE);
    this.#areaSlots = this.nrSlots / 2 ** Math.floor(Math.log2(areas));
    this.#next = new Int32Array(this.nrSlots / this.#areaSlots);
  }

  /** Sets the slots up with the first mapping: most machines boot without one. */
  #setUp(): void {
    this.#list = Int32Array.from({ length: this.nrSlots }, (_, slot) => IO_TLB_SEGSIZE - (slot % IO_TLB_SEGSIZE));
    this.#origAddr = new Float64Array(this.nrSlots).fill(-1);
    this.#allocSize = new Int32Array(this.nrSlots);
  }

  /** One past the pool's last byte. */
  get end(): PhysAddr {
    return this.start + this.nrSlots * IO_TLB_SIZE;
  }

  /** Whether a bus address is in the pool. @linux include/linux/swiotlb.h:is_swiotlb_buffer */
  holds(address: PhysAddr): boolean {
    return address >= this.start && address < this.end;
  }

  /**
   * Maps memory by a bounce buffer, and copies it there.
   *
   * @param cpu whose area to begin with
   * @returns where the device is to go; −1 where there is no room
   * @linux kernel/dma/swiotlb.c:swiotlb_tbl_map_single
   */
  map(orig: PhysAddr, size: number, cpu: number): PhysAddr {
    if (this.#list.length === 0) this.#setUp();
    const slots = Math.ceil(size / IO_TLB_SIZE);
    const first = slots > IO_TLB_SEGSIZE ? -1 : this.#find(slots, size, cpu);
    if (first < 0) {
      this.stats.full += 1;
      return -1;
    }
    for (let i = 0; i < slots; i++) this.#origAddr[first + i] = orig + i * IO_TLB_SIZE;
    this.#allocSize[first] = size;
    this.used += slots;
    this.usedHigh = Math.max(this.usedHigh, this.used);
    this.stats.bounced += 1;
    const address = this.start + first * IO_TLB_SIZE;
    // Also where the device only writes: what it leaves out must come back as it was.
    this.#copy(address, orig, size);
    return address;
  }

  /** Area by area, from the CPU's own on. @linux kernel/dma/swiotlb.c:swiotlb_find_slots */
  #find(slots: number, size: number, cpu: number): number {
    const areas = this.#next.length;
    for (let i = 0; i < areas; i++) {
      const found = this.#findInArea((cpu + i) & (areas - 1), slots, size);
      if (found >= 0) return found;
    }
    return -1;
  }

  /** @linux kernel/dma/swiotlb.c:swiotlb_search_pool_area */
  #findInArea(area: number, slots: number, size: number): number {
    const base = area * this.#areaSlots;
    // A page or more begins on a page.
    const stride = size >= PAGE_SIZE ? PAGE_SIZE / IO_TLB_SIZE : 1;
    const begin = Math.ceil(this.#next[area] / stride) * stride;
    for (let i = 0; i < this.#areaSlots; i += stride) {
      const slot = base + ((begin + i) % this.#areaSlots);
      if (this.#list[slot] < slots) continue;
      this.#take(slot, slots);
      this.#next[area] = (slot - base + slots) % this.#areaSlots;
      return slot;
    }
    return -1;
  }

  #take(slot: number, slots: number): void {
    this.#list.fill(0, slot, slot + slots);
    let count = 0;
    for (let i = slot - 1; i >= 0 && i % IO_TLB_SEGSIZE !== IO_TLB_SEGSIZE - 1 && this.#list[i] !== 0; i--) this.#list[i] = ++count;
  }

  /**
   * Takes a mapping away.
   *
   * @param copyBack whether the device may have written
   * @linux kernel/dma/swiotlb.c:swiotlb_tbl_unmap_single
   */
  unmap(address: PhysAddr, copyBack: boolean): void {
    const slot = (address - this.start) / IO_TLB_SIZE;
    const size = Number.isInteger(slot) ? (this.#allocSize[slot] ?? 0) : 0;
    bugOn(size === 0, 'swiotlb: unmap of what is no mapping');
    if (copyBack) this.#copy(this.#origAddr[slot], address, size);
    const slots = Math.ceil(size / IO_TLB_SIZE);
    this.#allocSize[slot] = 0;
    this.#origAddr.fill(-1, slot, slot + slots);
    this.used -= slots;
    // What is free behind joins, as far as the segment goes; then what is free before.
    const behind = slot + slots;
    let count = behind % IO_TLB_SEGSIZE === 0 ? 0 : this.#list[behind];
    for (let i = behind - 1; i >= slot; i--) this.#list[i] = ++count;
    for (let i = slot - 1; i >= 0 && i % IO_TLB_SEGSIZE !== IO_TLB_SEGSIZE - 1 && this.#list[i] !== 0; i--) this.#list[i] = ++count;
  }

  /** Copies bytes of a mapping to the buffer or back. @linux kernel/dma/swiotlb.c:swiotlb_bounce */
  sync(address: PhysAddr, size: number, toDevice: boolean): void {
    const orig = this.#origAddr[Math.floor((address - this.start) / IO_TLB_SIZE)] + ((address - this.start) % IO_TLB_SIZE);
    if (toDevice) this.#copy(address, orig, size);
    else this.#copy(orig, address, size);
  }

  #copy(to: PhysAddr, from: PhysAddr, size: number): void {
    const { u8 } = this.#ram;
    for (let done = 0, run: number; done < size; done += run) {
      run = Math.min(size - done, PAGE_SIZE - ((to + done) % PAGE_SIZE), PAGE_SIZE - ((from + done) % PAGE_SIZE));
      const source = this.#host(from + done);
      u8.copyWithin(this.#host(to + done), source, source + run);
    }
    this.stats.copiedBytes += size;
  }

  #host(address: PhysAddr): number {
    return this.#ram.frameWord(Math.floor(address / PAGE_SIZE)) * 4 + (address % PAGE_SIZE);
  }

  /** Recomputes the free runs and the count. @throws KernelBug for the first that does not fit */
  validate(): void {
    if (this.#list.length === 0) return;
    let used = 0;
    for (let slot = this.nrSlots - 1; slot >= 0; slot--) {
      const taken = this.#origAddr[slot] >= 0;
      const behind = slot % IO_TLB_SEGSIZE === IO_TLB_SEGSIZE - 1 ? 0 : this.#list[slot + 1];
      bugOn(this.#list[slot] !== (taken ? 0 : behind + 1), `swiotlb: slot ${slot} says ${this.#list[slot]} are free`);
      if (taken) used += 1;
    }
    bugOn(used !== this.used, `swiotlb: ${this.used} slots counted, ${used} taken`);
  }
}
