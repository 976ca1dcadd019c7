/**
 * Files of the host for a machine's disks.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';

/** What a disk does to the file behind it. */
export interface OpenedHostFile {
  read(position: number, target: Uint8Array): number;
  write(position: number, source: Uint8Array): number;
}

/** Opens a file for reading and writing, and makes it where it is not there. It is closed when the process ends. */
export function openHostFile(path: string): OpenedHostFile {
  const descriptor = openSync(path, openFlags(path));
  process.once('exit', () => closeSync(descriptor));
  return {
    read: (position, target) => readSync(descriptor, target, 0, target.length, position),
    write: (position, source) => writeSync(descriptor, source, 0, source.length, position),
  };
}

/** `r+` keeps what a file holds, but makes none. */
function openFlags(path: string): string {
  try {
    closeSync(openSync(path, 'r+'));
    return 'r+';
  } catch {
    return 'w+';
  }
}
