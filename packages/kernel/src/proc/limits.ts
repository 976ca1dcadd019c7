import {
  RLIMIT_AS,
  RLIMIT_CORE,
  RLIMIT_CPU,
  RLIMIT_DATA,
  RLIMIT_FSIZE,
  RLIMIT_LOCKS,
  RLIMIT_MEMLOCK,
  RLIMIT_MSGQUEUE,
  RLIMIT_NICE,
  RLIMIT_NOFILE,
  RLIMIT_NPROC,
  RLIMIT_RSS,
  RLIMIT_RTPRIO,
  RLIMIT_RTTIME,
  RLIMIT_SIGPENDING,
  RLIMIT_STACK,
} from '@pagelab/abi';
import type { ResourceLimits } from '@pagelab/syscalls';
import { unsigned } from '@pagelab/syscalls';

const ROWS: readonly (readonly [resource: number, name: string, unit: string])[] = [
  [RLIMIT_CPU, 'Max cpu time', 'seconds'],
  [RLIMIT_FSIZE, 'Max file size', 'bytes'],
  [RLIMIT_DATA, 'Max data size', 'bytes'],
  [RLIMIT_STACK, 'Max stack size', 'bytes'],
  [RLIMIT_CORE, 'Max core file size', 'bytes'],
  [RLIMIT_RSS, 'Max resident set', 'bytes'],
  [RLIMIT_NPROC, 'Max processes', 'processes'],
  [RLIMIT_NOFILE, 'Max open files', 'files'],
  [RLIMIT_MEMLOCK, 'Max locked memory', 'bytes'],
  [RLIMIT_AS, 'Max address space', 'bytes'],
  [RLIMIT_LOCKS, 'Max file locks', 'locks'],
  [RLIMIT_SIGPENDING, 'Max pending signals', 'signals'],
  [RLIMIT_MSGQUEUE, 'Max msgqueue size', 'bytes'],
  [RLIMIT_NICE, 'Max nice priority', ''],
  [RLIMIT_RTPRIO, 'Max realtime priority', ''],
  [RLIMIT_RTTIME, 'Max realtime timeout', 'us'],
];

/** `/proc/PID/limits`. @linux fs/proc/base.c:proc_pid_limits */
export function limits({ cur, max }: ResourceLimits): string {
  const value = (limit: number): string => (limit === -1 ? 'unlimited' : String(unsigned(limit))).padEnd(20);
  let text = `${'Limit'.padEnd(25)} ${'Soft Limit'.padEnd(20)} ${'Hard Limit'.padEnd(20)} ${'Units'.padEnd(10)}\n`;
  for (const [resource, name, unit] of ROWS) {
    text += `${name.padEnd(25)} ${value(cur[resource]!)} ${value(max[resource]!)} ${unit === '' ? '' : unit.padEnd(10)}\n`;
  }
  return text;
}
