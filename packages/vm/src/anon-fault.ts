/**
 * The first touch of anonymous memory: the zero page for a read, a frame of its own for a write.
 *
 * @linux mm/memory.c:do_anonymous_page
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_DIRTY, PTE_RW, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, __GFP_ZERO } from '@pagelab/mm-core';
import { anonVmaPrepare } from './anon-vma.ts';
import { FAULT_FLAG_WRITE, VM_FAULT_OOM } from './fault-flags.ts';
import { chargeForMm } from './memcg-charge.ts';
import { vmaAllocPages } from './mempolicy.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { setEntry } from './pgtable-shape.ts';
import { allocPteBelow } from './pgtable.ts';
import { PTE_SPECIAL, pageProtHi, pageProtLo } from './pte.ts';
import { addNewAnonRmap } from './rmap.ts';
import { folioAddLru } from './swap.ts';
import type { Vm } from './vm.ts';
import { VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** A page for a mapping: of any node that suits the CPU, unless somebody has a policy. @linux mm/mempolicy.c:vma_alloc_folio_noprof */
export function allocUserPage(vma: VmArea, address: VirtAddr, gfp: number): Pfn {
  const { vm } = vma.mm;
  const pfn = vm.nrPolicies === 0 ? vm.pages.allocPage(gfp) : vmaAllocPages(vma, address, gfp, 0);
  return vm.memcgs === null || pfn < 0 ? pfn : chargeUserPage(vma.mm, pfn);
}

/** Charges a page to the address space's group. @returns it, or −ENOMEM, and it is free */
function chargeUserPage(mm: MmStruct, pfn: Pfn): Pfn {
  if (chargeForMm(mm, pfn, 1, GFP_KERNEL)) return pfn;
  mm.vm.pages.freePage(pfn);
  return -Errno.ENOMEM;
}

/** @linux mm/memory.c:do_anonymous_page */
export function serveAnonymous(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number): number {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const vmFlags = vma.flags;
  const entry = allocPteBelow(mm, pmdEntry, address);
  if (entry < 0) return VM_FAULT_OOM;
  if ((flags & FAULT_FLAG_WRITE) === 0) {
    const lo = pteLo(vm.zeroPfn, pageProtLo(vmFlags) | PTE_SPECIAL);
    setEntry(i32, entry, vm.tables.entryWords, lo, pteHi(vm.zeroPfn, pageProtHi(vmFlags)));
    return 0;
  }
  if (vma.anonVma === null && anonVmaPrepare(vma) !== 0) return VM_FAULT_OOM;
  const pfn = allocUserPage(vma, address, GFP_HIGHUSER_MOVABLE | __GFP_ZERO);
  if (pfn < 0) return VM_FAULT_OOM;
  addNewAnonRmap(vm, pfn, vma, address);
  folioAddLru(vm, pfn);
  mm.rss[MM_ANONPAGES]++;
  setAnonEntry(vm, entry, pfn, vmFlags);
  return 0;
}

/**
 * Writes the entry of a private page that only this address space has, for a write. By force that comes to a read-only
 * mapping, too: there the page is dirty, but stays protected.
 */
export function setAnonEntry({ ram, tables }: Vm, entry: number, pfn: Pfn, vmFlags: number): void {
  const rights = (vmFlags & VM_WRITE) !== 0 ? PTE_RW | PTE_DIRTY : PTE_DIRTY;
  const lo = pteLo(pfn, pageProtLo(vmFlags) | rights);
  setEntry(ram.i32, entry, tables.entryWords, lo, pteHi(pfn, pageProtHi(vmFlags) | tables.softDirtyHi));
}
