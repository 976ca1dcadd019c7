/**
 * Windows through which a kernel of 32 bits looks at memory that it has no permanent address for.
 *
 * ```
 * kmap        a table's worth of addresses for all CPUs: 1,024 of them, 512 with PAE. Who maps a page that is mapped gets
 *             the same address; one that nobody uses any more stays mapped until the addresses have been gone through once,
 *             and then all such go with one flush of every CPU's TLB
 * kmap_local  16 addresses a CPU, given out and taken back as a stack; no flush but of the one address
 * ```
 *
 *     count[n] === 0   free                       count[n] === 1 + users   mapped
 *     entries of pkmap that show a frame  === counts above 0          slot of each such frame === its entry
 *     entries of a CPU's local slots      === the depth of its stack
 *
 * Misuse stops Linux (BUG) or is warned of (WARN). Here it is told to `vm.warn` either way, and changes nothing.
 *
 * @linux mm/highmem.c
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import type { PageTableShape } from './pgtable-shape.ts';
import type { Vm } from './vm.ts';

/** The last page of addresses is not used; below it grow the fixed ones. @linux arch/x86/include/asm/fixmap.h:FIXADDR_TOP */
export const FIXADDR_TOP = 0xffff_f000;
/** Fixed addresses above those of `kmap_local`: consoles, the APIC, 64 I/O APICs. @linux arch/x86/include/asm/fixmap.h:FIX_KMAP_BEGIN */
const FIX_KMAP_BEGIN = 68;
/** Slots of `kmap_local` that a CPU has. @linux arch/x86/include/asm/kmap_size.h:KM_MAX_IDX */
export const KM_MAX_IDX = 16;

/** Lowest address of the fixmap. */
export function fixmapStart(nrCpus: number): VirtAddr {
  return fixToVirt(FIX_KMAP_BEGIN + KM_MAX_IDX * nrCpus - 1);
}

/** Where `kmap`'s addresses begin. @linux arch/x86/include/asm/pgtable_32_areas.h:PKMAP_BASE */
export function pkmapBase({ pmdSize }: PageTableShape): VirtAddr {
  return pmdSize === 2 ** 21 ? 0xff00_0000 : 0xfec0_0000;
}

/** @linux include/asm-generic/fixmap.h:__fix_to_virt */
function fixToVirt(index: number): VirtAddr {
  return FIXADDR_TOP - index * PAGE_SIZE;
}

/** Counts since boot. */
export interface HighmemStats {
  /** Calls that had to map a page of high memory, and those that found it mapped. */
  kmaps: number;
  kmapsFound: number;
  /** Times all unused addresses of `kmap` were given up, with one flush; and how many. */
  flushes: number;
  flushed: number;
  /** Pages of high memory mapped for a moment. */
  kmapLocals: number;
}

/** High memory of one machine. */
export class Highmem {
  /** Addresses of `kmap`. @linux arch/x86/include/asm/highmem.h:LAST_PKMAP */
  readonly lastPkmap: number;
  readonly pkmapBase: VirtAddr;
  /** @linux mm/highmem.c:pkmap_count */
  readonly pkmapCount: Int32Array;
  readonly stats: HighmemStats = { kmaps: 0, kmapsFound: 0, flushes: 0, flushed: 0, kmapLocals: 0 };

  readonly #vm: Vm;
  readonly #lowEndPfn: Pfn;
  /** Which address shows a frame. @linux mm/highmem.c:page_address_htable */
  readonly #slots = new Map<Pfn, number>();
  /** The address given out last. */
  #lastNr = 0;
  /** Slots in use of each CPU. @linux include/linux/sched.h:kmap_ctrl */
  readonly #depth: Int32Array;
  /** `kmap_atomic` calls on each CPU that wait for their `kunmap_atomic`. */
  readonly #atomic: Int32Array;

