/**
 * Per-CPU memory: what is allocated is there once for each CPU there could be, at the same distance from the CPU's base.
 *
 * ```
 *   chunk    | unit of CPU 0            | unit of CPU 1            | …
 *            | static | reserved | dyn. | static | reserved | dyn. |     the first chunk, embedded in boot memory
 *            | dynamic                  | dynamic                  |     further ones, in vmalloc's address space
 * ```
 *
 * A per-CPU *pointer* is the distance of an area from the first unit; adding a CPU's offset gives the address of its copy.
 * How far apart units are says `percpu-layout.ts`: of the first chunk's, what lies between them is for others.
 *
 * @linux mm/percpu.c
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { GFP_KERNEL, __GFP_ACCOUNT, __GFP_DIRECT_RECLAIM, __GFP_NOWARN } from '@pagelab/mm-core';
import { PCPU_MIN_ALLOC_SIZE, PercpuChunk } from './percpu-chunk.ts';
import { PCPU_MIN_UNIT_SIZE, percpuAllocInfo } from './percpu-layout.ts';
import type { PercpuAllocInfo, PercpuLayout } from './percpu-layout.ts';

/** Pages that are kept there and unused, so that an allocation that may not sleep finds some. @linux mm/percpu.c:PCPU_EMPTY_POP_PAGES_HIGH */
const PCPU_EMPTY_POP_PAGES_HIGH = 4;
/** Bytes of a `struct pcpu_chunk` without the map of its pages, and of a block's hints. */
const CHUNK_BYTES = 208;
const BLOCK_MD_BYTES = 32;

/** A per-CPU pointer: no address, but what an offset of a CPU makes one. */
export type PercpuPtr = number & { readonly __unit?: '__percpu' };

/** What per-CPU memory stands on. */
export interface PercpuHost {
  readonly smp: { readonly processorId: number };
  /** Bytes of a pointer. */
  readonly wordBytes: 4 | 8;
  /** Frames of boot's for the first chunk, of each unit the bytes that are used: the address of the first. */
  firstChunk(info: PercpuAllocInfo): VirtAddr;
  /** Address space for a chunk, nothing in it; 0 where there is none. @linux mm/vmalloc.c:pcpu_get_vm_areas */
  getArea(bytes: number): VirtAddr;
  putArea(base: VirtAddr): void;
  /** Puts frames behind pages of kernel address space, all or none. @returns 0 or −ENOMEM @linux mm/percpu-vm.c:pcpu_populate_chunk */
  populate(addresses: readonly VirtAddr[], gfp: number): number;
  /** Takes them away. */
  depopulate(addresses: readonly VirtAddr[]): void;
  /** Zeroed kernel memory, of `kmalloc` up to a page and of `vmalloc` beyond; 0 without memory. @linux mm/percpu.c:pcpu_mem_zalloc */
  memZalloc(bytes: number, gfp: number): VirtAddr;
  memFree(address: VirtAddr): void;
  /** Sets bytes of kernel memory to zero. */
  zero(address: VirtAddr, bytes: number): void;
  warn(text: string): void;
}

/** Who charges per-CPU memory that asks for it (`__GFP_ACCOUNT`) to a memory cgroup. */
export interface PercpuAccounting {
  /** @param bytes of all copies, and of what says whose they are @returns 0 or −ENOMEM @linux mm/percpu.c:pcpu_memcg_pre_alloc_hook */
  charge(pointer: PercpuPtr, bytes: number, gfp: number): number;
  /** Takes the charge back, where there is one. @linux mm/percpu.c:pcpu_memcg_free_hook */
  uncharge(pointer: PercpuPtr): void;
}

/** `/sys/kernel/debug/percpu_stats`: counts since boot. @linux mm/percpu-internal.h:percpu_stats */
export interface PercpuStats {
  nrAlloc: number;
  nrDealloc: number;
  nrCurAlloc: number;
  nrMaxAlloc: number;
  nrChunks: number;
  nrMaxChunks: number;
  minAllocSize: number;
  maxAllocSize: number;
}

