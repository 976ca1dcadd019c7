/**
 * How much the files of a mounted file system of shared memory can hold together. What has no name in a tree (shared
 * anonymous memory, `memfd_create`, System V segments) has no such limit.
 *
 *     usedBlocks === pages of all its files, cached or swapped out, whether or not they hold anything yet
 *
 * @linux mm/shmem.c
 */
import { Errno } from '@pagelab/abi';
import { vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import type { Inode } from './file.ts';
import type { TmpfsHuge } from './shmem-huge.ts';
import type { Vm } from './vm.ts';

/** @linux include/linux/shmem_fs.h:shmem_sb_info */
export interface ShmemSuperBlock {
  /** Pages that its files can have. */
  maxBlocks: number;
  /** Pages that they have. */
  usedBlocks: number;
  /** `huge=` of the mount. */
  huge: TmpfsHuge;
}

/** Takes room for pages of a file. @returns 0; −ENOSPC where the file system is full or the commit limit is reached @linux mm/shmem.c:shmem_inode_acct_blocks */
export function shmemAcctBlock(vm: Vm, { accounted, superBlock }: Inode, nrPages = 1): number {
  if (!accounted && vmEnoughMemory(vm, null, nrPages) !== 0) return -Errno.ENOSPC;
  if (superBlock === null) return 0;
  if (superBlock.usedBlocks + nrPages > superBlock.maxBlocks) {
    if (!accounted) vmUnacctMemory(vm, nrPages);
    return -Errno.ENOSPC;
  }
  superBlock.usedBlocks += nrPages;
  return 0;
}

/** Gives the room of one page back. @linux mm/shmem.c:shmem_inode_unacct_blocks */
export function shmemUnacctBlock(vm: Vm, { accounted, superBlock }: Inode): void {
  if (!accounted) vmUnacctMemory(vm, 1);
  if (superBlock !== null) superBlock.usedBlocks--;
}
