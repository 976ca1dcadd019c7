import { CAP_SYS_RESOURCE, Errno, RLIMIT_NOFILE, RLIM_NLIMITS } from '@pagelab/abi';
import type { ResourceLimit } from '@pagelab/abi';
import { int32, unsignedAbove } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { RLIMIT64_BYTES, encodeLongs, encodeWords, longAt, longBytes, u32At, wordAt } from './user-struct.ts';

/** The most descriptors a process may be allowed. @linux fs/file.c:sysctl_nr_open */
const NR_OPEN_MAX = 1_048_576;
/** RLIM_INFINITY in a `long` of 32 bits. */
const RLIM_INFINITY_32 = 0xffff_ffff;

/** A limit of a task, or -EINVAL. */
export function readLimit(task: TaskContext, resource: number): ResourceLimit | number {
  if (resource < 0 || resource >= RLIM_NLIMITS) return -Errno.EINVAL;
  return { cur: task.limits.cur[resource]!, max: task.limits.max[resource]! };
}

/**
 * Sets a limit of `target` on behalf of `task`.
 *
 * @returns 0, or -errno: EINVAL, EPERM
 * @linux kernel/sys.c:do_prlimit
 */
export function writeLimit(task: TaskContext, target: TaskContext, resource: number, limit: ResourceLimit): number {
  if (resource < 0 || resource >= RLIM_NLIMITS) return -Errno.EINVAL;
  if (unsignedAbove(limit.cur, limit.max)) return -Errno.EINVAL;
  if (resource === RLIMIT_NOFILE && unsignedAbove(limit.max, NR_OPEN_MAX)) return -Errno.EPERM;
  const { cur, max } = target.limits;
  if (unsignedAbove(limit.max, max[resource]!) && !task.capable(CAP_SYS_RESOURCE)) return -Errno.EPERM;
  cur[resource] = limit.cur;
  max[resource] = limit.max;
  return 0;
}

/** @returns 0, or -errno: EINVAL, EFAULT @linux kernel/sys.c:getrlimit */
export function sysGetrlimit(task: TaskContext, resource: number, limit: number): number {
  const found = readLimit(task, int32(resource));
  if (typeof found === 'number') return found;
  return putUser(task, limit, encodeLongs(task, [shownLimit(task, found.cur), shownLimit(task, found.max)]));
}

/** @returns 0, or -errno: EFAULT, EINVAL, EPERM @linux kernel/sys.c:setrlimit */
export function sysSetrlimit(task: TaskContext, resource: number, limit: number): number {
  const bytes = getUser(task, limit, 2 * longBytes(task));
  if (typeof bytes === 'number') return bytes;
  return writeLimit(task, task, int32(resource), { cur: givenLimit(task, bytes, 0), max: givenLimit(task, bytes, 1) });
}

/** A limit as a `long` tells it: one that does not fit 32 bits is none. @linux kernel/sys.c:getrlimit */
function shownLimit(task: TaskContext, limit: number): number {
  return task.mm.is32Bit && limit >= RLIM_INFINITY_32 ? -1 : limit;
}

/** A limit as the program gave it. RLIM_INFINITY of 32 bits is none. @linux kernel/sys.c:COMPAT_RLIM_INFINITY */
function givenLimit(task: TaskContext, bytes: Uint8Array, index: number): number {
  if (!task.mm.is32Bit) return longAt(task, bytes, index);
  const limit = u32At(bytes, index * 4);
  return limit === RLIM_INFINITY_32 ? -1 : limit;
}

/**
 * Gets and sets a limit of any process.
 *
 * @returns 0, or -errno: EFAULT, ESRCH, EINVAL, EPERM
 * @linux kernel/sys.c:prlimit64
 */
export function sysPrlimit64(
  task: TaskContext,
  pid: number,
  resource: number,
  newLimit: number,
  oldLimit: number,
): number {
  let wanted: ResourceLimit | undefined;
  if (newLimit !== 0) {
    const bytes = getUser(task, newLimit, RLIMIT64_BYTES);
    if (typeof bytes === 'number') return bytes;
    wanted = { cur: wordAt(bytes, 0), max: wordAt(bytes, 8) };
  }
  const target = int32(pid) === 0 ? task : task.findTask(int32(pid));
  if (target === undefined) return -Errno.ESRCH;
  const old = readLimit(target, int32(resource));
  if (typeof old === 'number') return old;
  if (wanted !== undefined) {
    const result = writeLimit(task, target, int32(resource), wanted);
    if (result < 0) return result;
  }
  return oldLimit === 0 ? 0 : putUser(task, oldLimit, encodeWords([old.cur, old.max]));
}
