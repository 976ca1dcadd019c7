/** Giving a chunk back: joined with its free neighbours at once. */
import type { VirtAddr } from '@pagelab/abi';
import { insertChunk, unlinkChunk } from './bins.ts';
import {
  CINUSE,
  DV,
  DV_SIZE,
  FLAGS,
  HEAD,
  INUSE,
  LEAST_ADDR,
  PINUSE,
  TOP,
  TOP_SIZE,
  TRIM_CHECK,
} from './layout.ts';
import type { Dl } from './state.ts';
import { chunkSize, corrupted, invalidUse, setFree, setSizeOfFree } from './state.ts';
import { munmapChunk, sysTrim } from './sys-alloc.ts';

/** Frees the chunk of a block that its user hands in. */
export function freeChunk(dl: Dl, chunk: VirtAddr): void {
  const { mem, state } = dl;
  const head = mem.loadAddress(chunk + HEAD);
  if (chunk < mem.loadAddress(state + LEAST_ADDR) || (chunk & 15) !== 0 || head <= FLAGS || (head & INUSE) === PINUSE) {
    invalidUse('free');
  }
  if ((head & INUSE) === 0) {
    if (!munmapChunk(dl, chunk)) invalidUse('free');
    return;
  }
  disposeChunk(dl, chunk, head, 'free');
  if (mem.loadAddress(state + TOP_SIZE) > mem.loadAddress(state + TRIM_CHECK)) sysTrim(dl, 0);
}

/** Frees a chunk of a segment. */
export function disposeChunk(dl: Dl, chunk: VirtAddr, head: number, call: string): void {
  const { mem, state } = dl;
  let p = chunk;
  let size = head - (head & FLAGS);
  const next = p + size;
  if (size < 16 || (size & 15) !== 0) invalidUse(call);
  const nextHead = mem.loadAddress(next + HEAD);
  if ((nextHead & PINUSE) === 0) invalidUse(call);
  const dv = mem.loadAddress(state + DV);
  if ((head & PINUSE) === 0) {
    const prevSize = mem.loadAddress(p);
    p -= prevSize;
    size += prevSize;
    if (p < mem.loadAddress(state + LEAST_ADDR) || chunkSize(mem, p) !== prevSize) corrupted();
    if (p !== dv) {
      unlinkChunk(dl, p, prevSize);
    } else if ((nextHead & INUSE) === INUSE) {
      // The designated victim grows, and nothing else changes.
      mem.storeAddress(state + DV_SIZE, size);
      setFree(mem, p, size);
      return;
    }
  }
  if ((nextHead & CINUSE) !== 0) {
    setFree(mem, p, size);
  } else if (next === mem.loadAddress(state + TOP)) {
    const topSize = mem.loadAddress(state + TOP_SIZE) + size;
    mem.storeAddress(state + TOP_SIZE, topSize);
    mem.storeAddress(state + TOP, p);
    mem.storeAddress(p + HEAD, topSize + PINUSE);
    if (p === dv) {
      mem.storeAddress(state + DV, 0);
      mem.storeAddress(state + DV_SIZE, 0);
    }
    return;
  } else if (next === dv) {
    size += mem.loadAddress(state + DV_SIZE);
    mem.storeAddress(state + DV_SIZE, size);
    mem.storeAddress(state + DV, p);
    setSizeOfFree(mem, p, size);
    return;
  } else {
    const nextSize = nextHead - (nextHead & FLAGS);
    if (mem.loadAddress(next + nextSize) !== nextSize) corrupted();
    size += nextSize;
    unlinkChunk(dl, next, nextSize);
    setSizeOfFree(mem, p, size);
    if (p === dv) {
      mem.storeAddress(state + DV_SIZE, size);
      return;
    }
  }
  insertChunk(dl, p, size);
}