export class Percpu {
  readonly info: PercpuAllocInfo;
  /** Bytes from one unit to the next. */
  readonly unitSize: number;
  /** Where CPU 0's unit of the first chunk begins. @linux mm/percpu.c:pcpu_base_addr */
  readonly base: VirtAddr;
  readonly stats: PercpuStats;
  /** The first one first. */
  readonly chunks: PercpuChunk[] = [];
  /** Pages of a unit that are there, over all chunks. @linux mm/percpu.c:pcpu_nr_populated */
  nrPopulated: number;
  /** `null` while there are no memory cgroups. */
  accounting: PercpuAccounting | null = null;
  /** Told of what is given out and taken back; `null` while nobody listens. */
  observer: { alloc(pointer: PercpuPtr, size: number): void; free(pointer: PercpuPtr): void } | null = null;

  readonly #host: PercpuHost;
  readonly #unitOffsets: readonly number[];

  /** Sets the first chunk up. @linux mm/percpu.c:pcpu_embed_first_chunk */
  constructor(host: PercpuHost, layout: PercpuLayout) {
    this.#host = host;
    const { staticSize, reservedSize } = layout;
    this.info = percpuAllocInfo(layout);
    const { unitSize, usedSize, unitOffsets } = this.info;
    this.unitSize = unitSize;
    this.#unitOffsets = unitOffsets;
    this.base = host.firstChunk(this.info);
    const from = Math.ceil((staticSize + reservedSize) / PCPU_MIN_ALLOC_SIZE) * PCPU_MIN_ALLOC_SIZE;
    this.chunks.push(new PercpuChunk({ base: this.base, isFirst: true, backing: [], unitSize: usedSize, from, populated: true }));
    this.nrPopulated = usedSize / PAGE_SIZE;
    this.stats = { nrAlloc: 0, nrDealloc: 0, nrCurAlloc: 0, nrMaxAlloc: 0, nrChunks: 1, nrMaxChunks: 1, minAllocSize: unitSize, maxAllocSize: 0 };
  }

  /** Pages of all units: `Percpu` of meminfo. @linux mm/percpu.c:pcpu_nr_pages */
  get nrPages(): number {
    return this.nrPopulated * this.nrUnits;
  }

