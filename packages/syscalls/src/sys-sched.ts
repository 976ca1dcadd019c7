import { CAP_SYS_NICE, Errno } from '@pagelab/abi';
import { int32, unsignedAbove } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser, putValue } from './user-access.ts';
import { encodeInt } from './user-struct.ts';

/** Lets others run. @returns 0 @linux kernel/sched/syscalls.c:sched_yield */
export function sysSchedYield(task: TaskContext): number {
  task.yieldCpu();
  return 0;
}

/** The CPU and the node the task runs on. @returns 0 or -EFAULT @linux kernel/sys.c:getcpu */
export function sysGetcpu(task: TaskContext, cpu: number, node: number): number {
  const cpuStored = cpu === 0 ? 0 : putValue(task, cpu, encodeInt(task.cpu));
  const nodeStored = node === 0 ? 0 : putValue(task, node, encodeInt(task.vm.pages.nodeOfCpu(task.cpu)));
  return cpuStored || nodeStored;
}

/** Bytes of a set of CPUs: of as many as a machine can have here. */
const CPUMASK_BYTES = 8;

/**
 * Lets a thread run on some CPUs only. One that runs on another moves.
 *
 * @returns 0, or -errno: EFAULT, ESRCH, EPERM, EINVAL where it has none of the machine's CPUs
 * @linux kernel/sched/syscalls.c:sched_setaffinity
 */
export function sysSchedSetaffinity(task: TaskContext, pid: number, length: number, mask: number): number {
  const bytes = getUser(task, mask, unsignedAbove(length, CPUMASK_BYTES) ? CPUMASK_BYTES : length);
  if (typeof bytes === 'number') return -Errno.EFAULT;
  const target = int32(pid) === 0 ? task : task.findTask(int32(pid));
  if (target === undefined) return -Errno.ESRCH;
  if (target.credentials.uid !== task.credentials.uid && !task.capable(CAP_SYS_NICE)) return -Errno.EPERM;
  const cpus: number[] = [];
  for (let cpu = 0; cpu < bytes.length * 8; cpu++) if (((bytes[cpu >> 3]! >> (cpu & 7)) & 1) === 1) cpus.push(cpu);
  return target.setAffinity(cpus);
}

/**
 * Tells which CPUs a thread may run on.
 *
 * @returns how many bytes that takes, or -errno: EINVAL, ESRCH, EFAULT
 * @linux kernel/sched/syscalls.c:sched_getaffinity
 */
export function sysSchedGetaffinity(task: TaskContext, pid: number, length: number, mask: number): number {
  if (length < CPUMASK_BYTES || length % 8 !== 0) return -Errno.EINVAL;
  const target = int32(pid) === 0 ? task : task.findTask(int32(pid));
  if (target === undefined) return -Errno.ESRCH;
  const bytes = new Uint8Array(CPUMASK_BYTES);
  for (const cpu of target.affinity) bytes[cpu >> 3]! |= 1 << (cpu & 7);
  return putUser(task, mask, bytes) < 0 ? -Errno.EFAULT : CPUMASK_BYTES;
}
