/**
 * A CPU: its page-table base, its TLB, and the walk that translates an address as the memory management unit does.
 */
import type { VirtAddr } from '@pagelab/abi';
import { BusError } from './physical-memory.ts';
import type { PhysicalMemory, RamUser } from './physical-memory.ts';
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
  PTE_LO_FRAME_MASK,
  PTE_NX_HI,
  PTE_PRESENT,
  PTE_PS,
  PTE_RW,
  PTE_USER,
  VECTOR_GENERAL_PROTECTION,
  VECTOR_PAGE_FAULT,
  ptePfn,
} from './pte.ts';
import { Tlb } from './tlb.ts';

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
/** The rights that all levels must grant. */
const RIGHTS = PTE_RW | PTE_USER;
/** What a processor reads where there is no memory. */
const OPEN_BUS = -1;

// V8 reads an imported constant anew at each use and checks it; one of the module's own is compiled in. For the walk
// that is half its time.
const PRESENT = PTE_PRESENT;
const RW = PTE_RW;
const USER = PTE_USER;
const ACCESSED = PTE_ACCESSED;
const DIRTY = PTE_DIRTY;
const LARGE = PTE_PS;
const FRAME_LO = PTE_LO_FRAME_MASK;
const WRITE = PF_WRITE;
const USER_ACCESS = PF_USER;
const FETCH = PF_INSTR;
const NX = PTE_NX_HI;
const PAGE_FAULT = VECTOR_PAGE_FAULT;
const GENERAL_PROTECTION = VECTOR_GENERAL_PROTECTION;
const RESERVED_BIT = PF_RSVD;
const PROTECTION = PF_PROT;
const TWO_32 = 0x100000000;

/** What is looked at in an entry above the last level. */
const TABLE_BITS = PRESENT | ACCESSED | LARGE;
/** That of one which names a table, and was used before. */
const TABLE_IN_USE = PRESENT | ACCESSED;
/** The highest upper half of an address below 2^47. */
const MAX_USER_HI = 0x7fff;

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
export class Cpu implements RamUser {
  /** Number, from 0. */
  readonly id: number;
  /** Its translations at user privilege. Translations for the kernel are walked each time. */
  declare readonly tlb: Tlb;
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
  /** Bits of an entry's high word that forbid fetching. */
  #noExecMask = NX;
  /** Bits of an entry's high word that are reserved. */
  #hiReserved = HI_RESERVED;
  /**
   * The entries met last in the three upper levels (one, one and sixteen), two words each, and the host word of the
   * table they name. It is not a paging-structure cache: each entry is read, and only where its table lies in the
   * host's buffer is known beforehand, which never changes. The processor can guess that, and need not wait for one
   * level to begin with the next.
   */
  readonly #tables: Int32Array = new Int32Array(6 + 16 * 3);
  /** Host word of the top-level table; −1 until CR3 is loaded. */
  #root = -1;

