import { Errno } from '@pagelab/abi';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { encodeLongs, longAt, longBytes } from './user-struct.ts';

const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC = 1;
const CLOCK_PROCESS_CPUTIME_ID = 2;
const CLOCK_THREAD_CPUTIME_ID = 3;
const CLOCK_MONOTONIC_RAW = 4;
const CLOCK_REALTIME_COARSE = 5;
const CLOCK_MONOTONIC_COARSE = 6;
const CLOCK_BOOTTIME = 7;
const CLOCK_TAI = 11;
const NS_PER_S = 1e9;

/**
 * The virtual clock: the machine was switched on at the epoch, so that real and monotonic time are one.
 *
 * @returns 0, or -errno: EINVAL, EFAULT
 * @linux kernel/time/posix-timers.c:clock_gettime
 */
export function sysClockGettime(task: TaskContext, clock: number, time: number): number {
  let ns: number;
  switch (int32(clock)) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI:
      ns = task.vm.clock.now;
      break;
    case CLOCK_PROCESS_CPUTIME_ID:
    case CLOCK_THREAD_CPUTIME_ID: {
      const usage = task.usage(int32(clock) === CLOCK_THREAD_CPUTIME_ID ? 1 : 0);
      ns = (usage.utime + usage.stime) * 1000;
      break;
    }
    default:
      return -Errno.EINVAL;
  }
  return putUser(task, time, encodeLongs(task, [Math.floor(ns / NS_PER_S), Math.floor(ns % NS_PER_S)]));
}

/** @returns 0 or -EFAULT @linux kernel/time/time.c:gettimeofday */
export function sysGettimeofday(task: TaskContext, time: number, zone: number): number {
  const us = Math.floor(task.vm.clock.now / 1000);
  if (time !== 0 && putUser(task, time, encodeLongs(task, [Math.floor(us / 1e6), us % 1e6])) < 0) return -Errno.EFAULT;
  return zone === 0 ? 0 : putUser(task, zone, new Uint8Array(8));
}

/** @returns seconds since the epoch, or -EFAULT @linux kernel/time/time.c:time */
export function sysTime(task: TaskContext, time: number): number {
  const seconds = Math.floor(task.vm.clock.now / NS_PER_S);
  return time !== 0 && putUser(task, time, encodeLongs(task, [seconds])) < 0 ? -Errno.EFAULT : seconds;
}

/** Flag of `clock_nanosleep`: until a time, not for one. */
const TIMER_ABSTIME = 1;

/** Reads a `struct timespec`. @returns nanoseconds; -EFAULT, -EINVAL @linux kernel/time/time.c:get_timespec64 */
function readTimespec(task: TaskContext, time: number): number {
  const bytes = getUser(task, time, 2 * longBytes(task));
  if (typeof bytes === 'number') return -Errno.EFAULT;
  const seconds = longAt(task, bytes, 0);
  const ns = longAt(task, bytes, 1);
  return seconds < 0 || ns < 0 || ns >= NS_PER_S ? -Errno.EINVAL : seconds * NS_PER_S + ns;
}

/**
 * Sleeps. Nothing wakes it early.
 *
 * @returns 0, or -errno: EFAULT, EINVAL
 * @linux kernel/time/hrtimer.c:nanosleep
 */
export function sysNanosleep(task: TaskContext, time: number): number {
  const ns = readTimespec(task, time);
  if (ns < 0) return ns;
  task.sleep(ns);
  return 0;
}

/** As `nanosleep`, by a clock, for a time or until one. @returns 0, or -errno: EFAULT, EINVAL @linux kernel/time/posix-timers.c:clock_nanosleep */
export function sysClockNanosleep(task: TaskContext, clock: number, flags: number, time: number): number {
  if (![CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME].includes(int32(clock))) return -Errno.EINVAL;
  const ns = readTimespec(task, time);
  if (ns < 0) return ns;
  task.sleep((int32(flags) & TIMER_ABSTIME) !== 0 ? Math.max(0, ns - task.vm.clock.now) : ns);
  return 0;
}
