/**
 * Files that stand for a process.
 *
 * @linux kernel/pid.c, fs/pidfs.c
 */
import { Errno } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import type { FileStatus } from '@pagelab/syscalls';
import { BaseFile } from './fs/base-file.ts';
import type { Kernel } from './kernel.ts';

/** Stands for a thread, not for its process. @linux include/uapi/linux/pidfd.h:PIDFD_THREAD */
const PIDFD_THREAD = 0o200;
const S_IFREG = 0o10_0000;

class PidFile extends BaseFile {
  override readonly seekable = false;
  readonly noExec = true;
  /** There is nothing to read, but it would be read at an offset. */
  readonly transfers = false;
  readonly takesOffsets = true;
  readonly pidfd: number;

  constructor(kernel: Kernel, flags: number, object: number, pid: number) {
    super(kernel, 'anon_inode:[pidfd]', flags, object);
    this.pidfd = pid;
  }

  override read(): number {
    return -Errno.EINVAL;
  }

  override write(): number {
    return -Errno.EINVAL;
  }

  /** @linux fs/pidfs.c:pidfs_setattr */
  truncate(): number {
    return -Errno.EOPNOTSUPP;
  }

  override status(): FileStatus {
    return {
      dev: [0, 12], ino: this.pidfd, nlink: 1, mode: S_IFREG | 0o700, rdev: [0, 0], size: 0, blockBytes: 4096, blocks: 0,
      atime: 0, mtime: 0, ctime: 0,
    };
  }
}

/** @returns the file with a reference, or -errno: ESRCH, ENOENT (before 6.18: EINVAL) for a thread that is not its process's first, ENFILE @linux kernel/pid.c:pidfd_create */
export function openPidfd(kernel: Kernel, pid: number, flags: number): PidFile | number {
  const task = kernel.tasks.get(pid);
  if (task === undefined) return -Errno.ESRCH;
  if (task !== task.process.leader && (flags & PIDFD_THREAD) === 0) {
    return kernel.config.kernel === '6.18' ? -Errno.ENOENT : -Errno.EINVAL;
  }
  const object = kernel.caches.filp.alloc(GFP_KERNEL);
  return object === 0 ? -Errno.ENFILE : new PidFile(kernel, flags, object, pid);
}
