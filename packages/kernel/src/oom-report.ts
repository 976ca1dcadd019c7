/**
 * What the OOM killer says: who asked for what, what there is, who could go, and who does.
 *
 * @linux mm/oom_kill.c:dump_header, dump_tasks, dump_oom_victim
 */
import { GFP_HIGHUSER_MOVABLE, PF_MEMALLOC, __GFP_COMP, gfpText } from '@pagelab/mm-core';
import { MEMCG_EVENT, MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS } from '@pagelab/vm';
import type { MemCgroup, MmStruct } from '@pagelab/vm';
import { effectiveCpusetGroup, effectiveMemcg } from './cgroup/cgroup.ts';
import { effectiveMems } from './cgroup/cpuset.ts';
import { memoryStat } from './cgroup/memory-stat.ts';
import type { Kernel } from './kernel.ts';
import type { Candidate, OomControl } from './oom-kill.ts';
import type { Process } from './process.ts';
import { showMem } from './show-mem.ts';
import { listText } from './sys/node.ts';

/** Who asked, what there is, and who could go. @linux mm/oom_kill.c:dump_header */
export function dumpHeader(kernel: Kernel, control: OomControl, candidates: readonly Candidate[]): void {
  const { current, log, vm } = kernel;
  const { gfp, order, memcg, nodemask, constraint } = control;
  const comm = current === null ? 'swapper/0' : current.process.comm;
  const adj = current === null ? 0 : current.process.oomScoreAdj;
  log.print(`${comm} invoked oom-killer: gfp_mask=${gfpMask(kernel, gfp)}, order=${order}, oom_score_adj=${adj}`);
  if (memcg !== null) showMemcg(kernel, memcg);
  else showMem(kernel, nodemask ?? (constraint === 'CONSTRAINT_CPUSET' ? kernel.pages.memsAllowed : null));
  if (vm.sysctl.oomDumpTasks !== 0) dumpTasks(kernel, candidates);
}

/**
 * An allocation failed, and whoever wanted it is not prepared for that.
 *
 * @linux mm/page_alloc.c:warn_alloc
 */
export function warnAlloc(kernel: Kernel, gfp: number, order: number): void {
  const { current, log, pages } = kernel;
  if (!kernel.allocWarnings.allows(log)) return;
  const asking = current?.process.cgroup ?? kernel.cgroups.root;
  const cpuset = effectiveCpusetGroup(asking);
  log.print(
    `${current === null ? 'swapper/0' : current.process.comm}: page allocation failure: order:${order}, mode:${gfpMask(kernel, gfp)}, nodemask=(null),` +
      `cpuset=${cpuset.parent === null ? '/' : cpuset.name},mems_allowed=${listText(effectiveMems(kernel, asking))}`,
  );
  // Who is being killed, or reclaims, may use all nodes.
  showMem(kernel, pages.currentIsOomVictim || (pages.currentFlags & PF_MEMALLOC) !== 0 ? null : pages.memsAllowed);
}

/** A promise of memory was refused. @linux mm/util.c:__vm_enough_memory */
export function warnCommit(kernel: Kernel, nrPages: number): void {
  const { config, current, log } = kernel;
  if (current === null || !kernel.commitWarnings.allows(log)) return;
  const what = config.kernel === '6.1' ? 'no' : `bytes: ${nrPages * 4096} not`;
  log.print(`__vm_enough_memory: pid: ${current.pid}, comm: ${current.process.comm}, ${what} enough memory for the allocation`);
}

/** The flags of an allocation, as a number and in words. What is for a user is a folio, of one page too. */
function gfpMask({ config }: Kernel, gfp: number): string {
  const mask = (gfp & GFP_HIGHUSER_MOVABLE) === GFP_HIGHUSER_MOVABLE ? gfp | __GFP_COMP : gfp;
  let text = gfpText(mask);
  // Words had another order.
  if (config.kernel !== '6.18') text = text.replace('__GFP_ZERO|__GFP_COMP', '__GFP_COMP|__GFP_ZERO');
  return `0x${(mask >>> 0).toString(16)}(${text})`;
}

