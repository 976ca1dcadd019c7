/**
 * Open files and inodes as counted objects.
 *
 * A VMA and a descriptor hold an open file; open files hold its inode; names in directories keep an inode by its link
 * count. What nobody holds and no name leads to is gone, and its pages with it.
 */
import type { VirtAddr } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import type { Inode, ReadAheadState, VmFile, VmOperations } from './file.ts';
import type { Vm } from './vm.ts';

/** Where an open file's path comes from: a name in a directory can change, and go. */
export interface PathSource {
  /** The path now, with ` (deleted)` where there is none any more. */
  readonly path: string;
}

/** How a file is opened. */
export interface OpenMode {
  readonly readable: boolean;
  readonly writable: boolean;
}

/** @linux include/linux/fs.h:file */
class OpenVmFile implements VmFile {
  readonly inode: Inode;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly object: number;
  /** Address of the dentry that stands for a name that it has not; 0 for none. */
  dentry: VirtAddr = 0;
  refcount = 1;
  vmOps: VmOperations | null = null;
  readAhead: ReadAheadState | null = null;
  seenErrors: number;
  readonly #name: string | PathSource;

  constructor(inode: Inode, name: string | PathSource, mode: OpenMode, object: number) {
    this.inode = inode;
    this.#name = name;
    this.readable = mode.readable;
    this.writable = mode.writable;
    this.object = object;
    this.seenErrors = inode.writeErrors;
  }

  get path(): string {
    return typeof this.#name === 'string' ? this.#name : this.#name.path;
  }
}

/**
 * Opens an inode: a new file, with one reference, that holds one to the inode.
 *
 * @param name a path, or what knows it
 * @returns `null` without memory
 * @linux fs/file_table.c:alloc_file
 */
export function allocFile(vm: Vm, inode: Inode, name: string | PathSource, mode: OpenMode): OpenVmFile | null {
  const object = vm.caches.file.alloc(GFP_KERNEL);
  if (object === 0) return null;
  inode.refcount++;
  return new OpenVmFile(inode, name, mode, object);
}

/**
 * As {@link allocFile}, for an inode that has no name in any directory: a dentry of the file's own stands for one.
 *
 * @linux fs/file_table.c:alloc_file_pseudo
 */
export function allocPseudoFile(vm: Vm, inode: Inode, name: string | PathSource, mode: OpenMode): VmFile | null {
  const dentry = vm.caches.dentry.alloc(GFP_KERNEL);
  if (dentry === 0) return null;
  const file = allocFile(vm, inode, name, mode);
  if (file === null) vm.caches.dentry.free(dentry);
  else file.dentry = dentry;
  return file;
}

/** Takes a reference to an open file, and returns it. @linux include/linux/fs.h:get_file */
export function fileGet(file: VmFile): VmFile {
  file.refcount++;
  return file;
}

/** Drops a reference to an open file; the last one closes it. @linux fs/file_table.c:fput */
export function filePut(vm: Vm, file: VmFile): void {
  if (--file.refcount > 0) return;
  vm.caches.file.free(file.object);
  if (file.dentry !== 0) vm.caches.dentry.free(file.dentry);
  inodePut(file.inode);
}

/** Drops a user of an inode. The last one of an inode without a name takes it and its pages along. @linux fs/inode.c:iput */
export function inodePut(inode: Inode): void {
  if (--inode.refcount > 0 || inode.nlink > 0) return;
  inode.mapping.ops.evict(inode);
}

/** Takes one of an inode's names away. @linux fs/inode.c:drop_nlink */
export function inodeUnlink(inode: Inode): void {
  inode.nlink--;
  if (inode.refcount === 0 && inode.nlink === 0) inode.mapping.ops.evict(inode);
}
