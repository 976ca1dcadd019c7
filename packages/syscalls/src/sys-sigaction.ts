import { Errno, SIGKILL, SIGRTMAX, SIGSTOP } from '@pagelab/abi';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { encodeWords, wordAt } from './user-struct.ts';

/** Bytes of the kernel's `struct sigaction`: handler, flags, restorer, mask. */
const SIGACTION_BYTES = 32;
const SIGSET_BYTES = 8;
const SIG_DFL = 0;
const SIG_IGN = 1;
/** What an action with a handler shows as its address: handlers are functions of the program, which have none. */
const SOME_HANDLER = 2;

/**
 * Sets what a signal does: the default action or none. A handler is a function of the program and has no address that a
 * register could hold: it is set through the typed client's `sigaction`, and asking for one here is -ENOSYS.
 *
 * @returns 0, or -errno: EINVAL, EFAULT, ENOSYS
 * @linux kernel/signal.c:rt_sigaction
 */
export function sysRtSigaction(task: TaskContext, signal: number, act: number, old: number, setBytes: number): number {
  if (setBytes !== SIGSET_BYTES) return -Errno.EINVAL;
  let handler = -1;
  if (act !== 0) {
    const bytes = getUser(task, act, SIGACTION_BYTES);
    if (typeof bytes === 'number') return bytes;
    handler = wordAt(bytes, 0);
  }
  const nr = int32(signal);
  if (nr < 1 || nr > SIGRTMAX || (act !== 0 && (nr === SIGKILL || nr === SIGSTOP))) return -Errno.EINVAL;
  if (act !== 0 && handler !== SIG_DFL && handler !== SIG_IGN) return -Errno.ENOSYS;
  const before = task.signalAction(nr);
  if (act !== 0) task.setSignalAction(nr, handler === SIG_IGN ? 'ignore' : 'default');
  if (old === 0) return 0;
  const shown = before === 'default' ? SIG_DFL : before === 'ignore' ? SIG_IGN : SOME_HANDLER;
  return putUser(task, old, encodeWords([shown, 0, 0, 0]));
}
