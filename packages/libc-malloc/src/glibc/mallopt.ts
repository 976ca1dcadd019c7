import {
  M_ARENA_MAX,
  M_ARENA_TEST,
  M_CHECK_ACTION,
  M_MMAP_MAX,
  M_MMAP_THRESHOLD,
  M_MXFAST,
  M_PERTURB,
  M_TOP_PAD,
  M_TRIM_THRESHOLD,
} from '../malloc.ts';
import { mallocConsolidate } from './consolidate.ts';
import {
  ARENA_MAX,
  ARENA_TEST,
  MAX_FAST_SIZE,
  MMAP_THRESHOLD,
  NO_DYN_THRESHOLD,
  N_MMAPS_MAX,
  TOP_PAD,
  TRIM_THRESHOLD,
} from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { maxFast } from './ptmalloc.ts';

/**
 * Sets a parameter; empties the fast bins in any case. An unknown parameter is answered with 1, as glibc does.
 *
 * @param value a C `int`
 * @returns 1, or 0 where the value is out of range
 * @linux glibc malloc/malloc.c:__libc_mallopt
 */
export function setMallopt(pt: Ptmalloc, param: number, value: number): number {
  const { mem, mp } = pt;
  mallocConsolidate(pt, pt.mainArena);
  // Where C assigns an int to a size_t, a negative one becomes larger than any size.
  const size = value < 0 ? 2 ** 53 - 1 : value;
  switch (param) {
    case M_MXFAST:
      if (size > MAX_FAST_SIZE) return 0;
      mem.store8(pt.globalMaxFast, maxFast(size));
      return 1;
    case M_TRIM_THRESHOLD:
      mem.storeAddress(mp + TRIM_THRESHOLD, size);
      break;
    case M_TOP_PAD:
      mem.storeAddress(mp + TOP_PAD, size);
      break;
    case M_MMAP_THRESHOLD:
      mem.storeAddress(mp + MMAP_THRESHOLD, size);
      break;
    case M_MMAP_MAX:
      mem.store32(mp + N_MMAPS_MAX, value);
      break;
    case M_PERTURB:
      mem.store8(pt.globalMaxFast + 1, value);
      return 1;
    case M_ARENA_TEST:
      if (size > 0) mem.storeAddress(mp + ARENA_TEST, size);
      return 1;
    case M_ARENA_MAX:
      if (size > 0) mem.storeAddress(mp + ARENA_MAX, size);
      return 1;
    case M_CHECK_ACTION:
    default:
      return 1;
  }
  mem.store32(mp + NO_DYN_THRESHOLD, 1);
  return 1;
}
