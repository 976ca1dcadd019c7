/**
 * What must hold in a TLSF heap between two requests:
 *
 * - `sum of block sizes + SIZEOF_POOL === bytes` in each pool; no two free blocks are neighbours
 * - a block is in the list of its size if and only if it is free, and the next one says so; lists are sound both ways
 * - the bitmaps mark exactly the lists that hold something
 * - `sum of free blocks === FREE_BYTES`
 */
import type { UserMemory, VirtAddr } from '@pagelab/abi';
import {
  FL_BITMAP,
  FL_COUNT,
  FLAGS,
  FOOTER,
  FREE,
  FREE_BYTES,
  HEADS,
  NEXT,
  POOL_BYTES,
  POOL_NEXT,
  POOLS,
  PREV,
  PREV_FREE,
  SIZEOF_POOL,
  SL_BITMAPS,
  SL_COUNT,
  TAG,
  listOf,
} from './layout.ts';

function check(condition: boolean, what: string, p: VirtAddr): void {
  if (!condition) throw new Error(`tlsf heap: ${what} (at 0x${p.toString(16)})`);
}

/** Throws an Error that names the first broken invariant. Linear in the number of blocks. */
export function validateTlsf(mem: UserMemory, control: VirtAddr): void {
  const listed = checkLists(mem, control);
  let freeBytes = 0;
  let free = 0;
  for (let pool = mem.loadAddress(control + POOLS); pool !== 0; pool = mem.loadAddress(pool + POOL_NEXT)) {
    const end = pool + mem.loadAddress(pool + POOL_BYTES);
    let prevFree = false;
    let p = pool + SIZEOF_POOL;
    for (;;) {
      const tag = mem.load32(p + TAG);
      const size = tag - (tag & FLAGS);
      const isFree = (tag & FREE) !== 0;
      check(((tag & PREV_FREE) !== 0) === prevFree, 'a tag is wrong about the block before', p);
      check(isFree === listed.has(p), isFree ? 'a free block is in no list' : 'a used block is in a list', p);
      if (size === 0) break;
      check(!(isFree && prevFree), 'two free blocks are neighbours', p);
      check(p + size <= end, 'a block reaches beyond its pool', p);
      if (isFree) {
        check(mem.load32(p + size + FOOTER) === size, 'the size behind a free block is not its size', p);
        freeBytes += size;
        free++;
      }
      prevFree = isFree;
      p += size;
    }
    check(p === end, 'the blocks do not fill the pool', p);
  }
  check(free === listed.size, 'the lists hold blocks that are in no pool', control);
  check(freeBytes === mem.loadAddress(control + FREE_BYTES), 'the free bytes are not counted right', control);
}

function checkLists(mem: UserMemory, control: VirtAddr): Set<VirtAddr> {
  const listed = new Set<VirtAddr>();
  for (let first = 0; first < FL_COUNT; first++) {
    const bitmap = mem.load32(control + SL_BITMAPS + 4 * first);
    for (let second = 0; second < SL_COUNT; second++) {
      const list = SL_COUNT * first + second;
      let prev = 0;
      let p = mem.loadAddress(control + HEADS + 8 * list);
      check((p !== 0) === (((bitmap >>> second) & 1) === 1), 'the bitmap is wrong about a list', control + HEADS + 8 * list);
      for (; p !== 0; prev = p, p = mem.loadAddress(p + NEXT)) {
        const tag = mem.load32(p + TAG);
        check(!listed.has(p), 'a list is a loop', p);
        listed.add(p);
        check(mem.loadAddress(p + PREV) === prev, 'a link does not lead back', p);
        check(listOf(tag - (tag & FLAGS)) === list, 'a block is in the list of another size', p);
      }
    }
    check((bitmap !== 0) === (((mem.load32(control + FL_BITMAP) >>> first) & 1) === 1), 'the first bitmap is wrong', control);
  }
  return listed;
}
