/**
 * A CPU: its page-table base, its TLB, and the walk that translates an address as the memory management unit does.
 */
import type { VirtAddr } from '@pagelab/abi';
import { BusError } from './physical-memory.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import { PAGE_SIZE } from './page.ts';
import type { PhysAddr } from './page.ts';
import {
  PF_INSTR,
  PF_PROT,
  PF_RSVD,
  PF_USER,
  PF_WRITE,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_HI_FRAME_MASK,
  PTE_NX_HI,
  PTE_PRESENT,
  PTE_PS,
  PTE_RW,
  PTE_USER,
  VECTOR_GENERAL_PROTECTION,
  VECTOR_PAGE_FAULT,
} from './pte.ts';
import { TLB_EXEC, TLB_MASK, TLB_READ, TLB_WRITE, Tlb } from './tlb.ts';

/** What {@link Cpu.translate} returns for an access that faults. */
export const TRANSLATE_FAULT = -1;

/** CR0.WP: the kernel, too, cannot write to read-only pages. */
export const CPU_WP = 1;
/** CR4.SMEP: the kernel cannot fetch instructions from user pages. */
export const CPU_SMEP = 2;
/** CR4.SMAP: the kernel cannot access user pages, unless {@link CPU_AC} is set. */
export const CPU_SMAP = 4;
/** EFLAGS.AC, which `stac` sets and `clac` clears: SMAP is suspended. */
export const CPU_AC = 8;
/** EFER.NXE: bit 63 of an entry forbids fetching; otherwise it is reserved. */
export const CPU_NXE = 16;
/** What Linux runs with. */
export const CPU_DEFAULT_CONTROLS = CPU_WP | CPU_SMEP | CPU_SMAP | CPU_NXE;

/** Width of a physical address, in bits: what a server processor has. Higher bits of an entry are reserved. */
export const PHYS_ADDR_BITS = 46;

/** Bits of the high word that are reserved because no physical address has them. */
const HI_RESERVED = PTE_HI_FRAME_MASK & ~(2 ** (PHYS_ADDR_BITS - 32) - 1);
/** Bits 13 to 29 are reserved in an entry that maps 1 GiB; bit 12 chooses the memory type. */
const RESERVED_1G = 0x3fffe000;
/** Bits 13 to 20 are reserved in an entry that maps 2 MiB. */
const RESERVED_2M = 0x1fe000;
/** What a processor reads where there is no memory. */
const OPEN_BUS = -1;

/** The canonical addresses: −2^47 up to, not including, 2^47. */
const CANONICAL_LIMIT = 2 ** 47;

/** Counts of one CPU. */
export interface CpuStats {
  /** Page-table walks, which is what a miss of the functional TLB costs. */
  walks: number;
  /** Walks that ended in a fault. */
  faults: number;
  /** Flushes of the whole TLB, by a load of CR3 or on request. */
  tlbFlushes: number;
  /** Flushes of a single page. */
  tlbPageFlushes: number;
}

/** One CPU of the machine. */
export class Cpu {
  /** Number, from 0. */
  readonly id: number;
  /** Its translations at user privilege. Translations for the kernel are walked each time. */
  readonly tlb = new Tlb();
  readonly stats: CpuStats = { walks: 0, faults: 0, tlbFlushes: 0, tlbPageFlushes: 0 };
  /** CR2: the address of the last access that faulted, as far as it raised a page fault. */
  faultAddress: VirtAddr = 0;
  /** The error code of the last fault. */
  faultErrorCode = 0;
  /** The vector of the last fault: 14, a page fault, or 13 where the address is not canonical. */
  faultVector = 0;

  readonly #ram: PhysicalMemory;
  #cr3: PhysAddr = 0;
  #controls = CPU_DEFAULT_CONTROLS;
  /** Host word of the top-level table; −1 until CR3 is loaded. */
  #root = -1;

  constructor(id: number, ram: PhysicalMemory) {
    this.id = id;
    this.#ram = ram;
  }

  /** Physical address of the top-level page table. */
  get cr3(): PhysAddr {
    return this.#cr3;
  }

  /** The protection controls in force: `CPU_WP`, `CPU_SMEP`, … */
  get controls(): number {
    return this.#controls;
  }

