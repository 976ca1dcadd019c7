import {
  Errno,
  SA_NOCLDSTOP,
  SA_NOCLDWAIT,
  SA_NODEFER,
  SA_ONSTACK,
  SA_RESETHAND,
  SA_RESTART,
  SA_RESTORER,
  SA_SIGINFO,
  SIGKILL,
  SIGRTMAX,
  SIGSTOP,
} from '@pagelab/abi';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import { SIGSET_BYTES, encodeSignalSet } from './sys-sigprocmask.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { encodeLongs, longAt, longBytes, u32At } from './user-struct.ts';

/** @linux include/linux/signal_types.h:UAPI_SA_FLAGS */
export const SIGACTION_FLAGS = flagTable(
  'rt_sigaction',
  'sa_flags',
  'bits',
  { SA_NOCLDWAIT, SA_ONSTACK, SA_NODEFER, SA_RESETHAND },
  { SA_NOCLDSTOP, SA_SIGINFO, SA_RESTART, SA_RESTORER },
  {
    unknown: 'Other bits are dropped.',
    notes: {
      SA_RESTART: 'always holds: a call that a handler interrupts goes on',
      SA_NOCLDSTOP: 'no process is ever stopped',
      SA_SIGINFO: 'a handler always gets its `SigInfo`',
      SA_RESTORER: 'a handler is a function of the host and returns as one',
    },
  },
);
const SIGACTION_MASK = flagMask(SIGACTION_FLAGS);

/** Fields of the kernel's `struct sigaction`, each a `long`, before the mask: handler, flags, restorer. */
const SIGACTION_FIELDS = 3;
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
  let flags = 0;
  if (act !== 0) {
    const bytes = getUser(task, act, SIGACTION_FIELDS * longBytes(task) + SIGSET_BYTES);
    if (typeof bytes === 'number') return bytes;
    handler = longAt(task, bytes, 0);
    flags = u32At(bytes, longBytes(task)) & SIGACTION_MASK;
  }
  const nr = int32(signal);
  if (nr < 1 || nr > SIGRTMAX || (act !== 0 && (nr === SIGKILL || nr === SIGSTOP))) return -Errno.EINVAL;
  if (act !== 0 && handler !== SIG_DFL && handler !== SIG_IGN) return -Errno.ENOSYS;
  const before = task.signalAction(nr);
  if (act !== 0) task.setSignalAction(nr, handler === SIG_IGN ? 'ignore' : 'default', flags);
  if (old === 0) return 0;
  const shown = before.action === 'default' ? SIG_DFL : before.action === 'ignore' ? SIG_IGN : SOME_HANDLER;
  const fields = encodeLongs(task, [shown, before.flags >>> 0, 0]);
  const bytes = new Uint8Array(fields.length + SIGSET_BYTES);
  bytes.set(fields);
  bytes.set(encodeSignalSet(before.mask), fields.length);
  return putUser(task, old, bytes);
}