  /**
   * Allocates zeroed memory for each CPU.
   *
   * @param size bytes, at most 32 KiB
   * @param align bytes, a power of two up to a page
   * @returns the pointer, or 0
   * @linux mm/percpu.c:pcpu_alloc_noprof
   */
  alloc(size: number, align = 8, gfp = GFP_KERNEL): PercpuPtr {
    const pointer = this.#alloc(size, align, gfp & ~__GFP_ACCOUNT);
    if (pointer === 0 || this.accounting === null || (gfp & __GFP_ACCOUNT) === 0) return pointer;
    const bytes = Math.ceil(size / PCPU_MIN_ALLOC_SIZE) * PCPU_MIN_ALLOC_SIZE;
    if (this.accounting.charge(pointer, bytes * this.nrUnits + (bytes / PCPU_MIN_ALLOC_SIZE) * this.#host.wordBytes, gfp) === 0) return pointer;
    this.free(pointer);
    return 0;
  }

  #alloc(size: number, align: number, gfp: number): PercpuPtr {
    const fits = size > 0 && size <= PCPU_MIN_UNIT_SIZE && align > 0 && align <= PAGE_SIZE && Number.isInteger(Math.log2(align));
    if (!fits) {
      this.#host.warn(`illegal size (${size}) or align (${align}) for percpu allocation`);
      return 0;
    }
    const bytes = Math.ceil(size / PCPU_MIN_ALLOC_SIZE) * PCPU_MIN_ALLOC_SIZE;
    const alignment = Math.max(align, PCPU_MIN_ALLOC_SIZE);
    const atomic = (gfp & __GFP_DIRECT_RECLAIM) === 0;
    let found = this.#find(bytes, alignment, atomic);
    if (found === undefined && !atomic) {
      const chunk = this.#createChunk(gfp);
      if (chunk === undefined) return this.#fail(size, align, gfp, 'failed to allocate new chunk');
      found = { chunk, offset: chunk.alloc(bytes, alignment, false) };
    }
    if (found === undefined) return this.#fail(size, align, gfp, 'atomic alloc failed, no space left');
    const { chunk, offset } = found;
    if (!this.#populate(chunk, offset, bytes, gfp)) {
      chunk.free(offset);
      this.#trim();
      return this.#fail(size, align, gfp, 'failed to populate');
    }
    for (const unit of this.#unitOffsets) this.#host.zero(chunk.base + unit + offset, bytes);
    this.#count(bytes);
    const pointer = chunk.base + offset - this.base;
    this.observer?.alloc(pointer, bytes);
    return pointer;
  }

  /** The chunk with the least room that has enough, and the area taken in it. @linux mm/percpu.c:pcpu_find_block_fit */
  #find(bytes: number, align: number, populatedOnly: boolean): { chunk: PercpuChunk; offset: number } | undefined {
    const fitting = this.chunks.filter((chunk) => chunk.freeBytes >= bytes).sort((a, b) => slotOf(a.freeBytes) - slotOf(b.freeBytes));
    for (const chunk of fitting) {
      if (chunk.contigBytes < bytes) continue;
      const offset = chunk.alloc(bytes, align, populatedOnly);
      if (offset >= 0) return { chunk, offset };
    }
    return undefined;
  }

  /** @linux mm/percpu-vm.c:pcpu_create_chunk */
  #createChunk(gfp: number): PercpuChunk | undefined {
    const host = this.#host;
    const pages = this.unitSize / PAGE_SIZE;
    const bits = this.unitSize / PCPU_MIN_ALLOC_SIZE;
    const backing: VirtAddr[] = [];
    const undo = (): undefined => {
      for (const address of backing) host.memFree(address);
      return undefined;
    };
    const { wordBytes } = host;
    const mapBytes = Math.ceil(bits / 64) * 8;
    // The last one: to which memory cgroup each area is charged.
    const parts = [CHUNK_BYTES + Math.ceil(pages / 64) * 8, mapBytes, mapBytes + wordBytes, pages * BLOCK_MD_BYTES, bits * wordBytes];
    for (const bytes of parts) {
      const address = host.memZalloc(bytes, gfp);
      if (address === 0) return undo();
      backing.push(address);
    }
    const base = host.getArea(this.unitSize * this.info.nrUnits);
    if (base === 0) return undo();
    const chunk = new PercpuChunk({ base, isFirst: false, backing, unitSize: this.unitSize, from: 0, populated: false });
    this.chunks.push(chunk);
    this.stats.nrChunks = this.chunks.length;
    this.stats.nrMaxChunks = Math.max(this.stats.nrMaxChunks, this.chunks.length);
    return chunk;
  }

  /** Makes the pages of an area be there, in every unit. */
  #populate(chunk: PercpuChunk, offset: number, bytes: number, gfp: number): boolean {
    for (let page = offset >> 12; page <= (offset + bytes - 1) >> 12; page++) {
      if (chunk.populated[page] !== 0) continue;
      if (this.#host.populate(this.#addresses(chunk, page), gfp | __GFP_NOWARN) < 0) return false;
      chunk.populated[page] = 1;
      this.nrPopulated += 1;
    }
    return true;
  }

