/**
 * What stands in kernel memory for a file that no directory knows, such as a pipe: an inode, and a dentry for the name that it
 * has not.
 *
 * @linux fs/file_table.c:alloc_file_pseudo, fs/libfs.c:alloc_anon_inode
 */
import type { VirtAddr } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import type { KernelCaches } from '@pagelab/slab';

/** Addresses of its objects. */
export interface PseudoInode {
  readonly inode: VirtAddr;
  readonly dentry: VirtAddr;
}

/** @returns `null` without memory */
export function allocPseudoInode({ inode_cache: inodes, dentry: dentries }: KernelCaches): PseudoInode | null {
  const inode = inodes.alloc(GFP_KERNEL);
  const dentry = inode === 0 ? 0 : dentries.alloc(GFP_KERNEL);
  if (dentry !== 0) return { inode, dentry };
  if (inode !== 0) inodes.free(inode);
  return null;
}

export function freePseudoInode(caches: KernelCaches, { inode, dentry }: PseudoInode): void {
  caches.dentry.free(dentry);
  caches.inode_cache.free(inode);
}
