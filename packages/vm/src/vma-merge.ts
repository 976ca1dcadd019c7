/**
 * Neighbours that are one: joining mappings whose rights, contents and page offsets continue each other.
 *
 * Two mappings may become one when they have the same flags (but those that the kernel sets on its own) and the same
 * file, when the second's page offset follows the first's last, and when their anonymous pages are recorded in the same
 * place: in one anon_vma, or one of them has no anonymous page yet. A mapping that was inherited over `fork` with pages
 * recorded at its ancestors' stays apart from one that has none: merged, it would make their chains longer.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { anonVmaClone } from './anon-vma.ts';
import type { AnonVma } from './anon-vma.ts';
import type { VmFile, ZeroFile } from './file.ts';
import { mpolEqual } from './mempolicy.ts';
import type { MemPolicy } from './mempolicy.ts';
import type { MmStruct } from './mm-struct.ts';
import type { UffdContext } from './userfaultfd.ts';
import { splitMiddle, splitVma } from './vma-split.ts';
import { removeVma, vmaJoin, vmaPages, vmaResize, vmaUnlink } from './vma-tree.ts';
import { VM_IGNORE_MERGE, VM_SPECIAL, VM_STICKY } from './vma.ts';
import type { VmArea } from './vma.ts';

/** What a range that is to become a mapping, or to change, will be. Kept apart from a VMA: it may never become one. */
export interface MergeRange {
  flags: number;
  droppable: boolean;
  /** Page offset of the range's first page. */
  pgoff: number;
  file: VmFile | null;
  zeroFile: ZeroFile | null;
  anonVma: AnonVma | null;
  policy: MemPolicy | null;
  uffd: UffdContext | null;
  uffdMinor: boolean;
  /** The mapping that the range is a part of, or that it is a moved copy of; `null` for a new range. */
  source: VmArea | null;
}

/** Whether pages of this mapping may be recorded at its ancestors. @linux mm/vma.c:vma_is_fork_child */
function isForkChild(vma: VmArea | null): boolean {
  return vma !== null && vma.anonVma !== null && vma.anonVmaChain.length !== 1;
}

/** @linux mm/vma.c:is_mergeable_anon_vma */
function anonVmasFit(target: VmArea, range: MergeRange): boolean {
  if (target.anonVma === range.anonVma) return true;
  if (target.anonVma === null) return !isForkChild(range.source);
  return range.anonVma === null && !isForkChild(target);
}

/** @linux mm/vma.c:is_mergeable_vma */
function kindsFit(target: VmArea, range: MergeRange): boolean {
  return (
    ((target.flags ^ range.flags) & ~VM_IGNORE_MERGE) === 0 &&
    target.file === range.file &&
    target.zeroFile === range.zeroFile &&
    target.droppable === range.droppable &&
    (target.policy === range.policy || mpolEqual(target.policy, range.policy)) &&
    target.uffd === range.uffd &&
    target.uffdMinor === range.uffdMinor &&
    anonVmasFit(target, range)
  );
}

/** Whether a range at `start` continues `prev`. @linux mm/vma.c:can_vma_merge_left */
function continues(prev: VmArea | undefined, start: VirtAddr, range: MergeRange): prev is VmArea {
  return (
    prev !== undefined && prev.end === start && prev.pgoff + vmaPages(prev) === range.pgoff && kindsFit(prev, range)
  );
}

/** Whether a mapping can go by being joined with another: not where its file wants to know. @linux mm/vma.c:can_merge_remove_vma */
function mayRemove(vma: VmArea): boolean {
  return vma.file === null || vma.file.vmOps === null;
}

/**
 * Whether `next` continues a range that ends at `end`; where that one continues `joined`, all three must fit.
 *
 * @linux mm/vma.c:can_vma_merge_right
 */
