import type { PhysAddr } from './page.ts';

/** Address spaces that a CPU's TLB keeps apart. @linux arch/x86/include/asm/tlbflush.h:TLB_NR_DYN_ASIDS */
export const TLB_NR_DYN_ASIDS = 6;

const NONE = -1;

/**
 * What the kernel knows of one CPU's TLB: which address space each context stands for, and up to which of its flushes
 * the context is good.
 *
 * @linux arch/x86/include/asm/tlbflush.h:tlb_state
 */
export class CpuContexts {
  /** Whether the CPU runs a task without an address space, on the page tables of the one before. */
  lazy = false;
  /** Whether it was spared an interrupt since. */
  missed = false;
  readonly #pgds = new Float64Array(TLB_NR_DYN_ASIDS).fill(NONE);
  readonly #generations = new Float64Array(TLB_NR_DYN_ASIDS);
  /** The one chosen last. @linux arch/x86/include/asm/tlbflush.h:tlb_state.loaded_mm_asid */
  #loaded = 0;
  #next = 0;

  /** The flush up to which the context of an address space is good; 0 where it has none. */
  generationOf(pgd: PhysAddr): number {
    const asid = this.#asidOf(pgd);
    return asid < 0 ? 0 : this.#generations[asid];
  }

  /** The context of an address space, which is good up to `generation` from now on: its own, or the next in turn. */
  choose(pgd: PhysAddr, generation: number): number {
    let asid = this.#asidOf(pgd);
    if (asid < 0) {
      asid = this.#next;
      this.#next = (asid + 1) % TLB_NR_DYN_ASIDS;
      this.#pgds[asid] = pgd;
    }
    this.#generations[asid] = generation;
    this.#loaded = asid;
    return asid;
  }

  /** The flush of `generation` was made here. */
  caughtUp(pgd: PhysAddr, generation: number): void {
    const asid = this.#asidOf(pgd);
    if (asid >= 0) this.#generations[asid] = generation;
  }

  /** The context of an address space, or -1. */
  #asidOf(pgd: PhysAddr): number {
    const pgds = this.#pgds;
    if (pgds[this.#loaded] === pgd) return this.#loaded;
    for (let asid = 0; asid < TLB_NR_DYN_ASIDS; asid++) if (pgds[asid] === pgd) return asid;
    return NONE;
  }
}
