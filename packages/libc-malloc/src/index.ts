export {
  M_ARENA_MAX,
  M_ARENA_TEST,
  M_CHECK_ACTION,
  M_MMAP_MAX,
  M_MMAP_THRESHOLD,
  M_MXFAST,
  M_PERTURB,
  M_TOP_PAD,
  M_TRIM_THRESHOLD,
  mallinfoOf,
} from './malloc.ts';
export type { MallinfoCounts, Mallinfo2, Malloc, MallocFactory, MallocOs } from './malloc.ts';
export { MallocAbort } from './malloc-abort.ts';
export { posixMemalign, pvalloc, reallocarray, valloc } from './memalign-family.ts';
export { tryMmap, trySbrk } from './system-memory.ts';
export { mallocs, glibc, mimalloc, dlmalloc, tlsf, buddy, bump } from './registry.ts';
export type { MallocName } from './registry.ts';
export { Glibc } from './glibc/glibc.ts';
export type { GlibcOptions } from './glibc/ptmalloc.ts';
export { glibcTunables } from './glibc/tunables.ts';
export { Mimalloc } from './mimalloc/mimalloc.ts';
export type { MimallocOptions } from './mimalloc/mimalloc.ts';
export { Dlmalloc } from './dlmalloc/dlmalloc.ts';
export type { DlmallocOptions } from './dlmalloc/dlmalloc.ts';
export { Tlsf } from './tlsf/tlsf.ts';
export type { TlsfOptions } from './tlsf/tlsf.ts';
export { Buddy } from './buddy/buddy.ts';
export type { BuddyOptions } from './buddy/buddy.ts';
export { Bump } from './bump.ts';
export type { BumpOptions } from './bump.ts';
export {
  OP_CALLOC,
  OP_FREE,
  OP_MALLOC,
  OP_MEMALIGN,
  OP_REALLOC,
  createMallocEvents,
} from './trace/malloc-events.ts';
export type { MallocEvents } from './trace/malloc-events.ts';
export { MallocTraceError, MallocTraceReader, parseMallocTrace } from './trace/malloc-trace-reader.ts';
export type { MallocTraceReaderOptions } from './trace/malloc-trace-reader.ts';
export { MtraceReader } from './trace/mtrace-reader.ts';
export type { MtraceReaderOptions } from './trace/mtrace-reader.ts';
export { MallocReplay, formatBlockOffset, replayMallocTrace } from './trace/replay-malloc-trace.ts';
export type { MallocReplayOptions, OnBlock } from './trace/replay-malloc-trace.ts';
export { BlockTable } from './trace/block-table.ts';
