/**
 * Resolving faults that a program serves: putting pages where there are none.
 *
 * @linux mm/userfaultfd.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_DIRTY, PTE_PS, PTE_RW, PTE_UFFD_WP_LO, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, PG_UPTODATE } from '@pagelab/mm-core';
import { anonVmaPrepare } from './anon-vma.ts';
import { chargeForMm } from './memcg-charge.ts';
import { MM_ANONPAGES, MM_SHMEMPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { allocPmd, allocPteBelow } from './pgtable.ts';
import { MARKER_POISONED, PTE_SPECIAL, isMarker, markerHi, markerLo, pageProtHi, pageProtLo } from './pte.ts';
import { addFileRmap, addNewAnonRmap, linearPageIndex } from './rmap.ts';
import { shmemGetPage } from './shmem.ts';
import { folioAddLru } from './swap.ts';
import { copyFromUser } from './uaccess.ts';
import { uffdFillHugetlb } from './userfault-hugetlb.ts';
import type { UffdContext } from './userfaultfd.ts';
import { VM_HUGETLB, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** What is put into a page's place. */
export interface UffdFill {
  /** `copy`: what `source` has; `zero`; `continue`: the page that the file has; `poison`: an entry that raises SIGBUS. */
  readonly kind: 'copy' | 'zero' | 'continue' | 'poison';
  /** Of `copy`: where from, in whose address space. */
  readonly source?: { readonly mm: MmStruct; readonly address: VirtAddr };
  /** Whether stores to it are served, too. */
  readonly protect: boolean;
}

/**
 * Fills pages from `start` on.
 *
 * @returns bytes filled, where that is any; else −errno: ENOENT outside of one registered mapping, EINVAL for what the mapping
 *   has no use for, EEXIST, EFAULT at the source or behind the end of the file, EIO for a broken page, ENOMEM
 * @linux mm/userfaultfd.c:mfill_atomic
 */
export function uffdFill(ctx: UffdContext, start: VirtAddr, length: number, fill: UffdFill): number {
  const { mm } = ctx;
  const vma = mm.vmas.get(start);
  if (vma === undefined) return -Errno.ENOENT;
  if ((vma.flags & VM_SHARED) === 0 && anonVmaPrepare(vma) !== 0) return -Errno.ENOMEM;
  if (start + length > vma.end || vma.uffd === null) return -Errno.ENOENT;
  if (fill.protect && (vma.flags & VM_UFFD_WP) === 0) return -Errno.EINVAL;
  if ((vma.flags & VM_HUGETLB) !== 0) return uffdFillHugetlb(vma, start, length, fill);
  const isShmem = vma.file !== null && vma.file.inode.mapping.ops.swapBacked;
  if (!isShmem && (vma.file !== null || fill.kind === 'continue')) return -Errno.EINVAL;
  let done = 0;
  let error = 0;
  while (done < length && error === 0) {
    error = fillPage(vma, start + done, fill, done);
    if (error === 0) done += PAGE_SIZE;
  }
  return done > 0 ? done : error;
}

/** What a page is filled with of `copy`; −errno where it cannot be read, or its reading changed what is mapped. */
export function readFill(vma: VmArea, address: VirtAddr, fill: UffdFill, offset: number, length: number): Uint8Array | number {
  // This may fault itself, and change what is mapped.
  const copied = copyFromUser(fill.source!.mm, fill.source!.address + offset, length);
  if (typeof copied === 'number') return -Errno.EFAULT;
  return vma.mm.vmas.get(address) === vma ? copied : -Errno.ENOENT;
}

/** @linux mm/userfaultfd.c:mfill_atomic_pte */
function fillPage(vma: VmArea, address: VirtAddr, fill: UffdFill, offset: number): number {
  const { mm } = vma;
  const bytes = fill.kind === 'copy' ? readFill(vma, address, fill, offset, PAGE_SIZE) : null;
  if (typeof bytes === 'number') return bytes;
  const pmdEntry = allocPmd(mm, address);
  if (pmdEntry < 0) return -Errno.ENOMEM;
  if ((mm.vm.ram.i32[pmdEntry] & PTE_PS) !== 0) return -Errno.EEXIST;
  const entry = allocPteBelow(mm, pmdEntry, address);
  if (entry < 0) return -Errno.ENOMEM;
  if (fill.kind !== 'continue' && isBeyondEnd(vma, address)) return -Errno.EFAULT;
  switch (fill.kind) {
    case 'continue':
      return mapCached(vma, address, entry, fill.protect);
    case 'poison':
      return poison(vma, entry);
    default:
      if ((vma.flags & VM_SHARED) !== 0) return fillShared(vma, address, entry, fill.protect, bytes);
      return bytes === null ? mapZero(vma, entry) : fillPrivate(vma, address, entry, fill.protect, bytes);
  }
}

/** @linux mm/userfaultfd.c:mfill_file_over_size */
function isBeyondEnd(vma: VmArea, address: VirtAddr): boolean {
  return vma.file !== null && linearPageIndex(vma, address) * PAGE_SIZE >= vma.file.inode.size;
}

