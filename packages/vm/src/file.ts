/**
 * What a file looks like to memory management: an inode with its page cache, and open files on it.
 */
import type { IntervalTree, XArrayInt } from '@pagelab/lib';
import type { VirtAddr } from '@pagelab/abi';
import type { SharedPolicyRange } from './shared-policy.ts';
import type { ShmemSuperBlock } from './shmem-super.ts';
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
  /** Page offset → swap entry, of pages of shared memory that were swapped out. */
  readonly swaps: XArrayInt;
  /** Page offset → shadow, of pages that were reclaimed: see `workingset.ts`. */
  readonly shadows: XArrayInt;
  /** Every VMA of the file, by page offset, for finding the mappings of a page. */
  readonly mmap: IntervalTree<VmArea>;
  /** Mappings that may write (VM_SHARED with VM_MAYWRITE); negative where seals forbid them. */
  mmapWritable: number;
  readonly ops: AddressSpaceOps;
  /** Objects of the `radix_tree_node` cache that stand for the nodes of Linux's `pages`, and the levels it has. */
  readonly nodes: VirtAddr[];
  nodeLevels: number;
}

/** What a file system does for the contents of its regular files, and for their page caches. */
export interface AddressSpaceOps {
  /** The name of the file system: `'shmem'`. */
  readonly name: string;
  /** Anonymous-like memory: its pages count as shared memory (RssShmem), not as file pages. */
  readonly swapBacked: boolean;
  /** The first store to a clean page through a shared mapping is announced by {@link pageMkwrite}. */
  readonly writeNotify: boolean;
  /** Bytes that a file can have at most. */
  readonly maxBytes: number;
  /** Bytes that one step of a write to a file takes at most: a power of 2. @linux include/linux/pagemap.h:mapping_max_folio_size */
  maxStep(inode: Inode): number;
  /** Device number, as `/proc/PID/maps` shows it. */
  readonly dev: string;
  /**
   * Finds or makes the page at `pgoff` for a fault in `vma` or a read, up to date. Where it had to be read from a device,
   * `Vm.faultWaited` is set.
   *
   * @returns its frame with a reference for the caller; −errno: −EIO, −ENOMEM, −ENOSPC, or −EFAULT beyond the end of
   *   the file (SIGBUS)
   * @linux include/linux/mm.h:vm_operations_struct.fault
   */
  getPage(mapping: AddressSpace, pgoff: number, vma?: VmArea): number;
  /**
   * A clean page is about to be stored to through a shared mapping: there has to be room for it on the device, and it is
   * dirty from now on.
   *
   * @returns 0; −ENOSPC, −ENOMEM, −EIO: SIGBUS
   * @linux include/linux/mm.h:vm_operations_struct.page_mkwrite
   */
  pageMkwrite(mapping: AddressSpace, pgoff: number): number;
  /**
   * The page at `pgoff` for `read`, up to date; `nrPages` in a row are wanted by the whole call.
   *
   * @returns its frame with a reference for the caller; {@link FILE_HOLE} where all of it reads as zero; −errno
   */
  readPage(mapping: AddressSpace, pgoff: number, nrPages: number, file: VmFile | null): number;
  /**
   * Makes the pages that `write` is to store `length` bytes to, at `pos`, as far as one step of the file system goes.
   *
   * @returns how many bytes may be stored now, at least 1; −errno: −EPERM for a seal, −ENOSPC, −ENOMEM, −EIO
   * @linux include/linux/fs.h:address_space_operations.write_begin
   */
  writeBegin(mapping: AddressSpace, pos: number, length: number): number;
  /**
   * Ends a step: of the `length` bytes that {@link writeBegin} allowed, `copied` were stored. The file grows to their end,
   * and to `pos` where there are none.
   *
   * @returns how many count: `copied`, or 0 where so few are of no use
   * @linux include/linux/fs.h:address_space_operations.write_end
   */
  writeEnd(mapping: AddressSpace, pos: number, length: number, copied: number): number;
  /** Sets the length of a file, in bytes. @returns 0, or −errno: −EPERM for a seal, −EFBIG, −ENOMEM @linux fs/attr.c:notify_change */
  truncate(inode: Inode, newSize: number): number;
  /** `fallocate`, with arguments that make sense for some file system. @returns 0, or −errno: −EOPNOTSUPP, −EPERM, −ENOSPC, … */
  fallocate(inode: Inode, mode: number, offset: number, length: number): number;
  /**
   * Begins to write dirty pages from `firstPgoff` to `lastPgoff`, but for those on their way already.
   *
   * @param waits time may pass where the device's queue is full; else `vm.writeback.blocked` is set, and the rest stays dirty
   * @returns pages whose writing began
   * @linux mm/page-writeback.c:do_writepages with WB_SYNC_NONE
   */
  writeBack(inode: Inode, firstPgoff: number, lastPgoff: number, waits: boolean): number;
  /** Brings the pages from `firstPgoff` to `lastPgoff` to the device, and waits for that. @returns 0 or −EIO @linux mm/filemap.c:filemap_write_and_wait_range */
  sync(inode: Inode, firstPgoff: number, lastPgoff: number): number;
  /** Reads pages that are not cached, as advice has it. @linux mm/readahead.c:force_page_cache_ra */
  willNeed(mapping: AddressSpace, firstPgoff: number, lastPgoff: number): void;
  /** The first page from `pgoff` on that holds data, as `lseek` tells data from holes; −1 where none does. */
  nextData(inode: Inode, pgoff: number): number;
  /** Blocks of 512 bytes that the file takes. */
  blocks(inode: Inode): number;
  /** What `stat` tells to be the best size of reads and writes, in bytes; a page where it says nothing. */
  blockBytes?(inode: Inode): number;
  /** Takes an inode that nobody uses any more away, with its pages. @linux fs/inode.c:evict */
  evict(inode: Inode): void;
}

