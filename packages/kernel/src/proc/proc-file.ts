import type { VirtAddr } from '@pagelab/abi';
import type { Task } from '../task.ts';

/** A file that the kernel makes up. `task` is who reads or writes; `null` is the machine itself. */
export interface ProcFile {
  /** Permission bits of its owner, root. */
  readonly mode: number;
  /** What it says, or -errno. */
  read?(task: Task | null): string | number;
  /** Takes text; returns how many bytes of it, or -errno. */
  write?(text: string, task: Task | null): number;
  /** Whether a write that does not begin at the start is taken and ignored. */
  readonly firstWriteOnly?: boolean;
  /** What mapping it fails with; -ENODEV where it does not say. */
  readonly mmapError?: number;
  /** For a file whose bytes are looked up by position. */
  readBytes?(position: number, length: number, task: Task | null): Uint8Array | number;
  /** Requests by `ioctl`; a file without it takes none. */
  ioctl?(task: Task, request: number, argument: VirtAddr): number;
  /** Positions are addresses, of all 64 bits. */
  readonly unsignedOffsets?: boolean;
  /** Returns how many bytes it took, or -errno. */
  writeBytes?(position: number, bytes: Uint8Array, task: Task | null): number;
}

/** `Name:   12345 kB`, as `/proc/meminfo` and its like align it: name and colon in `nameWidth`, the number in `width`. */
export function kbLine(name: string, kib: number, nameWidth: number, width: number): string {
  const label = `${name}:`.padEnd(nameWidth);
  // A name too long for its field takes from the number's.
  return label.length === nameWidth ? `${label}${String(kib).padStart(width)} kB\n` : `${label} ${String(kib).padStart(width + nameWidth - label.length - 1)} kB\n`;
}

/** KiB of pages. */
export function pagesToKb(pages: number): number {
  return pages * 4;
}

/** An address in lower-case hexadecimal, two's complement. */
export function hexAddress(address: number): string {
  return address < 0 ? (BigInt(address) + (1n << 64n)).toString(16) : address.toString(16);
}