  constructor(id: number, ram: PhysicalMemory) {
    this.id = id;
    this.#ram = ram;
    this.tlb = new Tlb(ram);
    ram.addUser(this);
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
    if (((controls ^ this.#controls) & ~CPU_AC) !== 0) this.flushTlb();
    this.#controls = controls;
    const nxe = (controls & CPU_NXE) !== 0;
    this.#noExecMask = nxe ? NX : 0;
    this.#hiReserved = nxe ? HI_RESERVED : HI_RESERVED | NX;
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
   * A walk sets the accessed bit in each entry it uses, and for a write the dirty bit in the last. An access at user
   * privilege then stays in the TLB.
   *
   * @param va a whole number; an unsigned address of the upper half may be given as such
   * @param access {@link PF_WRITE}, {@link PF_USER}, {@link PF_INSTR}
   * @returns the byte's index in `ram.u8`, or {@link TRANSLATE_FAULT}, the fault being in {@link faultAddress},
   *   {@link faultErrorCode} and {@link faultVector}
   * @throws BusError where the frame is not RAM
   */
  translate(va: VirtAddr, access: number): number {
    const word = this.translatePage(va, access);
    return word < 0 ? TRANSLATE_FAULT : word * 4 + (va & 0xfff);
  }

  /** As {@link translate}, but returns the host word at which the page's frame begins. */
  translatePage(va: VirtAddr, access: number): number {
    const { tlb } = this;
    const page = va - (va & 0xfff);
    let word = -1;
    if ((access & (USER_ACCESS | FETCH)) === USER_ACCESS) {
      word = (access & WRITE) !== 0 ? tlb.lookupWrite(page) : tlb.lookupRead(page);
    } else if ((access & USER_ACCESS) !== 0) {
      word = tlb.lookupFetch(page);
    }
    return word >= 0 ? word : this.walk(hiWord(va), va | 0, access);
  }

  /** Forgets where the page tables are, as their memory is gone. */
  ramReleased(): void {
    this.#root = -1;
    this.#tables.fill(0);
    this.tlb.invalidateAll();
  }

  /**
   * As {@link translatePage}, without a look at the TLB.
   *
   * This is the walk as it mostly goes: user data, four tables in use before, a page of 4 KiB, the access allowed. All
   * else is left to {@link #walkAny}, which knows the rules.
   *
   * @param hiVa upper 32 bits of the address, signed
   * @param loVa lower 32 bits, signed
   */
  walk(hiVa: number, loVa: number, access: number): number {
    const ram = this.#ram;
    const { i32 } = ram;
    const root = this.#root;
    if (root < 0 || hiVa >>> 0 > MAX_USER_HI || (access & (USER_ACCESS | FETCH)) !== USER_ACCESS) {
      return this.#walkAny(hiVa, loVa, access);
    }
    const tables = this.#tables;
    let at = (root + ((hiVa >>> 6) & 0x3fe)) | 0;
    let lo = i32[at];
    let hi = i32[(at + 1) | 0];
    if (lo !== tables[0] || hi !== tables[1]) {
      if (!this.#learnTable(0, lo, hi)) return this.#walkAny(hiVa, loVa, access);
    }
    let allowed = lo;
    let highs = hi;

    at = (tables[2] + (((hiVa << 3) | (loVa >>> 29)) & 0x3fe)) | 0;
    lo = i32[at];
    hi = i32[(at + 1) | 0];
    if (lo !== tables[3] || hi !== tables[4]) {
      if (!this.#learnTable(3, lo, hi)) return this.#walkAny(hiVa, loVa, access);
    }
    allowed &= lo;
    highs |= hi;

    at = (tables[5] + ((loVa >>> 20) & 0x3fe)) | 0;
    lo = i32[at];
    hi = i32[(at + 1) | 0];
    const last = 6 + ((loVa >>> 21) & 15) * 3;
    if (lo !== tables[last] || hi !== tables[last + 1]) {
      if (!this.#learnTable(last, lo, hi)) return this.#walkAny(hiVa, loVa, access);
    }
    allowed &= lo;
    highs |= hi;

    at = (tables[last + 2] + ((loVa >>> 11) & 0x3fe)) | 0;
    lo = i32[at];
    hi = i32[(at + 1) | 0];
    const word = ram.entryWordIfTouched(lo, hi);
    allowed &= lo;
    highs |= hi;
    const needed = PRESENT | (access & RIGHTS);
    if ((allowed & needed) !== needed || (highs & this.#hiReserved) !== 0 || word < 0) {
      return this.#walkAny(hiVa, loVa, access);
    }
    const used = lo | ((access & WRITE) !== 0 ? ACCESSED | DIRTY : ACCESSED);
    if (used !== lo) i32[at] = used;
    this.stats.walks += 1;
    this.tlb.enterData(hiVa, loVa, word, (allowed & RW) !== 0 && (used & DIRTY) !== 0, false);
    return word;
  }

  /** Notes the table that an entry names, if it is an ordinary one that was used before. */
  #learnTable(at: number, lo: number, hi: number): boolean {
    const word = this.#ram.entryWordIfTouched(lo, hi);
    if ((lo & TABLE_BITS) !== TABLE_IN_USE || word < 0) return false;
    this.#tables[at] = lo;
    this.#tables[at + 1] = hi;
    this.#tables[at + 2] = word;
    return true;
  }

  /** The walk by all its rules. */
  #walkAny(hiVa: number, loVa: number, access: number): number {
    this.stats.walks += 1;
    if (hiVa !== (hiVa << 16) >> 16) return this.#fault(hiVa, loVa, 0, GENERAL_PROTECTION);
    let table = this.#root;
    if (table < 0) throw new BusError(this.#cr3);
    const ram = this.#ram;
    const { i32 } = ram;
    const hiReserved = this.#hiReserved;
    let allowed = RIGHTS;
    let noExec = 0;
    let shift = 39;
    let at = table + ((hiVa >>> 6) & 0x3fe);
    let lo: number;
    let hi: number;
    for (;;) {
      // Where a table should be and no memory is, all bits read as one.
      lo = table < 0 ? OPEN_BUS : i32[at];
      hi = table < 0 ? OPEN_BUS : i32[at + 1];
      if ((lo & PRESENT) === 0) return this.#fault(hiVa, loVa, access, PAGE_FAULT);
      if ((hi & hiReserved) !== 0) return this.#fault(hiVa, loVa, access | PROTECTION | RESERVED_BIT, PAGE_FAULT);
      allowed &= lo;
      noExec |= hi;
      if (shift === 12) break;
      if ((lo & LARGE) !== 0) {
        if ((lo & reservedInLarge(shift)) === 0) break;
        return this.#fault(hiVa, loVa, access | PROTECTION | RESERVED_BIT, PAGE_FAULT);
      }
      if ((lo & ACCESSED) === 0) i32[at] = lo | ACCESSED;
      table = ram.entryWord(lo, hi);
      shift -= 9;
      at = table + (shift === 30 ? ((hiVa << 3) | (loVa >>> 29)) & 0x3fe : (loVa >>> (shift - 1)) & 0x3fe);
    }

    const forbidden = noExec & this.#noExecMask;
    if ((access & USER_ACCESS) !== 0) {
      // The write and user bits of an access are those of an entry; no entry grants the bit that forbids fetching.
      const needed = (access & RIGHTS) | ((access & FETCH) !== 0 ? forbidden : 0);
      if ((needed & ~allowed) !== 0) return this.#fault(hiVa, loVa, access | PROTECTION, PAGE_FAULT);
    } else if (!this.#kernelMay(allowed, forbidden === 0, access)) {
      return this.#fault(hiVa, loVa, access | PROTECTION, PAGE_FAULT);
    }
    const used = lo | ((access & WRITE) !== 0 ? ACCESSED | DIRTY : ACCESSED);
    if (used !== lo) i32[at] = used;

    // Of a large page, the address gives the frame's lower bits.
    const inPage = ((1 << shift) - 1) & FRAME_LO;
    const frameLo = (lo & ~inPage) | (loVa & inPage);
    const word = ram.entryWord(frameLo, hi);
    if (word < 0) throw new BusError(ptePfn(frameLo, hi) * PAGE_SIZE + (loVa & 0xfff));
    if ((access & USER_ACCESS) !== 0) {
      const large = shift !== 12;
      if ((access & FETCH) !== 0) this.tlb.enterFetch(hiVa, loVa, word, large);
      else this.tlb.enterData(hiVa, loVa, word, (allowed & RW) !== 0 && (used & DIRTY) !== 0, large);
    }
    return word;
  }

  /** Whether the rights of all levels together allow an access by the kernel. */
  #kernelMay(allowed: number, executable: boolean, access: number): boolean {
    const controls = this.#controls;
    const userPage = (allowed & USER) !== 0;
    if ((access & FETCH) !== 0) return executable && !(userPage && (controls & CPU_SMEP) !== 0);
    if (userPage && (controls & (CPU_SMAP | CPU_AC)) === CPU_SMAP) return false;
    return (allowed & RW) !== 0 || (access & WRITE) === 0 || (controls & CPU_WP) === 0;
  }

  #fault(hiVa: number, loVa: number, errorCode: number, vector: number): number {
    this.stats.faults += 1;
    this.faultVector = vector;
    // A fetch is told from a read only where the processor can forbid fetching.
    const tellsFetch = (this.#controls & (CPU_NXE | CPU_SMEP)) !== 0;
    this.faultErrorCode = vector === PAGE_FAULT ? (tellsFetch ? errorCode : errorCode & ~FETCH) : 0;
    this.faultAddress = hiVa * TWO_32 + (loVa >>> 0);
    return TRANSLATE_FAULT;
  }
}

/** Bits of the low word that are reserved in an entry that maps a large page of 2^`shift` bytes. */
function reservedInLarge(shift: number): number {
  // No entry maps 512 GiB. Bit 12 of the others chooses the memory type; the frame's address has no bits below its
  // size.
  return shift === 39 ? LARGE : ((1 << shift) - 1) & ~0x1fff;
}

/** The upper 32 bits of an address, signed, which may be given unsigned or sign-extended. */
function hiWord(va: VirtAddr): number {
  return Math.floor(va / TWO_32) | 0;
}
