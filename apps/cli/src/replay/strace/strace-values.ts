/**
 * Arguments as strace prints them: numbers, flags by name, descriptors with or without what they lead to.
 */
import * as abi from '@pagelab/abi';

/** Names that abi does not have, as no call here takes them: old mapping flags, options of `wait4` and `clone`. */
const EXTRA: Readonly<Record<string, number>> = {
  NULL: 0, MAP_ANON: abi.MAP_ANONYMOUS, MAP_FILE: 0, MAP_DENYWRITE: 0x800, MAP_EXECUTABLE: 0x1000, MAP_HUGE_SHIFT: 26,
  WNOHANG: 1, WUNTRACED: 2, WSTOPPED: 2, WEXITED: 4, WCONTINUED: 8, __WNOTHREAD: 0x2000_0000, __WALL: 0x4000_0000,
};

const NAMES = new Map<string, number>(Object.entries(EXTRA));
for (const [name, value] of Object.entries(abi)) if (typeof value === 'number') NAMES.set(name, value);

function wordValue(word: string): bigint | null {
  if (/^(0x[0-9a-fA-F]+|-?\d+)$/.test(word)) return word.startsWith('-') ? -BigInt(word.slice(1)) : BigInt(/^0\d+$/.test(word) ? `0o${word}` : word);
  const known = NAMES.get(word);
  return known === undefined ? null : BigInt(known);
}

/** The value of a number, a name or flags, `|` between them; `null` where a word is not known. */
export function numberValue(text: string): bigint | null {
  let value = 0n;
  for (const part of text.replace(/\/\*.*?\*\//g, '').split('|')) {
    const [word, shift] = part.split('<<').map((piece) => wordValue(piece.trim()));
    if (word === undefined || word === null || shift === null) return null;
    const bits = word << (shift ?? 0n);
    value = bits < 0n ? bits : value | bits;
  }
  return value;
}

/** A descriptor, and the path that `strace -y` prints with it. */
export function descriptor(text: string): { readonly fd: number; readonly path: string | null } | null {
  const fields = /^(-?\d+)(?:<(.*)>)?$/.exec(text);
  return fields && { fd: Number(fields[1]), path: fields[2] ?? null };
}

/** What `name` is in `{name=…, …}` or in `name=…` itself; `null` where it is not there. */
export function fieldOf(args: string, name: string): string | null {
  return new RegExp(`\\b${name}=([^,}\\s]+)`).exec(args)?.[1] ?? null;
}

/** A C string's text, as far as strace prints it. */
export function stringValue(text: string): string {
  return /^"((?:[^"\\]|\\.)*)"/.exec(text)?.[1] ?? '';
}
