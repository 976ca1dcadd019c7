import { CAP_SYS_PTRACE, Errno, O_CLOEXEC, O_NONBLOCK, O_RDWR, UFFD_USER_MODE_ONLY } from '@pagelab/abi';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import { installFile } from './sys-file.ts';
import type { TaskContext } from './task-context.ts';

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
  const file = task.openUserfault(O_RDWR | (bits & O_NONBLOCK), bits);
  return typeof file === 'number' ? file : installFile(task, file, (bits & O_CLOEXEC) !== 0);
}

/**
 * A request to a file: the files of `userfaultfd` take some.
 *
 * @returns what the file answers, or -errno: EBADF, ENOTTY for a file that takes none
 * @linux fs/ioctl.c:ioctl
 */
export function sysIoctl(task: TaskContext, fd: number, request: number, argument: number): number {
  const open = task.files.get(int32(fd));
  if (open === undefined) return -Errno.EBADF;
  return open.ioctl === undefined ? -Errno.ENOTTY : open.ioctl(task, int32(request) >>> 0, argument);
}
