/**
 * Which arena serves a thread. The main thread begins with the main arena. Another gets, with its first request, one
 * that a thread left, or a new one, or where there are as many as there may be, the next one in turn.
 *
 * Only one thread runs at a time here, and none gives up the CPU inside a request: no arena is ever found locked.
 */
import type { Arena } from './arena.ts';
import * as arenaLayout from './arena.ts';
import { initArena } from './arena.ts';
import * as chunk from './chunk.ts';
import { AR_PTR, HEAP_SIZE, SIZEOF_HEAP_INFO, newHeap } from './heap-info.ts';
import * as params from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';

const { HEAP_MAX_SIZE, SIZEOF_MALLOC_STATE } = arenaLayout;
const { MALLOC_ALIGNMENT, PREV_INUSE, SIZE } = chunk;
const { ARENA_MAX, ARENA_TEST, TOP_PAD } = params;

/**
 * Finds an arena for a thread that has none, in which a chunk of `size` bytes may fit.
 *
 * @returns the arena, or `null` where there is no memory for one
 * @linux glibc malloc/arena.c:arena_get2
 */
export function arenaGet2(pt: Ptmalloc, size: number): Arena | null {
  const free = getFreeList(pt);
  if (free !== null) return free;
  const { mem } = pt;
  const narenas = mem.loadAddress(pt.narenas);
  const limit = narenasLimit(pt, narenas);
  if (limit !== 0 && narenas >= limit) return reusedArena(pt);
  const arena = intNewArena(pt, size);
  if (arena !== null) mem.storeAddress(pt.narenas, narenas + 1);
  return arena;
}

/** As many arenas as there may be; 0 for any number. It is settled once there are more than `arena_test`. */
function narenasLimit({ mem, mp, cpus, narenasLimit: at }: Ptmalloc, narenas: number): number {
  let limit = mem.loadAddress(at);
  if (limit !== 0) return limit;
  limit = mem.loadAddress(mp + ARENA_MAX);
  if (limit === 0 && narenas > mem.loadAddress(mp + ARENA_TEST)) limit = 8 * cpus;
  mem.storeAddress(at, limit);
  return limit;
}

/**
 * Makes an arena, in a heap of its own that has room for a chunk of `size` bytes where that is possible.
 *
 * @linux glibc malloc/arena.c:_int_new_arena
 */
function intNewArena(pt: Ptmalloc, size: number): Arena | null {
  const { mem } = pt;
  const topPad = mem.loadAddress(pt.mp + TOP_PAD);
  const overhead = SIZEOF_HEAP_INFO + SIZEOF_MALLOC_STATE + MALLOC_ALIGNMENT;
  let heap = size < HEAP_MAX_SIZE ? newHeap(pt, size + overhead, topPad) : 0;
  if (heap === 0) heap = newHeap(pt, overhead, topPad);
  if (heap === 0) return null;
  const arena = pt.arenaAt(heap + SIZEOF_HEAP_INFO)!;
  mem.storeAddress(heap + AR_PTR, arena.address);
  initArena(mem, arena);
  const heapSize = mem.loadAddress(heap + HEAP_SIZE);
  mem.storeAddress(arena.systemMem, heapSize);
  mem.storeAddress(arena.maxSystemMem, heapSize);
  const top = chunk.alignUp(arena.address + SIZEOF_MALLOC_STATE, MALLOC_ALIGNMENT);
  mem.storeAddress(arena.top, top);
  mem.storeAddress(top + SIZE, heap + heapSize - top + PREV_INUSE);
  detachArena(pt);
  pt.setArena(arena);
  mem.storeAddress(arena.next, mem.loadAddress(pt.mainArena.next));
  mem.storeAddress(pt.mainArena.next, arena.address);
  return arena;
}

/** One thread less uses the arena of the calling one. @linux glibc malloc/arena.c:detach_arena */
function detachArena({ mem, arena }: Ptmalloc): void {
  if (arena !== null) mem.storeAddress(arena.attachedThreads, mem.loadAddress(arena.attachedThreads) - 1);
}

/** The arena that was left last, now the calling thread's; `null` where there is none. */
function getFreeList(pt: Ptmalloc): Arena | null {
  const { mem } = pt;
  const arena = pt.arenaAt(mem.loadAddress(pt.freeList));
  if (arena === null) return null;
  mem.storeAddress(pt.freeList, mem.loadAddress(arena.nextFree));
  mem.storeAddress(arena.attachedThreads, 1);
  detachArena(pt);
  pt.setArena(arena);
  return arena;
}

/** The arena whose turn it is, shared with the threads that have it already. @linux glibc malloc/arena.c:reused_arena */
function reusedArena(pt: Ptmalloc): Arena {
  const { mem } = pt;
  const arena = pt.arenaAt(mem.loadAddress(pt.nextToUse)) ?? pt.mainArena;
  detachArena(pt);
  removeFromFreeList(pt, arena);
  mem.storeAddress(arena.attachedThreads, mem.loadAddress(arena.attachedThreads) + 1);
  pt.setArena(arena);
  mem.storeAddress(pt.nextToUse, mem.loadAddress(arena.next));
  return arena;
}

function removeFromFreeList({ mem, freeList }: Ptmalloc, arena: Arena): void {
  const offset = arena.nextFree - arena.address;
  let link = freeList;
  for (let at = mem.loadAddress(link); at !== 0; link = at + offset, at = mem.loadAddress(link)) {
    if (at !== arena.address) continue;
    mem.storeAddress(link, mem.loadAddress(arena.nextFree));
    return;
  }
}

/**
 * Another arena, where the one of the thread has no memory for a request: the main one, or for those of the main one
 * another.
 *
 * @linux glibc malloc/arena.c:arena_get_retry
 */
export function arenaGetRetry(pt: Ptmalloc, arena: Arena, size: number): Arena | null {
  return arena === pt.mainArena ? arenaGet2(pt, size) : pt.mainArena;
}

/**
 * Leaves the calling thread's arena: to others, once no thread uses it.
 *
 * @linux glibc malloc/arena.c:__malloc_arena_thread_freeres
 */
export function leaveArena(pt: Ptmalloc): void {
  const { mem, arena } = pt;
  if (arena === null) return;
  pt.setArena(null);
  const threads = mem.loadAddress(arena.attachedThreads) - 1;
  mem.storeAddress(arena.attachedThreads, threads);
  if (threads !== 0) return;
  mem.storeAddress(arena.nextFree, mem.loadAddress(pt.freeList));
  mem.storeAddress(pt.freeList, arena.address);
}

/**
 * In a child of fork, where only the calling thread is left: all arenas but its own are without threads.
 *
 * @linux glibc malloc/arena.c:__malloc_fork_unlock_child
 */
export function keepOwnArenaOnly(pt: Ptmalloc): void {
  const { mem, arena } = pt;
  if (arena !== null) mem.storeAddress(arena.attachedThreads, 1);
  mem.storeAddress(pt.freeList, 0);
  pt.forEachArena((other) => {
    if (other === arena) return;
    mem.storeAddress(other.attachedThreads, 0);
    mem.storeAddress(other.nextFree, mem.loadAddress(pt.freeList));
    mem.storeAddress(pt.freeList, other.address);
  });
}
