/**
 * Moving private pages from one place of an address space to another, as a program that serves faults asks for.
 *
 * @linux mm/userfaultfd.c:move_pages
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_DIRTY, PTE_PS, PTE_RW, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_HEAD, PG_TAIL, compoundHead } from '@pagelab/mm-core';
import { anonVmaPrepare } from './anon-vma.ts';
import { hugeStart, splitHugePage, splitHugePmd } from './huge-memory.ts';
import { isKsmZero, unmapKsmZero } from './ksm-page.ts';
import { isAligned } from './page-align.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import { allocPmd, allocPteBelow, findPmd, pteOffset, tableBelow } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, SWP_SOFT_DIRTY, pageProtHi, pageProtLo, pfnOf } from './pte.ts';
import { linearPageIndex } from './rmap.ts';
import { swapCacheFrame } from './swap-state.ts';
import { pteToSwp, swpExclusive } from './swapops.ts';
import type { UffdContext } from './userfaultfd.ts';
import { VM_ACCESS_FLAGS, VM_HUGETLB, VM_IO, VM_LOCKED, VM_MIXEDMAP, VM_PFNMAP, VM_SHARED, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** What no page is moved out of, or into. @linux mm/userfaultfd.c:vma_move_compatible */
const FIXED = VM_PFNMAP | VM_IO | VM_HUGETLB | VM_MIXEDMAP;

/**
 * Moves private pages from one place to another, where there are none yet. A huge page moves as such, where all of it goes to
 * a place that can have it; otherwise it is split.
 *
 * @param holes whether pages that are missing at the source are passed over
 * @returns bytes moved, where that is any; else −errno: EINVAL, ENOENT, EEXIST, EBUSY for a page that others share, EFAULT for
 *   one that nobody may use, ENOMEM
 * @linux mm/userfaultfd.c:move_pages
 */
export function uffdMove(ctx: UffdContext, target: VirtAddr, source: VirtAddr, length: number, holes: boolean): number {
  const { mm } = ctx;
  const to = mm.vmas.get(target);
  if (to === undefined) return -Errno.ENOENT;
  if ((to.flags & VM_SHARED) === 0 && anonVmaPrepare(to) !== 0) return -Errno.ENOMEM;
  const from = mm.vmas.get(source);
  if (from === undefined) return -Errno.ENOENT;
  if (source + length > from.end || target + length > to.end || !canMove(ctx, from, to)) return -Errno.EINVAL;
  let done = 0;
  let step = 0;
  while (done < length) {
    step = moveStep({ from, to, source: source + done, target: target + done, left: length - done, holes });
    if (step < 0) break;
    done += step;
  }
  if (done > 0) mm.vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, source, source + done);
  return done > 0 ? done : step;
}

/** @linux mm/userfaultfd.c:validate_move_areas */
function canMove(ctx: UffdContext, from: VmArea, to: VmArea): boolean {
  const alike = VM_ACCESS_FLAGS | VM_LOCKED;
  if (((from.flags ^ to.flags) & alike) !== 0 || (from.flags & VM_WRITE) === 0) return false;
  if (((from.flags | to.flags) & (FIXED | VM_SHARED)) !== 0 || to.uffd !== ctx) return false;
  return from.file === null && to.file === null;
}

interface Move {
  readonly from: VmArea;
  readonly to: VmArea;
  readonly source: VirtAddr;
  readonly target: VirtAddr;
  /** Bytes from here to the end. */
  readonly left: number;
  readonly holes: boolean;
}

/** Moves what is at one place: bytes moved, or −errno. */
function moveStep(move: Move): number {
  const { mm } = move.from;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { pmdSize } = vm.tables;
  let pmd = findPmd(mm, move.source);
  if (pmd < 0) {
    if (!move.holes) return -Errno.ENOENT;
    pmd = allocPmd(mm, move.source);
    if (pmd < 0) return -Errno.ENOMEM;
  }
  const targetPmd = allocPmd(mm, move.target);
  if (targetPmd < 0) return -Errno.ENOMEM;
  if ((i32[targetPmd] & PTE_PS) !== 0) return -Errno.EEXIST;
  if ((i32[pmd] & PTE_PS) !== 0) {
    const fits = isAligned(move.source, pmdSize) && isAligned(move.target, pmdSize) && move.left >= pmdSize && i32[targetPmd] === 0;
    const isShared = (i32[pmd] & PTE_SPECIAL) === 0 && (vm.frames.flags[pfnOf(i32[pmd], entryHi(i32, pmd, vm.tables.entryWords))] & PG_ANON_EXCLUSIVE) === 0;
    if (isShared) return -Errno.EBUSY;
    if (fits) return moveHuge(move, pmd, targetPmd);
    splitHugePmd(mm, hugeStart(vm.tables, move.source), pmd);
  }
  if (i32[pmd] === 0 && !move.holes) return -Errno.ENOENT;
  if (allocPteBelow(mm, pmd, move.source) < 0) return -Errno.ENOMEM;
  const entry = allocPteBelow(mm, targetPmd, move.target);
  return entry < 0 ? -Errno.ENOMEM : movePage(move, pteOffset(vm.tables, tableBelow(vm, pmd), move.source), entry);
}

