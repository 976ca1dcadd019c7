/**
 * Kernel stacks: those of tasks, and one for each CPU's interrupts.
 *
 * ```
 *                 from vmalloc                          from the page allocator
 *   end    → +--------------------+                  +--------------------+
 *            | registers          |                  | registers          |
 *            | frames, downwards  |                  | frames, downwards  |
 *            | 57AC6E9D           |                  | 57AC6E9D           |
 *            +--------------------+                  | thread_info        |   in old kernels; else in task_struct
 *   begin  → | guard: nothing     |                  +--------------------+
 *            | of the area before |                  | whatever it is     |
 * ```
 *
 * A stack of vmalloc has the guard page of the area before it, or an address that nobody has, below: to run over faults. One
 * of the page allocator has other memory below: to run over goes unnoticed.
 *
 * @linux kernel/fork.c:alloc_thread_stack_node
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { GFP_KERNEL, NODE_STAT, __GFP_ACCOUNT, __GFP_ZERO } from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';
import { chargeStackPages, unchargeStackPages } from '@pagelab/vm';
import type { Vm, VmStruct, Vmalloc } from '@pagelab/vm';
import type { BootFrames } from './boot-frames.ts';
import type { KernelStackConfig } from './config.ts';

/** Stacks of vmalloc that a CPU keeps for the next task. @linux kernel/fork.c:NR_CACHED_STACKS */
export const NR_CACHED_STACKS = 2;
/** What the last word of a stack holds. @linux include/uapi/linux/magic.h:STACK_END_MAGIC */
export const STACK_END_MAGIC = 0x57ac_6e9d;
/** `thread_info` at the low end of a stack: task at byte 0, flags at 8, cpu at 16, preempt_count at 20, addr_limit at 24. */
export const THREAD_INFO_BYTES = 32;
/** Bytes of an interrupt stack of 64 bits. @linux arch/x86/include/asm/page_64_types.h:IRQ_STACK_SIZE */
const IRQ_STACK_BYTES = 16_384;
/** User space ends here. @linux arch/x86/include/asm/processor.h:TASK_SIZE_MAX */
const ADDR_LIMIT = 0x7fff_ffff_f000;

/** The stack of a task. */
export interface KernelStack {
  /** Lowest address, and one past the highest. */
  readonly begin: VirtAddr;
  readonly end: VirtAddr;
  /** Its frames, lowest address first. */
  readonly frames: readonly Pfn[];
  /** The area it is; `null` where it is of the page allocator. */
  readonly area: VmStruct | null;
}

/** What stacks are made from. */
export interface KernelStackParts {
  readonly config: KernelStackConfig;
  readonly vmalloc: Vmalloc;
  readonly pages: PageAlloc;
  readonly ram: { zeroFrame(pfn: Pfn): void; storeAddress(pa: number, value: number): void; loadAddress(pa: number): number };
  readonly smp: { readonly processorId: number; readonly cpus: { readonly length: number } };
  readonly bootFrames: BootFrames;
  readonly vm: Vm;
}

export class KernelStacks {
  readonly config: KernelStackConfig;
  /** Of each CPU. */
  readonly irqStacks: readonly KernelStack[];

  readonly #parts: KernelStackParts;
  /** Of each CPU: stacks that are ready for the next task. */
  readonly #cached: (KernelStack | null)[][];

  /** Makes the interrupt stacks. @linux arch/x86/kernel/irq_64.c:irq_init_percpu_irqstack */
  constructor(parts: KernelStackParts) {
    this.#parts = parts;
    this.config = parts.config;
    const cpus = parts.smp.cpus.length;
    this.#cached = Array.from({ length: cpus }, () => Array<KernelStack | null>(NR_CACHED_STACKS).fill(null));
    this.irqStacks = Array.from({ length: cpus }, () => this.#irqStack());
  }

  #irqStack(): KernelStack {
    const { vmalloc, bootFrames, pages } = this.#parts;
    // The pages are part of what boot set aside for each CPU.
    const bytes = this.config.vmap ? IRQ_STACK_BYTES : this.config.bytes;
    const first = bootFrames.takeRun(bytes / PAGE_SIZE);
    const frames = Array.from({ length: bytes / PAGE_SIZE }, (_, i) => first + i);
    const begin = this.config.vmap ? vmalloc.vmap(frames, 0, 'irq_init_percpu_irqstack') : pages.pageAddress(first);
    bugOn(begin === 0, 'boot: no memory for the interrupt stacks');
    return { begin, end: begin + bytes, frames, area: this.config.vmap ? vmalloc.findVmArea(begin)! : null };
  }

  /**
   * Makes the stack of a task: one that the running CPU kept, or a new one; zeroed, its end marked.
   *
   * @param task its `task_struct`
   * @returns the stack, or −ENOMEM
   */
  alloc(task: VirtAddr): KernelStack | number {
    const stack = this.config.vmap ? (this.#takeCached() ?? this.#vmapped()) : this.#fromPages();
    if (typeof stack === 'number') return stack;
    const { vm } = this.#parts;
    if (stack.area !== null && chargeStackPages(vm, stack.frames, GFP_KERNEL) !== 0) {
      this.#parts.vmalloc.vfree(stack.begin);
      return -Errno.ENOMEM;
    }
    this.#mark(stack, task);
    this.#account(stack, 1);
    return stack;
  }

  #takeCached(): KernelStack | undefined {
    const cached = this.#cached[this.#parts.smp.processorId]!;
    for (let i = 0; i < NR_CACHED_STACKS; i++) {
      const stack = cached[i]!;
      if (stack === null) continue;
      cached[i] = null;
      for (const pfn of stack.frames) this.#parts.ram.zeroFrame(pfn);
      return stack;
    }
    return undefined;
  }

