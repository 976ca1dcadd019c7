import type { VirtAddr } from '@pagelab/abi';
import { VirtualClock } from './clock.ts';
import { DEFAULT_COSTS } from './cost-model.ts';
import type { CostModel } from './cost-model.ts';
import { CPU_PCIDE, CR3_NOFLUSH, Cpu } from './cpu.ts';
import type { PageTableFormat } from './page-table-format.ts';
import { PAGE_SHIFT, PAGE_SIZE } from './page.ts';
import type { PhysAddr } from './page.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import { CpuContexts } from './tlb-contexts.ts';
import type { TlbModelFactory } from './tlb-model.ts';

/** The most CPUs of a machine. */
export const MAX_CPUS = 64;

/**
 * Ranges of more pages than this are flushed by dropping everything.
 *
 * @linux arch/x86/mm/tlb.c:tlb_single_page_flush_ceiling
 */
export const TLB_SINGLE_PAGE_FLUSH_CEILING = 33;

/** {@link Smp.switchMm}: the page tables were current, and nothing was done. */
export const SWITCH_MM_NOTHING = 0;
/** {@link Smp.switchMm}: CR3 was loaded, and what the TLB held of the context is good still. */
export const SWITCH_MM_NOFLUSH = 1;
/** {@link Smp.switchMm}: CR3 was loaded, and the context dropped. */
export const SWITCH_MM_FLUSH = 2;

/** {@link Smp.flushTlbRange}: page tables are about to be freed, so that not even a lazy CPU may keep what it cached of them. */
export const TLB_FREED_TABLES = 1;

/** Counts of TLB shootdowns. */
export interface SmpStats {
  /** Shootdowns asked for. */
  shootdowns: number;
  /** Interrupts sent to other CPUs for them. */
  ipis: number;
  /** Interrupts not sent, as the CPU was lazy: it looks for what it missed when it returns. */
  lazySpared: number;
  /** Flushes that were put into a batch. */
  batched: number;
}

/** How a machine's CPUs are set up. */
export interface SmpOptions {
  /** The shape of their page tables; x86-64 unless given. */
  readonly format?: PageTableFormat | undefined;
  /** Makes each CPU's modelled TLB. */
  readonly tlbModel?: TlbModelFactory | undefined;
  /** What shootdowns let pass: nothing unless given. */
  readonly clock?: VirtualClock | undefined;
  /** What a flush of a page, a load of CR3 and an interrupt cost; the usual numbers unless given. */
  readonly costs?: CostModel | undefined;
}

/** What is known of an address space's translations. @linux arch/x86/include/asm/mmu.h:mm_context_t */
interface MmContext {
  readonly pgd: PhysAddr;
  /** How often they were flushed. */
  generation: number;
}

/** The CPUs of a machine. */
export class Smp {
  /** In order of their numbers. Not frozen: V8 calls its runtime for each element of an array that is. */
  readonly cpus: readonly Cpu[];
  /** Number of the CPU that is running. @linux include/linux/smp.h:smp_processor_id */
  processorId = 0;
  readonly stats: SmpStats = { shootdowns: 0, ipis: 0, lazySpared: 0, batched: 0 };
  /** Interrupts that each CPU got for shootdowns, by its number. */
  readonly ipisReceived: Float64Array;
  /** The contexts of each CPU's TLB, by its number. */
  private readonly contexts: readonly CpuContexts[];
  /** The address spaces that {@link switchMm} loaded, by their page tables; and the one that was looked for last. */
  private readonly mms = new Map<PhysAddr, MmContext>();
  private lastMm: MmContext | undefined = undefined;
  /** CPUs that the batch must reach. */
  private readonly batch: Uint8Array;
  private readonly clock: VirtualClock;
  private readonly costs: CostModel;
  /** What {@link flushTlbRange} is at. */
  private flushCr3: PhysAddr = 0;
  private flushStart: VirtAddr = 0;
  private flushEnd: VirtAddr = 0;

  /**
   * @param nrCpus 1 to {@link MAX_CPUS}
   * @throws RangeError for another number
   */
  constructor(ram: PhysicalMemory, nrCpus: number, options: SmpOptions = {}) {
    if (!Number.isInteger(nrCpus) || nrCpus < 1 || nrCpus > MAX_CPUS) {
      throw new RangeError(`a machine has 1 to ${MAX_CPUS} CPUs, not ${nrCpus}`);
    }
    this.cpus = Array.from({ length: nrCpus }, (_, id) => new Cpu(id, ram));
    this.contexts = this.cpus.map(() => new CpuContexts());
    this.batch = new Uint8Array(nrCpus);
    this.ipisReceived = new Float64Array(nrCpus);
    this.clock = options.clock ?? new VirtualClock();
    this.costs = options.costs ?? DEFAULT_COSTS;
    for (const cpu of this.cpus) {
      if (options.format !== undefined) cpu.setFormat(options.format);
      if (options.tlbModel !== undefined) cpu.setTlbModel(options.tlbModel(cpu.id));
    }
  }

