/**
 * The OOM killer: when memory is gone and nothing can be reclaimed, one process has to go. It is one that uses the memory that
 * is short: of the whole machine, of the nodes that a policy or a cpuset leaves, or of a memory cgroup.
 *
 * The victim's memory comes back at once. Where the victim is the very task that asked, its request fails instead, and it
 * ends on its way back to user mode: the kernel is in the middle of that task's work.
 *
 * @linux mm/oom_kill.c:out_of_memory
 */
import { MPOL_BIND, SIGKILL, SI_KERNEL } from '@pagelab/abi';
import { VM_EVENT, __GFP_HARDWALL, __GFP_THISNODE } from '@pagelab/mm-core';
import type { NodeMask } from '@pagelab/mm-core';
import { KernelBug } from '@pagelab/lib';
import { MEMCG_EVENT, MM_ANONPAGES, OOM_SCORE_ADJ_MIN, PAGE_COUNTER_MAX, memcgEvent, nodesWithMemory, oomSelect } from '@pagelab/vm';
import type { MemCgroup, MmStruct } from '@pagelab/vm';
import { cgroupDescendants, effectiveMemcg } from './cgroup/cgroup.ts';
import type { Kernel } from './kernel.ts';
import { dumpHeader, dumpVictim, killLine } from './oom-report.ts';
import type { Process } from './process.ts';
import { endBySignal } from './signals.ts';

/** Why memory is short, though there may be more of it. @linux include/linux/oom.h:oom_constraint */
export const OOM_CONSTRAINTS = ['CONSTRAINT_NONE', 'CONSTRAINT_CPUSET', 'CONSTRAINT_MEMORY_POLICY', 'CONSTRAINT_MEMCG'] as const;
export type OomConstraint = (typeof OOM_CONSTRAINTS)[number];

/** A process that could go. */
export interface Candidate {
  readonly mm: MmStruct;
  readonly oomScoreAdj: number;
  readonly isOrigin: boolean;
  readonly process: Process;
}

/** What the killer is called for. @linux include/linux/oom.h:oom_control */
export interface OomControl {
  readonly gfp: number;
  readonly order: number;
  /** The group whose limit is reached; `null` where memory itself is short. */
  readonly memcg: MemCgroup | null;
  /** The nodes that a policy leaves; `null` for all. */
  readonly nodemask: NodeMask | null;
  readonly constraint: OomConstraint;
  /** Pages of what is short: what badness is measured by. */
  readonly totalPages: number;
}

/**
 * Kills a process where the machine, or the nodes that may be used, have run out of memory.
 *
 * @param nodemask nodes that the allocation's policy leaves; `null` for all
 * @returns whether the allocation is worth another try
 */
export function outOfMemory(kernel: Kernel, gfp: number, order: number, nodemask: NodeMask | null): boolean {
  // A victim on its way out needs no second one.
  if (kernel.current?.oomVictim === true) return false;
  return kill(kernel, constrainedAlloc(kernel, gfp, order, nodemask));
}

/**
 * Kills a process of a group, or below it.
 *
 * @returns whether charging is worth another try
 * @linux mm/memcontrol.c:mem_cgroup_out_of_memory
 */
export function memcgOutOfMemory(kernel: Kernel, memcg: MemCgroup, gfp: number, order: number): boolean {
  const { max, usage } = memcg.memory;
  if (max - usage >= 1 << order || kernel.current?.oomVictim === true) return true;
  const swap = kernel.vm.sysctl.swappiness > 0 ? Math.min(memcg.swap.max, kernel.vm.totalSwapPages) : 0;
  const totalPages = Math.max(1, max >= PAGE_COUNTER_MAX ? kernel.pages.totalramPages : max + swap);
  return kill(kernel, { gfp, order, memcg, nodemask: null, constraint: 'CONSTRAINT_MEMCG', totalPages });
}

/** @linux mm/oom_kill.c:constrained_alloc */
function constrainedAlloc(kernel: Kernel, gfp: number, order: number, nodemask: NodeMask | null): OomControl {
  const { pages, vm } = kernel;
  const all = nodesWithMemory(vm).nodes;
  const presentOf = (nids: readonly number[]): number => nids.reduce((sum, nid) => sum + pages.nodes[nid]!.present, vm.totalSwapPages);
  const control = { gfp, order, memcg: null };
  const anywhere: OomControl = { ...control, nodemask: null, constraint: 'CONSTRAINT_NONE', totalPages: pages.totalramPages + vm.totalSwapPages };
  if ((gfp & __GFP_THISNODE) !== 0) return anywhere;
  if (nodemask !== null && !all.every((nid) => nodemask.has(nid))) {
    return { ...control, nodemask, constraint: 'CONSTRAINT_MEMORY_POLICY', totalPages: presentOf(nodemask.nodes) };
  }
  const { memsAllowed } = pages;
  if (memsAllowed === null || (gfp & __GFP_HARDWALL) === 0) return anywhere;
  return { ...control, nodemask: null, constraint: 'CONSTRAINT_CPUSET', totalPages: presentOf(memsAllowed.nodes) };
}

/** Whether killing a process would free memory that is short. @linux mm/oom_kill.c:oom_cpuset_eligible */
function isEligible(kernel: Kernel, { nodemask }: OomControl, process: Process): boolean {
  const allowed = kernel.pages.memsAllowed;
  return process.threads.some(({ memPolicy: { policy }, memsAllowed }) => {
    if (nodemask !== null) return policy?.mode !== MPOL_BIND || policy.nodes.nodes.some((nid) => nodemask.has(nid));
    return allowed === null || memsAllowed === null || memsAllowed.nodes.some((nid) => allowed.has(nid));
  });
}

