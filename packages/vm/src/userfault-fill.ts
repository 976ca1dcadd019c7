/**
 * Resolving faults that a program serves: putting pages where there are none, protecting those that are there.
 *
 * @linux mm/userfaultfd.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_DIRTY, PTE_PS, PTE_RW, PTE_UFFD_WP_LO, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, PG_ANON, PG_ANON_EXCLUSIVE, PG_HEAD, PG_TAIL, PG_UPTODATE } from '@pagelab/mm-core';
import { anonVmaPrepare } from './anon-vma.ts';
import { hugeStart, splitHugePmd } from './huge-memory.ts';
import { chargeForMm } from './memcg-charge.ts';
import { MM_ANONPAGES, MM_SHMEMPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import { PteTableWalk, allocPte, findPmd, findPte } from './pgtable.ts';
import { MARKER_POISONED, MARKER_UFFD_WP, PTE_MAPS, PTE_SPECIAL, markerHi, markerLo, markerOf, pageProtHi, pageProtLo, pfnOf } from './pte.ts';
import { addFileRmap, addNewAnonRmap, linearPageIndex } from './rmap.ts';
import { shmemGetPage } from './shmem.ts';
import { folioAddLru } from './swap.ts';
import { copyFromUser } from './uaccess.ts';
import type { UffdContext } from './userfaultfd.ts';
import { VM_SHARED, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE } from './vma.ts';
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
 * @returns bytes filled, where that is any; else −errno: ENOENT outside of one registered mapping, EEXIST, EFAULT, ENOMEM,
 *   EINVAL
 * @linux mm/userfaultfd.c:mfill_atomic
 */
export function uffdFill(ctx: UffdContext, start: VirtAddr, length: number, fill: UffdFill): number {
  const { mm } = ctx;
  const vma = targetOf(mm, start, length);
  if (vma === undefined) return -Errno.ENOENT;
  if (fill.protect && (vma.flags & VM_UFFD_WP) === 0) return -Errno.EINVAL;
  if (fill.kind === 'continue' && vma.file === null) return -Errno.EINVAL;
  let done = 0;
  let error = 0;
  for (; done < length && error === 0; ) {
    error = fillPage(vma, start + done, fill, done);
    if (error === 0) done += PAGE_SIZE;
  }
  return done > 0 ? done : error;
}

/** The registered mapping that all of a range lies in. @linux mm/userfaultfd.c:find_dst_vma */
function targetOf(mm: MmStruct, start: VirtAddr, length: number): VmArea | undefined {
  const vma = mm.vmas.get(start);
  return vma !== undefined && vma.uffd !== null && start + length <= vma.end ? vma : undefined;
}

function fillPage(vma: VmArea, address: VirtAddr, fill: UffdFill, offset: number): number {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  let bytes: Uint8Array | null = null;
  if (fill.kind === 'copy') {
    // This may fault itself, and change what is mapped.
    const copied = copyFromUser(fill.source!.mm, fill.source!.address + offset, PAGE_SIZE);
    if (typeof copied === 'number') return -Errno.EFAULT;
    if (mm.vmas.get(address) !== vma) return -Errno.ENOENT;
    bytes = copied;
  }
  const pmd = findPmd(mm, address);
  if (pmd >= 0 && (i32[pmd] & PTE_PS) !== 0) return -Errno.EEXIST;
  const entry = allocPte(mm, address);
  if (entry < 0) return -Errno.ENOMEM;
  const step = vm.tables.entryWords;
  const hi = entryHi(i32, entry, step);
  if ((i32[entry] | hi) !== 0 && markerOf(vm.tables, i32[entry], hi) !== MARKER_UFFD_WP) return -Errno.EEXIST;
  if (fill.kind === 'poison') {
    setEntry(i32, entry, step, markerLo(vm.tables, MARKER_POISONED), markerHi(vm.tables));
    return 0;
  }
  if (vma.file !== null && (vma.flags & VM_SHARED) !== 0) return fillShared(vma, address, entry, fill, bytes);
  if (fill.kind === 'continue') return -Errno.EINVAL;
  if (fill.kind === 'zero') {
    const lo = pteLo(vm.zeroPfn, pageProtLo(vma.flags) | PTE_SPECIAL);
    setEntry(i32, entry, step, fill.protect ? lo | PTE_UFFD_WP_LO : lo, pteHi(vm.zeroPfn, pageProtHi(vma.flags)));
    return 0;
  }
  if (anonVmaPrepare(vma) !== 0) return -Errno.ENOMEM;
  const pfn = vm.pages.allocPage(GFP_HIGHUSER_MOVABLE);
  if (pfn < 0) return -Errno.ENOMEM;
  if (!chargeForMm(mm, pfn, 1, GFP_KERNEL)) {
    vm.pages.freePage(pfn);
    return -Errno.ENOMEM;
  }
  vm.ram.u8.set(bytes!, vm.ram.frameWord(pfn) * 4);
  addNewAnonRmap(vm, pfn, vma, address);
  folioAddLru(vm, pfn);
  mm.rss[MM_ANONPAGES]++;
  writeEntry(vma, entry, pfn, fill.protect, true);
  return 0;
}

