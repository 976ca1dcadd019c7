/**
 * The words of conformance cases: flags named as in the C headers, without their prefix.
 */
import * as abi from '@pagelab/abi';

/** Words that abi does not define because no call here takes them: files, seals, System V. */
const EXTRA: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  MAP_: { ANON: abi.MAP_ANONYMOUS },
  RLIMIT_: {},
  O_: { RDONLY: 0, WRONLY: 1, RDWR: 2, CREAT: 0o100, TRUNC: 0o1000, APPEND: 0o2000, DIRECTORY: 0o200000, PATH: 0o10000000 },
  MFD_: { CLOEXEC: 1, ALLOW_SEALING: 2, NOEXEC_SEAL: 8, EXEC: 16 },
  F_SEAL_: { SEAL: 1, SHRINK: 2, GROW: 4, WRITE: 8, FUTURE_WRITE: 16, EXEC: 32 },
  FALLOC_FL_: { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 16 },
  IPC_: { CREAT: 0o1000, EXCL: 0o2000 },
  SA_: {},
  SS_: {},
  W: { UNTRACED: 2, WNOTHREAD: 0x2000_0000, WALL: 0x4000_0000, WCLONE: 0x8000_0000 },
  SHM_: { RDONLY: 0o10000, RND: 0o20000, REMAP: 0o40000, EXEC: 0o100000 },
};

/** A set of words by prefix: `MAP_` knows `PRIVATE`, `ANONYMOUS`, … */
function wordsOf(prefix: string): ReadonlyMap<string, number> {
  const words = new Map<string, number>(Object.entries(EXTRA[prefix] ?? {}));
  for (const [name, value] of Object.entries(abi)) {
    if (name.startsWith(prefix) && typeof value === 'number') words.set(name.slice(prefix.length), value);
  }
  return words;
}

export const MAP_WORDS = wordsOf('MAP_');
export const PROT_WORDS = wordsOf('PROT_');
export const MREMAP_WORDS = wordsOf('MREMAP_');
export const MADV_WORDS = wordsOf('MADV_');
export const MS_WORDS = wordsOf('MS_');
export const MCL_WORDS = wordsOf('MCL_');
export const MLOCK_WORDS = wordsOf('MLOCK_');
export const RLIMIT_WORDS = wordsOf('RLIMIT_');
export const OPEN_WORDS = wordsOf('O_');
export const MFD_WORDS = wordsOf('MFD_');
export const SEAL_WORDS = wordsOf('F_SEAL_');
export const FALLOC_WORDS = wordsOf('FALLOC_FL_');
export const IPC_WORDS = wordsOf('IPC_');
export const SHM_WORDS = wordsOf('SHM_');
export const SA_WORDS = wordsOf('SA_');
export const SS_WORDS = wordsOf('SS_');
export const WAIT_WORDS = wordsOf('W');

/** A word that is neither a flag nor a number. */
export class UnknownWord extends Error {
  override readonly name = 'UnknownWord';
}

/** `'A|B|0x10'`, or a number, as a bit mask; nothing is 0. */
export function flagsValue(text: string | number | undefined, words: ReadonlyMap<string, number>): number {
  if (text === undefined) return 0;
  if (typeof text === 'number') return text;
  let value = 0;
  for (const word of text.split('|').map((part) => part.trim())) {
    if (word === '') continue;
    const known = words.get(word) ?? Number(word);
    if (Number.isNaN(known)) throw new UnknownWord(`unknown flag '${word}'; known are ${[...words.keys()].join(', ')}`);
    // Addition, as `|` would turn bit 31 into a sign; a word given twice counts once.
    value = Number(BigInt(value) | BigInt(known));
  }
  return value;
}

/** As `flagsValue`, for protections, which may also be given as letters: `'RW'`, `'RX|GROWSDOWN'`. */
export function protValue(text: string | number): number {
  if (typeof text === 'number') return text;
  let value = 0;
  for (const word of text.split('|').map((part) => part.trim())) {
    if (/^[RWX]+$/.test(word)) {
      for (const letter of word) value |= letter === 'R' ? abi.PROT_READ : letter === 'W' ? abi.PROT_WRITE : abi.PROT_EXEC;
    } else {
      value |= flagsValue(word, PROT_WORDS);
    }
  }
  return value;
}
