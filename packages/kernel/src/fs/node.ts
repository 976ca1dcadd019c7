/**
 * Names and what they lead to.
 *
 * A *dentry* is a name in a directory. It leads to a *node*: a directory, a device, or a regular file, whose inode virtual
 * memory knows. Several dentries may lead to one regular file. A directory belongs to a file system, which makes the files
 * in it.
 *
 * @linux include/linux/dcache.h, include/linux/fs.h
 */
import type { Inode, PathSource } from '@pagelab/vm';
import type { Dcache } from './dcache.ts';

/** What makes the regular files of a part of the tree. @linux include/linux/fs.h:super_block */
export interface FileSystem {
  /** As `/proc/mounts` names it. */
  readonly name: string;
  /** Major and minor device number. */
  readonly dev: readonly [major: number, minor: number];
  /** What memory keeps of its names and files, where those lie elsewhere; `null` where they are nowhere else. */
  readonly dcache: Dcache | null;
  /** Makes an empty file with one user. @returns its inode, or -ENOMEM; -EROFS where nothing can be changed */
  makeFile(mode: number, nlink: number): Inode | number;
  /**
   * Of a file system that is only read: brings in what it has at a path below its root that is not in the tree yet.
   * @returns what is there; a file with one user; `undefined` for nothing; -ENOMEM
   * @linux include/linux/fs.h:inode_operations.lookup
   */
  readonly lookUp?: (path: string) => FileNode | DirectoryNode | undefined | number;
}

/** @linux include/linux/fs.h:S_ISREG */
export interface FileNode {
  readonly kind: 'file';
  readonly inode: Inode;
  readonly fs: FileSystem;
}

/** @linux include/linux/fs.h:S_ISDIR */
export interface DirectoryNode {
  readonly kind: 'directory';
  readonly ino: number;
  /** Permissions. */
  mode: number;
  /** Who owns it. */
  readonly uid: number;
  readonly gid: number;
  readonly fs: FileSystem;
  /** What is in it, in the order of making. */
  readonly entries: Map<string, Dentry>;
  /** Virtual time of the last change, in nanoseconds. */
  mtime: number;
}

/** What a character device does. */
export type DeviceName = 'null' | 'zero' | 'full';

/** @linux include/linux/fs.h:S_ISCHR */
export interface DeviceNode {
  readonly kind: 'device';
  readonly ino: number;
  readonly mode: number;
  readonly device: DeviceName;
  readonly rdev: readonly [major: number, minor: number];
}

export type FsNode = FileNode | DirectoryNode | DeviceNode;

/** @linux include/linux/dcache.h:dentry */
export class Dentry implements PathSource {
  name: string;
  /** `null` for the root. */
  parent: Dentry | null;
  readonly node: FsNode;
  /** Address of its object in the `dentry` cache; 0 while only the disk has it, and for the root. */
  object: number;
  /** Whether it was looked up since its file system's cache last looked at it. @linux include/linux/dcache.h:DCACHE_REFERENCED */
  isReferenced = false;
  /** Whether it was taken out of its directory. */
  isGone = false;

  constructor(name: string, parent: Dentry | null, node: FsNode, object: number) {
    this.name = name;
    this.parent = parent;
    this.node = node;
    this.object = object;
  }

  /** From the root on, with ` (deleted)` for a name that is no more. @linux fs/d_path.c:d_path */
  get path(): string {
    const path = this.#plainPath();
    return this.isGone ? `${path} (deleted)` : path;
  }

  #plainPath(): string {
    const { parent } = this;
    if (parent === null) return '/';
    const above = parent.#plainPath();
    return above === '/' ? `/${this.name}` : `${above}/${this.name}`;
  }
}