  #addresses(chunk: PercpuChunk, page: number): VirtAddr[] {
    return this.#unitOffsets.map((unit) => chunk.base + unit + page * PAGE_SIZE);
  }

  #fail(size: number, align: number, gfp: number, why: string): 0 {
    const atomic = (gfp & __GFP_DIRECT_RECLAIM) === 0 ? 1 : 0;
    if ((gfp & __GFP_NOWARN) === 0) this.#host.warn(`percpu: allocation failed, size=${size} align=${align} atomic=${atomic}, ${why}`);
    return 0;
  }

  #count(bytes: number): void {
    const { stats } = this;
    stats.nrAlloc += 1;
    stats.nrCurAlloc += 1;
    stats.nrMaxAlloc = Math.max(stats.nrMaxAlloc, stats.nrCurAlloc);
    stats.minAllocSize = Math.min(stats.minAllocSize, bytes);
    stats.maxAllocSize = Math.max(stats.maxAllocSize, bytes);
  }

  /** Frees what {@link alloc} gave, for all CPUs; 0 is nothing. A pointer that is none is reported. @linux mm/percpu.c:free_percpu */
  free(pointer: PercpuPtr): void {
    if (pointer === 0) return;
    const address = this.base + pointer;
    const chunk = this.#chunkOf(address);
    if (chunk === undefined || chunk.sizeAt(address - chunk.base) === 0) {
      this.#host.warn(`free_percpu: not a per-CPU allocation: ${pointer}`);
      return;
    }
    this.accounting?.uncharge(pointer);
    this.observer?.free(pointer);
    chunk.free(address - chunk.base);
    this.stats.nrDealloc += 1;
    this.stats.nrCurAlloc -= 1;
    this.#trim();
  }

  /** The chunk whose first unit holds an address. @linux mm/percpu.c:pcpu_chunk_addr_search */
  #chunkOf(address: VirtAddr): PercpuChunk | undefined {
    return this.chunks.find(({ base }) => address >= base && address < base + this.unitSize);
  }

  /** Keeps one empty chunk and a few empty pages, and gives the others back. @linux mm/percpu.c:pcpu_balance_free */
  #trim(): void {
    const empty = this.chunks.filter((chunk) => !chunk.isFirst && chunk.isEmpty);
    for (const chunk of empty.slice(1)) this.#destroyChunk(chunk);
    for (const chunk of empty.slice(0, 1)) this.#depopulate(chunk, PCPU_EMPTY_POP_PAGES_HIGH);
  }

  /** Gives back what is empty, down to the last page. @returns the chunks given back */
  shrink(): number {
    const empty = this.chunks.filter((chunk) => !chunk.isFirst && chunk.isEmpty);
    for (const chunk of empty) this.#destroyChunk(chunk);
    for (const chunk of this.chunks) if (!chunk.isFirst) this.#depopulate(chunk, 0);
    return empty.length;
  }

  /** Takes pages away in which nothing is, but for the first `keep`. @linux mm/percpu.c:pcpu_reclaim_populated */
  #depopulate(chunk: PercpuChunk, keep: number): void {
    let kept = 0;
    for (let page = 0; page < chunk.populated.length; page++) {
      if (chunk.populated[page] === 0 || !chunk.isPageEmpty(page) || kept++ < keep) continue;
      this.#host.depopulate(this.#addresses(chunk, page));
      chunk.populated[page] = 0;
      this.nrPopulated -= 1;
    }
  }

  /** @linux mm/percpu-vm.c:pcpu_destroy_chunk */
  #destroyChunk(chunk: PercpuChunk): void {
    this.#depopulate(chunk, 0);
    this.chunks.splice(this.chunks.indexOf(chunk), 1);
    this.stats.nrChunks = this.chunks.length;
    this.#host.putArea(chunk.base);
    for (const address of chunk.backing) this.#host.memFree(address);
  }

  /** The address of a CPU's copy. @throws RangeError where there is no such CPU @linux include/linux/percpu-defs.h:per_cpu_ptr */
  ptr(pointer: PercpuPtr, cpu: number): VirtAddr {
    if (!(cpu >= 0 && cpu < this.nrUnits)) throw new RangeError(`per_cpu_ptr: CPUs are 0 to ${this.nrUnits - 1}, not ${cpu}`);
    return this.base + pointer + this.#unitOffsets[cpu];
  }

  /** The address of the running CPU's copy. @linux include/linux/percpu-defs.h:this_cpu_ptr */
  thisPtr(pointer: PercpuPtr): VirtAddr {
    return this.ptr(pointer, this.#host.smp.processorId);
  }

  /** CPUs that have a copy: all there could be. */
  get nrUnits(): number {
    return this.#unitOffsets.length;
  }

  /** Recomputes what is free and what is there. @throws KernelBug for the first that does not hold */
  validate(): void {
    let populated = 0;
    let areas = 0;
    for (const chunk of this.chunks) {
      chunk.validate();
      populated += chunk.populated.reduce((sum, page) => sum + page, 0);
      areas += chunk.nrAlloc;
    }
    bugOn(populated !== this.nrPopulated, `percpu: ${this.nrPopulated} pages counted, ${populated} found`);
    bugOn(areas !== this.stats.nrCurAlloc, `percpu: ${this.stats.nrCurAlloc} areas counted, ${areas} found`);
  }
}

/** Chunks with about as much room are alike. @linux mm/percpu.c:pcpu_size_to_slot */
function slotOf(bytes: number): number {
  return Math.max(Math.floor(Math.log2(bytes)) - 3 + 2, 1);
}