/** A page of shared memory: made, or the one that is there. @linux mm/shmem.c:shmem_mfill_atomic_pte, mm/userfaultfd.c:mfill_atomic_pte_continue */
function fillShared(vma: VmArea, address: VirtAddr, entry: number, fill: UffdFill, bytes: Uint8Array | null): number {
  const { mm } = vma;
  const { vm } = mm;
  const { mapping, size } = vma.file!.inode;
  const pgoff = linearPageIndex(vma, address);
  if (pgoff * PAGE_SIZE >= size) return -Errno.EFAULT;
  const cached = mapping.pages.get(pgoff);
  if (fill.kind === 'continue' ? cached < 0 : cached >= 0) return fill.kind === 'continue' ? -Errno.EFAULT : -Errno.EEXIST;
  const pfn = shmemGetPage(vm, mapping, pgoff);
  if (pfn < 0) return -Errno.ENOMEM;
  if (bytes !== null) vm.ram.u8.set(bytes, vm.ram.frameWord(pfn) * 4);
  vm.frames.flags[pfn] |= PG_UPTODATE;
  addFileRmap(vm, pfn, vma);
  mm.rss[MM_SHMEMPAGES]++;
  writeEntry(vma, entry, pfn, fill.protect, fill.kind !== 'continue');
  return 0;
}

/** @linux mm/userfaultfd.c:mfill_atomic_install_pte */
function writeEntry(vma: VmArea, entry: number, pfn: Pfn, protect: boolean, dirty: boolean): void {
  const { vm } = vma.mm;
  const { entryWords, softDirtyHi } = vm.tables;
  let lo = pageProtLo(vma.flags) & ~PTE_RW;
  if (dirty) lo |= PTE_DIRTY;
  if (protect) lo |= PTE_UFFD_WP_LO;
  else if ((vma.flags & VM_WRITE) !== 0) lo |= PTE_RW;
  setEntry(vm.ram.i32, entry, entryWords, pteLo(pfn, lo), pteHi(pfn, pageProtHi(vma.flags) | (dirty ? softDirtyHi : 0)));
}

/**
 * Protects the pages of [start, start + length) from stores, or lets them be stored to again.
 *
 * @param unpopulated whether pages that are not there yet are protected, too
 * @returns 0; −ENOENT outside of mappings that were registered for it; −ENOMEM
 * @linux mm/userfaultfd.c:mwriteprotect_range
 */
export function uffdWriteProtect(ctx: UffdContext, start: VirtAddr, length: number, protect: boolean, unpopulated: boolean): number {
  const { mm } = ctx;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { gather } = vm;
  const end = start + length;
  let result = -Errno.ENOENT;
  for (let vma = mm.vmas.find(start); vma !== undefined && vma.start < end; vma = mm.vmas.find(vma.end)) {
    if ((vma.flags & VM_UFFD_WP) === 0) return -Errno.ENOENT;
    result = 0;
    const from = Math.max(start, vma.start);
    const to = Math.min(end, vma.end);
    if (protect && unpopulated && vma.file === null && !markEmpty(vma, from, to)) return -Errno.ENOMEM;
    gather.begin(mm);
    const walk = new PteTableWalk(mm, from, to);
    while (walk.next()) {
      if (walk.huge) {
        splitHugePmd(mm, hugeStart(vm.tables, walk.addr), walk.pmdEntry);
        walk.splitDone();
      }
      for (let i = 0; i < walk.count; i++) {
        const entry = walk.entry + i * walk.step;
        const lo = i32[entry];
        if ((lo & PTE_MAPS) !== 0) i32[entry] = protect ? (lo | PTE_UFFD_WP_LO) & ~PTE_RW : lo & ~PTE_UFFD_WP_LO;
        else if (!protect && markerOf(vm.tables, lo, entryHi(i32, entry, walk.step)) === MARKER_UFFD_WP) clearEntry(i32, entry, walk.step);
      }
      gather.noteRange(walk.addr, walk.addr + walk.count * PAGE_SIZE);
    }
    gather.finish();
  }
  return result;
}

