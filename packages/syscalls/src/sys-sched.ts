import { Errno } from '@pagelab/abi';
import type { TaskContext } from './task-context.ts';
import { putUser } from './user-access.ts';
import { encodeInt } from './user-struct.ts';

/** Lets others run. @returns 0 @linux kernel/sched/syscalls.c:sched_yield */
export function sysSchedYield(task: TaskContext): number {
  task.yieldCpu();
  return 0;
}

/** The CPU and the node the task runs on. @returns 0 or -EFAULT @linux kernel/sys.c:getcpu */
export function sysGetcpu(task: TaskContext, cpu: number, node: number): number {
  if (cpu !== 0 && putUser(task, cpu, encodeInt(task.cpu)) < 0) return -Errno.EFAULT;
  return node === 0 ? 0 : putUser(task, node, encodeInt(0));
}
