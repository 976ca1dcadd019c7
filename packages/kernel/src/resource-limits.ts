import {
  RLIMIT_CORE,
  RLIMIT_MEMLOCK,
  RLIMIT_MSGQUEUE,
  RLIMIT_NICE,
  RLIMIT_NOFILE,
  RLIMIT_NPROC,
  RLIMIT_RTPRIO,
  RLIMIT_SIGPENDING,
  RLIMIT_STACK,
  RLIM_INFINITY,
  RLIM_NLIMITS,
} from '@pagelab/abi';
import type { Credentials, ResourceLimits } from '@pagelab/syscalls';
import type { MmLimits } from '@pagelab/vm';
import { hasCapability } from './credentials.ts';

const MIB = 2 ** 20;

/**
 * The limits of the first process: stack and locked memory 8 MiB, the number of tasks what half the memory could hold.
 *
 * @param totalPages pages of RAM
 * @linux include/asm-generic/resource.h:INIT_RLIMITS
 */
export function initialLimits(totalPages: number): ResourceLimits {
  const cur = new Array<number>(RLIM_NLIMITS).fill(RLIM_INFINITY);
  const max = new Array<number>(RLIM_NLIMITS).fill(RLIM_INFINITY);
  // An eighth of memory in stacks of 16 KiB, and half of that many tasks. @linux kernel/fork.c:set_max_threads
  const tasks = Math.floor(Math.min(totalPages / 32, 0x3fff_ffff) / 2);
  const set = (resource: number, soft: number, hard = soft): void => {
    cur[resource] = soft;
    max[resource] = hard;
  };
  set(RLIMIT_STACK, 8 * MIB, RLIM_INFINITY);
  set(RLIMIT_CORE, 0, RLIM_INFINITY);
  set(RLIMIT_NPROC, tasks);
  set(RLIMIT_NOFILE, 1024, 4096);
  set(RLIMIT_MEMLOCK, 8 * MIB);
  set(RLIMIT_SIGPENDING, tasks);
  set(RLIMIT_MSGQUEUE, 819_200);
  set(RLIMIT_NICE, 0);
  set(RLIMIT_RTPRIO, 0);
  return { cur, max };
}

/** Limits and capabilities, as an address space asks for them. */
export function mmLimits(limits: ResourceLimits, credentials: Credentials): MmLimits {
  return {
    rlimit: (resource) => limits.cur[resource]!,
    rlimitMax: (resource) => limits.max[resource]!,
    capable: (capability) => hasCapability(credentials, capability),
  };
}

/** A copy for a child. */
export function copyLimits(from: ResourceLimits): ResourceLimits {
  return { cur: [...from.cur], max: [...from.max] };
}
