/**
 * What `stat` tells.
 */
import { S_IFCHR, S_IFDIR, S_IFIFO, S_IFREG } from '@pagelab/abi';
import type { FileStatus } from '@pagelab/syscalls';
import type { Inode } from '@pagelab/vm';
import type { FsNode } from './node.ts';

const BLOCK_BYTES = 4096;
const DEV_TMPFS: readonly [number, number] = [0, 1];
const DEV_PROC: readonly [number, number] = [0, 2];

/** Of a regular file. @linux fs/stat.c:generic_fillattr */
export function inodeStatus(inode: Inode, dev: readonly [number, number] = DEV_TMPFS): FileStatus {
  return {
    dev,
    ino: inode.ino,
    nlink: inode.nlink,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    rdev: [0, 0],
    size: inode.size,
    blockBytes: inode.mapping.ops.blockBytes?.(inode) ?? BLOCK_BYTES,
    blocks: inode.mapping.ops.blocks(inode),
    atime: inode.atime,
    mtime: inode.mtime,
    ctime: inode.ctime,
  };
}

/** Of whatever a name leads to. */
export function nodeStatus(node: FsNode): FileStatus {
  switch (node.kind) {
    case 'file':
      return inodeStatus(node.inode, node.fs.dev);
    case 'directory': {
      const { ino, mtime, fs, uid, gid } = node;
      // Where not all names are known, neither is how many of them are directories.
      let nlink = fs.lookUp === undefined ? 2 : 1;
      if (nlink === 2) for (const { node: child } of node.entries.values()) if (child.kind === 'directory') nlink += 1;
      return { ...plain(ino, S_IFDIR | node.mode, mtime), uid, gid, dev: fs.dev, nlink, size: BLOCK_BYTES };
    }
    case 'device':
      return { ...plain(node.ino, S_IFCHR | node.mode, 0), rdev: node.rdev };
  }
}

/** A device number as `/proc/PID/maps` shows it: both parts in hexadecimal. */
export function deviceNumber([major, minor]: readonly [number, number]): string {
  return `${major.toString(16).padStart(2, '0')}:${minor.toString(16).padStart(2, '0')}`;
}

/** Of a file that the kernel makes up: its permissions. */
export function procStatus(mode: number, isDirectory: boolean): FileStatus {
  return { ...plain(1, (isDirectory ? S_IFDIR : S_IFREG) | mode, 0), dev: DEV_PROC };
}

/** Of a pipe. */
export function pipeStatus(ino: number): FileStatus {
  return plain(ino, S_IFIFO | 0o600, 0);
}

function plain(ino: number, mode: number, time: number): FileStatus {
  const size = 0;
  return { dev: DEV_TMPFS, ino, nlink: 1, mode, rdev: [0, 0], size, blockBytes: BLOCK_BYTES, blocks: 0, atime: time, mtime: time, ctime: time };
}
