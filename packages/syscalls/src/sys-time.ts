import { Errno, RUSAGE_SELF, RUSAGE_THREAD } from '@pagelab/abi';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser, putValue } from './user-access.ts';
import { encodeLongs, longAt, longBytes } from './user-struct.ts';

const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC = 1;
const CLOCK_PROCESS_CPUTIME_ID = 2;
const CLOCK_THREAD_CPUTIME_ID = 3;
const CLOCK_MONOTONIC_RAW = 4;
const CLOCK_REALTIME_COARSE = 5;
const CLOCK_MONOTONIC_COARSE = 6;
const CLOCK_BOOTTIME = 7;
const CLOCK_REALTIME_ALARM = 8;
const CLOCK_BOOTTIME_ALARM = 9;
const CLOCK_TAI = 11;
/** As negative numbers: the caller's process, and its thread. */
const OWN_PROCESS_CLOCK = -6;
const OWN_THREAD_CLOCK = -2;
const NS_PER_S = 1e9;

/** Clocks that tell real or monotonic time. */
const WALL_CLOCKS = [
  CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME,
  CLOCK_TAI,
];
/** Clocks that wake a machine: there is none in this one. */
const ALARM_CLOCKS = [CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM];
/** Clocks that one can sleep by. */
const SLEEP_CLOCKS = [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_BOOTTIME, CLOCK_TAI];
/** Of a negative clock, the time of a process: the low bits say which, the others are the complement of its number. */
const CPUCLOCK_PERTHREAD = 4;
const CPUCLOCK_WHICH = 3;
const CPUCLOCK_MAX = 3;

/**
 * The time that a process or a thread has had of CPUs, by a clock. What is told for profiling, in user mode and by the
 * scheduler, is one here where it is not the time in user mode.
 *
 * @returns nanoseconds; -EINVAL where there is no such clock or process
 * @linux kernel/time/posix-cpu-timers.c:posix_cpu_clock_get
 */
function cpuTime(task: TaskContext, clock: number): number {
  const which = clock & CPUCLOCK_WHICH;
  if (which >= CPUCLOCK_MAX) return -Errno.EINVAL;
  const pid = ~(clock >> 3);
  const isThread = (clock & CPUCLOCK_PERTHREAD) !== 0;
  const subject = pid === 0 ? task : task.findTask(pid);
  if (subject === undefined || (isThread ? subject.tgid !== task.tgid : pid !== 0 && subject.tgid !== pid)) return -Errno.EINVAL;
  const { utime, stime } = subject.usage(isThread ? RUSAGE_THREAD : RUSAGE_SELF);
  return (which === 1 ? utime : utime + stime) * 1000;
}

/** What a clock shows, in nanoseconds; -EINVAL for one that there is not. @linux kernel/time/posix-timers.c:clockid_to_kclock */
function clockTime(task: TaskContext, clock: number): number {
  if (clock < 0) return cpuTime(task, clock);
  if (WALL_CLOCKS.includes(clock)) return task.vm.clock.now;
  if (clock === CLOCK_PROCESS_CPUTIME_ID) return cpuTime(task, OWN_PROCESS_CLOCK);
  return clock === CLOCK_THREAD_CPUTIME_ID ? cpuTime(task, OWN_THREAD_CLOCK) : -Errno.EINVAL;
}

/**
 * The virtual clock: the machine was switched on at the epoch, so that real and monotonic time are one.
 *
 * @returns 0, or -errno: EINVAL, EFAULT
 * @linux kernel/time/posix-timers.c:clock_gettime
 */
export function sysClockGettime(task: TaskContext, clock: number, time: number): number {
  const ns = clockTime(task, int32(clock));
  if (ns < 0) return ns;
  return putUser(task, time, encodeLongs(task, [Math.floor(ns / NS_PER_S), Math.floor(ns % NS_PER_S)]));
}

/** @returns 0 or -EFAULT @linux kernel/time/time.c:gettimeofday */
export function sysGettimeofday(task: TaskContext, time: number, zone: number): number {
  const us = Math.floor(task.vm.clock.now / 1000);
  if (time !== 0) {
    if (putValue(task, time, encodeLongs(task, [Math.floor(us / 1e6)])) < 0) return -Errno.EFAULT;
    if (putValue(task, time + longBytes(task), encodeLongs(task, [us % 1e6])) < 0) return -Errno.EFAULT;
  }
  return zone === 0 ? 0 : putUser(task, zone, new Uint8Array(8));
}

/** @returns seconds since the epoch, or -EFAULT @linux kernel/time/time.c:time */
export function sysTime(task: TaskContext, time: number): number {
  const seconds = Math.floor(task.vm.clock.now / NS_PER_S);
  return time !== 0 && putValue(task, time, encodeLongs(task, [seconds])) < 0 ? -Errno.EFAULT : seconds;
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

/**
 * As `nanosleep`, by a clock, for a time or until one.
 *
 * @returns 0, or -errno: EFAULT; EINVAL, also for the time of CPUs that would have to pass meanwhile; EOPNOTSUPP for a clock
 *   that only tells the time
 * @linux kernel/time/posix-timers.c:clock_nanosleep
 */
export function sysClockNanosleep(task: TaskContext, clock: number, flags: number, time: number): number {
  const id = int32(clock);
  const isAlarm = ALARM_CLOCKS.includes(id);
  if (id >= 0 && !isAlarm && !SLEEP_CLOCKS.includes(id)) return WALL_CLOCKS.includes(id) || id === CLOCK_THREAD_CPUTIME_ID ? -Errno.EOPNOTSUPP : -Errno.EINVAL;
  const ns = readTimespec(task, time);
  if (ns < 0) return ns;
  if (isAlarm) return -Errno.EOPNOTSUPP;
  const isUntil = (int32(flags) & TIMER_ABSTIME) !== 0;
  if (id < 0 || id === CLOCK_PROCESS_CPUTIME_ID) {
    const isOwnThread = id < 0 && (id & CPUCLOCK_PERTHREAD) !== 0;
    const now = isOwnThread ? -Errno.EINVAL : clockTime(task, id);
    // While it sleeps its time does not go on.
    return now < 0 ? now : (isUntil ? ns <= now : ns === 0) ? 0 : -Errno.EINVAL;
  }
  task.sleep(isUntil ? Math.max(0, ns - task.vm.clock.now) : ns);
  return 0;
}
