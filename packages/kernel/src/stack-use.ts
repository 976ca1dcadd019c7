/**
 * Kernel code that uses its stack: each call takes a frame of so many bytes, and writes all of them, wherever that leads.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { KernelMemory } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';
import type { KernelStack } from './kernel-stack.ts';
import { oops } from './oops.ts';

/** Registers of who was interrupted or came in, at the top of a stack. @linux arch/x86/include/asm/ptrace.h:pt_regs */
const PT_REGS_BYTES = 168;
/** What a frame's locals are filled with. */
export const FRAME_FILL = 0xa5;
/** Where modules have their code: what a return address is. @linux arch/x86/include/asm/pgtable_64_types.h:MODULES_VADDR */
const MODULES_VADDR = -0x4000_0000;
/** Bytes of a call whose size nobody told. */
export const DEFAULT_FRAME_BYTES = 64;

/** A stack in use, and how far. */
export class StackUse {
  readonly stack: KernelStack;
  /** Where it stands. Below `stack.begin` it has run over. */
  pointer: VirtAddr;
  /** The lowest it stood. */
  lowest: VirtAddr;

  readonly #mem: KernelMemory;
  #calls = 0;

  /** @param name as the report of an overrun calls it: `task`, `IRQ` */
  constructor(kernel: Kernel, stack: KernelStack, name: string) {
    this.stack = stack;
    this.pointer = stack.end - PT_REGS_BYTES;
    this.lowest = this.pointer;
    this.#mem = new KernelMemory(kernel.ram, kernel.smp, (fault) => {
      throw oops(kernel, fault, { name, begin: stack.begin, end: stack.end });
    });
  }

  /**
   * Makes a frame, from its top down: the return address, then `frameBytes` − 8 bytes of locals.
   *
   * @throws KernelOops where it meets a page that is not there: what lies above that is written
   */
  push(frameBytes: number): void {
    this.#calls += 1;
    const top = this.pointer;
    this.pointer = top - frameBytes;
    this.lowest = Math.min(this.lowest, this.pointer);
    this.#mem.storeAddress(top - 8, MODULES_VADDR + this.#calls * 16);
    let at = top - 8;
    while (at > this.pointer) {
      const pageStart = Math.floor((at - 1) / PAGE_SIZE) * PAGE_SIZE;
      const from = Math.max(pageStart, this.pointer);
      // The highest byte first: that is where a stack meets its guard page.
      this.#mem.store8(at - 1, FRAME_FILL);
      this.#mem.fill(from, at - from, FRAME_FILL);
      at = from;
    }
  }

  pop(frameBytes: number): void {
    this.pointer += frameBytes;
  }
}