  /** The CPU that is running. */
  get current(): Cpu {
    return this.cpus[this.processorId];
  }

  /**
   * Makes the page tables at `pgd` current on a CPU. With CR4.PCIDE each CPU keeps apart the six address spaces it ran
   * last, and comes back to one without a flush if nothing of it was flushed elsewhere in the meantime.
   *
   * @returns `SWITCH_MM_…`: what it took
   * @throws BusError where `pgd` is not RAM
   * @linux arch/x86/mm/tlb.c:switch_mm_irqs_off
   */
  switchMm(cpuId: number, pgd: PhysAddr): number {
    const cpu = this.cpus[cpuId];
    const contexts = this.contexts[cpuId];
    const wasLazy = contexts.lazy;
    contexts.lazy = false;
    if ((cpu.controls & CPU_PCIDE) === 0) {
      const missed = wasLazy && contexts.missed;
      contexts.missed = false;
      if (cpu.cr3 === pgd && !missed) return SWITCH_MM_NOTHING;
      cpu.loadCr3(pgd);
      return SWITCH_MM_FLUSH;
    }
    let mm = this.findMm(pgd);
    if (mm === undefined) {
      mm = { pgd, generation: 1 };
      this.mms.set(pgd, mm);
    }
    const { generation } = mm;
    contexts.missed = false;
    if (cpu.cr3 === pgd && cpu.pcid !== 0) {
      if (!wasLazy || contexts.generationOf(pgd) === generation) return SWITCH_MM_NOTHING;
    }
    const known = contexts.generationOf(pgd) === generation;
    const pcid = contexts.choose(pgd, generation) + 1;
    cpu.loadCr3(pgd, known ? pcid | CR3_NOFLUSH : pcid);
    return known ? SWITCH_MM_NOFLUSH : SWITCH_MM_FLUSH;
  }

  /**
   * The CPU goes on with a task that has no address space of its own, and keeps the page tables it has. It is sent no
   * interrupts for them until {@link switchMm}.
   *
   * @linux arch/x86/mm/tlb.c:enter_lazy_tlb
   */
  enterLazyTlb(cpuId: number): void {
    this.contexts[cpuId].lazy = true;
  }

  /** Whether a CPU is lazy: what it holds may be stale until {@link switchMm}. */
  isLazy(cpuId: number): boolean {
    return this.contexts[cpuId].lazy;
  }

  /**
   * The page tables at `pgd` are freed: what any TLB holds under their address is void for who gets the frame next.
   *
   * @linux arch/x86/include/asm/mmu_context.h:destroy_context
   */
  forgetMm(pgd: PhysAddr): void {
    this.nextGeneration(pgd);
  }

  /**
   * Invalidates the translations of `[start, end)` in the address space `cr3`, on each CPU that may hold them and use
   * them: those that have it loaded. Each of them but the running one is sent an interrupt, unless it is lazy. A CPU
   * that has loaded another since finds what it missed when it comes back.
   *
   * @param start in bytes; the page it lies in is included
   * @param strideShift log2 of the pages' size
   * @param flags {@link TLB_FREED_TABLES}
   * @linux arch/x86/mm/tlb.c:flush_tlb_mm_range
   */
  flushTlbRange(cr3: PhysAddr, start: VirtAddr, end: VirtAddr, strideShift: number = PAGE_SHIFT, flags = 0): void {
    this.flushCr3 = cr3;
    this.flushStart = start;
    this.flushEnd = end;
    this.flushNoted(strideShift, flags);
  }

  /** Short callers are compiled into theirs: so no double is handed to a function, which would cost an allocation. */
  private flushNoted(strideShift: number, flags: number): void {
    this.stats.shootdowns += 1;
    const { cpus, processorId, flushCr3: cr3, flushStart: start, flushEnd: end } = this;
    // Raising to a power takes longer than the flush of a page.
    const stride = strideShift === PAGE_SHIFT ? PAGE_SIZE : 2 ** strideShift;
    const firstPage = Math.floor(start / stride) * stride;
    const all = end - firstPage > TLB_SINGLE_PAGE_FLUSH_CEILING * stride;
    const generation = this.nextGeneration(cr3);
    const { ipi, invlpg, loadCr3 } = this.costs;
    let cost = 0;
    for (let i = 0; i < cpus.length; i++) {
      const cpu = cpus[i];
      if (cpu.cr3 !== cr3) continue;
      if (i !== processorId) {
        if (this.spares(i, (flags & TLB_FREED_TABLES) === 0)) continue;
        this.interrupt(i);
        cost += ipi;
      }
      // The others flush while the sender waits for them.
      else cost += all ? loadCr3 : ((end - firstPage) / stride) * invlpg;
      if (generation !== 0) this.contexts[i].caughtUp(cr3, generation);
      if (all) cpu.flushTlbContext();
      else for (let page = firstPage; page < end; page += stride) cpu.invlpg(page);
    }
    this.clock.advance(cost);
  }