  /** @param lowEndPfn one past the last frame that has a permanent address */
  constructor(vm: Vm, lowEndPfn: Pfn) {
    this.#vm = vm;
    this.#lowEndPfn = lowEndPfn;
    this.lastPkmap = vm.tables.ptrsPerPte;
    this.pkmapBase = pkmapBase(vm.tables);
    this.pkmapCount = new Int32Array(this.lastPkmap);
    this.#depth = new Int32Array(vm.smp.cpus.length);
    this.#atomic = new Int32Array(vm.smp.cpus.length);
    const { initMm } = vm.vmalloc;
    const last = fixToVirt(FIX_KMAP_BEGIN);
    bugOn(initMm.allocPte(this.pkmapBase) < 0, 'highmem: no memory for its page tables');
    for (let addr = fixmapStart(vm.smp.cpus.length); addr <= last; addr += PAGE_SIZE) {
      bugOn(initMm.allocPte(addr) < 0, 'highmem: no memory for its page tables');
    }
  }

  /** Whether a frame has no permanent address. @linux include/linux/page-flags.h:PageHighMem */
  isHighmem(pfn: Pfn): boolean {
    return pfn >= this.#lowEndPfn;
  }

  /** Where the kernel sees a frame now: in the direct map, or where `kmap` put it; 0 for nowhere. @linux mm/highmem.c:page_address */
  pageAddress(pfn: Pfn): VirtAddr {
    if (!this.isHighmem(pfn)) return this.#vm.pages.pageAddress(pfn);
    const nr = this.#slots.get(pfn);
    return nr === undefined ? 0 : this.#pkmapAddr(nr);
  }

  // ------------------------------------------------------------------------------------------------------ kmap

  /**
   * Gives a page an address until {@link kunmap}. Costs a flush of all CPUs once in as many new pages as there are
   * addresses, and a look at all of them then.
   *
   * @returns the address; 0 where all are in use: Linux sleeps until one is given back
   * @linux include/linux/highmem.h:kmap
   */
  kmap(pfn: Pfn): VirtAddr {
    if (this.#atomic[this.#cpu] > 0) {
      this.#warn('kmap-in-atomic', 0, 'BUG: sleeping function called from invalid context: kmap() between kmap_atomic() and kunmap_atomic()');
    }
    if (!this.isHighmem(pfn)) return this.pageAddress(pfn);
    let nr = this.#slots.get(pfn);
    if (nr === undefined) {
      nr = this.#mapNew(pfn);
      if (nr < 0) {
        this.#warn('kmap-exhausted', 0, `kmap: all ${this.lastPkmap} addresses are in use; the task sleeps until one is given back`);
        return 0;
      }
      this.stats.kmaps++;
    } else {
      this.stats.kmapsFound++;
    }
    this.pkmapCount[nr]++;
    return this.#pkmapAddr(nr);
  }

  /** @returns the address's number, or −1 where none is free @linux mm/highmem.c:map_new_virtual */
  #mapNew(pfn: Pfn): number {
    const { pkmapCount, lastPkmap } = this;
    for (let left = lastPkmap; left > 0; left--) {
      this.#lastNr = (this.#lastNr + 1) % lastPkmap;
      if (this.#lastNr === 0) {
        this.#flushUnused();
        left = lastPkmap;
      }
      const nr = this.#lastNr;
      if (pkmapCount[nr] !== 0) continue;
      const { initMm } = this.#vm.vmalloc;
      initMm.setPte(initMm.findPte(this.#pkmapAddr(nr)), pfn);
      pkmapCount[nr] = 1;
      this.#slots.set(pfn, nr);
      return nr;
    }
    return -1;
  }

  /** Gives up the addresses that are mapped and have no user. @linux mm/highmem.c:flush_all_zero_pkmaps */
  #flushUnused(): void {
    const { initMm } = this.#vm.vmalloc;
    let flushed = 0;
    for (let nr = 0; nr < this.lastPkmap; nr++) {
      if (this.pkmapCount[nr] !== 1) continue;
      this.pkmapCount[nr] = 0;
      this.#slots.delete(initMm.clearPte(initMm.findPte(this.#pkmapAddr(nr))));
      flushed++;
    }
    if (flushed === 0) return;
    this.stats.flushes++;
    this.stats.flushed += flushed;
    this.#vm.smp.flushTlbKernelRange(this.#pkmapAddr(0), this.#pkmapAddr(this.lastPkmap));
  }

