/**
 * The calls of a log that concern memory: each made again with its addresses led to where the machine has them.
 */
import { Errno, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MREMAP_DONTUNMAP, MREMAP_FIXED, SyscallError } from '@pagelab/abi';
import { pageCeil } from './space.ts';
import type { Space } from './space.ts';
import { descriptor, numberValue, stringValue } from './strace-values.ts';

/** A call of the log. */
export interface RecordedCall {
  readonly line: number;
  readonly task: number;
  readonly name: string;
  readonly args: readonly string[];
  /** What it returned; `null` with `errno`. */
  readonly value: bigint | null;
  readonly errno: string | null;
}

/** What the machine answered, a value or −errno; or why it was not asked. */
export type Outcome = { readonly result: number; readonly same: boolean } | { readonly reason: string };

/** Makes a call again. */
export type MemoryCall = (space: Space, call: RecordedCall) => Outcome;

/** Numbers of the arguments; the name of the first that is none. */
function numbersOf(args: readonly string[]): bigint[] | string {
  const values: bigint[] = [];
  for (const text of args) {
    const value = numberValue(text);
    if (value === null) return `'${text}' is not known`;
    values.push(value);
  }
  return values;
}

/** Whether an address or a length can be led to another place: not one at the end of the number range. */
function isPlain(value: bigint): boolean {
  return value >= 0n && value < 1n << 47n;
}

/** Whether the machine's answer is of the recorded one's class: success, or the same error. */
function compared(call: RecordedCall, result: number): Outcome {
  const recorded = call.errno === null ? 0 : -((Errno as Readonly<Record<string, number>>)[call.errno] ?? 0);
  return { result, same: recorded === 0 ? result >= 0 : result === recorded };
}

/** A call over [address, address + length): made piece by piece where the range lies in pieces here. */
function rangeCall(name: 'munmap' | 'mprotect' | 'madvise' | 'mlock' | 'mlock2' | 'munlock' | 'msync' | 'remap_file_pages'): MemoryCall {
  return (space, call) => {
    const values = numbersOf(call.args);
    if (typeof values === 'string') return { reason: values };
    const [address = 0n, length = 0n, ...rest] = values;
    if (!isPlain(address) || !isPlain(length) || length === 0n) return compared(call, space.call(name, address, length, ...rest));
    const start = Number(address);
    const bytes = Number(length);
    // What failed is asked for in one piece, so that the hole it met is met again.
    if (call.errno !== null) return compared(call, space.call(name, space.map.find(start) ?? start, bytes, ...rest));
    const error = space.assume(start, bytes);
    if (error < 0) return compared(call, error);
    for (const piece of space.map.pieces(start, bytes)) {
      const result = space.call(name, piece.to ?? piece.start, piece.length, ...rest);
      if (result < 0) return compared(call, result);
    }
    if (name === 'munmap') space.map.remove(start, pageCeil(bytes));
    return compared(call, 0);
  };
}

/** The call never fails: it answers with the break in force, which is the one asked for where it moved. */
const brk: MemoryCall = (space, { args, value }) => {
  const wanted = numberValue(args[0] ?? '');
  if (wanted === null || value === null) return { reason: 'the break is not known' };
  if (wanted === 0n) return { result: space.heapAt(Number(value)), same: true };
  const here = space.breakHere(Number(wanted));
  const result = space.call('brk', here);
  if (result === here) space.breakMoved(Number(wanted));
  return { result, same: (result === here) === (value === wanted) };
};

const mmap: MemoryCall = (space, call) => {
  const [fdText = '-1'] = call.args.slice(4);
  const file = descriptor(fdText);
  const values = numbersOf(call.args.map((text, at) => (at === 4 ? '0' : text)));
  if (typeof values === 'string') return { reason: values };
  if (file === null) return { reason: `'${fdText}' is no descriptor` };
  const [address = 0n, length = 0n, prot = 0n, flags = 0n, , offset = 0n] = values;
  const flagBits = Number(flags);
  const anonymous = (flagBits & MAP_ANONYMOUS) !== 0;
  if (!isPlain(address) || !isPlain(length) || length === 0n) {
    return compared(call, space.call('mmap', address, length, prot, flags, anonymous ? -1 : file.fd, offset));
  }
  const start = Number(address);
  const bytes = Number(length);
  let fd = -1;
  if (!anonymous) {
    if (call.errno !== null) return { reason: 'it failed for a file that is not known' };
    fd = space.openStandIn(file.fd, file.path, Number(offset), bytes);
    if (fd < 0) return compared(call, fd);
  }
  const fixed = (flagBits & MAP_FIXED) !== 0;
  const free = (flagBits & MAP_FIXED_NOREPLACE) !== 0;
  let at = space.map.find(start) ?? start;
  let result = 0;
  if (fixed && !free && call.errno === null) result = at = space.makeRoom(start, pageCeil(bytes));
  if (result >= 0) result = space.call('mmap', at, bytes, prot, flagBits, fd, offset);
  if (result === -Errno.EEXIST && call.errno === null && free) {
    // The place is taken here by something else: any other will do.
    result = space.call('mmap', 0, bytes, prot, flagBits & ~(MAP_FIXED | MAP_FIXED_NOREPLACE), fd, offset);
  }
  if (fd >= 0) space.call('close', fd);
  if (result >= 0 && call.value !== null) space.map.set(Number(call.value), pageCeil(bytes), result);
  return compared(call, result);
};