  /** Invalidates every translation of the address space `cr3`. @linux arch/x86/include/asm/tlbflush.h:flush_tlb_mm */
  flushTlbMm(cr3: PhysAddr): void {
    this.flushTlbRange(cr3, 0, Infinity);
  }

  /**
   * Puts a flush of the address space `cr3` off until {@link flushBatch}: for who unmaps many pages of many address
   * spaces and may free none before.
   *
   * @linux arch/x86/include/asm/tlbflush.h:arch_tlbbatch_add_pending
   */
  addToBatch(cr3: PhysAddr): void {
    this.stats.batched += 1;
    this.nextGeneration(cr3);
    for (let i = 0; i < this.cpus.length; i++) if (this.cpus[i].cr3 === cr3) this.batch[i] = 1;
  }

  /** Makes the flushes of the batch: one interrupt to each CPU that any of them concerns. @linux arch/x86/mm/tlb.c:arch_tlbbatch_flush */
  flushBatch(): void {
    const { cpus, processorId } = this;
    if (!this.batch.includes(1)) return;
    this.stats.shootdowns += 1;
    for (let i = 0; i < cpus.length; i++) {
      if (this.batch[i] === 0) continue;
      this.batch[i] = 0;
      if (i !== processorId) {
        if (this.spares(i, true)) continue;
        this.interrupt(i);
        this.clock.advance(this.costs.ipi);
      }
      const mm = this.findMm(cpus[i].cr3);
      if (mm !== undefined) this.contexts[i].caughtUp(mm.pgd, mm.generation);
      cpus[i].flushTlbContext();
    }
  }

  /**
   * Invalidates translations of kernel addresses, which every address space shares, on every CPU.
   *
   * @linux arch/x86/mm/tlb.c:flush_tlb_kernel_range
   */
  flushTlbKernelRange(start: VirtAddr, end: VirtAddr): void {
    const firstPage = Math.floor(start / PAGE_SIZE) * PAGE_SIZE;
    if (end - firstPage > TLB_SINGLE_PAGE_FLUSH_CEILING * PAGE_SIZE) {
      this.flushTlbAll();
      return;
    }
    this.stats.shootdowns += 1;
    this.interruptOthers();
    this.clock.advance((this.cpus.length - 1) * this.costs.ipi + ((end - firstPage) / PAGE_SIZE) * this.costs.invlpg);
    for (const cpu of this.cpus) for (let page = firstPage; page < end; page += PAGE_SIZE) cpu.invlpg(page);
  }

  /** Invalidates every translation on every CPU. @linux arch/x86/mm/tlb.c:flush_tlb_all */
  flushTlbAll(): void {
    this.stats.shootdowns += 1;
    this.interruptOthers();
    this.clock.advance((this.cpus.length - 1) * this.costs.ipi + this.costs.loadCr3);
    for (const cpu of this.cpus) cpu.flushTlb();
  }

  private interrupt(cpuId: number): void {
    this.stats.ipis += 1;
    this.ipisReceived[cpuId] += 1;
  }

  private interruptOthers(): void {
    for (let i = 0; i < this.cpus.length; i++) if (i !== this.processorId) this.interrupt(i);
  }

  /** Whether a CPU needs no interrupt as it is lazy: it will see by the generation that it missed something. */
  private spares(cpuId: number, mayBeLazy: boolean): boolean {
    const contexts = this.contexts[cpuId];
    if (!contexts.lazy || !mayBeLazy) return false;
    contexts.missed = true;
    this.stats.lazySpared += 1;
    return true;
  }

  private findMm(pgd: PhysAddr): MmContext | undefined {
    if (this.lastMm !== undefined && this.lastMm.pgd === pgd) return this.lastMm;
    return (this.lastMm = this.mms.get(pgd));
  }

  /** Counts a flush of an address space; 0 where no CPU has loaded it. @linux arch/x86/include/asm/tlbflush.h:inc_mm_tlb_gen */
  private nextGeneration(pgd: PhysAddr): number {
    const mm = this.findMm(pgd);
    return mm === undefined ? 0 : ++mm.generation;
  }
}