function isContinued(
  next: VmArea | undefined,
  start: VirtAddr,
  end: VirtAddr,
  range: MergeRange,
  joined: VmArea | null,
): next is VmArea {
  if (next === undefined || next.start !== end) return false;
  if (next.pgoff !== range.pgoff + (end - start) / PAGE_SIZE || !kindsFit(next, range)) return false;
  return joined === null || joined.anonVma === null || next.anonVma === null || joined.anonVma === next.anonVma;
}

/**
 * Records `target`'s pages where those of `source` are, if only `source` has any.
 *
 * @returns 0 or -ENOMEM
 * @linux mm/vma.c:dup_anon_vma
 */
function dupAnonVma(target: VmArea, source: VmArea): number {
  if (source.anonVma === null || target.anonVma !== null) return 0;
  target.anonVma = source.anonVma;
  const err = anonVmaClone(target, source);
  if (err !== 0) target.anonVma = null;
  return err;
}

/**
 * Lets a neighbour take in the free range [start, end), and each other where it fills the hole between them.
 *
 * @returns the mapping that holds the range now; `null` where no neighbour fits, or there is no memory to join them
 * @linux mm/vma.c:vma_merge_new_range
 */
export function mergeNewRange(mm: MmStruct, start: VirtAddr, end: VirtAddr, range: MergeRange): VmArea | null {
  if ((range.flags & VM_SPECIAL) !== 0) return null;
  const { vmas } = mm;
  const position = vmas.locate(start);
  const next = vmas.valueAt(position);
  const prev = vmas.valueAt(position < 0 ? vmas.lastPosition() : vmas.before(position));
  const left = continues(prev, start, range) ? prev : null;
  if (isContinued(next, start, end, range, left) && (left === null || mayRemove(next))) {
    if (left === null) {
      if (range.source !== null && dupAnonVma(next, range.source) !== 0) return null;
      vmaResize(next, start, next.end, range.pgoff);
      next.flags |= range.flags & VM_STICKY;
      return next;
    }
    if (dupAnonVma(left, next) !== 0) return null;
    if (range.source !== null && dupAnonVma(left, range.source) !== 0) return null;
    const nextEnd = next.end;
    vmaUnlink(next);
    vmaResize(left, left.start, nextEnd, left.pgoff);
    left.flags |= (range.flags | next.flags) & VM_STICKY;
    removeVma(next);
    return left;
  }
  return left === null ? null : expandInto(left, end, range);
}

/** Lets `prev` grow upwards to `end`, if the range fits. @linux mm/vma.c:vma_expand */
function expandInto(prev: VmArea, end: VirtAddr, range: MergeRange): VmArea | null {
  if (range.source !== null && dupAnonVma(prev, range.source) !== 0) return null;
  vmaResize(prev, prev.start, end, prev.pgoff);
  prev.flags |= range.flags & VM_STICKY;
  return prev;
}

/**
 * Lets the mapping below take in the free range [start, end), as the heap grows: the one above stays apart even if it
 * fits.
 *
 * @returns whether it did
 */
export function expandOnly(prev: VmArea, start: VirtAddr, end: VirtAddr, range: MergeRange): boolean {
  return continues(prev, start, range) && expandInto(prev, end, range) !== null;
}

/**
 * Tries to give [start, end), a part of `vma` that is about to have `flags`, to the neighbours that have them already.
 *
 * @returns the mapping that holds the range now, its flags still as they were; 0 where no neighbour fits; -ENOMEM with
 *   nothing changed
 * @linux mm/vma.c:vma_merge_existing_range
 */
