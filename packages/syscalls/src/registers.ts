/**
 * What a 64-bit register holds, as a double.
 *
 * A register's value is its signed reading: the upper half of the range is negative, so that a kernel address is its
 * sign-extended number. Every value up to 2^53 in magnitude, and every multiple of 4096 up to 2^63, is exact. Another
 * value is rounded to a neighbour in the same page, and never to the page's first byte: whether it is page-aligned, and
 * in which page it lies, survive.
 */
import type { RegisterArg } from '@pagelab/abi';
import type { MmStruct } from '@pagelab/vm';

const { isSafeInteger } = Number;

const TWO_32 = 2 ** 32;
const TWO_63 = 2 ** 63;
const TWO_64 = 2 ** 64;

/**
 * Reduces an argument modulo 2^64, as a register does, and reads it as signed.
 *
 * @param value an integer; nothing is 0
 * @throws RangeError for a number that is not whole; TypeError for what is neither number nor bigint
 */
export function reg(value: RegisterArg | undefined): number {
  // Short enough that V8 compiles it into each of its six uses a call; a remainder in place of the test takes 60 ns for a
  // double. The sum makes 0 of -0.
  return isSafeInteger(value) ? (value as number) + 0 : wideReg(value);
}

function wideReg(value: RegisterArg | undefined): number {
  if (typeof value === 'number') return wideNumber(value);
  if (value === undefined) return 0;
  if (typeof value !== 'bigint') throw new TypeError(`a register holds a number, not a ${typeof value}`);
  return wideBigint(BigInt.asIntN(64, value));
}

/**
 * As {@link reg}, for a program with registers of 32 bits. Under a kernel of as many its value is negative where it is
 * beyond every program; under one of 64 the register's upper half is zero.
 *
 * @param value an integer; nothing is 0
 * @throws RangeError for a number that is not whole; TypeError for what is neither number nor bigint
 */
export function reg32(value: RegisterArg | undefined, { registerRange, taskSize }: MmStruct): number {
  const bits = (typeof value === 'bigint' ? Number(BigInt.asUintN(32, value)) : reg(value)) >>> 0;
  return bits >= taskSize && registerRange === TWO_32 ? bits - TWO_32 : bits;
}

/** The low 32 bits, read as signed: what a C `int` parameter receives. */
export function int32(value: number): number {
  return value | 0;
}

/** The signed reading's value as an unsigned number; exact for multiples of 4096. `range` is what the register holds. */
export function unsigned(value: number, range = TWO_64): number {
  return value < 0 ? value + range : value;
}

/** Whether `a > b`, both read as unsigned 64-bit numbers. */
export function unsignedAbove(a: number, b: number): boolean {
  return a < 0 === b < 0 ? a > b : a < 0;
}

/**
 * Flags that a call takes as an `unsigned long`, in 32 bits: bits above them, none of which has a meaning, all fold into
 * `unknown`, one bit that the call refuses.
 */
export function foldFlags(value: number, unknown: number): number {
  return value >= 0 && value < 2 ** 32 ? value | 0 : value | unknown;
}

function wideNumber(value: number): number {
  if (!Number.isInteger(value)) throw new RangeError(`a register holds a whole number, not ${value}`);
  // A double this large is a multiple of 2, and beyond 2^64 of 4096: the remainder is exact.
  const rest = value % TWO_64;
  if (rest >= TWO_63) return rest - TWO_64;
  if (rest < -TWO_63) return rest + TWO_64;
  return rest + 0;
}

function wideBigint(value: bigint): number {
  const near = Number(value);
  const offset = Number(value & 4095n);
  if (Number.isSafeInteger(near) || offset === 0) return near;
  if (near % 4096 !== 0) return near;
  // Rounded to the start of a page: of the same one or the next. Multiples of 1024 are exact up to 2^63.
  return Number(value - BigInt(offset)) + (offset < 2048 ? 1024 : 3072);
}
