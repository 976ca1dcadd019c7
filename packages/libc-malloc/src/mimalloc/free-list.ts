/**
 * Free lists: each free block's first word leads to the next. In secure mode the two halves of it are XORed with keys
 * of the page, and what comes out must be a block of the page: who overwrites a freed block is found out by malloc.
 */
import type { VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import type { Mi } from './context.ts';
import { PG_AREA, PG_BLOCK_SIZE, PG_CAPACITY, PG_FREE, PG_KEY_HIGH, PG_KEY_LOW, PG_LOCAL_FREE, PG_XTHREAD_FREE, DELAYED_MASK } from './layout.ts';

/** The block after `block` in a list of `page`, 0 at its end. */
export function nextBlock({ mem, secure }: Mi, page: VirtAddr, block: VirtAddr): VirtAddr {
  if (!secure) return mem.loadAddress(block);
  const low = (mem.load32(block) ^ mem.load32(page + PG_KEY_LOW)) >>> 0;
  const high = (mem.load32(block + 4) ^ mem.load32(page + PG_KEY_HIGH)) >>> 0;
  const next = high * 2 ** 32 + low;
  if (next !== 0 && !isBlock(mem.loadAddress(page + PG_AREA), mem.loadAddress(page + PG_BLOCK_SIZE), mem.load32(page + PG_CAPACITY), next)) {
    mallocAbort('mimalloc: corrupted free list entry');
  }
  return next;
}

function isBlock(area: VirtAddr, blockSize: number, capacity: number, at: VirtAddr): boolean {
  const offset = at - area;
  return offset >= 0 && offset < blockSize * capacity && offset % blockSize === 0;
}

/** Makes `next` the block after `block`. */
export function setNextBlock({ mem, secure }: Mi, page: VirtAddr, block: VirtAddr, next: VirtAddr): void {
  if (!secure) {
    mem.storeAddress(block, next);
    return;
  }
  mem.store32(block, next ^ mem.load32(page + PG_KEY_LOW));
  mem.store32(block + 4, Math.floor(next / 2 ** 32) ^ mem.load32(page + PG_KEY_HIGH));
}

/** Aborts where a block that is freed is in one of its page's lists already: looked for only where it seems so. */
export function checkDoubleFree(mi: Mi, page: VirtAddr, block: VirtAddr): void {
  const { mem } = mi;
  const low = (mem.load32(block) ^ mem.load32(page + PG_KEY_LOW)) >>> 0;
  const high = (mem.load32(block + 4) ^ mem.load32(page + PG_KEY_HIGH)) >>> 0;
  const next = high * 2 ** 32 + low;
  const area = mem.loadAddress(page + PG_AREA);
  if (next !== 0 && !isBlock(area, mem.loadAddress(page + PG_BLOCK_SIZE), mem.load32(page + PG_CAPACITY), next)) return;
  const xthread = mem.loadAddress(page + PG_XTHREAD_FREE);
  const heads = [mem.loadAddress(page + PG_FREE), mem.loadAddress(page + PG_LOCAL_FREE), xthread - (xthread & DELAYED_MASK)];
  for (const head of heads) {
    for (let at = head; at !== 0; at = nextBlock(mi, page, at)) {
      if (at === block) mallocAbort('mimalloc: double free detected');
    }
  }
}