/** Processes that could go. @linux mm/oom_kill.c:select_bad_process */
function candidatesOf(kernel: Kernel, control: OomControl): Candidate[] {
  const { memcg } = control;
  if (memcg !== null) return processesOf(kernel, memcg);
  const candidates: Candidate[] = [];
  for (const task of kernel.tasks.values()) {
    const { process } = task;
    if (task !== process.leader || process.mm === null || !isEligible(kernel, control, process)) continue;
    candidates.push({ mm: process.mm, oomScoreAdj: process.oomScoreAdj, isOrigin: process.isOomOrigin, process });
  }
  return candidates;
}

/** Those of a memory cgroup and below, in the order in which they came. @linux mm/memcontrol.c:mem_cgroup_scan_tasks */
function processesOf(kernel: Kernel, memcg: MemCgroup): Candidate[] {
  const found: Candidate[] = [];
  const { root } = kernel.cgroups;
  for (const top of cgroupDescendants(root)) {
    if (top.memcg !== memcg) continue;
    for (const { processes } of cgroupDescendants(top)) {
      for (const process of processes) if (process.mm !== null) found.push({ mm: process.mm, oomScoreAdj: process.oomScoreAdj, isOrigin: process.isOomOrigin, process });
    }
  }
  return found;
}

function kill(kernel: Kernel, control: OomControl): boolean {
  const { current, vm } = kernel;
  const { memcg, constraint, totalPages } = control;
  const candidates = candidatesOf(kernel, control);
  const { panicOnOom, oomKillAllocatingTask } = vm.sysctl;
  if (panicOnOom === 2 || (panicOnOom === 1 && constraint === 'CONSTRAINT_NONE')) {
    dumpHeader(kernel, control, candidates);
    const why = panicOnOom === 2 ? 'compulsory' : 'system-wide';
    throw kernel.stop(new KernelBug(`Kernel panic - not syncing: Out of memory: ${why} panic_on_oom is enabled`));
  }
  const asking = oomKillAllocatingTask === 0 || memcg !== null ? undefined : candidates.find(({ process }) => process === current?.process);
  const byRequest = asking !== undefined && asking.oomScoreAdj !== OOM_SCORE_ADJ_MIN;
  const chosen = byRequest ? asking : oomSelect(candidates, totalPages);
  dumpHeader(kernel, control, candidates);
  if (chosen === undefined) {
    kernel.log.print('Out of memory and no killable processes...');
    return false;
  }
  const message = byRequest ? 'Out of memory (oom_kill_allocating_task)' : memcg === null ? 'Out of memory' : 'Memory cgroup out of memory';
  dumpVictim(kernel, control, chosen.process);
  const group = oomGroupOf(kernel, chosen.process, memcg);
  const members = group === null ? [] : processesOf(kernel, group);
  noteKill(kernel, chosen, message);
  if (group !== null) {
    memcgEvent(group, MEMCG_EVENT.OOM_GROUP_KILL);
    kernel.log.print(`Tasks in ${group.path} are going to be killed due to memory.oom.group set`);
    // The victim is met again on the way, and counted again.
    for (const member of members) if (member.oomScoreAdj !== OOM_SCORE_ADJ_MIN) noteKill(kernel, member, message);
  }
  const victims = members.filter(({ oomScoreAdj, process }) => oomScoreAdj !== OOM_SCORE_ADJ_MIN && process !== chosen.process);
  let running = false;
  for (const victim of [chosen, ...victims]) running = end(kernel, victim) || running;
  return running ? memcg !== null : true;
}

/** The uppermost group up to `domain` whose members go together. @linux mm/memcontrol.c:mem_cgroup_get_oom_group */
function oomGroupOf(kernel: Kernel, victim: Process, domain: MemCgroup | null): MemCgroup | null {
  let found: MemCgroup | null = null;
  for (let each = effectiveMemcg(victim.cgroup); each !== null && each.parent !== null; each = each.parent) {
    if (each.oomGroup) found = each;
    if (each === domain) break;
  }
  return kernel.vm.memcgs === null ? null : found;
}

/** @linux mm/oom_kill.c:__oom_kill_process */
function noteKill(kernel: Kernel, { mm, process }: Candidate, message: string): void {
  kernel.log.print(killLine(process, mm, message));
  kernel.pages.countEvent(VM_EVENT.OOM_KILL);
  if (mm.memcg !== null) memcgEvent(mm.memcg, MEMCG_EVENT.OOM_KILL);
  if (kernel.trace.enabled) {
    kernel.trace.emit(kernel.tracepoints.markVictim, process.tgid, mm.totalVm, mm.rss[MM_ANONPAGES], process.oomScoreAdj);
  }
}

/** Ends a victim, and whoever shares its memory. @returns whether it is the one that runs, which ends on its way back */
function end(kernel: Kernel, { mm, process }: Candidate): boolean {
  const { current } = kernel;
  if (current !== null && current.process === process) {
    for (const thread of process.threads) thread.oomVictim = true;
    kernel.pages.currentIsOomVictim = true;
    current.pending.push({ signo: SIGKILL, code: SI_KERNEL, addr: 0, pid: 0 });
    current.signalPending = true;
    return true;
  }
  if (process.mm === null) return false;
  const { tgid } = process;
  // Whoever shares its memory keeps it: they all have to go.
  for (const task of [...kernel.tasks.values()]) {
    const other = task.process;
    if (task === other.leader && other.mm === mm && other !== current?.process) endBySignal(other, SIGKILL, 'out of memory');
  }
  kernel.log.print(`oom_reaper: reaped process ${tgid} (${process.comm}), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB`);
  return false;
}
