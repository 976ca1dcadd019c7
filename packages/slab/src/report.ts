/**
 * What the slab allocator says when someone misuses it: a typed value, and the lines Linux would log.
 */
import type { VirtAddr } from '@pagelab/abi';
import { KernelBug } from '@pagelab/lib';
import type { SlabTrack } from './track.ts';

/**
 * What was noticed.
 *
 * - `invalid-free`: the pointer is no object, or points into one
 * - `double-free`: the object is free already
 * - `wrong-cache`: the object is another cache's
 * - `freelist-corrupt`: a free object's pointer was overwritten
 * - `redzone`: something was written before or behind an object
 * - `poison`: something was written to an object after it was freed
 * - `padding`: something was written to bytes that nobody owns
 * - `slab-corrupt`: a slab's counts do not fit its free list
 * - `objects-remaining`: a cache was destroyed with live objects
 */
export type SlabReportKind =
  | 'invalid-free'
  | 'double-free'
  | 'wrong-cache'
  | 'freelist-corrupt'
  | 'redzone'
  | 'poison'
  | 'padding'
  | 'slab-corrupt'
  | 'objects-remaining';

/** Bytes that do not hold what they should. */
export interface SlabCorruption {
  /** As Linux calls them: `Left Redzone`, `Right Redzone`, `kmalloc Redzone`, `Poison`, `End Poison`, … */
  readonly what: string;
  /** First and last byte that differ. */
  readonly from: VirtAddr;
  readonly to: VirtAddr;
  /** The first of them, and what it should be. */
  readonly found: number;
  readonly expected: number;
}

/** A misuse that was noticed. */
export interface SlabReport {
  readonly kind: SlabReportKind;
  /** The cache concerned; empty where there is none. */
  readonly cache: string;
  /** The object concerned, or the pointer that is none. */
  readonly address: VirtAddr;
  /** What the kernel logs, lines apart by newlines. */
  readonly text: string;
  /** Linux stops here, as it has no way to go on. */
  readonly fatal?: boolean;
  readonly corruption?: SlabCorruption;
  /** Who allocated and who last freed the object, in a cache with SLAB_STORE_USER. */
  readonly allocated?: SlabTrack;
  readonly freed?: SlabTrack;
}

/** Takes a report. When it returns, the kernel goes on as Linux would. */
export type SlabReporter = (report: SlabReport) => void;

/** Writes a kernel address as Linux prints it: sixteen hexadecimal digits, or eight where addresses have 32 bits. */
export function formatAddress(address: VirtAddr, wordBytes: 4 | 8 = 8): string {
  const high = Math.floor(address / 2 ** 32);
  const low = ((address - high * 2 ** 32) >>> 0).toString(16).padStart(8, '0');
  return wordBytes === 4 ? low : (high >>> 0).toString(16).padStart(8, '0') + low;
}

/** The reporter used when none is handed in: stops the emulator. @throws KernelBug always */
export function throwReport(report: SlabReport): never {
  throw new KernelBug(report.text);
}

/**
 * Bytes as the kernel dumps them, sixteen a line with their address: `Object   ffff888000123400: 6b 6b …  kkkk`.
 *
 * @linux lib/hexdump.c:print_hex_dump
 */
export function hexDump(prefix: string, address: VirtAddr, bytes: Uint8Array, wordBytes: 4 | 8 = 8): string[] {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const characters = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${prefix}${formatAddress(address + at, wordBytes)}: ${hex.padEnd(49)}${characters}`);
  }
  return lines;
}