  #vmapped(): KernelStack | number {
    const { vmalloc } = this.#parts;
    const { bytes } = this.config;
    const begin = vmalloc.vmallocNodeRange(bytes, { gfp: GFP_KERNEL | __GFP_ZERO, align: bytes, caller: 'kernel_clone' });
    if (begin === 0) return -Errno.ENOMEM;
    const area = vmalloc.findVmArea(begin)!;
    return { begin, end: begin + bytes, frames: [...area.pages], area };
  }

  #fromPages(): KernelStack | number {
    const { pages } = this.#parts;
    const { bytes } = this.config;
    const first = pages.allocPages(GFP_KERNEL | __GFP_ACCOUNT | __GFP_ZERO, Math.log2(bytes / PAGE_SIZE));
    if (first < 0) return -Errno.ENOMEM;
    const begin = pages.pageAddress(first);
    return { begin, end: begin + bytes, frames: Array.from({ length: bytes / PAGE_SIZE }, (_, i) => first + i), area: null };
  }

  /** @linux kernel/fork.c:set_task_stack_end_magic, setup_thread_stack */
  #mark(stack: KernelStack, task: VirtAddr): void {
    const { ram } = this.#parts;
    const base = stack.frames[0]! * PAGE_SIZE;
    if (this.config.threadInfo === 'stack') {
      ram.storeAddress(base, task);
      ram.storeAddress(base + 24, ADDR_LIMIT);
    }
    ram.storeAddress(base + this.endOffset, STACK_END_MAGIC);
  }

  /** How far above its lowest address a stack's last word is. @linux include/linux/sched/task_stack.h:end_of_stack */
  get endOffset(): number {
    return this.config.threadInfo === 'stack' ? THREAD_INFO_BYTES : 0;
  }

  /** Whether a stack's last word was overwritten. @linux include/linux/sched/task_stack.h:task_stack_end_corrupted */
  endCorrupted(stack: KernelStack): boolean {
    return this.#parts.ram.loadAddress(stack.frames[0]! * PAGE_SIZE + this.endOffset) !== STACK_END_MAGIC;
  }

  /** Gives a task's stack back: to the running CPU, where that has room for another of vmalloc. @linux kernel/fork.c:free_thread_stack */
  free(stack: KernelStack): void {
    this.#account(stack, -1);
    if (stack.area !== null) unchargeStackPages(this.#parts.vm, stack.frames);
    if (stack.area === null) {
      this.#parts.pages.freePages(stack.frames[0]!, Math.log2(stack.frames.length));
      return;
    }
    const cached = this.#cached[this.#parts.smp.processorId]!;
    const room = cached.indexOf(null);
    if (room >= 0) cached[room] = stack;
    else this.#parts.vmalloc.vfree(stack.begin);
  }

  /** Frees the stacks that CPUs keep. @linux kernel/fork.c:free_vm_stack_cache */
  dropCached(): void {
    for (const cached of this.#cached) {
      for (let i = 0; i < NR_CACHED_STACKS; i++) {
        if (cached[i] !== null) this.#parts.vmalloc.vfree(cached[i]!.begin);
        cached[i] = null;
      }
    }
  }

  /** `KernelStack`. @linux kernel/fork.c:account_kernel_stack */
  #account(stack: KernelStack, sign: number): void {
    const { pages } = this.#parts;
    if (pages.nodes.length === 1 || stack.area === null) {
      pages.modNodeState(stack.frames[0]!, NODE_STAT.NR_KERNEL_STACK_KB, (sign * (stack.end - stack.begin)) / 1024);
    } else {
      for (const pfn of stack.frames) pages.modNodeState(pfn, NODE_STAT.NR_KERNEL_STACK_KB, (sign * PAGE_SIZE) / 1024);
    }
  }

  /** Checks the stacks that are kept. @param live those of tasks @throws KernelBug for the first that is in use twice, or gone */
  validate(live: readonly KernelStack[]): void {
    const begins = new Set<VirtAddr>();
    const kept = this.#cached.flat().filter((stack) => stack !== null);
    for (const stack of [...live, ...kept, ...this.irqStacks]) {
      bugOn(begins.has(stack.begin), `kernel stack ${stack.begin}: used twice`);
      begins.add(stack.begin);
      bugOn(stack.area !== null && this.#parts.vmalloc.findVmArea(stack.begin) !== stack.area, `kernel stack ${stack.begin}: its area is gone`);
    }
    const kib = (live.length * this.config.bytes) / 1024;
    bugOn(this.#parts.pages.nodeState(NODE_STAT.NR_KERNEL_STACK_KB) !== kib, 'kernel stacks miscounted');
  }
}
