import { SS_AUTODISARM, SS_DISABLE, SS_ONSTACK } from '@pagelab/abi';
import { flagTable } from './flag-table.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { encodeWords, u32At, wordAt } from './user-struct.ts';

/** What the process layer checks: SS_ONSTACK and SS_DISABLE exclude each other. */
export const SIGALTSTACK_FLAGS = flagTable('sigaltstack', 'ss_flags', 'bits', { SS_DISABLE, SS_AUTODISARM }, { SS_ONSTACK });

/** Bytes of a `stack_t`: address, flags, size. */
const STACK_BYTES = 24;

/**
 * Sets the stack for handlers, and tells the one before.
 *
 * @returns 0, or -errno: EFAULT, EPERM, EINVAL, ENOMEM
 * @linux kernel/signal.c:sigaltstack
 */
export function sysSigaltstack(task: TaskContext, stack: number, old: number): number {
  const before = task.shownSignalStack();
  if (stack !== 0) {
    const bytes = getUser(task, stack, STACK_BYTES);
    if (typeof bytes === 'number') return bytes;
    const result = task.setSignalStack({ sp: wordAt(bytes, 0), flags: u32At(bytes, 8) | 0, size: wordAt(bytes, 16) });
    if (result < 0) return result;
  }
  return old === 0 ? 0 : putUser(task, old, encodeWords([before.sp, before.flags >>> 0, before.size]));
}
