import { CAP_SYS_NICE, Errno, MADV_COLD, MADV_COLLAPSE, MADV_PAGEOUT, MADV_WILLNEED, O_NONBLOCK, O_RDWR, RLIMIT_NOFILE } from '@pagelab/abi';
import { doMadvise } from '@pagelab/vm';
import { flagMaskByRelease, flagTable, flagValues } from './flag-table.ts';
import { int32 } from './registers.ts';
import { importRanges } from './iovec.ts';
import type { TaskContext } from './task-context.ts';

/** The caller's own thread, and its process, where a descriptor is asked for. @linux include/uapi/linux/pidfd.h */
const PIDFD_SELF_THREAD = -10_000;
const PIDFD_SELF_THREAD_GROUP = -10_001;
/** Releases since which these are known, and since which a process may give itself any advice. */
const PIDFD_SELF_RELEASE = 615;
const SELF_MADVISE_RELEASE = 613;
const PIDFD_NONBLOCK = O_NONBLOCK;
const PIDFD_THREAD = 0o200;

export const PIDFD_OPEN_FLAGS = flagTable('pidfd_open', 'flags', 'bits', { PIDFD_THREAD }, { PIDFD_NONBLOCK }, {
  since: { PIDFD_THREAD: '6.9' },
  notes: { PIDFD_NONBLOCK: 'kept; nothing waits on a descriptor' },
});

/** Advice about another process's memory; about its own, a process may give any that `madvise` takes. */
export const PROCESS_MADVISE_ADVICE = flagTable(
  'process_madvise',
  'advice',
  'values',
  { MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_COLLAPSE },
  {},
  { unknown: 'About its own memory, a process may give any advice that `madvise` takes, since 6.13.' },
);

const pidfdOpenMask = flagMaskByRelease(PIDFD_OPEN_FLAGS);
const REMOTE_ADVICE = flagValues(PROCESS_MADVISE_ADVICE);

/** Opens a file that stands for a process. @returns its number, or -errno: EINVAL, ESRCH, EMFILE, ENFILE @linux kernel/pid.c:pidfd_open */
export function sysPidfdOpen(task: TaskContext, pid: number, flags: number): number {
  const bits = int32(flags);
  if (bits & ~pidfdOpenMask(task.vm.release) || int32(pid) <= 0) return -Errno.EINVAL;
  const file = task.openPidfd(int32(pid), O_RDWR | (bits & (PIDFD_NONBLOCK | PIDFD_THREAD)));
  if (typeof file === 'number') return file;
  const fd = task.files.install(file, task.rlimit(RLIMIT_NOFILE));
  if (fd < 0) file.put();
  else task.files.setCloseOnExec(fd, true);
  return fd;
}

/**
 * Gives advice about ranges of another process's memory, or the caller's own.
 *
 * @returns bytes it was taken for, up to the first range that failed; or -errno where that is the first: EINVAL, EBADF,
 *   ESRCH, EPERM, EFAULT, and those of `madvise`
 * @linux mm/madvise.c:process_madvise
 */
export function sysProcessMadvise(task: TaskContext, pidfd: number, ranges: number, nrRanges: number, advice: number, flags: number): number {
  if (int32(flags) !== 0) return -Errno.EINVAL;
  const wanted = importRanges(task, ranges, nrRanges);
  if (typeof wanted === 'number') return wanted;
  const subject = subjectOf(task, int32(pidfd));
  if (typeof subject === 'number') return subject;
  if (subject.mm !== task.mm || task.vm.release < SELF_MADVISE_RELEASE) {
    if (!REMOTE_ADVICE.has(int32(advice))) return -Errno.EINVAL;
    if (!task.capable(CAP_SYS_NICE)) return -Errno.EPERM;
  }
  if (wanted.every(({ length }) => length === 0)) return 0;
  let done = 0;
  for (const { base, length } of wanted) {
    const error = doMadvise(subject.mm, base, length, int32(advice));
    if (error < 0) return done === 0 ? error : done;
    done += length;
  }
  return done;
}

function subjectOf(task: TaskContext, pidfd: number): TaskContext | number {
  if (task.vm.release >= PIDFD_SELF_RELEASE && (pidfd === PIDFD_SELF_THREAD || pidfd === PIDFD_SELF_THREAD_GROUP)) return task;
  const pid = task.files.get(pidfd)?.pidfd;
  if (pid === undefined) return -Errno.EBADF;
  return task.findTask(pid) ?? -Errno.ESRCH;
}
