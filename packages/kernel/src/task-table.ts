/**
 * Tasks by number.
 *
 * @linux kernel/pid.c
 */
import type { Task } from './task.ts';

/** One more than the highest number. @linux include/linux/threads.h:PID_MAX_DEFAULT */
export const PID_MAX = 32_768;
/** After the highest number has been given out, the search starts again here. @linux kernel/pid.c:RESERVED_PIDS */
const RESERVED_PIDS = 300;
/** The first number a user process gets: those below belong to the machine, which is process 1, and its helpers. */
const FIRST_PID = 100;

/** Every task there is, zombies included. */
export class TaskTable {
  private readonly byPid = new Map<number, Task>();
  private last = FIRST_PID - 1;
  /** Tasks made so far. */
  forks = 0;

  get size(): number {
    return this.byPid.size;
  }

  /** The next free number, ascending until the highest; −1 where there is none. @linux kernel/pid.c:alloc_pid */
  allocPid(): number {
    for (let tries = 0; tries < PID_MAX; tries++) {
      this.last = this.last + 1 < PID_MAX ? this.last + 1 : RESERVED_PIDS;
      if (!this.byPid.has(this.last)) return this.last;
    }
    return -1;
  }

  add(task: Task): void {
    this.byPid.set(task.pid, task);
    this.forks += 1;
  }

  remove(pid: number): void {
    this.byPid.delete(pid);
  }

  /** Gives a task another number, which must be free. */
  rename(task: Task, pid: number): void {
    this.byPid.delete(task.pid);
    task.pid = pid;
    this.byPid.set(pid, task);
  }

  get(pid: number): Task | undefined {
    return this.byPid.get(pid);
  }

  /** Tasks in the order they were made. */
  values(): IterableIterator<Task> {
    return this.byPid.values();
  }
}
