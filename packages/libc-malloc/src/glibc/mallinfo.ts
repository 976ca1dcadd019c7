import type { Mallinfo2 } from '../malloc.ts';
import { mallocAbort } from '../malloc-abort.ts';
import type { Arena } from './arena.ts';
import { BK, FD, NBINS, NFASTBINS } from './chunk.ts';
import { MMAPPED_MEM, N_MMAPS } from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { revealPtr } from './safe-linking.ts';
import { chunksize } from './unlink.ts';

/** What one arena holds. */
export interface ArenaInfo {
  /** Bytes obtained, now and at most. */
  readonly systemMem: number;
  readonly maxSystemMem: number;
  /** Chunks in the fast bins, and their bytes. */
  readonly fastChunks: number;
  readonly fastBytes: number;
  /** Chunks in the other bins, and their bytes; without the top. */
  readonly binChunks: number;
  readonly binBytes: number;
  /** Bytes of the top. */
  readonly topBytes: number;
}

/**
 * Counts an arena's free chunks; linear in their number.
 *
 * @linux glibc malloc/malloc.c:int_mallinfo
 */
export function arenaInfo(pt: Ptmalloc, av: Arena): ArenaInfo {
  const { mem } = pt;
  let fastChunks = 0;
  let fastBytes = 0;
  for (let index = 0; index < NFASTBINS; index++) {
    let p = mem.loadAddress(av.fastbins + 8 * index);
    for (; p !== 0; p = revealPtr(mem, p + FD)) {
      if ((p & 15) !== 0) mallocAbort('int_mallinfo(): unaligned fastbin chunk detected');
      fastChunks++;
      fastBytes += chunksize(mem, p);
    }
  }
  let binChunks = 0;
  let binBytes = 0;
  for (let index = 1; index < NBINS; index++) {
    const bin = av.bins + 16 * index;
    for (let p = mem.loadAddress(bin + BK); p !== bin; p = mem.loadAddress(p + BK)) {
      binChunks++;
      binBytes += chunksize(mem, p);
    }
  }
  return {
    systemMem: mem.loadAddress(av.systemMem),
    maxSystemMem: mem.loadAddress(av.maxSystemMem),
    fastChunks,
    fastBytes,
    binChunks,
    binBytes,
    topBytes: chunksize(mem, mem.loadAddress(av.top)),
  };
}

/**
 * Adds all arenas up; the cost is linear in the number of free chunks.
 *
 * @linux glibc malloc/malloc.c:__libc_mallinfo2
 */
export function mallinfo2(pt: Ptmalloc): Mallinfo2 {
  const { mem, mp } = pt;
  let arena = 0;
  let ordblks = 0;
  let smblks = 0;
  let fsmblks = 0;
  let fordblks = 0;
  pt.forEachArena((av) => {
    const info = arenaInfo(pt, av);
    arena += info.systemMem;
    ordblks += info.binChunks + 1;
    smblks += info.fastChunks;
    fsmblks += info.fastBytes;
    fordblks += info.fastBytes + info.binBytes + info.topBytes;
  });
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
    keepcost: chunksize(mem, mem.loadAddress(pt.mainArena.top)),
  };
}