/** @linux mm/huge_memory.c:move_pages_huge_pmd */
function moveHuge({ from, to, target }: Move, pmd: number, targetPmd: number): number {
  const { vm } = from.mm;
  const { i32 } = vm.ram;
  const { entryWords: step, pmdSize, ptrsPerPte, softDirtyHi } = vm.tables;
  const lo = i32[pmd];
  const head = pfnOf(lo, entryHi(i32, pmd, step));
  clearEntry(i32, pmd, step);
  const isZero = (lo & PTE_SPECIAL) !== 0;
  for (let i = 0; i < ptrsPerPte && !isZero; i++) adopt(to, head + i, target + i * PAGE_SIZE);
  const rights = isZero ? PTE_SPECIAL | PTE_PS : PTE_RW | PTE_DIRTY | PTE_PS;
  setEntry(i32, targetPmd, step, pteLo(head, pageProtLo(to.flags) | rights), pteHi(head, pageProtHi(to.flags) | (isZero ? 0 : softDirtyHi)));
  return pmdSize;
}

/** A page belongs to another place from now on. @linux mm/rmap.c:folio_move_anon_rmap */
function adopt(to: VmArea, pfn: Pfn, target: VirtAddr): void {
  const { index, mapping } = to.mm.vm.frames;
  mapping[pfn] = to.anonVma!.id;
  index[pfn] = linearPageIndex(to, target);
}

/** @linux mm/userfaultfd.c:move_pages_ptes, move_present_ptes, move_zeropage_pte */
function movePage(move: Move, old: number, entry: number): number {
  const { to } = move;
  const { vm } = to.mm;
  const { i32 } = vm.ram;
  const { entryWords: step, softDirtyHi } = vm.tables;
  if ((i32[entry] | entryHi(i32, entry, step)) !== 0) return -Errno.EEXIST;
  const lo = i32[old];
  const hi = entryHi(i32, old, step);
  if ((lo | hi) === 0) return move.holes ? PAGE_SIZE : -Errno.ENOENT;
  if ((lo & PTE_MAPS) === 0) return moveSwapped(move, old, entry, lo, hi);
  const pfn = pfnOf(lo, hi);
  if ((lo & PTE_SPECIAL) !== 0) {
    clearEntry(i32, old, step);
    setEntry(i32, entry, step, pteLo(vm.zeroPfn, pageProtLo(to.flags) | PTE_SPECIAL), pteHi(vm.zeroPfn, pageProtHi(to.flags)));
    if (isKsmZero(lo)) unmapKsmZero(to.mm);
    return PAGE_SIZE;
  }
  const { flags } = vm.frames;
  if ((flags[pfn] & PG_ANON) === 0 || (flags[pfn] & PG_ANON_EXCLUSIVE) === 0) return -Errno.EBUSY;
  if ((flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0) splitHugePage(vm, compoundHead(vm.frames, pfn), pfn);
  clearEntry(i32, old, step);
  adopt(to, pfn, move.target);
  const rights = PTE_RW | (lo & PTE_DIRTY);
  setEntry(i32, entry, step, pteLo(pfn, pageProtLo(to.flags) | rights), pteHi(pfn, pageProtHi(to.flags) | softDirtyHi));
  return PAGE_SIZE;
}

/** @linux mm/userfaultfd.c:move_swap_pte */
function moveSwapped({ to, target }: Move, old: number, entry: number, lo: number, hi: number): number {
  const { vm } = to.mm;
  const { entryWords: step } = vm.tables;
  const swp = pteToSwp(step, lo, hi);
  if (swp < 0) return -Errno.EFAULT;
  if ((lo & swpExclusive(step)) === 0) return -Errno.EBUSY;
  const cached = swapCacheFrame(vm, swp);
  if (cached >= 0 && (vm.frames.flags[cached] & PG_ANON) !== 0) adopt(to, cached, target);
  clearEntry(vm.ram.i32, old, step);
  setEntry(vm.ram.i32, entry, step, vm.tables.softDirtyHi !== 0 ? lo | SWP_SOFT_DIRTY : lo, hi);
  return PAGE_SIZE;
}
