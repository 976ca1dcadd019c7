import type { ResourceUsage } from '@pagelab/abi';
import { MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES } from '@pagelab/vm';
import type { MmStruct } from '@pagelab/vm';
import { addAccounting, newAccounting } from './process.ts';
import type { Kernel } from './kernel.ts';
import type { Accounting, Process } from './process.ts';
import type { Task } from './task.ts';

/** KiB of a page. */
const PAGE_KIB = 4;

/** Moves the faults that the task had since it was switched in into its own count. Call before reading that. */
export function settleFaults(task: Task): void {
  const { mm } = task.process;
  if (task.kernel.current !== task || mm === null) return;
  task.accounting.minflt += mm.minFlt - task.minFltMark;
  task.accounting.majflt += mm.majFlt - task.majFltMark;
  task.minFltMark = mm.minFlt;
  task.majFltMark = mm.majFlt;
  settleWalks(task);
}

/** Lets the time pass that the CPU's walks of the page tables took since this was last called. */
function settleWalks({ kernel, cpu, accounting }: Task): void {
  const { walks } = kernel.smp.cpus[cpu]!.stats;
  const ns = (walks - kernel.walksSeen[cpu]!) * kernel.costs.pageWalk;
  kernel.walksSeen[cpu] = walks;
  kernel.clock.advance(ns);
  accounting.utime += ns;
}

/** Resident pages of an address space. @linux include/linux/mm.h:get_mm_rss */
export function residentPages(mm: MmStruct): number {
  return mm.rss[MM_FILEPAGES]! + mm.rss[MM_ANONPAGES]! + mm.rss[MM_SHMEMPAGES]!;
}

/** What all threads of a process used so far, those that have ended included. */
export function processAccounting(process: Process): Accounting {
  const sum = newAccounting();
  addAccounting(sum, process.ended);
  for (const thread of process.threads) {
    settleFaults(thread);
    addAccounting(sum, thread.accounting);
  }
  return sum;
}

/** How long each address space's programs have run, by its id, and at 0 all that there are, in nanoseconds. Costs a step a task. */
export function cpuTimes(kernel: Kernel, times: number[]): void {
  times[0] = 0;
  for (const task of kernel.tasks.values()) {
    const { mm, ended } = task.process;
    if (mm === null) continue;
    let ns = task.accounting.utime + task.accounting.stime;
    if (task.pid === task.tgid) ns += ended.utime + ended.stime;
    times[mm.id] = (times[mm.id] ?? 0) + ns;
    times[0] += ns;
  }
}

/** Largest resident set of a process so far, in pages. */
export function maxResident(process: Process): number {
  const { mm } = process;
  return mm === null ? process.maxRss : Math.max(process.maxRss, mm.hiwaterRss, residentPages(mm));
}

/** @linux kernel/sys.c:getrusage */
export function usageOf(task: Task, whose: 'self' | 'children' | 'thread'): ResourceUsage {
  const { process } = task;
  if (whose === 'children') return toUsage(process.waited, process.waitedMaxRss);
  if (whose === 'self') return toUsage(processAccounting(process), maxResident(process));
  settleFaults(task);
  return toUsage(task.accounting, maxResident(process));
}

/** An account in the units of `getrusage`. */
export function toUsage(accounting: Readonly<Accounting>, maxRssPages: number): ResourceUsage {
  return {
    utime: Math.floor(accounting.utime / 1000),
    stime: Math.floor(accounting.stime / 1000),
    maxrss: maxRssPages * PAGE_KIB,
    minflt: accounting.minflt,
    majflt: accounting.majflt,
    nvcsw: accounting.nvcsw,
    nivcsw: accounting.nivcsw,
  };
}