function mergeExistingRange(vma: VmArea, start: VirtAddr, end: VirtAddr, range: MergeRange): VmArea | number {
  const leftSide = start === vma.start;
  const rightSide = end === vma.end;
  if ((range.flags & VM_SPECIAL) !== 0 || (!leftSide && !rightSide)) return 0;
  if (leftSide && rightSide && !mayRemove(vma)) return 0;
  const { vmas } = vma.mm;
  const position = vmas.locate(start);
  let left: VmArea | null = null;
  if (leftSide) {
    const prev = vmas.valueAt(vmas.before(position));
    if (continues(prev, start, range)) left = prev;
  }
  if (rightSide) {
    const next = vmas.valueAt(vmas.after(position));
    if (isContinued(next, start, end, range, left) && (left === null || mayRemove(next))) {
      return left === null ? giveToNext(vma, start, next) : joinThree(left, vma, next);
    }
  }
  return left === null ? 0 : giveToPrev(left, vma, end);
}

/** prev, vma and next become prev. */
function joinThree(prev: VmArea, vma: VmArea, next: VmArea): VmArea | number {
  if (dupAnonVma(prev, next.anonVma !== null ? next : vma) !== 0) return -Errno.ENOMEM;
  const end = next.end;
  vmaJoin(prev, 2, end);
  prev.flags |= (vma.flags | next.flags) & VM_STICKY;
  removeVma(vma);
  removeVma(next);
  return prev;
}

/** The head of vma, up to `end`, becomes part of prev. */
function giveToPrev(prev: VmArea, vma: VmArea, end: VirtAddr): VmArea | number {
  if (dupAnonVma(prev, vma) !== 0) return -Errno.ENOMEM;
  prev.flags |= vma.flags & VM_STICKY;
  if (end === vma.end) {
    vmaJoin(prev, 1, end);
    removeVma(vma);
  } else {
    vmaResize(vma, end, vma.end, vma.pgoff + (end - vma.start) / PAGE_SIZE);
    vmaResize(prev, prev.start, end, prev.pgoff);
  }
  return prev;
}

/** The tail of vma, from `start`, becomes part of next. */
function giveToNext(vma: VmArea, start: VirtAddr, next: VmArea): VmArea | number {
  if (dupAnonVma(next, vma) !== 0) return -Errno.ENOMEM;
  next.flags |= vma.flags & VM_STICKY;
  const pgoff = next.pgoff - (vma.end - start) / PAGE_SIZE;
  if (start === vma.start) {
    vmaUnlink(vma);
    vmaResize(next, start, next.end, pgoff);
    removeVma(vma);
  } else {
    vmaResize(vma, vma.start, start, vma.pgoff);
    vmaResize(next, start, next.end, pgoff);
  }
  return next;
}

/**
 * Makes [start, end), a part of `vma`, a mapping of its own with the flags `flags`, or part of a neighbour that has them
 * already.
 *
 * @param policy the policy that it is about to have, which is compared and not yet set; and `uffd`, who is to serve its faults, with `uffdMinor`
 * @returns the mapping that holds the range, its flags set; -ENOMEM with nothing changed, for lack of memory or beyond
 *   `max_map_count`
 * @linux mm/vma.c:vma_modify
 */
export function vmaModify(vma: VmArea, start: VirtAddr, end: VirtAddr, flags: number, policy = vma.policy, uffd = vma.uffd, uffdMinor = vma.uffdMinor): VmArea | number {
  const range = vma.mm.mergeRange;
  range.flags = flags;
  range.droppable = vma.droppable;
  range.pgoff = vma.pgoff + (start - vma.start) / PAGE_SIZE;
  range.file = vma.file;
  range.zeroFile = vma.zeroFile;
  range.anonVma = vma.anonVma;
  range.policy = policy;
  range.uffd = uffd;
  range.uffdMinor = uffdMinor;
  range.source = vma;
  const merged = mergeExistingRange(vma, start, end, range);
  // A neighbour that it became part of has these flags, and may have sticky ones beside them.
  if (merged !== 0) return merged;
  let err = 0;
  if (vma.start < start) err = vma.end > end ? splitMiddle(vma, start, end) : splitVma(vma, start, true);
  else if (vma.end > end) err = splitVma(vma, end, false);
  if (err !== 0) return err;
  vma.flags = flags;
  return vma;
}