  /** Sets the protection controls. */
  setControls(controls: number): void {
    if ((controls ^ this.#controls) & ~CPU_AC) this.flushTlb();
    this.#controls = controls;
  }

  /**
   * Makes the page tables at `pgd` current, and drops every translation (of global pages, too, as is allowed). About
   * 100 ns.
   *
   * @throws BusError where `pgd` is not RAM
   */
  loadCr3(pgd: PhysAddr): void {
    const root = this.#ram.frameWord(Math.floor(pgd / PAGE_SIZE));
    if (root < 0) throw new BusError(pgd);
    this.#cr3 = pgd - (pgd % PAGE_SIZE);
    this.#root = root;
    this.stats.tlbFlushes += 1;
    this.tlb.invalidateAll();
  }

  /** Drops the translations of the page that holds `va`. */
  invlpg(va: VirtAddr): void {
    this.stats.tlbPageFlushes += 1;
    this.tlb.invalidatePage(Math.floor(va / PAGE_SIZE) * PAGE_SIZE);
  }

  /** Drops every translation. */
  flushTlb(): void {
    this.stats.tlbFlushes += 1;
    this.tlb.invalidateAll();
  }

  /**
   * Translates an access to the byte at `va`.
   *
   * A walk sets the accessed bit in each entry it uses, and for a write the dirty bit in the last.
   *
   * @param va a whole number; an unsigned address of the upper half may be given as such
   * @param access {@link PF_WRITE}, {@link PF_USER}, {@link PF_INSTR}
   * @returns the byte's index in `ram.u8`, or {@link TRANSLATE_FAULT}, the fault being in {@link faultAddress},
   *   {@link faultErrorCode} and {@link faultVector}
   * @throws BusError where the frame is not RAM
   */
  translate(va: VirtAddr, access: number): number {
    if (access & PF_USER) {
      const column = access & PF_WRITE ? TLB_WRITE : access & PF_INSTR ? TLB_EXEC : TLB_READ;
      const offset = va & 0xfff;
      const slot = ((va | 0) >>> 12) & TLB_MASK;
      if (this.tlb.tags[column + slot] + offset === va) return this.tlb.words[slot] * 4 + offset;
    }
    return this.#walk(va, access);
  }

  #walk(address: VirtAddr, access: number): number {
    const va = address >= 2 ** 63 ? address - 2 ** 64 : address;
    this.stats.walks += 1;
    if (!(va >= -CANONICAL_LIMIT && va < CANONICAL_LIMIT)) return this.#fault(va, 0, VECTOR_GENERAL_PROTECTION);
    if (this.#root < 0) throw new BusError(this.#cr3);
    const ram = this.#ram;
    const { u32 } = ram;
    const hiVa = Math.floor(va / 0x100000000);
    const loVa = va | 0;
    const nxe = (this.#controls & CPU_NXE) !== 0;
    const hiReserved = nxe ? HI_RESERVED : HI_RESERVED | PTE_NX_HI;

    // Level 4: 512 GiB an entry. Bit 7 is reserved.
    let table = this.#root;
    let entry = table + (((hiVa >>> 7) & 511) << 1);
    let lo = u32[entry] | 0;
    let hi = u32[entry + 1] | 0;
    if (!(lo & PTE_PRESENT)) return this.#fault(va, access, VECTOR_PAGE_FAULT);
    if (hi & hiReserved || lo & PTE_PS) return this.#fault(va, access | PF_PROT | PF_RSVD, VECTOR_PAGE_FAULT);
    if (!(lo & PTE_ACCESSED)) u32[entry] = lo | PTE_ACCESSED;
    let allowed = lo;
    let noExec = hi;

    // Level 3: 1 GiB an entry.
    table = ram.frameWord((lo >>> 12) + (hi & PTE_HI_FRAME_MASK) * 0x100000);
    entry = table + ((((hiVa << 2) | (loVa >>> 30)) & 511) << 1);
    lo = table < 0 ? OPEN_BUS : u32[entry] | 0;
    hi = table < 0 ? OPEN_BUS : u32[entry + 1] | 0;
    if (!(lo & PTE_PRESENT)) return this.#fault(va, access, VECTOR_PAGE_FAULT);
    let largeReserved = lo & PTE_PS ? RESERVED_1G : 0;
    if (hi & hiReserved || lo & largeReserved) return this.#fault(va, access | PF_PROT | PF_RSVD, VECTOR_PAGE_FAULT);
    allowed &= lo;
    noExec |= hi;
    let pageMask = 0;
    if (lo & PTE_PS) {
      pageMask = 0x3ffff000;
    } else {
      if (!(lo & PTE_ACCESSED)) u32[entry] = lo | PTE_ACCESSED;

      // Level 2: 2 MiB an entry.
      table = ram.frameWord((lo >>> 12) + (hi & PTE_HI_FRAME_MASK) * 0x100000);
      entry = table + (((loVa >>> 21) & 511) << 1);
      lo = table < 0 ? OPEN_BUS : u32[entry] | 0;
      hi = table < 0 ? OPEN_BUS : u32[entry + 1] | 0;
      if (!(lo & PTE_PRESENT)) return this.#fault(va, access, VECTOR_PAGE_FAULT);
      largeReserved = lo & PTE_PS ? RESERVED_2M : 0;
      if (hi & hiReserved || lo & largeReserved) return this.#fault(va, access | PF_PROT | PF_RSVD, VECTOR_PAGE_FAULT);
      allowed &= lo;
      noExec |= hi;
      if (lo & PTE_PS) {
        pageMask = 0x1ff000;
      } else {
        if (!(lo & PTE_ACCESSED)) u32[entry] = lo | PTE_ACCESSED;

        // Level 1: a page of 4 KiB an entry.
        table = ram.frameWord((lo >>> 12) + (hi & PTE_HI_FRAME_MASK) * 0x100000);
        entry = table + (((loVa >>> 12) & 511) << 1);
        lo = table < 0 ? OPEN_BUS : u32[entry] | 0;
        hi = table < 0 ? OPEN_BUS : u32[entry + 1] | 0;
        if (!(lo & PTE_PRESENT)) return this.#fault(va, access, VECTOR_PAGE_FAULT);
        if (hi & hiReserved) return this.#fault(va, access | PF_PROT | PF_RSVD, VECTOR_PAGE_FAULT);
        allowed &= lo;
        noExec |= hi;
      }
    }

    const executable = !nxe || (noExec & PTE_NX_HI) === 0;
    if (!this.#permitted(allowed, executable, access)) return this.#fault(va, access | PF_PROT, VECTOR_PAGE_FAULT);
    const used = access & PF_WRITE ? lo | PTE_ACCESSED | PTE_DIRTY : lo | PTE_ACCESSED;
    if (used !== lo) u32[entry] = used;

    const framePfn = ((lo & ~pageMask) >>> 12) + (hi & PTE_HI_FRAME_MASK) * 0x100000 + ((loVa & pageMask) >>> 12);
    const word = ram.frameWord(framePfn);
    if (word < 0) throw new BusError(framePfn * PAGE_SIZE + (loVa & 0xfff));
    if (access & PF_USER) {
      const page = va - (loVa & 0xfff);
      if (access & PF_INSTR) {
        this.tlb.fill(page, TLB_EXEC, word, pageMask !== 0);
      } else {
        this.tlb.fill(page, TLB_READ, word, pageMask !== 0);
        if (allowed & PTE_RW && used & PTE_DIRTY) this.tlb.fill(page, TLB_WRITE, word, pageMask !== 0);
      }
    }
    return word * 4 + (loVa & 0xfff);
  }

  /** Whether the rights of all levels together allow the access. */
  #permitted(allowed: number, executable: boolean, access: number): boolean {
    const userPage = (allowed & PTE_USER) !== 0;
    const writable = (allowed & PTE_RW) !== 0;
    if (access & PF_USER) {
      if (!userPage) return false;
      if (access & PF_INSTR) return executable;
      return writable || !(access & PF_WRITE);
    }
    const controls = this.#controls;
    if (access & PF_INSTR) return executable && !(userPage && controls & CPU_SMEP);
    if (userPage && controls & CPU_SMAP && !(controls & CPU_AC)) return false;
    return writable || !(access & PF_WRITE) || !(controls & CPU_WP);
  }

  #fault(va: VirtAddr, errorCode: number, vector: number): number {
    this.stats.faults += 1;
    this.faultVector = vector;
    // A fetch is told from a read only where the processor can forbid fetching.
    const tellsFetch = (this.#controls & (CPU_NXE | CPU_SMEP)) !== 0;
    this.faultErrorCode = vector === VECTOR_PAGE_FAULT ? (tellsFetch ? errorCode : errorCode & ~PF_INSTR) : 0;
    this.faultAddress = va;
    return TRANSLATE_FAULT;
  }
}
