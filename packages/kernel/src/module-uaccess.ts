/**
 * A program's memory as kernel code gets at it. SMAP keeps its loads and stores out; `copy_from_user` and `copy_to_user` suspend
 * that for as long as they copy, fault pages in as they go, and stop where a program's own access would be refused.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { CPU_AC, PF_RSVD, PF_WRITE, TRANSLATE_FAULT, VECTOR_PAGE_FAULT } from '@pagelab/hw';
import { FAULT_OK, doMmap, handlePageFault, mmAlloc, mmput, pickMmapLayout } from '@pagelab/vm';
import type { KernelFault, MmStruct } from '@pagelab/vm';
import { rootCredentials } from './credentials.ts';
import type { Kernel } from './kernel.ts';
import { initialLimits, mmLimits } from './resource-limits.ts';

const MAP_PRIVATE_ANONYMOUS = 0x22;

/** The address space that a module's thread has put on, and whether it may touch it. */
export class ModuleUaccess {
  readonly #kernel: Kernel;
  #mm: MmStruct | null = null;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** Runs `body` with the page tables of `mm`. @linux kernel/kthread.c:kthread_use_mm */
  use<T>(mm: MmStruct, body: () => T): T {
    const { smp } = this.#kernel;
    const { processorId } = smp;
    const { cr3 } = smp.cpus[processorId]!;
    const wasLazy = smp.isLazy(processorId);
    const outer = this.#mm;
    this.#mm = mm;
    smp.switchMm(processorId, mm.pgd * PAGE_SIZE);
    try {
      return body();
    } finally {
      this.#mm = outer;
      smp.switchMm(processorId, cr3);
      if (wasLazy) smp.enterLazyTlb(processorId);
    }
  }

  /** Runs `body` with an empty address space of its own. @returns what it returns, or −ENOMEM @linux lib/kunit/user_alloc.c:kunit_attach_mm */
  attach<T>(body: () => T): T | number {
    const { vm, pages } = this.#kernel;
    const mm = mmAlloc(vm, mmLimits(initialLimits(pages.totalramPages), rootCredentials()));
    if (typeof mm === 'number') return mm;
    pickMmapLayout(mm);
    try {
      return this.use(mm, body);
    } finally {
      mmput(mm);
    }
  }

  /** Maps anonymous memory where that is free. @returns the address, or −errno @linux mm/util.c:vm_mmap */
  mmap(length: number, prot: number): number {
    if (this.#mm === null) throw new Error('vmMmap: the module has no address space on: attachMm and useMm put one on');
    return doMmap(this.#mm, { addr: 0, length, prot, flags: MAP_PRIVATE_ANONYMOUS, file: null, pgoff: 0 });
  }

  /** Lets loads and stores of the CPU through to user pages, or no more. @linux arch/x86/include/asm/smap.h:stac */
  setAc(on: boolean): void {
    const cpu = this.#kernel.smp.current;
    if (((cpu.controls & CPU_AC) !== 0) !== on) cpu.setControls(cpu.controls ^ CPU_AC);
  }

  /** What ends has no flags any more. */
  end(): void {
    for (const cpu of this.#kernel.smp.cpus) if ((cpu.controls & CPU_AC) !== 0) cpu.setControls(cpu.controls & ~CPU_AC);
  }

  /**
   * Faults a page in that the kernel touched, where it may: in the address space it has on, and with SMAP suspended.
   *
   * @returns whether to try again
   * @linux arch/x86/mm/fault.c:do_user_addr_fault
   */
  faultIn({ address, errorCode, vector }: KernelFault): boolean {
    const mm = this.#mm;
    if (mm === null || vector !== VECTOR_PAGE_FAULT || (errorCode & PF_RSVD) !== 0) return false;
    if ((this.#kernel.smp.current.controls & CPU_AC) === 0 || !this.#isUser(address, 1)) return false;
    return handlePageFault(mm, address, errorCode) === FAULT_OK;
  }

  /** Copies user memory out, up to the first address that is refused. @returns what could be copied @linux lib/usercopy.c:_copy_from_user */
  read(address: VirtAddr, length: number): Uint8Array {
    const { u8 } = this.#kernel.ram;
    const bytes = new Uint8Array(length);
    const done = this.#each(address, length, 0, (host, run, at) => bytes.set(u8.subarray(host, host + run), at));
    return bytes.subarray(0, done);
  }

  /** Copies bytes to user memory, up to the first address that is refused. @returns how many @linux lib/usercopy.c:_copy_to_user */
  write(address: VirtAddr, bytes: Uint8Array): number {
    const { u8 } = this.#kernel.ram;
    return this.#each(address, bytes.length, PF_WRITE, (host, run, at) => u8.set(bytes.subarray(at, at + run), host));
  }

  #each(address: VirtAddr, length: number, access: number, copy: (host: number, run: number, done: number) => void): number {
    if (this.#mm === null || !this.#isUser(address, length)) return 0;
    const cpu = this.#kernel.smp.current;
    const suspended = (cpu.controls & CPU_AC) !== 0;
    this.setAc(true);
    let done = 0;
    try {
      while (done < length) {
        const at = address + done;
        const host = cpu.translate(at, access);
        if (host === TRANSLATE_FAULT) {
          if (handlePageFault(this.#mm, at, cpu.faultErrorCode) !== FAULT_OK) break;
          continue;
        }
        const run = Math.min(PAGE_SIZE - (at & (PAGE_SIZE - 1)), length - done);
        copy(host, run, done);
        done += run;
      }
    } finally {
      this.setAc(suspended);
    }
    return done;
  }

  /** @linux arch/x86/include/asm/uaccess_64.h:access_ok */
  #isUser(address: VirtAddr, length: number): boolean {
    return address >= 0 && address + length <= this.#kernel.vm.tables.taskSize;
  }
}
