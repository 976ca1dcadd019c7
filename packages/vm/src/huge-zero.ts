/**
 * The huge zero page: what reads of blocks see that nobody has stored to. It is made when it is first wanted, and given back
 * when memory is short and no address space has had it since.
 *
 * @linux mm/huge_memory.c
 */
import type { Pfn } from '@pagelab/hw';
import { GFP_TRANSHUGE, VM_EVENT, __GFP_MOVABLE, __GFP_ZERO } from '@pagelab/mm-core';
import { SHRINK_STOP } from '@pagelab/slab';
import type { MmStruct } from './mm-struct.ts';
import type { Vm } from './vm.ts';

export class HugeZero {
  readonly #vm: Vm;
  /** −1 where there is none. */
  #pfn: Pfn = -1;
  /** Address spaces that have had it: each keeps it until it is gone. */
  #users = 0;

  constructor(vm: Vm) {
    this.#vm = vm;
    vm.slab.shrinkers.register({
      name: 'thp-zero',
      countObjects: () => (this.#users === 0 && this.#pfn >= 0 ? vm.tables.ptrsPerPte : 0),
      scanObjects: () => this.#shrink(),
    });
  }

  get pfn(): Pfn {
    return this.#pfn;
  }

  /** The page, for an address space; negative, and counted, where there is no block. @linux mm/huge_memory.c:mm_get_huge_zero_folio */
  get(mm: MmStruct): Pfn {
    if (this.#pfn < 0 && !this.#make()) return -1;
    if (!mm.hasHugeZero) {
      mm.hasHugeZero = true;
      this.#users++;
    }
    return this.#pfn;
  }

  /** An address space is gone. @linux mm/huge_memory.c:mm_put_huge_zero_folio */
  put(mm: MmStruct): void {
    if (!mm.hasHugeZero) return;
    mm.hasHugeZero = false;
    this.#users--;
  }

  #make(): boolean {
    const { pages, tables } = this.#vm;
    const pfn = pages.allocPages((GFP_TRANSHUGE | __GFP_ZERO) & ~__GFP_MOVABLE, tables.hugeOrder);
    if (pfn < 0) {
      pages.events[VM_EVENT.THP_ZERO_PAGE_ALLOC_FAILED]++;
      pages.events[VM_EVENT.THP_FAULT_FALLBACK]++;
      return false;
    }
    pages.events[VM_EVENT.THP_ZERO_PAGE_ALLOC]++;
    this.#pfn = pfn;
    return true;
  }

  /** @linux mm/huge_memory.c:shrink_huge_zero_folio_scan */
  #shrink(): number {
    if (this.#users > 0 || this.#pfn < 0) return SHRINK_STOP;
    this.#vm.pages.putPage(this.#pfn);
    this.#pfn = -1;
    return this.#vm.tables.ptrsPerPte;
  }
}
