/**
 * The modelled TLB: which translations a real processor would have held, for who wants to count its misses.
 *
 * It is a part of its own beside the functional TLB, and off by default. A CPU that has one takes every access to it:
 * the model says whether the processor would have found the translation, and learns what the walk found. It never says
 * where a page is: that comes from the page tables each time, so that a model which is wrong counts wrongly and does no
 * damage.
 *
 * An address is given as two words of 32 bits, signed, as in the walk.
 */

/** The side of loads and stores. */
export const TLB_DATA = 0;
/** The side of instruction fetches. */
export const TLB_INSTRUCTION = 1;

/** Pages of 4 KiB, as an index of counts. */
export const TLB_4K = 0;
/** Pages of 2 MiB, and of 4 MiB, which take an entry of 2 MiB for each half. */
export const TLB_2M = 1;
/** Pages of 1 GiB. */
export const TLB_1G = 2;

/** {@link TlbModel.walked}: the page is global. */
export const WALK_GLOBAL = 1;
/** {@link TlbModel.walked}: the walk ended in a fault, and found no translation. */
export const WALK_FAULT = 2;

/** INVPCID: one page of one context; global pages stay. @linux arch/x86/include/asm/invpcid.h:INVPCID_TYPE_INDIV_ADDR */
export const INVPCID_TYPE_INDIV_ADDR = 0;
/** INVPCID: one context; global pages stay. @linux arch/x86/include/asm/invpcid.h:INVPCID_TYPE_SINGLE_CTXT */
export const INVPCID_TYPE_SINGLE_CTXT = 1;
/** INVPCID: everything. @linux arch/x86/include/asm/invpcid.h:INVPCID_TYPE_ALL_INCL_GLOBAL */
export const INVPCID_TYPE_ALL_INCL_GLOBAL = 2;
/** INVPCID: all contexts; global pages stay. @linux arch/x86/include/asm/invpcid.h:INVPCID_TYPE_ALL_NON_GLOBAL */
export const INVPCID_TYPE_ALL_NON_GLOBAL = 3;

/** Counts of one side: `accesses === sum(l1Hits) + sum(l2Hits) + sum(misses) + faults`. Arrays are by page size. */
export interface TlbSideStats {
  accesses: number;
  readonly l1Hits: [number, number, number];
  readonly l2Hits: [number, number, number];
  /** Translations that a walk found. */
  readonly misses: [number, number, number];
  /** Walks that ended in a fault. */
  faults: number;
}

/** Counts of one TLB. */
export interface TlbModelStats {
  readonly data: TlbSideStats;
  readonly instruction: TlbSideStats;
  /** Entries of page tables that walks read from memory. */
  walkReferences: number;
  /** Entries that they did not need to read, as the walk cache had them. */
  walkReferencesSpared: number;
  /** Cycles beyond those of a hit in the first level. */
  cycles: number;
  /** Flushes of a page, of a context, of all contexts. */
  pageFlushes: number;
  contextFlushes: number;
  fullFlushes: number;
}

/** A model of a processor's TLB. */
export interface TlbModel {
  readonly name: string;
  readonly stats: TlbModelStats;
  /**
   * An access: whether it finds its translation in the first level (1), the second (2) or in neither (0). After 0 comes
   * a call of {@link walked} for the same access.
   */
  lookup(hi: number, lo: number, pcid: number, side: number): number;
  /**
   * The walk that followed.
   *
   * @param shift log2 of the page's size; of a fault that of the level at which it ended
   * @param flags `WALK_…`
   * @param shifts the shifts of the levels whose entries are read from memory, top first
   */
  walked(hi: number, lo: number, pcid: number, side: number, shift: number, flags: number, shifts: readonly number[]): void;
  /** INVLPG: drops the page from the context, and global pages there; and the context's walk cache. */
  invlpg(hi: number, lo: number, pcid: number): void;
  /** INVPCID. A load of CR3 that flushes is the kind of a single context, a change of CR4.PGE that of all. */
  invpcid(kind: number, pcid: number, hi: number, lo: number): void;
  /** Recomputes what must hold. @throws KernelBug */
  validate(): void;
}

/** Makes the TLB of a CPU. */
export type TlbModelFactory = (cpu: number) => TlbModel;

/** Counts at zero. */
export function tlbModelStats(): TlbModelStats {
  const side = (): TlbSideStats => ({ accesses: 0, l1Hits: [0, 0, 0], l2Hits: [0, 0, 0], misses: [0, 0, 0], faults: 0 });
  return {
    data: side(),
    instruction: side(),
    walkReferences: 0,
    walkReferencesSpared: 0,
    cycles: 0,
    pageFlushes: 0,
    contextFlushes: 0,
    fullFlushes: 0,
  };
}

/** The index of counts for pages of 2^`shift` bytes. */
export function sizeClass(shift: number): number {
  return shift === 12 ? TLB_4K : shift === 30 ? TLB_1G : TLB_2M;
}

/** Number of the 4 KiB page that an address lies in, of the 48 bits that are translated: 0 to 2^36 − 1. */
export function pageNumber(hi: number, lo: number): number {
  return (hi & 0xffff) * 0x100000 + (lo >>> 12);
}
