/**
 * The OOM killer: when memory is gone and nothing can be reclaimed, one process has to go.
 *
 * The victim's memory comes back at once. Where the victim is the very task that asked, its request fails instead, and it
 * ends on its way back to user mode: the kernel is in the middle of that task's work.
 *
 * @linux mm/oom_kill.c:out_of_memory
 */
import { SIGKILL, SI_KERNEL } from '@pagelab/abi';
import { VM_EVENT, gfpText } from '@pagelab/mm-core';
import { KernelBug } from '@pagelab/lib';
import { MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS, OOM_SCORE_ADJ_MIN, oomSelect } from '@pagelab/vm';
import type { MmStruct } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';
import type { Process } from './process.ts';
import { showMem } from './show-mem.ts';
import { endBySignal } from './signals.ts';

interface Candidate {
  readonly mm: MmStruct;
  readonly oomScoreAdj: number;
  readonly process: Process;
}

/**
 * Kills a process.
 *
 * @returns whether the allocation is worth another try
 */
export function outOfMemory(kernel: Kernel, gfp: number, order: number): boolean {
  const current = kernel.current;
  // A victim on its way out needs no second one.
  if (current !== null && current.oomVictim) return false;
  const total = kernel.pages.totalramPages + kernel.vm.totalSwapPages;
  const candidates: Candidate[] = [];
  for (const task of kernel.tasks.values()) {
    const { process } = task;
    if (task !== process.leader || process.mm === null) continue;
    candidates.push({ mm: process.mm, oomScoreAdj: process.oomScoreAdj, process });
  }
  const { panicOnOom, oomKillAllocatingTask } = kernel.vm.sysctl;
  if (panicOnOom > 0) {
    dumpHeader(kernel, gfp, order, candidates);
    const why = panicOnOom === 2 ? 'compulsory' : 'system-wide';
    throw kernel.stop(new KernelBug(`Kernel panic - not syncing: Out of memory: ${why} panic_on_oom is enabled`));
  }
  const asking = oomKillAllocatingTask === 0 ? undefined : candidates.find(({ process }) => process === current?.process);
  const byRequest = asking !== undefined && asking.oomScoreAdj !== OOM_SCORE_ADJ_MIN;
  const chosen = byRequest ? asking : oomSelect(candidates, total);
  dumpHeader(kernel, gfp, order, candidates);
  if (chosen === undefined) {
    kernel.log.print('Out of memory and no killable processes...');
    return false;
  }
  const { process, mm } = chosen;
  kernel.log.print(
    'oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=' +
      `${nodeList(kernel)},global_oom,task_memcg=/,task=${process.comm},pid=${process.tgid},uid=${process.leader.credentials.uid}`,
  );
  reportKill(kernel, process, mm, byRequest ? 'Out of memory (oom_kill_allocating_task)' : 'Out of memory');
  kernel.pages.countEvent(VM_EVENT.OOM_KILL);
  if (kernel.trace.enabled) {
    kernel.trace.emit(kernel.tracepoints.markVictim, process.tgid, mm.totalVm, mm.rss[MM_ANONPAGES], process.oomScoreAdj);
  }
  if (current !== null && current.process === process) {
    for (const thread of process.threads) thread.oomVictim = true;
    kernel.pages.currentIsOomVictim = true;
    current.pending.push({ signo: SIGKILL, code: SI_KERNEL, addr: 0, pid: 0 });
    return false;
  }
  const { tgid } = process;
  // Whoever shares its memory keeps it: they all have to go.
  for (const other of candidates) if (other.mm === mm && other.process !== current?.process) endBySignal(other.process, SIGKILL, 'out of memory');
  kernel.log.print(
    `oom_reaper: reaped process ${tgid} (${process.comm}), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB`,
  );
  return true;
}

/** Who asked, what there is, and who could go. @linux mm/oom_kill.c:dump_header */
function dumpHeader(kernel: Kernel, gfp: number, order: number, candidates: readonly Candidate[]): void {
  const { current, log, vm } = kernel;
  const comm = current === null ? 'swapper/0' : current.process.comm;
  const adj = current === null ? 0 : current.process.oomScoreAdj;
  log.print(
    `${comm} invoked oom-killer: gfp_mask=0x${(gfp >>> 0).toString(16)}(${gfpText(gfp)}), order=${order}, oom_score_adj=${adj}`,
  );
  showMem(kernel);
  if (vm.sysctl.oomDumpTasks !== 0) dumpTasks(kernel, candidates);
}

/** Numbers of the nodes: `0` or `0-3`. */
function nodeList({ pages }: Kernel): string {
  const last = pages.nodes.length - 1;
  return last === 0 ? '0' : `0-${last}`;
}

/** The table of candidates, in pages. @linux mm/oom_kill.c:dump_tasks */
function dumpTasks(kernel: Kernel, candidates: readonly Candidate[]): void {
  const { log } = kernel;
  log.print('Tasks state (memory values in pages):');
  log.print('[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name');
  for (const { mm, oomScoreAdj, process } of candidates) {
    const [anon, file, shmem] = [mm.rss[MM_ANONPAGES]!, mm.rss[MM_FILEPAGES]!, mm.rss[MM_SHMEMPAGES]!];
    const pad = (value: number, width: number): string => String(value).padStart(width);
    log.print(
      `[${pad(process.tgid, 7)}] ${pad(process.leader.credentials.uid, 5)} ${pad(process.tgid, 5)} ${pad(mm.totalVm, 8)} ` +
        `${pad(anon + file + shmem, 8)} ${pad(anon, 8)} ${pad(file, 8)} ${pad(shmem, 9)} ${pad(mm.pgtablesBytes, 8)} ` +
        `${pad(mm.rss[MM_SWAPENTS]!, 8)}         ${pad(oomScoreAdj, 5)} ${process.comm}`,
    );
  }
}

/** @linux mm/oom_kill.c:__oom_kill_process */
function reportKill(kernel: Kernel, process: Process, mm: MmStruct, message: string): void {
  const kib = (pages: number): number => pages * 4;
  kernel.log.print(
    `${message}: Killed process ${process.tgid} (${process.comm}) total-vm:${kib(mm.totalVm)}kB, ` +
      `anon-rss:${kib(mm.rss[MM_ANONPAGES]!)}kB, file-rss:${kib(mm.rss[MM_FILEPAGES]!)}kB, ` +
      `shmem-rss:${kib(mm.rss[MM_SHMEMPAGES]!)}kB, UID:${process.leader.credentials.uid} ` +
      `pgtables:${mm.pgtablesBytes / 1024}kB oom_score_adj:${process.oomScoreAdj}`,
  );
}
