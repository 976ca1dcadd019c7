import type { Mallinfo2 } from '../malloc.ts';
import { mallocAbort } from '../malloc-abort.ts';
import type { Arena } from './arena.ts';
import { BK, FD, NBINS, NFASTBINS } from './chunk.ts';
import { MMAPPED_MEM, N_MMAPS } from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { revealPtr } from './safe-linking.ts';
import { chunksize } from './unlink.ts';

/**
 * Counts an arena's free chunks; linear in their number.
 *
 * @linux glibc malloc/malloc.c:int_mallinfo
 */
export function intMallinfo(pt: Ptmalloc, av: Arena): Mallinfo2 {
  const { mem, mp } = pt;
  let smblks = 0;
  let fsmblks = 0;
  for (let index = 0; index < NFASTBINS; index++) {
    let p = mem.loadAddress(av.fastbins + 8 * index);
    for (; p !== 0; p = revealPtr(mem, p + FD)) {
      if ((p & 15) !== 0) mallocAbort('int_mallinfo(): unaligned fastbin chunk detected');
      smblks++;
      fsmblks += chunksize(mem, p);
    }
  }
  const keepcost = chunksize(mem, mem.loadAddress(av.top));
  let ordblks = 1;
  let fordblks = keepcost + fsmblks;
  for (let index = 1; index < NBINS; index++) {
    const bin = av.bins + 16 * index;
    for (let p = mem.loadAddress(bin + BK); p !== bin; p = mem.loadAddress(p + BK)) {
      ordblks++;
      fordblks += chunksize(mem, p);
    }
  }
  const arena = mem.loadAddress(av.systemMem);
  return {
    arena,
    ordblks,
    smblks,
    hblks: mem.load32(mp + N_MMAPS),
    hblkhd: mem.loadAddress(mp + MMAPPED_MEM),
    usmblks: 0,
    fsmblks,
    uordblks: arena - fordblks,
    fordblks,
    keepcost,
  };
}
