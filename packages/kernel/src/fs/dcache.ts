/**
 * What memory keeps of names and files on the disk: their dentries and inodes. Those that nobody uses wait on lists, the least
 * recently used first, until memory is short; then their objects go, and the next look-up reads them again. Those that are
 * charged to a memory cgroup wait on its list: a group at its limit gives up its own.
 *
 * A dentry is in use while its file is open or mapped, or while one below it is in memory. An inode is in use while it is
 * open, has a dentry in memory, or pages in the page cache.
 *
 * @linux fs/dcache.c, fs/inode.c, fs/super.c:super_cache_scan
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { GFP_KERNEL, __GFP_FS } from '@pagelab/mm-core';
import { SHRINKER_MEMCG_AWARE, SHRINKER_NUMA_AWARE, SHRINK_STOP } from '@pagelab/slab';
import type { ShrinkControl, ShrinkerSpec } from '@pagelab/slab';
import { ListLru, groupOfObject } from '@pagelab/vm';
import type { Inode, MemCgroup } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import type { Dentry, DirectoryNode } from './node.ts';

/** Objects a super block's shrinker looks at in one go. @linux fs/super.c:alloc_super */
const SUPER_BATCH = 1024;

/** The cached names and files of one file system. */
export class Dcache implements ShrinkerSpec {
  readonly name: string;
  readonly batch = SUPER_BATCH;
  readonly flags = SHRINKER_NUMA_AWARE | SHRINKER_MEMCG_AWARE;
  /** How readily they are given up, in parts of the other number; 0 never. @linux fs/dcache.c:sysctl_vfs_cache_pressure */
  vfsCachePressure = 100;
  vfsCachePressureDenom = 100;

  readonly #kernel: Kernel;
  /** Dentries that are in memory. @linux include/linux/fs.h:super_block.s_dentry_lru */
  readonly #dentries: ListLru<Dentry>;
  /** Inodes without a dentry in memory. @linux include/linux/fs.h:super_block.s_inode_lru */
  readonly #inodes: ListLru<Inode>;

  constructor(kernel: Kernel, fsName: string) {
    this.#kernel = kernel;
    this.name = `sb-${fsName}`;
    this.#dentries = new ListLru(kernel.vm);
    this.#inodes = new ListLru(kernel.vm);
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
      if (node.inode.object !== 0) this.#remove(this.#inodes, node.inode);
      else {
        const object = this.#kernel.caches.inode_cache.alloc(GFP_KERNEL);
        if (object === 0) return -Errno.ENOMEM;
        node.inode.object = object;
      }
    }
    dentry.isReferenced = !this.#add(this.#dentries, dentry);
    return 0;
  }

  /** Forgets a name that is taken away. @linux fs/dcache.c:d_delete */
  forget(dentry: Dentry): void {
    this.#remove(this.#dentries, dentry);
    if (dentry.node.kind === 'file') this.#remove(this.#inodes, dentry.node.inode);
  }

  /** The node that an object lies on. */
  #nodeOf(object: VirtAddr): number {
    const { pages } = this.#kernel;
    return pages.nodeOf(pages.virtToPfn(object));
  }

  /** @returns whether it was not there yet */
  #add<T extends { readonly object: VirtAddr }>(list: ListLru<T>, item: T): boolean {
    const { size } = list;
    list.add(item, groupOfObject(this.#kernel.vm, item.object), this.#nodeOf(item.object));
    return list.size > size;
  }

  #remove<T extends { readonly object: VirtAddr }>(list: ListLru<T>, item: T): void {
    if (item.object !== 0) list.delete(item, groupOfObject(this.#kernel.vm, item.object), this.#nodeOf(item.object));
  }

  /** @linux fs/super.c:super_cache_count */
  countObjects({ memcg, nid }: ShrinkControl): number {
    const group = memcg as MemCgroup | null;
    const objects = this.#dentries.list(group, nid).size + this.#inodes.list(group, nid).size;
    return Math.floor((objects * this.vfsCachePressure) / this.vfsCachePressureDenom);
  }

  /** @linux fs/super.c:super_cache_scan */
  scanObjects({ gfp, memcg, nid, nrToScan }: ShrinkControl): number {
    // Who holds locks of a file system cannot wait for them.
    if ((gfp & __GFP_FS) === 0) return SHRINK_STOP;
    const group = memcg as MemCgroup | null;
    const dentries = this.#dentries.list(group, nid);
    const total = dentries.size + this.#inodes.list(group, nid).size;
    const share = total === 0 ? 0 : Math.ceil((nrToScan * dentries.size) / total);
    return this.#pruneDentries(dentries, share) + this.#pruneInodes(this.#inodes.list(group, nid), nrToScan - share);
  }

  /** @linux fs/dcache.c:dentry_lru_isolate */
  #pruneDentries(list: ReadonlySet<Dentry>, nrToScan: number): number {
    let freed = 0;
    // What is put back comes last, and is not looked at again.
    let left = Math.min(nrToScan, list.size);
    for (const dentry of list) {
      if (left-- <= 0) break;
      this.#remove(this.#dentries, dentry);
      if (dentry.isReferenced || isInUse(dentry)) {
        dentry.isReferenced = false;
        this.#add(this.#dentries, dentry);
        continue;
      }
      this.#kernel.caches.dentry.free(dentry.object);
      dentry.object = 0;
      freed++;
      if (dentry.node.kind === 'file') this.#add(this.#inodes, dentry.node.inode);
    }
    return freed;
  }

  /** @linux fs/inode.c:inode_lru_isolate */
  #pruneInodes(list: ReadonlySet<Inode>, nrToScan: number): number {
    let freed = 0;
    let left = Math.min(nrToScan, list.size);
    for (const inode of list) {
      if (left-- <= 0) break;
      this.#remove(this.#inodes, inode);
      if (inode.refcount > 0 || inode.mapping.pages.size > 0) {
        this.#add(this.#inodes, inode);
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
