import { CAP_SYS_PTRACE, Errno, O_CLOEXEC, O_NONBLOCK, O_PATH, O_RDONLY, UFFD_USER_MODE_ONLY } from '@pagelab/abi';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import { installFile } from './sys-file.ts';
import type { TaskContext } from './task-context.ts';
import { putValue } from './user-access.ts';
import { encodeInt } from './user-struct.ts';

export const USERFAULTFD_FLAGS = flagTable('userfaultfd', 'flags', 'bits', { O_CLOEXEC, O_NONBLOCK, UFFD_USER_MODE_ONLY });
const USERFAULTFD_MASK = flagMask(USERFAULTFD_FLAGS);

/**
 * Makes a file by which a program serves page faults of its own.
 *
 * @returns a descriptor, or -errno: EPERM for who may not have the kernel wait, EINVAL, EMFILE, ENFILE
 * @linux fs/userfaultfd.c:userfaultfd
 */
export function sysUserfaultfd(task: TaskContext, flags: number): number {
  const bits = int32(flags);
  const allowed = (bits & UFFD_USER_MODE_ONLY) !== 0 || task.vm.sysctl.unprivilegedUserfaultfd !== 0 || task.capable(CAP_SYS_PTRACE);
  if (!allowed) return -Errno.EPERM;
  if ((bits & ~USERFAULTFD_MASK) !== 0) return -Errno.EINVAL;
  const file = task.openUserfault(O_RDONLY | (bits & O_NONBLOCK), bits);
  return typeof file === 'number' ? file : installFile(task, file, (bits & O_CLOEXEC) !== 0);
}

/** How much there is to read. @linux include/uapi/asm-generic/ioctls.h:FIONREAD */
const FIONREAD = 0x541b;

/**
 * A request to a file: the files of `userfaultfd` take some, and files and pipes tell how much there is to read.
 *
 * @returns what the file answers, or -errno: EBADF, ENOTTY for a file that takes none
 * @linux fs/ioctl.c:ioctl
 */
export function sysIoctl(task: TaskContext, fd: number, request: number, argument: number): number {
  const open = task.files.get(int32(fd));
  if (open === undefined || (open.flags & O_PATH) !== 0) return -Errno.EBADF;
  if (int32(request) === FIONREAD && open.unread !== undefined) return putValue(task, argument, encodeInt(open.unread()));
  return open.ioctl === undefined ? -Errno.ENOTTY : open.ioctl(task, int32(request) >>> 0, argument);
}
