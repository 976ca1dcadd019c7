import { Errno } from '@pagelab/abi';
import { int32 } from './registers.ts';
import type { CapabilitySet, TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { encodeInt, u32At } from './user-struct.ts';

const VERSION_1 = 0x1998_0330;
const VERSION_2 = 0x2007_1026;
const VERSION_3 = 0x2008_0522;

/** Sets of 32 capabilities that a header's version says are there; -errno where the kernel does not know it. */
function setsOfVersion(task: TaskContext, header: number): number {
  const bytes = getUser(task, header, 4);
  if (typeof bytes === 'number') return bytes;
  const version = u32At(bytes, 0);
  if (version === VERSION_1) return 1;
  if (version === VERSION_2 || version === VERSION_3) return 2;
  if (putUser(task, header, encodeInt(VERSION_3)) < 0) return -Errno.EFAULT;
  return -Errno.EINVAL;
}

/**
 * Gives up capabilities: none that the task is not permitted can be had.
 *
 * @returns 0, or -errno: EFAULT, EINVAL, EPERM
 * @linux kernel/capability.c:capset
 */
export function sysCapset(task: TaskContext, header: number, data: number): number {
  const sets = setsOfVersion(task, header);
  if (sets < 0) return sets;
  const pid = getUser(task, header + 4, 4);
  if (typeof pid === 'number') return pid;
  const who = int32(u32At(pid, 0));
  if (who !== 0 && who !== task.pid) return -Errno.EPERM;
  const bytes = getUser(task, data, sets * 12);
  if (typeof bytes === 'number') return bytes;
  const set = (offset: number): CapabilitySet => ({
    low: u32At(bytes, offset),
    high: sets === 2 ? u32At(bytes, 12 + offset) : 0,
  });
  const effective = set(0);
  const permitted = set(4);
  const inheritable = set(8);
  const { credentials } = task;
  if (!isSubset(inheritable, union(credentials.inheritable, credentials.permitted))) return -Errno.EPERM;
  if (!isSubset(permitted, credentials.permitted)) return -Errno.EPERM;
  if (!isSubset(effective, permitted)) return -Errno.EPERM;
  credentials.effective = effective;
  credentials.permitted = permitted;
  credentials.inheritable = inheritable;
  return 0;
}

/** Tells the capabilities of a task. @returns 0, or -errno: EFAULT, EINVAL, ESRCH @linux kernel/capability.c:capget */
export function sysCapget(task: TaskContext, header: number, data: number): number {
  const sets = setsOfVersion(task, header);
  // A null `data` asks for the version alone.
  if (data === 0) return sets === -Errno.EFAULT ? sets : 0;
  if (sets < 0) return sets;
  const pid = getUser(task, header + 4, 4);
  if (typeof pid === 'number') return pid;
  const who = int32(u32At(pid, 0));
  if (who < 0) return -Errno.EINVAL;
  const target = who === 0 ? task : task.findTask(who);
  if (target === undefined) return -Errno.ESRCH;
  const { effective, permitted, inheritable } = target.credentials;
  const words = [effective.low, permitted.low, inheritable.low, effective.high, permitted.high, inheritable.high];
  const bytes = new Uint8Array(sets * 12);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < sets * 3; i++) view.setUint32(i * 4, words[i]!, true);
  return putUser(task, data, bytes);
}

function isSubset(part: CapabilitySet, whole: CapabilitySet): boolean {
  return (part.low & ~whole.low) === 0 && (part.high & ~whole.high) === 0;
}

function union(a: CapabilitySet, b: CapabilitySet): CapabilitySet {
  return { low: (a.low | b.low) >>> 0, high: (a.high | b.high) >>> 0 };
}
