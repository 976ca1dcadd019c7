import { Errno, O_CLOEXEC, O_DIRECT, O_NONBLOCK } from '@pagelab/abi';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import { installFile } from './sys-file.ts';
import type { TaskContext } from './task-context.ts';
import { putUser } from './user-access.ts';

const O_NOTIFICATION_PIPE = 0o200;

export const PIPE2_FLAGS = flagTable('pipe2', 'flags', 'bits', { O_CLOEXEC, O_NONBLOCK, O_DIRECT }, {}, {
  refused: { O_NOTIFICATION_PIPE },
  notes: { O_NOTIFICATION_PIPE: 'ENOPKG: the kernel notifies of nothing' },
});

const PIPE2_MASK = flagMask(PIPE2_FLAGS);

/** Makes a pipe and stores the descriptors of its reading and its writing end. @returns 0, or -errno: EFAULT, EMFILE, ENFILE @linux fs/pipe.c:pipe */
export function sysPipe(task: TaskContext, fds: number): number {
  return sysPipe2(task, fds, 0);
}

/** As `pipe`. @returns 0, or -errno: EINVAL, ENOPKG and what `pipe` fails with @linux fs/pipe.c:pipe2 */
export function sysPipe2(task: TaskContext, fds: number, flags: number): number {
  const bits = int32(flags);
  if (bits & ~(PIPE2_MASK | O_NOTIFICATION_PIPE)) return -Errno.EINVAL;
  if (bits & O_NOTIFICATION_PIPE) return -Errno.ENOPKG;
  const ends = task.openPipe(bits & (O_NONBLOCK | O_DIRECT));
  if (typeof ends === 'number') return ends;
  const closeOnExec = (bits & O_CLOEXEC) !== 0;
  const [reader, writer] = ends;
  const readFd = installFile(task, reader, closeOnExec);
  const writeFd = readFd < 0 ? readFd : installFile(task, writer, closeOnExec);
  if (writeFd < 0) {
    if (readFd < 0) writer.put();
    else task.files.close(readFd);
    return writeFd;
  }
  const bytes = new Uint8Array(new Int32Array([readFd, writeFd]).buffer);
  if (putUser(task, fds, bytes) === 0) return 0;
  task.files.close(readFd);
  task.files.close(writeFd);
  return -Errno.EFAULT;
}