/** What a group uses, and of what. @linux mm/memcontrol.c:mem_cgroup_print_oom_meminfo */
function showMemcg(kernel: Kernel, memcg: MemCgroup): void {
  const { log } = kernel;
  const { memory, swap, events } = memcg;
  const kib = (pages: number): bigint => BigInt(pages) * 4n;
  log.print(`memory: usage ${kib(memory.usage)}kB, limit ${kib(memory.max)}kB, failcnt ${events[MEMCG_EVENT.MAX]}`);
  log.print(`swap: usage ${kib(swap.usage)}kB, limit ${kib(swap.max)}kB, failcnt ${events[MEMCG_EVENT.SWAP_MAX]}`);
  log.print(`Memory cgroup stats for ${memcg.path}:`);
  for (const line of memoryStat(kernel, memcg)) log.print(line);
}

/** The table of candidates, in pages. @linux mm/oom_kill.c:dump_tasks */
function dumpTasks(kernel: Kernel, candidates: readonly Candidate[]): void {
  const { log } = kernel;
  log.print('Tasks state (memory values in pages):');
  const parts = kernel.config.kernel !== '6.1';
  log.print(`[  pid  ]   uid  tgid total_vm      rss ${parts ? 'rss_anon rss_file rss_shmem ' : ''}pgtables_bytes swapents oom_score_adj name`);
  for (const { mm, oomScoreAdj, process } of candidates) {
    const [anon, file, shmem] = [mm.rss[MM_ANONPAGES]!, mm.rss[MM_FILEPAGES]!, mm.rss[MM_SHMEMPAGES]!];
    const pad = (value: number, width: number): string => String(value).padStart(width);
    log.print(
      `[${pad(process.tgid, 7)}] ${pad(process.leader.credentials.uid, 5)} ${pad(process.tgid, 5)} ${pad(mm.totalVm, 8)} ` +
        `${pad(anon + file + shmem, 8)} ${parts ? `${pad(anon, 8)} ${pad(file, 8)} ${pad(shmem, 9)} ` : ''}${pad(mm.pgtablesBytes, 8)} ` +
        `${pad(mm.rss[MM_SWAPENTS]!, 8)}         ${pad(oomScoreAdj, 5)} ${process.comm}`,
    );
  }
}

/** Why, and whom. @linux mm/oom_kill.c:dump_oom_victim */
export function dumpVictim(kernel: Kernel, control: OomControl, victim: Process): void {
  const { memcg, nodemask, constraint } = control;
  const asking = kernel.current?.process.cgroup ?? kernel.cgroups.root;
  const cpuset = effectiveCpusetGroup(asking);
  kernel.log.print(
    `oom-kill:constraint=${constraint},nodemask=${nodemask === null ? '(null)' : listText(nodemask.nodes)},` +
      `cpuset=${cpuset.parent === null ? '/' : cpuset.name},mems_allowed=${listText(effectiveMems(kernel, asking))},` +
      `${memcg === null ? 'global_oom' : `oom_memcg=${memcg.path}`},task_memcg=${effectiveMemcg(victim.cgroup)?.path ?? '/'},` +
      `task=${victim.comm},pid=${victim.tgid},uid=${victim.leader.credentials.uid}`,
  );
}

/** @linux mm/oom_kill.c:__oom_kill_process */
export function killLine(process: Process, mm: MmStruct, message: string): string {
  const kib = (pages: number): number => pages * 4;
  return (
    `${message}: Killed process ${process.tgid} (${process.comm}) total-vm:${kib(mm.totalVm)}kB, ` +
    `anon-rss:${kib(mm.rss[MM_ANONPAGES]!)}kB, file-rss:${kib(mm.rss[MM_FILEPAGES]!)}kB, ` +
    `shmem-rss:${kib(mm.rss[MM_SHMEMPAGES]!)}kB, UID:${process.leader.credentials.uid} ` +
    `pgtables:${mm.pgtablesBytes / 1024}kB oom_score_adj:${process.oomScoreAdj}`
  );
}
