/**
 * Files of the host for a machine's disks, and directories of the host for its programs.
 */
import { closeSync, openSync, readSync, realpathSync, statSync, writeSync } from 'node:fs';
import { join, sep } from 'node:path';
import type { HostDirectory } from '@pagelab/kernel';
import { CommandFailure } from './errors.ts';

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

/**
 * A directory of the host to be read. Links are followed as long as they stay in it: what they lead to outside is not there.
 *
 * @throws CommandFailure where there is no such directory
 */
export function openHostDirectory(path: string): HostDirectory {
  const root = realDirectory(path);
  const inside = root.endsWith(sep) ? root : `${root}${sep}`;
  const place = (below: string): string => {
    const real = realpathSync(join(root, below));
    if (real !== root && !real.startsWith(inside)) throw new Error(`${below} leads out of ${root}`);
    return real;
  };
  return {
    stat: (below) => {
      try {
        const stats = statSync(place(below));
        if (!stats.isFile() && !stats.isDirectory()) return undefined;
        return { kind: stats.isFile() ? 'file' : 'directory', size: stats.size, mode: stats.mode & 0o777 };
      } catch {
        return undefined;
      }
    },
    read: (below, position, target) => {
      const descriptor = openSync(place(below), 'r');
      try {
        return readSync(descriptor, target, 0, target.length, position);
      } finally {
        closeSync(descriptor);
      }
    },
  };
}

function realDirectory(path: string): string {
  let real: string;
  try {
    real = realpathSync(path);
  } catch (error) {
    throw new CommandFailure(`--attach: ${(error as Error).message}`);
  }
  if (!statSync(real).isDirectory()) throw new CommandFailure(`--attach: ${path} is no directory`);
  return real;
}
