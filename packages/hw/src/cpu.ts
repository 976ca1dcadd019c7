/**
 * A CPU: its page-table base, its TLB, and the walk that translates an address as the memory management unit does.
 */
import type { VirtAddr } from '@pagelab/abi';
import { BusError } from './physical-memory.ts';
import type { PhysicalMemory, RamUser } from './physical-memory.ts';
import { PAGE_SIZE } from './page.ts';
import type { PhysAddr } from './page.ts';
import { PDPTE_RESERVED_HI, PDPTE_RESERVED_LO, X86_64, largeHi } from './page-table-format.ts';
import type { PageTableFormat } from './page-table-format.ts';
import {
  PF_INSTR,
  PF_PROT,
  PF_RSVD,
  PF_USER,
  PF_WRITE,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_GLOBAL,
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
import {
  INVPCID_TYPE_ALL_INCL_GLOBAL,
  INVPCID_TYPE_ALL_NON_GLOBAL,
  INVPCID_TYPE_INDIV_ADDR,
  INVPCID_TYPE_SINGLE_CTXT,
  TLB_DATA,
  TLB_INSTRUCTION,
  WALK_FAULT,
  WALK_GLOBAL,
} from './tlb-model.ts';
import type { TlbModel } from './tlb-model.ts';
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
/** CR4.PGE: translations of global pages outlast a load of CR3. */
export const CPU_PGE = 32;
/** CR4.PCIDE: translations are kept apart by the context that CR3 names. With four levels only. */
export const CPU_PCIDE = 64;
/** CR4.PSE: of two levels, the upper one's entries may map 4 MiB. The other formats always have large pages. */
export const CPU_PSE = 128;
/** What Linux runs with. */
export const CPU_DEFAULT_CONTROLS = CPU_WP | CPU_SMEP | CPU_SMAP | CPU_NXE | CPU_PGE | CPU_PCIDE | CPU_PSE;
/** The controls whose change drops every translation. */
const FLUSHING_CONTROLS = CPU_SMEP | CPU_NXE | CPU_PGE | CPU_PCIDE | CPU_PSE;

/** {@link Cpu.loadCr3}: bit 63 of CR3. What is held of the context stays. @linux arch/x86/include/asm/processor-flags.h:CR3_NOFLUSH */
export const CR3_NOFLUSH = 1 << 12;
/** Contexts are 0 to 4095. */
const PCID_MASK = 0xfff;

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
const GLOBAL = PTE_GLOBAL;
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

  private readonly ram: PhysicalMemory;
  #cr3: PhysAddr = 0;
  #pcid = 0;
  #controls = CPU_DEFAULT_CONTROLS;
  #format: PageTableFormat = X86_64;
  #model: TlbModel | null = null;
  /** Bits of an entry's high word that forbid fetching. */
  #noExecMask = NX;
  /** Bits of an entry's high word that are reserved. */
  #hiReserved = X86_64.reservedHi;
  /** The bit that makes an entry above the last level map a large page; 0 without CR4.PSE. */
  #largeBit = LARGE;
  /** The four entries of PAE's top level, two words each, as they were when CR3 was loaded. */
  readonly #pdptes = new Int32Array(8);
  /** Of the last walk: the level at which it ended, and whether the page is global. */
  #lastShift = 0;
  #lastGlobal = false;
  /**
   * The entries met last in the three upper levels (one, one and sixteen), two words each, and the host word of the
   * table they name. It is not a paging-structure cache: each entry is read, and only where its table lies in the
   * host's buffer is known beforehand, which never changes. The processor can guess that, and need not wait for one
   * level to begin with the next.
   */
  readonly #tables: Int32Array = new Int32Array(6 + 16 * 3);
  /** Host word of the top-level table; −1 until CR3 is loaded. */
  #root = -1;
  /** The same for the walk as it mostly goes; −1 also where that cannot be taken: another format, or a modelled TLB. */
  #fastRoot = -1;

  constructor(id: number, ram: PhysicalMemory) {
    this.id = id;
    this.ram = ram;
    this.tlb = new Tlb(ram);
    ram.addUser(this);
  }

  /** Physical address of the top-level page table. */
  get cr3(): PhysAddr {
    return this.#cr3;
  }

  /** The context that CR3 names: 0 without CR4.PCIDE. */
  get pcid(): number {
    return this.#pcid;
  }

  /** The shape of its page tables. */
  get format(): PageTableFormat {
    return this.#format;
  }

  /**
   * Changes the shape of the page tables, as a kernel does once at boot. Nothing is translated until CR3 is loaded. Of
   * other formats than x86-64 CR4.PCIDE is cleared.
   */
  setFormat(format: PageTableFormat): void {
    this.#format = format;
    this.#root = -1;
    this.#fastRoot = -1;
    this.#cr3 = 0;
    this.#pcid = 0;
    this.setControls(format === X86_64 ? this.#controls : this.#controls & ~CPU_PCIDE);
    this.flushTlb();
  }

  /** The modelled TLB, or `null`. */
  get tlbModel(): TlbModel | null {
    return this.#model;
  }

  /**
   * Sets a modelled TLB, or none. With one the functional TLB stays empty: every access takes the slow path, where the
   * model is asked. Entries are marked accessed only where the model misses, as by a real walk.
   */
  setTlbModel(model: TlbModel | null): void {
    this.#model = model;
    this.#fastRoot = model === null && this.#format === X86_64 ? this.#root : -1;
    this.tlb.invalidateAll();
  }

  /** The protection controls in force: `CPU_WP`, `CPU_SMEP`, … */
  get controls(): number {
    return this.#controls;
  }

  /**
   * Sets the protection controls.
   *
   * @throws RangeError for PCIDE without four levels, for which a processor raises #GP
   */
  setControls(controls: number): void {
    const format = this.#format;
    if ((controls & CPU_PCIDE) !== 0 && format !== X86_64) throw new RangeError('CR4.PCIDE needs four-level paging');
    const changed = controls ^ this.#controls;
    this.#controls = controls;
    if ((changed & ~CPU_AC) !== 0) {
      this.stats.tlbFlushes += 1;
      this.tlb.invalidateAll();
      if ((changed & FLUSHING_CONTROLS) !== 0) this.#model?.invpcid(INVPCID_TYPE_ALL_INCL_GLOBAL, 0, 0, 0);
    }
    if ((controls & CPU_PCIDE) === 0) this.#pcid = 0;
    const nxe = format.noExecute && (controls & CPU_NXE) !== 0;
    this.#noExecMask = nxe ? NX : 0;
    this.#hiReserved = nxe || !format.noExecute ? format.reservedHi : format.reservedHi | NX;
    this.#largeBit = format.entryBytes === 8 || (controls & CPU_PSE) !== 0 ? LARGE : 0;
  }

  /**
   * Makes the page tables at `pgd` current. Translations of its context are dropped, but not those of global pages, nor
   * any with {@link CR3_NOFLUSH}. The functional TLB knows no contexts and drops all of the one before, which is
   * allowed. About 100 ns.
   *
   * @param context PCID, 0 to 4095, with {@link CR3_NOFLUSH} or without
   * @throws BusError where `pgd` is not RAM
   * @throws RangeError for what a processor answers with #GP: a context without CR4.PCIDE, reserved bits in PAE's top
   *   level; CR3 stays as it was
   */
  loadCr3(pgd: PhysAddr, context = 0): void {
    const frame = this.ram.frameWord(Math.floor(pgd / PAGE_SIZE));
    if (frame < 0) throw new BusError(pgd);
    if (context !== 0 && ((this.#controls & CPU_PCIDE) === 0 || context >= 2 * CR3_NOFLUSH)) {
      throw new RangeError(`CR3 cannot name context ${context}`);
    }
    const format = this.#format;
    let cr3 = pgd - (pgd % PAGE_SIZE);
    let root = frame;
    if (format.rootInRegisters) {
      const inFrame = (pgd - cr3) & -format.rootAlignment;
      cr3 += inFrame;
      root += inFrame >>> 2;
      this.#loadPdptes(root);
    }
    const pcid = context & PCID_MASK;
    const same = cr3 === this.#cr3 && pcid === this.#pcid;
    this.#cr3 = cr3;
    this.#pcid = pcid;
    this.#root = root;
    this.#fastRoot = this.#model === null && format === X86_64 ? root : -1;
    if ((context & CR3_NOFLUSH) === 0) {
      this.stats.tlbFlushes += 1;
      this.#model?.invpcid(INVPCID_TYPE_SINGLE_CTXT, pcid, 0, 0);
    } else if (same) {
      return;
    }
    this.tlb.invalidateNonGlobal();
  }

  /** Reads PAE's top level into the registers. @throws RangeError where a reserved bit is set in an entry in use */
  #loadPdptes(root: number): void {
    const { i32 } = this.ram;
    for (let i = 0; i < 8; i += 2) {
      const lo = i32[root + i];
      const reserved = (lo & PDPTE_RESERVED_LO) | (i32[root + i + 1] & PDPTE_RESERVED_HI);
      if ((lo & PRESENT) !== 0 && reserved !== 0) throw new RangeError(`reserved bits in entry ${i / 2} of PAE's top level`);
    }
    for (let i = 0; i < 8; i += 2) {
      // These entries have neither rights nor an accessed bit: they grant all, and are never marked.
      this.#pdptes[i] = i32[root + i] | RIGHTS | ACCESSED;
      this.#pdptes[i + 1] = i32[root + i + 1];
    }
  }

  /** Drops the translations of the page that holds `va`, global or of the current context. */
  invlpg(va: VirtAddr): void {
    this.stats.tlbPageFlushes += 1;
    this.tlb.invalidatePage(Math.floor(va / PAGE_SIZE) * PAGE_SIZE);
    if (this.#model !== null) this.#model.invlpg(hiWord(va), va | 0, this.#pcid);
  }

  /**
   * Drops translations by one of the four kinds of INVPCID.
   *
   * @param kind `INVPCID_TYPE_…`
   * @param pcid of the first two kinds: the context, 0 to 4095
   * @param va of the first kind: an address in the page
   * @throws RangeError for another kind or context, for which a processor raises #GP
   */
  invpcid(kind: number, pcid = 0, va: VirtAddr = 0): void {
    if (!(kind >= INVPCID_TYPE_INDIV_ADDR && kind <= INVPCID_TYPE_ALL_NON_GLOBAL) || (pcid & PCID_MASK) !== pcid) {
      throw new RangeError(`INVPCID of kind ${kind} and context ${pcid}`);
    }
    if (kind === INVPCID_TYPE_INDIV_ADDR) this.stats.tlbPageFlushes += 1;
    else this.stats.tlbFlushes += 1;
    this.#model?.invpcid(kind, pcid, hiWord(va), va | 0);
    if (kind === INVPCID_TYPE_ALL_INCL_GLOBAL) this.tlb.invalidateAll();
    else if (kind === INVPCID_TYPE_ALL_NON_GLOBAL) this.tlb.invalidateNonGlobal();
    else if (pcid !== this.#pcid) return;
    else if (kind === INVPCID_TYPE_SINGLE_CTXT) this.tlb.invalidateNonGlobal();
    else this.tlb.invalidatePage(Math.floor(va / PAGE_SIZE) * PAGE_SIZE);
  }

  /** Drops the translations of the current context, but those of global pages, by a reload of CR3; PAE's top level is read anew. */
  flushTlbContext(): void {
    if (this.#format.rootInRegisters && this.#root >= 0) this.#loadPdptes(this.#root);
    this.stats.tlbFlushes += 1;
    this.tlb.invalidateNonGlobal();
    this.#model?.invpcid(INVPCID_TYPE_SINGLE_CTXT, this.#pcid, 0, 0);
  }

  /** Drops every translation, global ones too. */
  flushTlb(): void {
    this.stats.tlbFlushes += 1;
    this.tlb.invalidateAll();
    this.#model?.invpcid(INVPCID_TYPE_ALL_INCL_GLOBAL, 0, 0, 0);
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
    this.#fastRoot = -1;
    this.#tables.fill(0);
    this.tlb.invalidateAll();
  }

  /**
   * As {@link translatePage}, without a look at the TLB.
   *
   * This is the walk as it mostly goes: user data, four tables in use before, and a page of 4 KiB that may be accessed so,
   * or may not, or none. All else is left to {@link #walkAny}, which knows the rules.
   *
   * @param hiVa upper 32 bits of the address, signed
   * @param loVa lower 32 bits, signed
   */
  walk(hiVa: number, loVa: number, access: number): number {
    const ram = this.ram;
    const { i32 } = ram;
    const root = this.#fastRoot;
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
    const reserved = this.#hiReserved;
    if ((lo & PRESENT) === 0 && (highs & reserved) === 0) {
      this.stats.walks += 1;
      return this.#fault(hiVa, loVa, access, PAGE_FAULT);
    }
    allowed &= lo;
    highs |= hi;
    if ((highs & reserved) !== 0) return this.#walkAny(hiVa, loVa, access);
    if ((access & RIGHTS & ~allowed) !== 0) {
      this.stats.walks += 1;
      return this.#fault(hiVa, loVa, access | PROTECTION, PAGE_FAULT);
    }
    const word = ram.entryWordIfTouched(lo, hi);
    if ((lo & GLOBAL) !== 0 || word < 0) return this.#walkAny(hiVa, loVa, access);
    const used = lo | ((access & WRITE) !== 0 ? ACCESSED | DIRTY : ACCESSED);
    if (used !== lo) i32[at] = used;
    this.stats.walks += 1;
    this.tlb.enterData(hiVa, loVa, word, (allowed & RW) !== 0 && (used & DIRTY) !== 0, false);
    return word;
  }

  /** Notes the table that an entry names, if it is an ordinary one that was used before. */
  #learnTable(at: number, lo: number, hi: number): boolean {
    const word = this.ram.entryWordIfTouched(lo, hi);
    if ((lo & TABLE_BITS) !== TABLE_IN_USE || word < 0) return false;
    this.#tables[at] = lo;
    this.#tables[at + 1] = hi;
    this.#tables[at + 2] = word;
    return true;
  }

  /** The walk by all its rules, with the modelled TLB where there is one. */
  #walkAny(hiVa: number, loVa: number, access: number): number {
    this.stats.walks += 1;
    const format = this.#format;
    if (format.addressBits === 48 && hiVa !== (hiVa << 16) >> 16) return this.#fault(hiVa, loVa, 0, GENERAL_PROTECTION);
    if (this.#root < 0) throw new BusError(this.#cr3);
    const model = this.#model;
    if (model === null) return this.#walkTables(hiVa, loVa, access, false);
    const side = (access & FETCH) !== 0 ? TLB_INSTRUCTION : TLB_DATA;
    const held = model.lookup(hiVa, loVa, this.#pcid, side) !== 0;
    let word = TRANSLATE_FAULT;
    try {
      word = this.#walkTables(hiVa, loVa, access, held);
    } finally {
      if (!held) {
        const flags = word < 0 ? WALK_FAULT : this.#lastGlobal ? WALK_GLOBAL : 0;
        model.walked(hiVa, loVa, this.#pcid, side, this.#lastShift, flags, format.walkShifts);
      }
    }
    return word;
  }

  /** Walks tables of any format. What a TLB holds is not marked accessed; a first write marks it dirty all the same. */
  #walkTables(hiVa: number, loVa: number, access: number, held: boolean): number {
    const ram = this.ram;
    const { i32 } = ram;
    const format = this.#format;
    const { levels } = format;
    const wide = format.entryBytes === 8;
    const hiReserved = this.#hiReserved;
    const largeBit = this.#largeBit;
    let allowed = RIGHTS;
    let noExec = 0;
    let table = this.#root;
    let depth = 0;
    let shift: number;
    let at = 0;
    let lo = 0;
    let hi = 0;
    // Four levels without a model: the same loop with the format's numbers written out, which saves a quarter of the
    // time of a walk that ends in a fault.
    const plain = this.#fastRoot >= 0;
    for (shift = 39; plain; shift -= 9) {
      const bits = shift < 32 ? (hiVa << (32 - shift)) | (loVa >>> shift) : hiVa >>> 7;
      at = table + ((bits & 511) << 1);
      // Where a table should be and no memory is, all bits read as one.
      lo = table < 0 ? OPEN_BUS : i32[at];
      hi = table < 0 ? OPEN_BUS : i32[at + 1];
      if ((lo & PRESENT) === 0 || (hi & hiReserved) !== 0) break;
      allowed &= lo;
      noExec |= hi;
      if (shift === 12 || (lo & LARGE) !== 0) break;
      if ((lo & ACCESSED) === 0) i32[at] = lo | ACCESSED;
      table = ram.entryWord(lo, hi);
      depth += 1;
    }
    while (!plain) {
      const level = levels[depth];
      shift = level.shift;
      const bits = shift < 32 ? (hiVa << (32 - shift)) | (loVa >>> shift) : hiVa >>> (shift - 32);
      const index = bits & level.mask;
      if (depth === 0 && format.rootInRegisters) {
        lo = this.#pdptes[index * 2];
        hi = this.#pdptes[index * 2 + 1];
      } else if (wide) {
        at = table + index * 2;
        lo = table < 0 ? OPEN_BUS : i32[at];
        hi = table < 0 ? OPEN_BUS : i32[at + 1];
      } else {
        at = table + index;
        lo = table < 0 ? OPEN_BUS : i32[at];
      }
      if ((lo & PRESENT) === 0 || (hi & hiReserved) !== 0) break;
      allowed &= lo;
      noExec |= hi;
      if (shift === 12 || (lo & largeBit) !== 0) break;
      if ((lo & ACCESSED) === 0 && !held) i32[at] = lo | ACCESSED;
      table = ram.entryWord(lo, hi);
      depth += 1;
    }
    this.#lastShift = shift;
    if ((lo & PRESENT) === 0) return this.#fault(hiVa, loVa, access, PAGE_FAULT);
    const large = shift !== 12;
    if ((hi & hiReserved) !== 0 || (large && (lo & levels[depth].reservedInLarge) !== 0)) {
      return this.#fault(hiVa, loVa, access | PROTECTION | RESERVED_BIT, PAGE_FAULT);
    }

    const forbidden = noExec & this.#noExecMask;
    if ((access & USER_ACCESS) !== 0) {
      // The write and user bits of an access are those of an entry; no entry grants the bit that forbids fetching.
      const needed = (access & RIGHTS) | ((access & FETCH) !== 0 ? forbidden : 0);
      if ((needed & ~allowed) !== 0) return this.#fault(hiVa, loVa, access | PROTECTION, PAGE_FAULT);
    } else if (!this.#kernelMay(allowed, forbidden === 0, access)) {
      return this.#fault(hiVa, loVa, access | PROTECTION, PAGE_FAULT);
    }
    let used = lo;
    if ((access & WRITE) !== 0 && (lo & DIRTY) === 0) used |= ACCESSED | DIRTY;
    else if (!held) used |= ACCESSED;
    if (used !== lo) i32[at] = used;

    // Of a large page, the address gives the frame's lower bits.
    const inPage = ((1 << shift) - 1) & FRAME_LO;
    const frameLo = (lo & ~inPage) | (loVa & inPage);
    const frameHi = large ? largeHi(format, lo, hi) : hi;
    const word = ram.entryWord(frameLo, frameHi);
    if (word < 0) throw new BusError(ptePfn(frameLo, frameHi) * PAGE_SIZE + (loVa & 0xfff));
    const isGlobal = (lo & GLOBAL) !== 0 && (this.#controls & CPU_PGE) !== 0;
    this.#lastGlobal = isGlobal;
    // A 32-bit address is the same with any upper half: only one way to write it is entered.
    if ((access & USER_ACCESS) !== 0 && this.#model === null && (hiVa === 0 || format.addressBits === 48)) {
      if ((access & FETCH) !== 0) this.tlb.enterFetch(hiVa, loVa, word, large);
      else this.tlb.enterData(hiVa, loVa, word, (allowed & RW) !== 0 && (used & DIRTY) !== 0, large);
      if (isGlobal && (access & FETCH) === 0) this.tlb.noteGlobal(loVa);
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
    const tellsFetch = this.#noExecMask !== 0 || (this.#controls & CPU_SMEP) !== 0;
    this.faultErrorCode = vector === PAGE_FAULT ? (tellsFetch ? errorCode : errorCode & ~FETCH) : 0;
    this.faultAddress = (this.#format.addressBits === 48 ? hiVa * TWO_32 : 0) + (loVa >>> 0);
    return TRANSLATE_FAULT;
  }
}

/** The upper 32 bits of an address, signed, which may be given unsigned or sign-extended. */
function hiWord(va: VirtAddr): number {
  return Math.floor(va / TWO_32) | 0;
}