/** Leaves a mark where there is no page. */
function markEmpty(vma: VmArea, from: VirtAddr, to: VirtAddr): boolean {
  const { mm } = vma;
  const { i32 } = mm.vm.ram;
  const { tables } = mm.vm;
  for (let address = from; address < to; address += PAGE_SIZE) {
    const pmd = findPmd(mm, address);
    if (pmd >= 0 && (i32[pmd] & PTE_PS) !== 0) continue;
    const entry = allocPte(mm, address);
    if (entry < 0) return false;
    if ((i32[entry] | entryHi(i32, entry, tables.entryWords)) === 0) {
      setEntry(i32, entry, tables.entryWords, markerLo(tables, MARKER_UFFD_WP), markerHi(tables));
    }
  }
  return true;
}

/**
 * Moves private pages from one place to another, where there are none yet.
 *
 * @param holes whether pages that are missing at the source are passed over
 * @returns bytes moved, where that is any; else −errno: EINVAL, ENOENT, EEXIST, EBUSY for a page that others share, ENOMEM
 * @linux mm/userfaultfd.c:move_pages
 */
export function uffdMove(ctx: UffdContext, target: VirtAddr, source: VirtAddr, length: number, holes: boolean): number {
  const { mm } = ctx;
  const to = targetOf(mm, target, length);
  const from = mm.vmas.get(source);
  if (to === undefined || from === undefined || source + length > from.end) return -Errno.EINVAL;
  const served = VM_UFFD_MISSING | VM_UFFD_WP;
  if (from.file !== null || to.file !== null || ((from.flags ^ to.flags) & ~served) !== 0 || (from.flags & VM_WRITE) === 0) return -Errno.EINVAL;
  if (anonVmaPrepare(to) !== 0) return -Errno.ENOMEM;
  let done = 0;
  let error = 0;
  while (done < length && error === 0) {
    error = movePage(from, source + done, to, target + done, holes);
    if (error === 0) done += PAGE_SIZE;
  }
  if (done > 0) mm.vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, source, source + done);
  return done > 0 ? done : error;
}

/** @linux mm/userfaultfd.c:move_present_pte, move_zeropage_pte */
function movePage(from: VmArea, source: VirtAddr, to: VmArea, target: VirtAddr, holes: boolean): number {
  const { mm } = from;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { entryWords: step, softDirtyHi } = vm.tables;
  const pmd = findPmd(mm, source);
  if (pmd >= 0 && (i32[pmd] & PTE_PS) !== 0) splitHugePmd(mm, hugeStart(vm.tables, source), pmd);
  const old = findPte(mm, source);
  const lo = old < 0 ? 0 : i32[old];
  if (old < 0 || (lo & PTE_MAPS) === 0) return holes ? 0 : -Errno.ENOENT;
  const entry = allocPte(mm, target);
  if (entry < 0) return -Errno.ENOMEM;
  if ((i32[entry] | entryHi(i32, entry, step)) !== 0) return -Errno.EEXIST;
  const pfn = pfnOf(lo, entryHi(i32, old, step));
  if ((lo & PTE_SPECIAL) !== 0) {
    setEntry(i32, entry, step, pteLo(vm.zeroPfn, pageProtLo(to.flags) | PTE_SPECIAL), pteHi(vm.zeroPfn, pageProtHi(to.flags)));
    clearEntry(i32, old, step);
    return 0;
  }
  const { flags, index, mapping } = vm.frames;
  if ((flags[pfn] & PG_ANON) === 0 || (flags[pfn] & PG_ANON_EXCLUSIVE) === 0 || (flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0) return -Errno.EBUSY;
  clearEntry(i32, old, step);
  mapping[pfn] = to.anonVma!.id;
  index[pfn] = linearPageIndex(to, target);
  setEntry(i32, entry, step, pteLo(pfn, pageProtLo(to.flags) | PTE_RW | PTE_DIRTY), pteHi(pfn, pageProtHi(to.flags) | softDirtyHi));
  return 0;
}
