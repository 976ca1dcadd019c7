import type { VirtAddr } from '@pagelab/abi';
import { Cpu } from './cpu.ts';
import { PAGE_SIZE } from './page.ts';
import type { PhysAddr } from './page.ts';
import type { PhysicalMemory } from './physical-memory.ts';

/** The most CPUs of a machine. */
export const MAX_CPUS = 64;

/**
 * Ranges of more pages than this are flushed by dropping everything.
 *
 * @linux arch/x86/mm/tlb.c:tlb_single_page_flush_ceiling
 */
export const TLB_SINGLE_PAGE_FLUSH_CEILING = 33;

/** Counts of TLB shootdowns. */
export interface SmpStats {
  /** Shootdowns asked for. */
  shootdowns: number;
  /** Interrupts sent to other CPUs for them. */
  ipis: number;
}

/** The CPUs of a machine. */
export class Smp {
  /** In order of their numbers. */
  readonly cpus: readonly Cpu[];
  /** Number of the CPU that is running. @linux include/linux/smp.h:smp_processor_id */
  processorId = 0;
  readonly stats: SmpStats = { shootdowns: 0, ipis: 0 };

  /**
   * @param nrCpus 1 to {@link MAX_CPUS}
   * @throws RangeError for another number
   */
  constructor(ram: PhysicalMemory, nrCpus: number) {
    if (!Number.isInteger(nrCpus) || nrCpus < 1 || nrCpus > MAX_CPUS) {
      throw new RangeError(`a machine has 1 to ${MAX_CPUS} CPUs, not ${nrCpus}`);
    }
    this.cpus = Object.freeze(Array.from({ length: nrCpus }, (_, id) => new Cpu(id, ram)));
  }

  /** The CPU that is running. */
  get current(): Cpu {
    return this.cpus[this.processorId];
  }

  /**
   * Invalidates the translations of `[start, end)` in the address space `cr3`, on each CPU that may hold them: those
   * that have it loaded, as loading another drops everything. Each of them but the running one is sent an interrupt.
   *
   * @param start in bytes; the page it lies in is included
   * @linux arch/x86/mm/tlb.c:flush_tlb_mm_range
   */
  flushTlbRange(cr3: PhysAddr, start: VirtAddr, end: VirtAddr): void {
    this.stats.shootdowns += 1;
    const { cpus, processorId } = this;
    const firstPage = Math.floor(start / PAGE_SIZE) * PAGE_SIZE;
    for (let i = 0; i < cpus.length; i++) {
      const cpu = cpus[i];
      if (cpu.cr3 !== cr3) continue;
      if (i !== processorId) this.stats.ipis += 1;
      if (end - firstPage > TLB_SINGLE_PAGE_FLUSH_CEILING * PAGE_SIZE) {
        cpu.flushTlb();
      } else {
        for (let page = firstPage; page < end; page += PAGE_SIZE) cpu.invlpg(page);
      }
    }
  }

  /** Invalidates every translation of the address space `cr3`. @linux arch/x86/mm/tlb.c:flush_tlb_mm */
  flushTlbMm(cr3: PhysAddr): void {
    this.flushTlbRange(cr3, 0, Infinity);
  }

  /** Invalidates every translation on every CPU. @linux arch/x86/mm/tlb.c:flush_tlb_all */
  flushTlbAll(): void {
    this.stats.shootdowns += 1;
    this.stats.ipis += this.cpus.length - 1;
    for (const cpu of this.cpus) cpu.flushTlb();
  }
}
