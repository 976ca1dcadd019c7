/**
 * Who is told of a broken page: who was about to use it, and who wants to know before it touches it.
 */
import { BUS_MCEERR_AO, BUS_MCEERR_AR, PR_MCE_KILL_DEFAULT, PR_MCE_KILL_EARLY, SIGBUS } from '@pagelab/abi';
import type { LostPage } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';
import { sendSignal } from './signals.ts';
import type { Task } from './task.ts';

/**
 * Sends SIGBUS for each place where a process has the page: to the task that runs, where it was about to use it, and to those
 * that want to know at once, by `prctl(PR_MCE_KILL)` or by `vm.memory_failure_early_kill`.
 *
 * @param about `shift`: log2 of the bytes that are lost
 * @linux mm/memory-failure.c:kill_procs, task_early_kill
 */
export function killProcs(kernel: Kernel, lost: readonly LostPage[], pfn: number, about: { readonly isAccessed: boolean; readonly shift: number }): void {
  const { current } = kernel;
  for (const task of kernel.tasks.values()) {
    const { process } = task;
    if (task !== process.leader) continue;
    const isUser = about.isAccessed && current !== null && process.mm === current.mm;
    if (!isUser && !wantsEarly(kernel, task)) continue;
    for (const { mm, address } of lost) {
      if (mm !== process.mm) continue;
      const to = isUser ? current : task;
      kernel.log.print(`Memory failure: 0x${pfn.toString(16)}: Sending SIGBUS to ${process.comm}:${to.pid} due to hardware memory corruption`);
      sendSignal(process, to, { signo: SIGBUS, code: isUser ? BUS_MCEERR_AR : BUS_MCEERR_AO, addr: address, pid: 0, addrLsb: about.shift });
    }
  }
}

/** @linux mm/memory-failure.c:find_early_kill_thread */
function wantsEarly({ vm }: Kernel, { process }: Task): boolean {
  return process.mceKill === PR_MCE_KILL_DEFAULT ? vm.sysctl.memoryFailureEarlyKill === 1 : process.mceKill === PR_MCE_KILL_EARLY;
}
