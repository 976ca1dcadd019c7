import { MADV_DONTNEED, SyscallError } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Arena } from './arena.ts';
import { BK, NBINS, SIZEOF_CHUNK, alignDown, alignUp, binIndex } from './chunk.ts';
import { mallocConsolidate } from './consolidate.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { systrim } from './systrim.ts';
import { chunksize } from './unlink.ts';

/**
 * Gives the whole pages inside free chunks of all arenas back, and the main arena's top but for `pad` bytes; returns 1
 * where it gave any. Linear in the number of free chunks that may hold a page.
 *
 * @linux glibc malloc/malloc.c:__malloc_trim
 */
export function mallocTrim(pt: Ptmalloc, pad: number): number {
  let result = 0;
  pt.forEachArena((av) => {
    result |= mtrim(pt, av, pad);
  });
  return result;
}

/** @linux glibc malloc/malloc.c:mtrim */
function mtrim(pt: Ptmalloc, av: Arena, pad: number): number {
  const { mem, pageSize } = pt;
  mallocConsolidate(pt, av);
  const firstBin = binIndex(pageSize);
  let result = 0;
  for (let index = 1; index < NBINS; index++) {
    if (index !== 1 && index < firstBin) continue;
    const bin = av.bins + 16 * index;
    for (let p = mem.loadAddress(bin + BK); p !== bin; p = mem.loadAddress(p + BK)) {
      const size = chunksize(mem, p);
      if (size < pageSize + SIZEOF_CHUNK) continue;
      // The header and links stay.
      const start = alignUp(p + SIZEOF_CHUNK, pageSize);
      const rest = size - (start - p);
      if (rest < pageSize) continue;
      dontNeed(pt, start, alignDown(rest, pageSize));
      result = 1;
    }
  }
  return av === pt.mainArena ? systrim(pt, av, pad) | result : result;
}

function dontNeed(pt: Ptmalloc, start: VirtAddr, length: number): void {
  try {
    pt.os.madvise(start, length, MADV_DONTNEED);
  } catch (error) {
    // Locked memory stays.
    if (!(error instanceof SyscallError)) throw error;
  }
}
