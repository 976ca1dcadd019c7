/**
 * The kernel parameter `slub_debug=`.
 */
import { KernelBug } from '@pagelab/lib';
import {
  DEBUG_METADATA_FLAGS,
  SLAB_CONSISTENCY_CHECKS,
  SLAB_FAILSLAB,
  SLAB_NOLEAKTRACE,
  SLAB_NO_USER_FLAGS,
  SLAB_POISON,
  SLAB_RED_ZONE,
  SLAB_STORE_USER,
  SLAB_TRACE,
} from './flags.ts';
import { getOrder } from './geometry.ts';

/** What `slub_debug=` asks for. */
export interface SlubDebug {
  /** For every cache that no block names. */
  readonly flags: number;
  /** For the caches named; a name may end in `*`. The first block that names a cache counts. */
  readonly blocks: readonly { readonly flags: number; readonly names: readonly string[] }[];
  /** `O`: no debugging for caches that it would give larger slabs. */
  readonly noHigherOrder: boolean;
}

/** No debugging. */
export const NO_SLUB_DEBUG: SlubDebug = { flags: 0, blocks: [], noHigherOrder: false };

const LETTERS: Readonly<Record<string, number>> = {
  F: SLAB_CONSISTENCY_CHECKS,
  Z: SLAB_RED_ZONE,
  P: SLAB_POISON,
  U: SLAB_STORE_USER,
  T: SLAB_TRACE,
  A: SLAB_FAILSLAB,
};
const DEFAULT_FLAGS = SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER;

/**
 * Reads the value of `slub_debug=`: letters, then after a comma the caches they are for; blocks apart by `;`. No letters
 * stand for `FZPU`, `-` for none.
 *
 * @linux mm/slub.c:parse_slub_debug_flags
 */
export function parseSlubDebug(value: string): SlubDebug {
  let flags = 0;
  let noHigherOrder = false;
  const blocks: { flags: number; names: readonly string[] }[] = [];
  for (const block of value.split(';')) {
    const [letters, ...names] = block.split(',');
    let blockFlags = letters === '' ? DEFAULT_FLAGS : 0;
    for (const letter of letters.toUpperCase()) {
      if (letter === '-') blockFlags = 0;
      else if (letter === 'O') noHigherOrder = true;
      else blockFlags |= LETTERS[letter] ?? 0; // the kernel logs an unknown letter and goes on
    }
    if (names.length > 0) blocks.push({ flags: blockFlags, names });
    else flags = blockFlags;
  }
  return { flags, blocks, noHigherOrder };
}

/**
 * The flags a cache gets when `debug` is in force.
 *
 * @linux mm/slub.c:kmem_cache_flags
 */
export function withDebugFlags(debug: SlubDebug, name: string, flags: number): number {
  if ((flags & SLAB_NO_USER_FLAGS) !== 0) return flags;
  for (const block of debug.blocks) {
    const names = (pattern: string): boolean =>
      pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : pattern === name;
    if (block.names.some(names)) return flags | block.flags;
  }
  // Caches of debugging tools hold no stack traces of their own.
  const mask = (flags & SLAB_NOLEAKTRACE) !== 0 ? ~SLAB_STORE_USER : -1;
  return flags | (debug.flags & mask);
}

/** Takes the debugging off that makes a slab larger than the bare object's, where `O` was given. */
export function withoutLargerSlabs(debug: SlubDebug, flags: number, size: number, objectSize: number): number {
  if (!debug.noHigherOrder) return flags;
  if (size < objectSize) throw new KernelBug('slab: a size below its object');
  return getOrder(size) > getOrder(objectSize) ? flags & ~DEBUG_METADATA_FLAGS : flags;
}
