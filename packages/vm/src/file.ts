/**
 * What a file looks like to memory management: an inode with its page cache, and open files on it.
 */
import type { IntervalTree, XArrayInt } from '@pagelab/lib';
import type { VirtAddr } from '@pagelab/abi';
import type { VmArea } from './vma.ts';

/**
 * The pages of one file, by page offset, and the mappings that show them.
 *
 * @linux include/linux/fs.h:address_space
 */
export interface AddressSpace {
  /** Its number in `Vm.mappings`; what `PageFrames.mapping` of its pages holds. At least 1. */
  readonly id: number;
  readonly inode: Inode;
  /** Page offset → page frame. */
  readonly pages: XArrayInt;
  /** Every VMA of the file, by page offset, for finding the mappings of a page. */
  readonly mmap: IntervalTree<VmArea>;
  /** Mappings that may write (VM_SHARED with VM_MAYWRITE); negative where seals forbid them. */
  mmapWritable: number;
  readonly ops: AddressSpaceOps;
  /** Objects of the `radix_tree_node` cache that stand for the nodes of Linux's `pages`, and the levels it has. */
  readonly nodes: VirtAddr[];
  nodeLevels: number;
}

/** What a file system does for the page cache. */
export interface AddressSpaceOps {
  /** The name of the file system: `'shmem'`. */
  readonly name: string;
  /** Anonymous-like memory: its pages count as shared memory (RssShmem), not as file pages. */
  readonly swapBacked: boolean;
  /**
   * Finds or makes the page at `pgoff` for a fault or a read, up to date.
   *
   * @returns its frame with a reference for the caller; −errno: −EIO, −ENOMEM, −ENOSPC, or −EFAULT beyond the end of
   *   the file (SIGBUS)
   */
  getPage(mapping: AddressSpace, pgoff: number): number;
}

/** @linux include/linux/fs.h:inode */
export interface Inode {
  readonly ino: number;
  /** Open files on it, and other users. With `nlink` 0 the last one takes it along. */
  refcount: number;
  /** Length of the file in bytes. */
  size: number;
  nlink: number;
  /** Its pages. */
  readonly mapping: AddressSpace;
  /** F_SEAL_ bits; 0 where sealing has not been used. */
  seals: number;
  /** Pages that count against the commit limit, charged up front (shared anonymous memory without NORESERVE). */
  accounted: boolean;
  readonly object: VirtAddr;
}

/**
 * An open file, as a VMA holds it. Counted: each VMA and each descriptor is one reference.
 *
 * @linux include/linux/fs.h:file
 */
export interface VmFile {
  readonly inode: Inode;
  /** As `/proc/PID/maps` shows it: `/dev/zero (deleted)` for shared anonymous memory. */
  readonly path: string;
  /** Open for reading, for writing. */
  readonly readable: boolean;
  readonly writable: boolean;
  refcount: number;
  readonly object: VirtAddr;
}
