import type { VirtAddr } from '@pagelab/abi';
import type { Arena } from './arena.ts';
import * as chunk from './chunk.ts';
import { checkedRequest2size } from './chunk.ts';
import { intFree } from './int-free.ts';
import { intMalloc } from './int-malloc.ts';
import { setPrevInuse, setSize } from './int-realloc.ts';
import type { Ptmalloc } from './ptmalloc.ts';

const { IS_MMAPPED, MEM, MINSIZE, PREV_INUSE, SIZE } = chunk;

/**
 * Gets a block at a multiple of `alignment`, a power of two above 16: from a larger one, whose ends are freed.
 *
 * @returns the block, or 0 where there is no memory
 * @linux glibc malloc/malloc.c:_int_memalign
 */
export function intMemalign(pt: Ptmalloc, av: Arena, alignment: number, request: number): VirtAddr {
  const { mem } = pt;
  const nb = checkedRequest2size(request);
  if (nb < 0) return 0;
  const block = intMalloc(pt, av, nb + alignment + MINSIZE);
  if (block === 0) return 0;
  let p = block - MEM;
  const head = mem.loadAddress(p + SIZE);
  let size = head - (head & 7);
  const mapped = (head & IS_MMAPPED) !== 0;
  const misalign = block % alignment;
  if (misalign !== 0) {
    let lead = alignment - misalign;
    if (lead < MINSIZE) lead += alignment;
    const aligned = p + lead;
    size -= lead;
    if (mapped) {
      mem.storeAddress(aligned, mem.loadAddress(p) + lead);
      mem.storeAddress(aligned + SIZE, size + IS_MMAPPED);
      return aligned + MEM;
    }
    mem.storeAddress(aligned + SIZE, size + PREV_INUSE + av.chunkFlag);
    setPrevInuse(pt, aligned + size);
    mem.storeAddress(p + SIZE, lead + (head & PREV_INUSE) + av.chunkFlag);
    intFree(pt, av, p, true);
    p = aligned;
  }
  if (!mapped && size > nb + MINSIZE) {
    const remainder = p + nb;
    mem.storeAddress(remainder + SIZE, size - nb + PREV_INUSE + av.chunkFlag);
    setSize(pt, p, nb);
    intFree(pt, av, remainder, true);
  }
  return p + MEM;
}
