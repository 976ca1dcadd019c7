/**
 * Numbers and switches as the files of `/sys` take them.
 *
 * @linux lib/kstrtox.c
 */
import { Errno } from '@pagelab/abi';
import type { ProcFile } from '../proc/proc-file.ts';

export const INT_MAX = 2 ** 31 - 1;
export const UINT_MAX = 2 ** 32 - 1;
const ULONG_MAX = 2n ** 64n - 1n;

/**
 * A number without blanks around it, one newline after it and a plus before it aside.
 *
 * @param base 0 for C's prefixes as well: `0x10`, `010`
 * @returns it (one that a double cannot hold loses its last digits); −EINVAL for what is none, −ERANGE beyond `max`
 * @linux lib/kstrtox.c:kstrtoull, kstrtouint
 */
export function kstrtoul(text: string, max = Infinity, base: 0 | 10 = 10): number {
  const match = /^\+?(?:(0x[\da-f]+)|(0[0-7]+)|(\d+))\n?$/i.exec(text);
  if (match === null) return -Errno.EINVAL;
  const [, hexadecimal, octal, decimal] = match;
  if (hexadecimal !== undefined && base !== 0) return -Errno.EINVAL;
  const value = BigInt(hexadecimal ?? (octal === undefined ? decimal! : base === 0 ? `0o${octal}` : octal));
  return value > ULONG_MAX || Number(value) > max ? -Errno.ERANGE : Number(value);
}

/** `undefined` for what is neither on nor off; what follows the first letters does not matter. @linux lib/kstrtox.c:kstrtobool */
export function kstrtobool(text: string): boolean | undefined {
  if (/^([yet1]|on)/i.test(text)) return true;
  return /^([ndf0]|of)/i.test(text) ? false : undefined;
}

/** A file that is 0 or 1. */
export function onOff(get: () => boolean, set: (on: boolean) => void): ProcFile {
  return boolFile(() => (get() ? '1' : '0'), set);
}

/** A file that is `true` or `false`. */
export function trueFalse(get: () => boolean, set: (on: boolean) => void): ProcFile {
  return boolFile(() => String(get()), set);
}

function boolFile(get: () => string, set: (on: boolean) => void): ProcFile {
  return {
    mode: 0o644,
    read: () => `${get()}\n`,
    write: (text) => {
      const on = kstrtobool(text);
      if (on === undefined) return -Errno.EINVAL;
      set(on);
      return text.length;
    },
  };
}

/** A number as files show it: one of 64 bits to its last digit, as far as a double knows it. */
export function unsignedText(value: number): string {
  if (value <= Number.MAX_SAFE_INTEGER) return String(value);
  return value >= 2 ** 64 ? String(ULONG_MAX) : String(BigInt(value));
}
