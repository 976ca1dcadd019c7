/**
 * What `fork` does with page tables: entries are copied, pages are not.
 *
 * Private pages become write-protected on both sides; the first to write copies. Pages of files and shared memory are
 * left out where the child's first touch finds them again in the file.
 */
import { isKsmZero } from './ksm-page.ts';
import { Errno } from '@pagelab/abi';
import { PTE_ACCESSED, PTE_DIRTY, PTE_PS, PTE_RW, PTE_UFFD_WP_LO } from '@pagelab/hw';
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_SWAPBACKED, PG_TAIL } from '@pagelab/mm-core';
import { copyHugePmd } from './huge-memory.ts';
import { copyHugetlbRange } from './hugetlb-fault.ts';
import { MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS } from './mm-struct.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { PteTableWalk, allocPmd, allocPte, allocPud, findPud, nextBoundary } from './pgtable.ts';
import { MARKER_UFFD_WP, PTE_MAPS, PTE_SPECIAL, markerOf, pfnOf, swpUffdWp } from './pte.ts';
import { VM_HUGETLB, VM_MAYBE_GUARD, VM_MAYWRITE, VM_MIXEDMAP, VM_PFNMAP, VM_SHARED, VM_UFFD_WP } from './vma.ts';
import { swapDuplicate } from './swapfile.ts';
import { pteToSwp, swpExclusive } from './swapops.ts';
import type { VmArea } from './vma.ts';

/** Mappings whose entries say what nothing else does. @linux include/linux/mm.h:VM_COPY_ON_FORK */
const VM_COPY_ON_FORK = VM_PFNMAP | VM_MIXEDMAP | VM_MAYBE_GUARD;

/** Whether writes to the mapping's pages stay its own. @linux include/linux/mm.h:is_cow_mapping */
export function isCowMapping(vmFlags: number): boolean {
  return (vmFlags & (VM_SHARED | VM_MAYWRITE)) === VM_MAYWRITE;
}

/** Whether a child needs a mapping's entries, or finds its pages by itself. @linux mm/memory.c:vma_needs_copy */
function needsCopy(dst: VmArea, src: VmArea): boolean {
  return (dst.flags & VM_UFFD_WP) !== 0 || (src.flags & VM_COPY_ON_FORK) !== 0 || src.anonVma !== null;
}

/**
 * Fills the child's page tables for `dst`, whose bounds are those of its parent's `src`, from `src`'s. Entries of `src`
 * lose their write right: the caller flushes the parent's translations, once, when all its mappings are copied. Costs a
 * few steps a resident page.
 *
 * @returns 0, or −ENOMEM: what was copied stays, for the caller to unmap
 * @linux mm/memory.c:copy_page_range
 */
export function copyPageRange(dst: VmArea, src: VmArea): number {
  if (!needsCopy(dst, src)) return 0;
  if ((src.flags & VM_HUGETLB) !== 0) return copyHugetlbRange(dst, src);
  const { mm } = dst;
  if (copyUpperTables(dst, src) !== 0) return -Errno.ENOMEM;
  const walk = new PteTableWalk(src.mm, src.start, src.end);
  while (walk.next()) {
    if (walk.huge) {
      // The child finds it in the file.
      if (src.file !== null) continue;
      const dstPmd = allocPmd(mm, walk.addr);
      if (dstPmd < 0 || !copyHugePmd(dst, dstPmd, walk.pmdEntry)) return -Errno.ENOMEM;
      // Getting memory for it may have come to split the page.
      if ((dst.mm.vm.ram.i32[walk.pmdEntry] & PTE_PS) !== 0) continue;
      walk.splitDone();
    }
    const dstEntry = allocPte(mm, walk.addr);
    if (dstEntry < 0) return -Errno.ENOMEM;
    copyPteRange(dst, src, dstEntry, walk.entry, walk.count);
  }
  return 0;
}

/**
 * Gives the child the tables of the upper levels that its parent has below the mapping, also where nothing hangs on them.
 *
 * @returns 0, or −ENOMEM
 * @linux mm/memory.c:copy_p4d_range, copy_pud_range
 */
function copyUpperTables(dst: VmArea, src: VmArea): number {
  const { ram, tables } = src.mm.vm;
  if (tables.pmdFolded) return 0;
  for (let addr = src.start; addr < src.end; ) {
    const pudEntry = findPud(src.mm, addr);
    if (pudEntry < 0) {
      addr = nextBoundary(addr, tables.pgdirSize);
      continue;
    }
    const made = ram.i32[pudEntry] === 0 ? allocPud(dst.mm, addr) : allocPmd(dst.mm, addr);
    if (made < 0) return -Errno.ENOMEM;
    addr = nextBoundary(addr, tables.pudSize);
  }
  return 0;
}

/** @linux mm/memory.c:copy_pte_range */
function copyPteRange(dst: VmArea, src: VmArea, dstEntry: number, srcEntry: number, count: number): void {
  const { vm, rss } = dst.mm;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  const { flags, refcount, mapcount, next } = vm.frames;
  const isCow = isCowMapping(src.flags);
  // What an entry loses on its way to the child: it was not used there yet, and what is shared is dirtied here.
  const keepsWp = (dst.flags & VM_UFFD_WP) !== 0;
  const dropped = ((src.flags & VM_SHARED) !== 0 ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED) | (keepsWp ? 0 : PTE_UFFD_WP_LO);
  const droppedSwp = keepsWp ? 0 : swpUffdWp(vm.tables);
  let anon = 0;
  let shmem = 0;
  let file = 0;
  let swapped = 0;
  let zeros = 0;
  for (let i = 0; i < count * step; i += step) {
    let lo = i32[srcEntry + i];
    const hi = entryHi(i32, srcEntry + i, step);
    if ((lo | hi) === 0) continue;
    if ((lo & PTE_MAPS) !== 0) {
      if ((lo & PTE_SPECIAL) === 0) {
        const pfn = pfnOf(lo, hi);
        const pageFlags = flags[pfn];
        refcount[(pageFlags & PG_TAIL) === 0 ? pfn : next[pfn]]++;
        mapcount[pfn]++;
        if ((pageFlags & PG_ANON) !== 0) {
          flags[pfn] = pageFlags & ~PG_ANON_EXCLUSIVE;
          anon++;
        } else if ((pageFlags & PG_SWAPBACKED) !== 0) {
          shmem++;
        } else {
          file++;
        }
      } else if (isKsmZero(lo)) {
        zeros++;
      }
      if (isCow && (lo & PTE_RW) !== 0) {
        lo &= ~PTE_RW;
        i32[srcEntry + i] = lo;
      }
      lo &= ~dropped;
    } else {
      const swp = pteToSwp(step, lo, hi);
      if (swp >= 0) {
        // Neither has it alone from now on.
        swapDuplicate(vm, swp);
        lo &= ~swpExclusive(step);
        i32[srcEntry + i] = lo;
        swapped++;
      } else if (!keepsWp && markerOf(vm.tables, lo, hi) === MARKER_UFFD_WP) {
        continue;
      }
      lo &= ~droppedSwp;
    }
    setEntry(i32, dstEntry + i, step, lo, hi);
  }
  rss[MM_ANONPAGES] += anon;
  rss[MM_SWAPENTS] += swapped;
  rss[MM_SHMEMPAGES] += shmem;
  rss[MM_FILEPAGES] += file;
  if (zeros > 0) {
    dst.mm.ksmZeroPages += zeros;
    vm.ksm.zeroPages += zeros;
  }
}
