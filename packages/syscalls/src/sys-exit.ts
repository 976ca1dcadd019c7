import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

/** Ends the calling thread; the low 8 bits of `status` are what a `wait` sees. @linux kernel/exit.c:exit */
export function sysExit(task: TaskContext, status: number): never {
  task.exit(int32(status) & 0xff);
}

/** Ends the whole process. @linux kernel/exit.c:exit_group */
export function sysExitGroup(task: TaskContext, status: number): never {
  task.exitGroup(int32(status) & 0xff);
}
