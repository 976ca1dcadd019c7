import {
  Errno,
  PR_GET_MEMORY_MERGE,
  PR_GET_NAME,
  PR_GET_THP_DISABLE,
  PR_MCE_KILL,
  PR_MCE_KILL_CLEAR,
  PR_MCE_KILL_DEFAULT,
  PR_MCE_KILL_GET,
  PR_MCE_KILL_SET,
  PR_SET_MEMORY_MERGE,
  PR_SET_NAME,
  PR_SET_THP_DISABLE,
  PR_THP_DISABLE_EXCEPT_ADVISED,
} from '@pagelab/abi';
import { ksmDisableMergeAny, ksmEnableMergeAny } from '@pagelab/vm';
import { flagTable, flagValuesByRelease } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { decodeUtf8 } from './utf8.ts';

/** The first release that knows PR_THP_DISABLE_EXCEPT_ADVISED. */
const EXCEPT_ADVISED_RELEASE = 618;
/** Bytes of a task's name, the zero at its end included. @linux include/linux/sched.h:TASK_COMM_LEN */
const TASK_COMM_LEN = 16;

export const PRCTL_OPTIONS = flagTable(
  'prctl',
  'option',
  'values',
  {
    PR_SET_NAME, PR_GET_NAME, PR_MCE_KILL, PR_MCE_KILL_GET, PR_SET_THP_DISABLE, PR_GET_THP_DISABLE, PR_SET_MEMORY_MERGE, PR_GET_MEMORY_MERGE,
  },
  {},
  { since: { PR_SET_MEMORY_MERGE: '6.4', PR_GET_MEMORY_MERGE: '6.4' }, notes: { PR_SET_THP_DISABLE: 'also with PR_THP_DISABLE_EXCEPT_ADVISED, since 6.18' } },
);

const optionsOf = flagValuesByRelease(PRCTL_OPTIONS);

/**
 * Sets or tells what is so of a process, as far as its memory goes, and its name.
 *
 * @returns 0, what was asked for, or -errno: EINVAL, EFAULT, ENOMEM
 * @linux kernel/sys.c:prctl
 */
export function sysPrctl(task: TaskContext, option: number, arg2: number, arg3: number, arg4: number, arg5: number): number {
  const { mm } = task;
  const none = (...args: readonly number[]): boolean => args.every((arg) => arg === 0);
  if (!optionsOf(task.vm.release).has(int32(option))) return -Errno.EINVAL;
  switch (int32(option)) {
    case PR_SET_NAME:
      return setName(task, arg2);
    case PR_GET_NAME:
      return putUser(task, arg2, nameBytes(task.comm));
    case PR_MCE_KILL:
      return none(arg4, arg5) ? setMceKill(task, arg2, arg3) : -Errno.EINVAL;
    case PR_MCE_KILL_GET:
      return none(arg2, arg3, arg4, arg5) ? task.mceKill : -Errno.EINVAL;
    case PR_SET_THP_DISABLE:
      return none(arg4, arg5) ? setThpDisable(task, arg2, arg3) : -Errno.EINVAL;
    case PR_GET_THP_DISABLE:
      return none(arg2, arg3, arg4, arg5) ? mm.thpDisable : -Errno.EINVAL;
    case PR_SET_MEMORY_MERGE:
      if (!none(arg3, arg4, arg5)) return -Errno.EINVAL;
      return arg2 !== 0 ? ksmEnableMergeAny(mm) : ksmDisableMergeAny(mm);
    case PR_GET_MEMORY_MERGE:
      if (!none(arg2, arg3, arg4, arg5)) return -Errno.EINVAL;
      return mm.mergeAny ? 1 : 0;
    default:
      return -Errno.EINVAL;
  }
}

function setName(task: TaskContext, addr: number): number {
  // What is longer is cut off, and not looked at.
  const bytes: number[] = [];
  while (bytes.length < TASK_COMM_LEN - 1) {
    const byte = getUser(task, addr + bytes.length, 1);
    if (typeof byte === 'number') return byte;
    if (byte[0] === 0) break;
    bytes.push(byte[0]!);
  }
  task.comm = decodeUtf8(Uint8Array.from(bytes));
  return 0;
}

function nameBytes(comm: string): Uint8Array {
  const bytes = new Uint8Array(TASK_COMM_LEN);
  for (let i = 0; i < Math.min(comm.length, TASK_COMM_LEN - 1); i++) bytes[i] = comm.charCodeAt(i);
  return bytes;
}

function setMceKill(task: TaskContext, what: number, when: number): number {
  if (what === PR_MCE_KILL_CLEAR) {
    if (when !== 0) return -Errno.EINVAL;
    task.mceKill = PR_MCE_KILL_DEFAULT;
    return 0;
  }
  if (what !== PR_MCE_KILL_SET || when < 0 || when > PR_MCE_KILL_DEFAULT) return -Errno.EINVAL;
  task.mceKill = when;
  return 0;
}

/** @linux kernel/sys.c:prctl_set_thp_disable */
function setThpDisable({ mm, vm }: TaskContext, disable: number, flags: number): number {
  const known = vm.release >= EXCEPT_ADVISED_RELEASE ? PR_THP_DISABLE_EXCEPT_ADVISED : 0;
  if ((flags !== 0 && flags !== known) || (disable === 0 && flags !== 0)) return -Errno.EINVAL;
  mm.thpDisable = disable === 0 ? 0 : 1 | flags;
  return 0;
}