/** Whether there is nothing; a marker counts as nothing where `mostly`. @linux include/linux/swapops.h:pte_none_mostly */
function isNone(vma: VmArea, entry: number, mostly: boolean): boolean {
  const { ram, tables } = vma.mm.vm;
  const lo = ram.i32[entry];
  const hi = entryHi(ram.i32, entry, tables.entryWords);
  return (lo | hi) === 0 || (mostly && isMarker(tables, lo, hi));
}

/** An entry that nobody may use. @linux mm/userfaultfd.c:mfill_atomic_pte_poison */
function poison(vma: VmArea, entry: number): number {
  const { ram, tables } = vma.mm.vm;
  if (!isNone(vma, entry, false)) return -Errno.EEXIST;
  setEntry(ram.i32, entry, tables.entryWords, markerLo(tables, MARKER_POISONED), markerHi(tables));
  return 0;
}

/** @linux mm/userfaultfd.c:mfill_atomic_pte_zeropage */
function mapZero(vma: VmArea, entry: number): number {
  const { vm } = vma.mm;
  if (!isNone(vma, entry, false)) return -Errno.EEXIST;
  const lo = pteLo(vm.zeroPfn, pageProtLo(vma.flags) | PTE_SPECIAL);
  setEntry(vm.ram.i32, entry, vm.tables.entryWords, lo, pteHi(vm.zeroPfn, pageProtHi(vma.flags)));
  return 0;
}

/** @linux mm/userfaultfd.c:mfill_atomic_pte_copy */
function fillPrivate(vma: VmArea, address: VirtAddr, entry: number, protect: boolean, bytes: Uint8Array): number {
  const { mm } = vma;
  const { vm } = mm;
  if (!isNone(vma, entry, true)) return -Errno.EEXIST;
  const pfn = vm.pages.allocPage(GFP_HIGHUSER_MOVABLE);
  if (pfn < 0) return -Errno.ENOMEM;
  if (!chargeForMm(mm, pfn, 1, GFP_KERNEL)) {
    vm.pages.freePage(pfn);
    return -Errno.ENOMEM;
  }
  vm.ram.u8.set(bytes, vm.ram.frameWord(pfn) * 4);
  addNewAnonRmap(vm, pfn, vma, address);
  folioAddLru(vm, pfn);
  mm.rss[MM_ANONPAGES]++;
  install(vma, entry, pfn, protect, (vma.flags & VM_WRITE) !== 0);
  return 0;
}

/** A new page of shared memory. @linux mm/shmem.c:shmem_mfill_atomic_pte */
function fillShared(vma: VmArea, address: VirtAddr, entry: number, protect: boolean, bytes: Uint8Array | null): number {
  const { vm } = vma.mm;
  const { mapping } = vma.file!.inode;
  const pgoff = linearPageIndex(vma, address);
  if (mapping.pages.get(pgoff) >= 0 || mapping.swaps.has(pgoff) || !isNone(vma, entry, true)) return -Errno.EEXIST;
  const pfn = shmemGetPage(vm, mapping, pgoff);
  if (pfn < 0) return -Errno.ENOMEM;
  if (bytes !== null) vm.ram.u8.set(bytes, vm.ram.frameWord(pfn) * 4);
  vm.frames.flags[pfn] |= PG_UPTODATE;
  installShmem(vma, entry, pfn, protect);
  return 0;
}

/** The page that the file has, cached or swapped out. @linux mm/userfaultfd.c:mfill_atomic_pte_continue */
function mapCached(vma: VmArea, address: VirtAddr, entry: number, protect: boolean): number {
  const { vm } = vma.mm;
  const { mapping } = vma.file!.inode;
  const pgoff = linearPageIndex(vma, address);
  if (isBeyondEnd(vma, address)) return -Errno.EINVAL;
  if (mapping.pages.get(pgoff) < 0 && !mapping.swaps.has(pgoff)) return -Errno.EFAULT;
  const pfn = shmemGetPage(vm, mapping, pgoff);
  if (pfn < 0) return pfn;
  if (vm.hwpoison.has(pfn)) {
    vm.pages.putPage(pfn);
    return -Errno.EIO;
  }
  const isFree = isNone(vma, entry, true);
  if (isFree) installShmem(vma, entry, pfn, protect);
  else vm.pages.putPage(pfn);
  return isFree ? 0 : -Errno.EEXIST;
}

function installShmem(vma: VmArea, entry: number, pfn: Pfn, protect: boolean): void {
  const { mm } = vma;
  addFileRmap(mm.vm, pfn, vma);
  mm.rss[MM_SHMEMPAGES]++;
  // A private mapping's store copies.
  install(vma, entry, pfn, protect, (vma.flags & VM_SHARED) !== 0 && (vma.flags & VM_WRITE) !== 0);
}

/** Writes the entry: dirty, for what is there came from nowhere else. @linux mm/userfaultfd.c:mfill_atomic_install_pte */
function install(vma: VmArea, entry: number, pfn: Pfn, protect: boolean, writable: boolean): void {
  const { vm } = vma.mm;
  const { entryWords, softDirtyHi } = vm.tables;
  let lo = (pageProtLo(vma.flags) & ~PTE_RW) | PTE_DIRTY;
  if (protect) lo |= PTE_UFFD_WP_LO;
  else if (writable) lo |= PTE_RW;
  setEntry(vm.ram.i32, entry, entryWords, pteLo(pfn, lo), pteHi(pfn, pageProtHi(vma.flags) | softDirtyHi));
}
