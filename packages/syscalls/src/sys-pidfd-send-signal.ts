import { Errno } from '@pagelab/abi';
import { flagMaskByRelease, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getUser } from './user-access.ts';
import { u32At } from './user-struct.ts';

const PIDFD_SIGNAL_THREAD = 1;
const PIDFD_SIGNAL_THREAD_GROUP = 2;
const PIDFD_SIGNAL_PROCESS_GROUP = 4;

export const PIDFD_SEND_SIGNAL_FLAGS = flagTable('pidfd_send_signal', 'flags', 'bits', {
  PIDFD_SIGNAL_THREAD,
  PIDFD_SIGNAL_THREAD_GROUP,
  PIDFD_SIGNAL_PROCESS_GROUP,
}, {}, {
  since: { PIDFD_SIGNAL_THREAD: '6.9', PIDFD_SIGNAL_THREAD_GROUP: '6.9', PIDFD_SIGNAL_PROCESS_GROUP: '6.9' },
});

const pidfdSendSignalMask = flagMaskByRelease(PIDFD_SEND_SIGNAL_FLAGS);
/** The caller's own thread, and its process. @linux include/uapi/linux/pidfd.h:PIDFD_SELF_THREAD */
const PIDFD_SELF_THREAD = -10_000;
const PIDFD_SELF_THREAD_GROUP = -10_001;
/** The first release that knows these. */
const PIDFD_SELF_RELEASE = 615;
const SIGINFO_BYTES = 128;
const SI_TKILL = -6;

/**
 * Sends a signal to the process that a descriptor stands for, to its first thread, or to its group.
 *
 * @param info what is told along with it, which only a process itself may make up; 0 for what `kill` tells
 * @returns 0, or -errno: EINVAL, EBADF, EFAULT, EPERM, ESRCH
 * @linux kernel/signal.c:pidfd_send_signal
 */
export function sysPidfdSendSignal(task: TaskContext, pidfd: number, signal: number, info: number, flags: number): number {
  const scope = int32(flags);
  if (scope & ~pidfdSendSignalMask(task.vm.release) || (scope & (scope - 1)) !== 0) return -Errno.EINVAL;
  const fd = int32(pidfd);
  const isSelf = task.vm.release >= PIDFD_SELF_RELEASE && (fd === PIDFD_SELF_THREAD || fd === PIDFD_SELF_THREAD_GROUP);
  const pid = isSelf ? task.tgid : task.files.get(fd)?.pidfd;
  if (pid === undefined) return -Errno.EBADF;
  if (info !== 0) {
    const bytes = getUser(task, info, SIGINFO_BYTES);
    if (typeof bytes === 'number') return bytes;
    if (int32(u32At(bytes, 0)) !== int32(signal)) return -Errno.EINVAL;
    const code = int32(u32At(bytes, 8));
    const isForeign = pid !== task.tgid || scope === PIDFD_SIGNAL_PROCESS_GROUP;
    if (isForeign && (code >= 0 || code === SI_TKILL)) return -Errno.EPERM;
  }
  if (scope === PIDFD_SIGNAL_PROCESS_GROUP) return task.kill(-pid, int32(signal));
  if (scope === PIDFD_SIGNAL_THREAD || fd === PIDFD_SELF_THREAD) return task.killThread(-1, isSelf ? task.pid : pid, int32(signal));
  return task.kill(pid, int32(signal));
}
