/**
 * Arguments of the operation `call`, a system call by its name: numbers, descriptors, and what lies in memory.
 */
import { SCRATCH_BYTES } from './target.ts';
import type { Target } from './target.ts';
import type { Value } from './case.ts';

/** A number, an expression or a descriptor's name; or the address of a path, or of 64-bit words, put where no other argument's are. */
export type CallArgument = Value | { readonly path: string } | { readonly words: readonly Value[] };

/** Where the memory of argument `index` begins in the scratch area: an eighth of it each. */
export function argumentOffset(index: number): number {
  return (index * SCRATCH_BYTES) / 8;
}

/** What each register gets. Fills the scratch area. */
export function callArguments(
  args: readonly CallArgument[],
  target: Target,
  value: (field: Value) => bigint,
  path: (text: string) => string,
): bigint[] {
  return args.map((arg, index) => {
    if (typeof arg !== 'object') return value(arg);
    const offset = argumentOffset(index);
    if ('path' in arg) target.put(offset, new TextEncoder().encode(`${path(arg.path)}\0`));
    else target.put(offset, new Uint8Array(BigUint64Array.from(arg.words, (word) => BigInt.asUintN(64, value(word))).buffer));
    return BigInt(target.scratch + offset);
  });
}
