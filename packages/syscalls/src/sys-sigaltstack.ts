import { SS_AUTODISARM, SS_DISABLE, SS_ONSTACK } from '@pagelab/abi';
import { flagTable } from './flag-table.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { encodeLongs, longAt, longBytes, u32At } from './user-struct.ts';

/** What the process layer checks: SS_ONSTACK and SS_DISABLE exclude each other. */
export const SIGALTSTACK_FLAGS = flagTable('sigaltstack', 'ss_flags', 'bits', { SS_DISABLE, SS_AUTODISARM }, { SS_ONSTACK });

/** Fields of a `stack_t`, each in the room of a `long`: address, flags, size. */
const STACK_FIELDS = 3;

/**
 * Sets the stack for handlers, and tells the one before.
 *
 * @returns 0, or -errno: EFAULT, EPERM, EINVAL, ENOMEM
 * @linux kernel/signal.c:sigaltstack
 */
export function sysSigaltstack(task: TaskContext, stack: number, old: number): number {
  const before = task.shownSignalStack();
  if (stack !== 0) {
    const bytes = getUser(task, stack, STACK_FIELDS * longBytes(task));
    if (typeof bytes === 'number') return bytes;
    const result = task.setSignalStack({ sp: longAt(task, bytes, 0), flags: u32At(bytes, longBytes(task)) | 0, size: longAt(task, bytes, 2) });
    if (result < 0) return result;
  }
  return old === 0 ? 0 : putUser(task, old, encodeLongs(task, [before.sp, before.flags >>> 0, before.size]));
}
