import type { Arena } from './arena.ts';
import * as chunk from './chunk.ts';
import { alignDown } from './chunk.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { morecore } from './ptmalloc.ts';
import { chunksize } from './unlink.ts';

const { MINSIZE, PREV_INUSE, SIZE } = chunk;

/**
 * Gives whole pages at the end of the heap back, but for `pad` bytes of the top; returns 1 where it did, 0 where there
 * was nothing to give or someone else moved the break.
 *
 * @linux glibc malloc/malloc.c:systrim
 */
export function systrim(pt: Ptmalloc, av: Arena, pad: number): number {
  const { mem } = pt;
  const top = mem.loadAddress(av.top);
  const topSize = chunksize(mem, top);
  const spare = topSize - MINSIZE - 1;
  if (spare <= pad) return 0;
  const extra = alignDown(spare - pad, pt.pageSize);
  if (extra === 0) return 0;
  const end = morecore(pt, 0);
  if (end !== top + topSize) return 0;
  morecore(pt, -extra);
  const newEnd = morecore(pt, 0);
  if (newEnd === 0 || newEnd === end) return 0;
  const released = end - newEnd;
  mem.storeAddress(av.systemMem, mem.loadAddress(av.systemMem) - released);
  mem.storeAddress(top + SIZE, topSize - released + PREV_INUSE);
  return 1;
}
