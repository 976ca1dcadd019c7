/**
 * What memory keeps of names and files on the disk: their dentries and inodes. Those that nobody uses wait on lists, the least
 * recently used first, until memory is short; then their objects go, and the next look-up reads them again.
 *
 * A dentry is in use while its file is open or mapped, or while one below it is in memory. An inode is in use while it is
 * open, has a dentry in memory, or pages in the page cache.
 *
 * @linux fs/dcache.c, fs/inode.c, fs/super.c:super_cache_scan
 */
import { Errno } from '@pagelab/abi';
import { GFP_KERNEL, __GFP_FS } from '@pagelab/mm-core';
import { SHRINK_STOP } from '@pagelab/slab';
import type { ShrinkControl, ShrinkerSpec } from '@pagelab/slab';
import type { Inode } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import type { Dentry, DirectoryNode } from './node.ts';

/** Objects a super block's shrinker looks at in one go. @linux fs/super.c:alloc_super */
const SUPER_BATCH = 1024;

/** The cached names and files of one file system. */
export class Dcache implements ShrinkerSpec {
  readonly name: string;
  readonly batch = SUPER_BATCH;
  /** How readily they are given up, in percent; 0 never. @linux fs/dcache.c:sysctl_vfs_cache_pressure */
  vfsCachePressure = 100;

  readonly #kernel: Kernel;
  /** Dentries, and whether each was used since it was last looked at. */
  readonly #dentries = new Map<Dentry, boolean>();
  /** Inodes without a dentry in memory. */
  readonly #inodes = new Set<Inode>();

  constructor(kernel: Kernel, fsName: string) {
    this.#kernel = kernel;
    this.name = `sb-${fsName}`;
  }

  /**
   * Brings a name, and the file that it leads to, into memory, and notes that it is used.
   *
   * @returns 0 or -ENOMEM
   * @linux fs/dcache.c:d_lookup
   */
  use(dentry: Dentry): number {
    const { node } = dentry;
    if (dentry.parent === null) return 0;
    if (dentry.object === 0) {
      const object = this.#kernel.caches.dentry.alloc(GFP_KERNEL);
      if (object === 0) return -Errno.ENOMEM;
      dentry.object = object;
    }
    if (node.kind === 'file') {
      this.#inodes.delete(node.inode);
      if (node.inode.object === 0) {
        const object = this.#kernel.caches.inode_cache.alloc(GFP_KERNEL);
        if (object === 0) return -Errno.ENOMEM;
        node.inode.object = object;
      }
    }
    this.#dentries.set(dentry, this.#dentries.has(dentry));
    return 0;
  }

  /** Forgets a name that is taken away. @linux fs/dcache.c:d_delete */
  forget(dentry: Dentry): void {
    this.#dentries.delete(dentry);
    if (dentry.node.kind === 'file') this.#inodes.delete(dentry.node.inode);
  }

  /** @linux fs/super.c:super_cache_count */
  countObjects(): number {
    return Math.floor(((this.#dentries.size + this.#inodes.size) * this.vfsCachePressure) / 100);
  }

  /** @linux fs/super.c:super_cache_scan */
  scanObjects({ gfp, nrToScan }: ShrinkControl): number {
    // Who holds locks of a file system cannot wait for them.
    if ((gfp & __GFP_FS) === 0) return SHRINK_STOP;
    const dentries = this.#dentries.size;
    const total = dentries + this.#inodes.size;
    const share = total === 0 ? 0 : Math.ceil((nrToScan * dentries) / total);
    return this.#pruneDentries(share) + this.#pruneInodes(nrToScan - share);
  }

  /** @linux fs/dcache.c:dentry_lru_isolate */
  #pruneDentries(nrToScan: number): number {
    let freed = 0;
    // What is put back comes last, and is not looked at again.
    let left = Math.min(nrToScan, this.#dentries.size);
    for (const [dentry, referenced] of this.#dentries) {
      if (left-- <= 0) break;
      this.#dentries.delete(dentry);
      if (referenced || isInUse(dentry)) {
        this.#dentries.set(dentry, false);
        continue;
      }
      this.#kernel.caches.dentry.free(dentry.object);
      dentry.object = 0;
      freed++;
      if (dentry.node.kind === 'file') this.#inodes.add(dentry.node.inode);
    }
    return freed;
  }

  /** @linux fs/inode.c:inode_lru_isolate */
  #pruneInodes(nrToScan: number): number {
    let freed = 0;
    let left = Math.min(nrToScan, this.#inodes.size);
    for (const inode of this.#inodes) {
      if (left-- <= 0) break;
      this.#inodes.delete(inode);
      if (inode.refcount > 0 || inode.mapping.pages.size > 0) {
        this.#inodes.add(inode);
        continue;
      }
      this.#kernel.caches.inode_cache.free(inode.object);
      inode.object = 0;
      freed++;
    }
    return freed;
  }
}

/** Whether a dentry has to stay. One that another file system is mounted on does. */
function isInUse({ node, parent }: Dentry): boolean {
  if (node.kind === 'file') return node.inode.refcount > 0;
  if (node.kind !== 'directory') return true;
  if (parent !== null && node.fs !== (parent.node as DirectoryNode).fs) return true;
  for (const child of (node satisfies DirectoryNode).entries.values()) if (child.object !== 0) return true;
  return false;
}