/**
 * An open file whose private mappings are anonymous memory, and whose shared ones are shared memory: `/dev/zero`. A
 * private mapping shows its name and its page offsets, and merges with no other file's.
 *
 * @linux drivers/char/mem.c:mmap_zero
 */
export interface ZeroFile {
  readonly path: string;
  /** Open for reading, for writing. */
  readonly readable: boolean;
  readonly writable: boolean;
  /** Device number and inode number, as `/proc/PID/maps` shows them. */
  readonly dev: string;
  readonly ino: number;
  /** Each mapping holds one reference. */
  get(): ZeroFile;
  put(): void;
}

/** An open file that cannot be mapped: a pipe, a directory, … */
export interface UnmappableFile {
  readonly readable: boolean;
  readonly writable: boolean;
  /** What mapping it fails with, once nothing else is wrong: −ENODEV, −EIO. */
  readonly mmapError: number;
  /** Its file system holds nothing to be run. */
  readonly noExec: boolean;
}

/** What {@link AddressSpaceOps.readPage} answers where there is no page and none is needed. */
export const FILE_HOLE = -0x8000;

/** What is to be done when mappings of a file come and go. @linux include/linux/mm.h:vm_operations_struct */
export interface VmOperations {
  /** A VMA of the file was made: mapped, split off, moved to, or inherited. */
  open(vma: VmArea): void;
  /** A VMA of the file goes. Mappings whose going is noticed are not joined where one of them would go by it. */
  close(vma: VmArea): void;
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
  /** F_SEAL_ bits; only shared memory has any, F_SEAL_SEAL unless it was made to be sealed. */
  seals: number;
  /** Type and permissions: S_IF… and three octal digits. */
  mode: number;
  /** Who owns it. */
  uid: number;
  gid: number;
  /** Virtual times of the last read, store and change, in nanoseconds. */
  atime: number;
  mtime: number;
  ctime: number;
  /** Page offset → block of its device; `null` for a file without one. */
  blockMap: XArrayInt | null;
  /** Failed writes to the device so far: an open file tells of those since it last asked. */
  writeErrors: number;
  /** Swapped to: it keeps its blocks, and is not written to otherwise. @linux include/linux/fs.h:S_SWAPFILE */
  isSwapfile: boolean;
  /** Pages that count against the commit limit, charged up front (shared anonymous memory without NORESERVE). */
  accounted: boolean;
  /** The mounted file system of shared memory whose room its pages take; `null` where there is no limit. */
  superBlock: ShmemSuperBlock | null;
  /** Of shared memory: one past the last page that `fallocate` allocated, within the file or beyond its end. @linux include/linux/shmem_fs.h:shmem_inode_info.fallocend */
  fallocEnd: number;
  /** Where its pages are to lie, by ranges; `null` for no say. Shared memory alone has any. */
  policies: SharedPolicyRange[] | null;
  /** Of a file of huge pages: those that are promised to its shared mappings, or there. */
  hugeReserved: Set<number> | null;
  /** Its slab object; 0 while only the disk has it. */
  object: VirtAddr;
}

/**
 * An open file, as a VMA holds it. Counted: each VMA and each descriptor is one reference.
 *
 * @linux include/linux/fs.h:file
 */
export interface VmFile {
  readonly inode: Inode;
  /** As `/proc/PID/maps` shows it now: `/dev/zero (deleted)` for shared anonymous memory. */
  readonly path: string;
  /** Open for reading, for writing. */
  readonly readable: boolean;
  readonly writable: boolean;
  refcount: number;
  readonly object: VirtAddr;
  readonly dentry: VirtAddr;
  /** What its mappings do when they come and go; `null` for nothing. */
  vmOps: VmOperations | null;
  /** How it is read ahead; `null` until it is first read from a device. */
  readAhead: ReadAheadState | null;
  /** Failed writes of the inode that this file has told of. */
  seenErrors: number;
}

/**
 * Where sequential reading of an open file has got to. All in pages, but `prevPos`.
 *
 * @linux include/linux/fs.h:file_ra_state
 */
export interface ReadAheadState {
  /** The window that was read last. */
  start: number;
  size: number;
  /** When as many pages of it are left, the next window is read. */
  asyncSize: number;
  /** Order of the folios of the window. */
  order: number;
  /** Faults on pages that were not cached, less those on pages that were. */
  mmapMiss: number;
  /** Where the last `read` ended, in bytes; −1 before the first. */
  prevPos: number;
}
