/**
 * khugepaged: looks through address spaces for blocks of small pages that would do as one huge page, a part at a time.
 *
 * @linux mm/khugepaged.c
 */
import type { VirtAddr } from '@pagelab/abi';
import { PTE_ACCESSED } from '@pagelab/hw';
import { PG_HEAD, PG_LOCKED, PG_REFERENCED, PG_TAIL } from '@pagelab/mm-core';
import { collapseFileBlock } from './collapse-file.ts';
import { collapseBlock } from './collapse.ts';
import type { BlockCheck } from './collapse.ts';
import { fileThpAllowed, thpEnabled } from './huge-memory.ts';
import type { MmStruct } from './mm-struct.ts';
import { shmemHugeEnabled } from './shmem-huge.ts';
import { lruAddDrainAll } from './swap.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

/** What `/sys/kernel/mm/transparent_hugepage/khugepaged` sets and counts. */
export interface Khugepaged {
  /** Pages it looks at before it sleeps. */
  pagesToScan: number;
  /** Of a block: pages that may be missing, swapped out, or shared with others. */
  maxPtesNone: number;
  maxPtesSwap: number;
  maxPtesShared: number;
  /** Milliseconds from one part to the next, and after a block could not be had. */
  scanSleepMs: number;
  allocSleepMs: number;
  /** Whether it may reclaim and compact for a block. */
  defrag: boolean;
  pagesCollapsed: number;
  /** Times it has been through all address spaces. */
  fullScans: number;
  /** Where it goes on: the address space by its number, and the address. */
  nextMm: number;
  nextAddr: VirtAddr;
}

/** As a machine with huge pages of `hugePages` small ones begins. @linux mm/khugepaged.c:khugepaged_init */
export function newKhugepaged(hugePages: number): Khugepaged {
  return {
    pagesToScan: hugePages * 8,
    maxPtesNone: hugePages - 1,
    maxPtesSwap: hugePages / 8,
    maxPtesShared: hugePages / 2,
    scanSleepMs: 10_000,
    allocSleepMs: 60_000,
    defrag: true,
    pagesCollapsed: 0,
    fullScans: 0,
    nextMm: 0,
    nextAddr: 0,
  };
}

/** Whether there is anything that it could look at. @linux mm/khugepaged.c:khugepaged_has_work */
export function khugepagedHasWork(vm: Vm): boolean {
  if (vm.thpMode === 'never' && !shmemHugeEnabled(vm)) return false;
  let found = false;
  vm.mms.forEach((mm) => {
    if (!found) for (const vma of mm.vmas) if (isCandidate(vma)) found = true;
  });
  return found;
}

/** @linux mm/khugepaged.c:thp_vma_allowable_order */
function isCandidate(vma: VmArea): boolean {
  const { pmdSize } = vma.mm.vm.tables;
  if (vma.file !== null) return fileThpAllowed(vma, false);
  return thpEnabled(vma) && Math.ceil(vma.start / pmdSize) < Math.floor(vma.end / pmdSize);
}

/**
 * Looks at the next `pages_to_scan` pages and makes huge pages where that pays.
 *
 * @returns whether it stopped because there was no block to be had
 * @linux mm/khugepaged.c:khugepaged_do_scan
 */
export function khugepagedScan(vm: Vm): boolean {
  const { khugepaged } = vm;
  lruAddDrainAll(vm);
  let left = khugepaged.pagesToScan;
  let passes = 0;
  while (left > 0 && passes < 2) {
    const mm = nextMm(vm);
    if (mm === undefined) {
      khugepaged.nextMm = 0;
      khugepaged.nextAddr = 0;
      khugepaged.fullScans++;
      passes++;
      continue;
    }
    const scanned = scanMm(mm, left);
    if (scanned < 0) return true;
    left -= Math.max(1, scanned);
  }
  return false;
}

/** The address space to go on with: the first from the number noted on. */
function nextMm({ khugepaged, mms }: Vm): MmStruct | undefined {
  let found: MmStruct | undefined;
  mms.forEach((mm) => {
    if (mm.id >= khugepaged.nextMm && (found === undefined || mm.id < found.id)) found = mm;
  });
  if (found !== undefined && found.id !== khugepaged.nextMm) khugepaged.nextAddr = 0;
  return found;
}

/** @returns pages looked at; −1 where no block was to be had @linux mm/khugepaged.c:khugepaged_scan_mm_slot */
function scanMm(mm: MmStruct, most: number): number {
  const { vm } = mm;
  const { khugepaged } = vm;
  const { pmdSize, ptrsPerPte } = vm.tables;
  let scanned = 0;
  for (let vma = mm.vmas.find(khugepaged.nextAddr); vma !== undefined; vma = mm.vmas.find(vma.end)) {
    scanned++;
    if (isCandidate(vma)) {
      const last = Math.floor(vma.end / pmdSize) * pmdSize;
      let block = Math.ceil(Math.max(vma.start, khugepaged.nextAddr) / pmdSize) * pmdSize;
      for (; block < last; block += pmdSize) {
        khugepaged.nextMm = mm.id;
        khugepaged.nextAddr = block;
        if (scanned >= most) return scanned;
        const result = vma.file === null ? collapseBlock(vma, block, CHECK) : collapseFileBlock(vma, block, khugepaged);
        if (result < 0 && result === NO_MEMORY) return -1;
        if (result === COLLAPSED) khugepaged.pagesCollapsed++;
        scanned += ptrsPerPte;
      }
    }
    khugepaged.nextAddr = vma.end;
  }
  khugepaged.nextMm = mm.id + 1;
  khugepaged.nextAddr = 0;
  return scanned;
}

/** What {@link collapseBlock} answers. */
const NO_MEMORY = -12;
const COLLAPSED = 1;

/** Which blocks are worth it. @linux mm/khugepaged.c:hpage_collapse_scan_pmd */
class ScanCheck implements BlockCheck {
  private none = 0;
  private shared = 0;
  private referenced = false;

  begin(): void {
    this.none = 0;
    this.shared = 0;
    this.referenced = false;
  }

  missing({ khugepaged }: Vm): boolean {
    return ++this.none <= khugepaged.maxPtesNone;
  }

  present({ frames, khugepaged }: Vm, lo: number, pfn: number): boolean {
    const { flags, mapcount, refcount } = frames;
    if ((flags[pfn] & PG_LOCKED) !== 0) return false;
    if (mapcount[pfn] > 1 && ++this.shared > khugepaged.maxPtesShared) return false;
    // Somebody else refers to it.
    if ((flags[pfn] & (PG_HEAD | PG_TAIL)) === 0 && refcount[pfn] !== mapcount[pfn]) return false;
    if ((lo & PTE_ACCESSED) !== 0 || (flags[pfn] & PG_REFERENCED) !== 0) this.referenced = true;
    return true;
  }

  /** Nothing is made of what nobody uses. */
  end(): boolean {
    return this.referenced;
  }
}

const CHECK = new ScanCheck();