const mremap: MemoryCall = (space, call) => {
  const values = numbersOf(call.args);
  if (typeof values === 'string') return { reason: values };
  const [address = 0n, oldLength = 0n, newLength = 0n, flags = 0n, to = 0n] = values;
  if (![address, oldLength, newLength, to].every(isPlain)) return compared(call, space.call('mremap', ...values));
  const start = Number(address);
  const oldBytes = pageCeil(Number(oldLength));
  const newBytes = pageCeil(Number(newLength));
  if (call.errno === null && call.value !== null) {
    const error = space.assume(start, Math.max(oldBytes, 1));
    if (error < 0) return compared(call, error);
  }
  const flagBits = Number(flags);
  let target = Number(to);
  if ((flagBits & MREMAP_FIXED) !== 0) {
    target = call.errno === null ? space.makeRoom(target, newBytes) : (space.map.find(target) ?? target);
    if (target < 0) return compared(call, target);
  }
  const result = space.call('mremap', space.map.find(start) ?? start, oldLength, newLength, flagBits, target);
  if (result >= 0 && call.value !== null) {
    if ((flagBits & MREMAP_DONTUNMAP) === 0) space.map.remove(start, oldBytes);
    space.map.set(Number(call.value), newBytes, result);
  }
  return compared(call, result);
};

/** Where the kernel tells what is resident is not the log's address but memory of ours. */
const mincore: MemoryCall = (space, call) => {
  const values = numbersOf(call.args.slice(0, 2));
  if (typeof values === 'string') return { reason: values };
  const [address = 0n, length = 0n] = values;
  if (!isPlain(address) || !isPlain(length)) return { reason: 'its range is none' };
  const start = Number(address);
  if (call.errno === null) {
    const error = space.assume(start, Number(length));
    if (error < 0) return compared(call, error);
  }
  try {
    for (const piece of space.map.pieces(start, Number(length))) space.os.mincore(piece.to ?? piece.start, piece.length);
    return compared(call, 0);
  } catch (error) {
    if (error instanceof SyscallError) return compared(call, -error.errno);
    throw error;
  }
};

/** Calls that name no address. */
function plainCall(name: 'mlockall' | 'munlockall'): MemoryCall {
  return (space, call) => {
    const values = numbersOf(call.args);
    return typeof values === 'string' ? { reason: values } : compared(call, space.call(name, ...values));
  };
}

/** What descriptors lead to, where the log tells. */
const openat: MemoryCall = (space, { args, name, value }) => {
  if (value !== null) space.opened(Number(value), stringValue(args[name === 'open' || name === 'creat' ? 0 : 1] ?? ''));
  return { reason: 'files are stood in for where they are mapped' };
};

const close: MemoryCall = (space, { args }) => {
  const file = descriptor(args[0] ?? '');
  if (file !== null) space.closed(file.fd);
  return { reason: 'files are stood in for where they are mapped' };
};

const dup: MemoryCall = (space, { args, value }) => {
  const file = descriptor(args[0] ?? '');
  if (file !== null && value !== null) space.duplicated(file.fd, Number(value));
  return { reason: 'files are stood in for where they are mapped' };
};

/** The calls that are made again, by name. */
export const memoryCalls: Readonly<Record<string, MemoryCall>> = {
  brk, mmap, mremap, mincore,
  munmap: rangeCall('munmap'), mprotect: rangeCall('mprotect'), madvise: rangeCall('madvise'), msync: rangeCall('msync'),
  mlock: rangeCall('mlock'), mlock2: rangeCall('mlock2'), munlock: rangeCall('munlock'), remap_file_pages: rangeCall('remap_file_pages'),
  mlockall: plainCall('mlockall'), munlockall: plainCall('munlockall'),
  open: openat, openat, creat: openat, close, dup, dup2: dup, dup3: dup,
};
