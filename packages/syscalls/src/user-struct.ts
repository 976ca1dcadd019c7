/**
 * The structures that system calls read from user memory and write to it, as bytes. Little-endian; what C calls a `long` has
 * 8 bytes, and 4 where the program's registers have 32 bits.
 */
import type { ResourceUsage } from '@pagelab/abi';
import { reg, reg32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

/** Bytes of the 64-bit `struct rlimit64`. */
export const RLIMIT64_BYTES = 16;

/** Bytes of a `long` of the task's program. */
export function longBytes({ mm }: TaskContext): 4 | 8 {
  return mm.is32Bit ? 4 : 8;
}

/** What C calls `long[]`, each an integer. Of 4 bytes they hold the low 32 bits. */
export function encodeLongs(task: TaskContext, longs: readonly number[]): Uint8Array {
  if (!task.mm.is32Bit) return encodeWords(longs);
  return new Uint8Array(Uint32Array.from(longs, (value) => value % 2 ** 32).buffer);
}

/** The `long` number `index`, as a register would hold it. */
export function longAt(task: TaskContext, bytes: Uint8Array, index: number): number {
  return task.mm.is32Bit ? reg32(u32At(bytes, index * 4), task.mm) : wordAt(bytes, index * 8);
}

/** Words of 8 bytes, each an integer: what C calls `long long[]`. */
export function encodeWords(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(words.length * 8);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < words.length; i++) storeWord(view, i * 8, words[i]!);
  return bytes;
}

/** The word at `offset`, as a register would hold it. */
export function wordAt(bytes: Uint8Array, offset: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const high = view.getInt32(offset + 4, true);
  if (high < 0x20_0000 && high >= -0x20_0000) return high * 2 ** 32 + view.getUint32(offset, true);
  return reg(view.getBigInt64(offset, true));
}

/** The unsigned 32 bits at `offset`. */
export function u32At(bytes: Uint8Array, offset: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(offset, true);
}

/** 32 bits, as C's `int`. */
export function encodeInt(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** A `struct rusage`. @linux include/uapi/linux/resource.h:rusage */
export function encodeUsage(task: TaskContext, usage: ResourceUsage): Uint8Array {
  return encodeLongs(task, [
    ...timeval(usage.utime),
    ...timeval(usage.stime),
    usage.maxrss,
    0,
    0,
    0,
    usage.minflt,
    usage.majflt,
    0,
    0,
    0,
    0,
    0,
    0,
    usage.nvcsw,
    usage.nivcsw,
  ]);
}

function timeval(microseconds: number): [number, number] {
  return [Math.floor(microseconds / 1e6), microseconds % 1e6];
}

function storeWord(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setInt32(offset + 4, Math.floor(value / 2 ** 32), true);
}
