import type { Task } from '../task.ts';

/** A file that the kernel makes up. `task` is who reads or writes; `null` is the machine itself. */
export interface ProcFile {
  /** Permission bits of its owner, root. */
  readonly mode: number;
  /** What it says, or -errno. */
  read?(task: Task | null): string | number;
  /** Takes text; 0 or -errno. */
  write?(text: string, task: Task | null): number;
  /** For a file whose bytes are looked up by position. */
  readBytes?(position: number, length: number, task: Task | null): Uint8Array | number;
  /** Returns how many bytes it took, or -errno. */
  writeBytes?(position: number, bytes: Uint8Array, task: Task | null): number;
}

/** `Name:   12345 kB`, as `/proc/meminfo` and its like align it: name and colon in `nameWidth`, the number in `width`. */
export function kbLine(name: string, kib: number, nameWidth: number, width: number): string {
  return `${`${name}:`.padEnd(nameWidth)}${String(kib).padStart(width)} kB\n`;
}

/** KiB of pages. */
export function pagesToKb(pages: number): number {
  return pages * 4;
}

/** An address in lower-case hexadecimal, two's complement. */
export function hexAddress(address: number): string {
  return address < 0 ? (BigInt(address) + (1n << 64n)).toString(16) : address.toString(16);
}
