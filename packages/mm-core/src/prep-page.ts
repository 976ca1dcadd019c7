/**
 * What is checked and set when a block leaves the free lists, and when it comes back.
 */
import { KernelBug, bugOn } from '@pagelab/lib';
import type { Pfn } from '@pagelab/hw';
import { PG_ANON, PG_BLOCK, PG_HEAD, PG_MEMCG, PG_MLOCKED, PG_OWNED, PG_TAIL, PAGE_FLAGS_CHECK_AT_FREE, blockOrder, pageFlagsText } from './page.ts';
import type { PageFrames } from './page.ts';

/** Flags of a frame that takes more than a look to free. */
export const FREE_NEEDS_CARE = PAGE_FLAGS_CHECK_AT_FREE | PG_HEAD | PG_BLOCK | PG_TAIL | PG_MLOCKED | PG_OWNED | PG_MEMCG;

/**
 * Makes a free block an allocated one: a reference to its head, and tails that know their head.
 *
 * @param compound whether it is referenced and freed as one
 * @throws KernelBug where a frame of it is in use
 * @linux mm/page_alloc.c:prep_new_page
 */
export function prepNewPage(frames: PageFrames, pfn: Pfn, order: number, compound: boolean): void {
  const { flags, refcount, mapcount, mapping, next, private: priv } = frames;
  if ((flags[pfn] | refcount[pfn] | mapcount[pfn] | mapping[pfn]) !== 0) badPage(frames, pfn, 'allocated');
  refcount[pfn] = 1;
  priv[pfn] = 0;
  if (order === 0) return;
  const end = pfn + (1 << order);
  for (let tail = pfn + 1; tail < end; tail++) {
    if ((flags[tail] | refcount[tail] | mapcount[tail] | mapping[tail]) !== 0) badPage(frames, tail, 'allocated');
    flags[tail] = PG_TAIL;
    next[tail] = pfn;
  }
  priv[pfn + 1] = order;
  flags[pfn] = compound ? PG_HEAD : PG_BLOCK;
}

/**
 * Checks a block that nobody refers to and makes its frames plain free ones.
 *
 * @returns whether it was mlocked
 * @throws KernelBug where it is mapped, on a list, or of another order
 * @linux mm/page_alloc.c:free_pages_prepare
 */
export function freePagesPrepare(frames: PageFrames, pfn: Pfn, order: number): boolean {
  const { flags, mapcount, mapping } = frames;
  if ((flags[pfn] & PG_TAIL) !== 0) badPage(frames, pfn, 'freed, but is the tail of a block');
  const allocated = blockOrder(frames, pfn);
  if (allocated !== order) badPage(frames, pfn, `freed with order ${order}, but allocated with ${allocated}`);
  if (order > 0) freeTails(frames, pfn, order);
  if ((flags[pfn] & PG_ANON) !== 0) mapping[pfn] = 0;
  if (((flags[pfn] & PAGE_FLAGS_CHECK_AT_FREE) | mapcount[pfn] | mapping[pfn]) !== 0) badPage(frames, pfn, 'freed');
  const mlocked = (flags[pfn] & PG_MLOCKED) !== 0;
  flags[pfn] = 0;
  return mlocked;
}

/** @linux mm/page_alloc.c:free_tail_page_prepare */
function freeTails(frames: PageFrames, pfn: Pfn, order: number): void {
  const { flags, refcount, mapcount, mapping, next, private: priv } = frames;
  const end = pfn + (1 << order);
  for (let tail = pfn + 1; tail < end; tail++) {
    if (next[tail] !== pfn || flags[tail] !== PG_TAIL || (refcount[tail] | mapcount[tail] | mapping[tail]) !== 0) {
      badPage(frames, tail, 'freed with its block');
    }
    flags[tail] = 0;
    next[tail] = 0;
  }
  priv[pfn + 1] = 0;
}

/**
 * Splits a block of order `from` that is not compound by halves: what is left at `pfn` is a frame, and above it lie blocks
 * of orders 0 to `from` − 1, without references.
 */
export function splitTails(frames: PageFrames, pfn: Pfn, from: number): void {
  const { next } = frames;
  for (let order = from - 1; order >= 0; order--) {
    const upper = pfn + (1 << order);
    for (let tail = upper + 1; tail < upper + (1 << order); tail++) next[tail] = upper;
    becomeHead(frames, upper, order);
    becomeHead(frames, pfn, order);
  }
}

/**
 * Makes single frames of a block that is not compound, each with the block's references.
 *
 * @linux mm/page_alloc.c:split_page
 */
export function splitPage(frames: PageFrames, pfn: Pfn, order: number): void {
  const { flags, refcount } = frames;
  bugOn((flags[pfn] & PG_HEAD) !== 0, 'split_page of a compound page');
  bugOn(refcount[pfn] <= 0 || blockOrder(frames, pfn) !== order, 'split_page of another block');
  for (let frame = pfn; frame < pfn + (1 << order); frame++) {
    becomeHead(frames, frame, 0);
    refcount[frame] = refcount[pfn];
  }
}

function becomeHead(frames: PageFrames, pfn: Pfn, order: number): void {
  const { flags, next, private: priv } = frames;
  if ((flags[pfn] & PG_TAIL) !== 0) {
    flags[pfn] &= ~PG_TAIL;
    next[pfn] = 0;
    priv[pfn] = 0;
  }
  if (order > 0) {
    flags[pfn] |= PG_BLOCK;
    priv[pfn + 1] = order;
  } else {
    flags[pfn] &= ~PG_BLOCK;
  }
}

/** Stops on a frame in a state it cannot be in. @linux mm/page_alloc.c:bad_page */
export function badPage(frames: PageFrames, pfn: Pfn, when: string): never {
  const { flags, refcount, mapcount, mapping } = frames;
  throw new KernelBug(
    `bad page: frame ${pfn} ${when}: refcount ${refcount[pfn]}, mapcount ${mapcount[pfn]}, mapping ${mapping[pfn]}, ` +
      `flags ${pageFlagsText(flags[pfn]) || 'none'}`,
  );
}
