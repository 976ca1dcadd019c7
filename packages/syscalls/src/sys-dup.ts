import {
  Errno,
  FD_CLOEXEC,
  F_ADD_SEALS,
  F_DUPFD,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_GETFL,
  F_GETPIPE_SZ,
  F_GET_SEALS,
  F_SETFD,
  F_SETFL,
  F_SETPIPE_SZ,
  O_APPEND,
  O_CLOEXEC,
  O_DIRECT,
  O_NOATIME,
  O_NONBLOCK,
  O_PATH,
  RLIMIT_NOFILE,
  S_IFIFO,
  S_IFMT,
} from '@pagelab/abi';
import { memfdAddSeals, memfdGetSeals } from '@pagelab/vm';
import { flagTable, flagValues } from './flag-table.ts';
import { int32 } from './registers.ts';
import { installFile } from './sys-file.ts';
import type { OpenFile, TaskContext } from './task-context.ts';

export const FCNTL_COMMANDS = flagTable('fcntl', 'cmd', 'values', {
  F_DUPFD,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_SETFD,
  F_GETFL,
  F_SETFL,
  F_ADD_SEALS,
  F_GET_SEALS,
  F_SETPIPE_SZ,
  F_GETPIPE_SZ,
});

/** What a file that only names, opened with O_PATH, allows. @linux fs/fcntl.c:check_fcntl_cmd */
const PATH_COMMANDS: readonly number[] = [F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL];
/** What F_SETFL changes. @linux fs/fcntl.c:SETFL_MASK */
const SETFL_MASK = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;

/** Whether a file takes O_DIRECT. @linux fs/fcntl.c:setfl */
function goesPastCache(file: OpenFile): boolean {
  if (file.vmFile !== null) return !file.vmFile.inode.mapping.ops.swapBacked;
  return (file.status().mode & S_IFMT) === S_IFIFO;
}

const FCNTL_VALUES = flagValues(FCNTL_COMMANDS);

/** A second descriptor of an open file. @returns it, or -errno: EBADF, EMFILE @linux fs/file.c:dup */
export function sysDup(task: TaskContext, fd: number): number {
  const file = task.files.get(int32(fd));
  return file === undefined ? -Errno.EBADF : installFile(task, file.get());
}

/** A second descriptor with a given number, in place of what has it. @returns it, or -errno: EBADF @linux fs/file.c:dup2 */
export function sysDup2(task: TaskContext, oldFd: number, newFd: number): number {
  const from = int32(oldFd);
  if (from === int32(newFd)) return task.files.get(from) === undefined ? -Errno.EBADF : from;
  return replaceFd(task, from, int32(newFd), false);
}

/** As `dup2`, but the two must differ. @returns the new descriptor, or -errno: EINVAL, EBADF @linux fs/file.c:dup3 */
export function sysDup3(task: TaskContext, oldFd: number, newFd: number, flags: number): number {
  const bits = int32(flags);
  if (bits & ~O_CLOEXEC || int32(oldFd) === int32(newFd)) return -Errno.EINVAL;
  return replaceFd(task, int32(oldFd), int32(newFd), (bits & O_CLOEXEC) !== 0);
}

function replaceFd(task: TaskContext, from: number, to: number, closeOnExec: boolean): number {
  const limit = task.rlimit(RLIMIT_NOFILE);
  if (to < 0 || (limit >= 0 && to >= limit)) return -Errno.EBADF;
  const file = task.files.get(from);
  if (file === undefined) return -Errno.EBADF;
  file.get();
  task.files.close(to);
  task.files.installFrom(file, to, -1);
  task.files.setCloseOnExec(to, closeOnExec);
  return to;
}

/** Does what `cmd` says to an open file or its descriptor. @returns a value, or -errno: EBADF, EINVAL, EMFILE, EPERM, EBUSY @linux fs/fcntl.c:fcntl */
export function sysFcntl(task: TaskContext, fd: number, cmd: number, arg: number): number {
  const number = int32(fd);
  const command = int32(cmd);
  const file = task.files.get(number);
  if (file === undefined) return -Errno.EBADF;
  if (!FCNTL_VALUES.has(command)) return file.flags & O_PATH ? -Errno.EBADF : -Errno.EINVAL;
  if (file.flags & O_PATH && !PATH_COMMANDS.includes(command)) return -Errno.EBADF;
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
      const limit = task.rlimit(RLIMIT_NOFILE);
      const first = int32(arg);
      if (first < 0 || (limit >= 0 && first >= limit)) return -Errno.EINVAL;
      const made = task.files.installFrom(file, first, limit);
      if (made < 0) return made;
      file.get();
      task.files.setCloseOnExec(made, command === F_DUPFD_CLOEXEC);
      return made;
    }
    case F_GETFD:
      return task.files.isCloseOnExec(number) ? FD_CLOEXEC : 0;
    case F_SETFD:
      task.files.setCloseOnExec(number, (int32(arg) & FD_CLOEXEC) !== 0);
      return 0;
    case F_GETFL:
      return file.flags;
    case F_SETFL:
      if ((int32(arg) & O_DIRECT) !== 0 && !goesPastCache(file)) return -Errno.EINVAL;
      file.flags = (file.flags & ~SETFL_MASK) | (int32(arg) & SETFL_MASK);
      return 0;
    case F_ADD_SEALS:
      if (file.vmFile !== null) return memfdAddSeals(task.vm, file.vmFile, int32(arg));
      return (file.flags & 3) === 0 ? -Errno.EPERM : -Errno.EINVAL;
    case F_GET_SEALS:
      return file.vmFile === null ? -Errno.EINVAL : memfdGetSeals(file.vmFile);
    case F_SETPIPE_SZ:
      return file.setPipeSize?.(task, int32(arg) >>> 0) ?? -Errno.EBADF;
    case F_GETPIPE_SZ:
      return file.pipeSize?.() ?? -Errno.EBADF;
    default:
      return -Errno.EINVAL;
  }
}
