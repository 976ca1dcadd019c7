import { Bump } from './bump.ts';
import type { BumpOptions } from './bump.ts';
import { Buddy } from './buddy/buddy.ts';
import type { BuddyOptions } from './buddy/buddy.ts';
import { Dlmalloc } from './dlmalloc/dlmalloc.ts';
import type { DlmallocOptions } from './dlmalloc/dlmalloc.ts';
import { Glibc } from './glibc/glibc.ts';
import type { GlibcOptions } from './glibc/ptmalloc.ts';
import type { MallocOs } from './malloc.ts';
import { Mimalloc } from './mimalloc/mimalloc.ts';
import type { MimallocOptions } from './mimalloc/mimalloc.ts';
import { Tlsf } from './tlsf/tlsf.ts';
import type { TlsfOptions } from './tlsf/tlsf.ts';

/** The malloc of glibc 2.36. */
export function glibc(os: MallocOs, options: GlibcOptions = {}): Glibc {
  return new Glibc(os, options);
}

/** A bump pointer over `sbrk`. */
export function bump(os: MallocOs, options: BumpOptions = {}): Bump {
  return new Bump(os, options);
}

/** mimalloc's design: free lists sharded by page. */
export function mimalloc(os: MallocOs, options: MimallocOptions = {}): Mimalloc {
  return new Mimalloc(os, options);
}

/** dlmalloc 2.8: best fit with bins, tries and a designated victim. */
export function dlmalloc(os: MallocOs, options: DlmallocOptions = {}): Dlmalloc {
  return new Dlmalloc(os, options);
}

/** Two-level segregated fit: constant time. */
export function tlsf(os: MallocOs, options: TlsfOptions = {}): Tlsf {
  return new Tlsf(os, options);
}

/** A binary buddy system. */
export function buddy(os: MallocOs, options: BuddyOptions = {}): Buddy {
  return new Buddy(os, options);
}

/** The allocators by the names that users choose them by. */
export const mallocs = { glibc, mimalloc, dlmalloc, tlsf, buddy, bump } as const;

/** A name in {@link mallocs}. */
export type MallocName = keyof typeof mallocs;
