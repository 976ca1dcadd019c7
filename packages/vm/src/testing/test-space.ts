/**
 * An address space for tests of the calls on mappings: with a program in it, its own limits, and a window of free space
 * in which tests speak of pages by number.
 */
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  RLIMIT_MEMLOCK,
  RLIMIT_STACK,
} from '@pagelab/abi';
import type { UserMemory } from '@pagelab/abi';
import { execLayout } from '../exec.ts';
import type { LayoutOptions } from '../exec.ts';
import { mapsLines, vmFlagsNames } from '../maps.ts';
import { dupMm, mmAlloc } from '../mm-lifetime.ts';
import { doMmap } from '../mmap.ts';
import type { MmLimits, MmStruct } from '../mm-struct.ts';
import type { Vm } from '../vm.ts';
import { attachUser, testVm } from './test-machine.ts';

export const RW = PROT_READ | PROT_WRITE;
/** Private anonymous memory. */
export const ANON = MAP_PRIVATE | MAP_ANONYMOUS;

/** Limits that a test may change: 8 MiB of stack and of locked memory, none for the rest. */
export class TestLimits implements MmLimits {
  readonly soft = new Map<number, number>([
    [RLIMIT_STACK, 2 ** 23],
    [RLIMIT_MEMLOCK, 2 ** 23],
  ]);

  readonly hard = new Map<number, number>();
  privileged = true;

  rlimit(resource: number): number {
    return this.soft.get(resource) ?? -1;
  }

  rlimitMax(resource: number): number {
    return this.hard.get(resource) ?? -1;
  }

  capable(): boolean {
    return this.privileged;
  }
}

export class TestSpace {
  readonly vm: Vm;
  readonly mm: MmStruct;
  readonly limits: TestLimits;
  /** Address of page 0 of the window. */
  readonly base: number;

  constructor(options: { vm?: Vm; mm?: MmStruct; limits?: TestLimits; layout?: LayoutOptions } = {}) {
    this.vm = options.vm ?? testVm();
    this.base = this.vm.tables.format.addressBits === 32 ? 0x5000_0000 : 0x5000_0000_0000;
    this.limits = options.limits ?? new TestLimits();
    if (options.mm !== undefined) {
      this.mm = options.mm;
      return;
    }
    const mm = mmAlloc(this.vm, this.limits);
    if (typeof mm === 'number') throw new Error(`mmAlloc: ${mm}`);
    const err = execLayout(mm, undefined, options.layout);
    if (err !== 0) throw new Error(`execLayout: ${err}`);
    this.mm = mm;
  }

  /** Address of a page of the window. */
  at(page: number): number {
    return this.base + page * PAGE_SIZE;
  }

  /** Maps pages of the window; returns what `mmap` does. */
  fixed(page: number, pages: number, prot = RW, flags = ANON): number {
    return this.mmap(this.at(page), pages * PAGE_SIZE, prot, flags | MAP_FIXED);
  }

  mmap(addr: number, length: number, prot = RW, flags = ANON): number {
    return doMmap(this.mm, { file: null, addr, length, prot, flags, pgoff: 0 });
  }

  /** The mappings of the window, each as `first..end perms`, in pages. */
  list(): string[] {
    const lines: string[] = [];
    for (const { start, end, perms } of mapsLines(this.mm)) {
      const first = (start - this.base) / PAGE_SIZE;
      if (first >= -4096 && first < 4096) lines.push(`${first}..${(end - this.base) / PAGE_SIZE} ${perms}`);
    }
    return lines;
  }

  /** Two-letter flags of the mapping that holds a page of the window. */
  flags(page: number): string[] {
    return vmFlagsNames(this.mm.vmas.get(this.at(page))!);
  }

  /** Memory as a program sees it. */
  memory(): UserMemory {
    return attachUser(this.mm).memory;
  }

  /** Stores a byte to each of some pages of the window. */
  touch(page: number, pages = 1, value = 1): void {
    const memory = this.memory();
    for (let i = 0; i < pages; i++) memory.store8(this.at(page + i), value);
  }

  fork(): TestSpace {
    const mm = dupMm(this.mm, this.limits);
    if (typeof mm === 'number') throw new Error(`dupMm: ${mm}`);
    return new TestSpace({ vm: this.vm, mm, limits: this.limits });
  }
}