  /** Gives up a user's hold on the address that {@link kmap} gave. It stays mapped. @linux include/linux/highmem.h:kunmap */
  kunmap(pfn: Pfn): void {
    if (!this.isHighmem(pfn)) return;
    const nr = this.#slots.get(pfn);
    if (nr === undefined) {
      this.#warn('kunmap-not-mapped', 0, `kernel BUG: kunmap() of page ${pfn}, which kmap() has not mapped`);
    } else if (this.pkmapCount[nr] === 1) {
      this.#warn('kunmap-unbalanced', this.#pkmapAddr(nr), `kernel BUG: kunmap() of page ${pfn} once more than kmap()`);
    } else {
      this.pkmapCount[nr]--;
    }
  }

  #pkmapAddr(nr: number): VirtAddr {
    return this.pkmapBase + nr * PAGE_SIZE;
  }

  // ------------------------------------------------------------------------------------------------ kmap_local

  /**
   * Gives a page an address that this CPU alone uses, until {@link kunmapLocal}. The last one mapped is the first to go.
   *
   * @returns the address; 0 where the CPU's slots are all in use, which stops Linux
   * @linux include/linux/highmem.h:kmap_local_page
   */
  kmapLocal(pfn: Pfn): VirtAddr {
    if (!this.isHighmem(pfn)) return this.pageAddress(pfn);
    const cpu = this.#cpu;
    if (this.#depth[cpu] === KM_MAX_IDX) {
      this.#warn('kmap-local-exhausted', 0, `kernel BUG: kmap_local_page(): all ${KM_MAX_IDX} slots of CPU ${cpu} are in use`);
      return 0;
    }
    const addr = this.#localAddr(cpu, this.#depth[cpu]++);
    const { initMm } = this.#vm.vmalloc;
    initMm.setPte(initMm.findPte(addr), pfn);
    this.stats.kmapLocals++;
    return addr;
  }

  /** Takes back the address that {@link kmapLocal} gave last on this CPU. @linux mm/highmem.c:kunmap_local_indexed */
  kunmapLocal(addr: VirtAddr): void {
    const cpu = this.#cpu;
    const page = addr - (addr % PAGE_SIZE);
    if (page < fixmapStart(this.#depth.length) || page > fixToVirt(FIX_KMAP_BEGIN)) {
      // Of the direct map nothing was mapped.
      if (addr < this.#vm.tables.taskSize) this.#warn('kunmap-local-address', addr, `WARNING: kunmap_local() of ${hex(addr)}, which is no address of the kernel`);
      return;
    }
    const depth = this.#depth[cpu] - 1;
    if (depth < 0 || page !== this.#localAddr(cpu, depth)) {
      const last = depth < 0 ? 'nothing is mapped' : `${hex(this.#localAddr(cpu, depth))} was mapped last`;
      this.#warn('kunmap-local-order', addr, `WARNING: kunmap_local() of ${hex(addr)} on CPU ${cpu}, where ${last}`);
      return;
    }
    const { initMm } = this.#vm.vmalloc;
    initMm.clearPte(initMm.findPte(page));
    this.#depth[cpu] = depth;
    this.#vm.smp.cpus[cpu].invlpg(page);
  }

  /** As {@link kmapLocal}; until {@link kunmapAtomic} the CPU may not sleep. @linux include/linux/highmem.h:kmap_atomic */
  kmapAtomic(pfn: Pfn): VirtAddr {
    const addr = this.kmapLocal(pfn);
    if (addr !== 0) this.#atomic[this.#cpu]++;
    return addr;
  }

  /** Takes back what {@link kmapAtomic} gave. @linux include/linux/highmem-internal.h:__kunmap_atomic */
  kunmapAtomic(addr: VirtAddr): void {
    const cpu = this.#cpu;
    if (this.#atomic[cpu] === 0) {
      this.#warn('kunmap-atomic-unbalanced', addr, `WARNING: kunmap_atomic() of ${hex(addr)} without kmap_atomic() on CPU ${cpu}`);
      return;
    }
    const depth = this.#depth[cpu];
    this.kunmapLocal(addr);
    // An address of the direct map took no slot.
    if (this.#depth[cpu] < depth || addr < fixmapStart(this.#depth.length)) this.#atomic[cpu]--;
  }

  #localAddr(cpu: number, depth: number): VirtAddr {
    return fixToVirt(FIX_KMAP_BEGIN + KM_MAX_IDX * cpu + depth);
  }

  get #cpu(): number {
    return this.#vm.smp.processorId;
  }

  // ------------------------------------------------------------------------------------------- pages of programs

  /** Fills a page with zeros. @linux include/linux/highmem.h:clear_highpage */
  clearPage(pfn: Pfn): void {
    const addr = this.kmapLocal(pfn);
    this.#vm.ram.zeroFrame(pfn);
    this.kunmapLocal(addr);
  }

  /** Copies a page to another. @linux include/linux/highmem.h:copy_user_highpage */
  copyPage(to: Pfn, from: Pfn): void {
    const source = this.kmapLocal(from);
    const target = this.kmapLocal(to);
    this.#vm.ram.copyFrame(to, from);
    this.kunmapLocal(target);
    this.kunmapLocal(source);
  }

  /** Checks counts, entries and addresses against each other. @throws KernelBug at the first that does not hold */
  validate(): void {
    const { initMm } = this.#vm.vmalloc;
    let mapped = 0;
    for (let nr = 0; nr < this.lastPkmap; nr++) {
      const entry = initMm.findPte(this.#pkmapAddr(nr));
      bugOn(initMm.isNone(entry) !== (this.pkmapCount[nr] === 0), `highmem: count ${this.pkmapCount[nr]} of address ${nr}, and its entry`);
      if (this.pkmapCount[nr] === 0) continue;
      mapped++;
      const { pfn } = initMm.walk(this.#pkmapAddr(nr));
      bugOn(this.#slots.get(pfn) !== nr, `highmem: frame ${pfn} does not know its address ${nr}`);
      bugOn(!this.isHighmem(pfn), `highmem: frame ${pfn} has a permanent address`);
    }
    bugOn(mapped !== this.#slots.size, `highmem: ${mapped} addresses in use, ${this.#slots.size} known`);
    for (let cpu = 0; cpu < this.#depth.length; cpu++) {
      for (let at = 0; at < KM_MAX_IDX; at++) {
        const isNone = initMm.isNone(initMm.findPte(this.#localAddr(cpu, at)));
        bugOn(isNone !== at >= this.#depth[cpu], `highmem: slot ${at} of CPU ${cpu}, and a stack of ${this.#depth[cpu]}`);
      }
    }
  }

  #warn(kind: string, address: VirtAddr, text: string): void {
    this.#vm.warn({ kind, address, text });
  }
}

function hex(address: VirtAddr): string {
  return address.toString(16).padStart(8, '0');
}

/** Copies a page to another: through windows where one of them is high memory. @linux mm/memory.c:__wp_page_copy_user */
export function copyUserPage(vm: Vm, to: Pfn, from: Pfn): void {
  if (vm.highmem === null) vm.ram.copyFrame(to, from);
  else vm.highmem.copyPage(to, from);
}

/** Gives the kernel an address for a page for a moment, if it needs one. @linux include/linux/highmem.h:kmap_local_page */
export function kmapLocalPage(vm: Vm, pfn: Pfn): VirtAddr {
  return vm.highmem === null ? 0 : vm.highmem.kmapLocal(pfn);
}

/** Takes back what {@link kmapLocalPage} gave last. @linux include/linux/highmem.h:kunmap_local */
export function kunmapLocal(vm: Vm, addr: VirtAddr): void {
  if (vm.highmem !== null) vm.highmem.kunmapLocal(addr);
}

/** Fills a page with zeros. @linux include/linux/highmem.h:clear_highpage */
export function clearHighpage(vm: Vm, pfn: Pfn): void {
  if (vm.highmem === null) vm.ram.zeroFrame(pfn);
  else vm.highmem.clearPage(pfn);
}

/** Where the kernel sees a frame; 0 for nowhere. On 64 bits that is always in the direct map. @linux include/linux/mm.h:page_address */
export function pageAddress(vm: Vm, pfn: Pfn): VirtAddr {
  return vm.highmem === null ? vm.pages.pageAddress(pfn) : vm.highmem.pageAddress(pfn);
}
