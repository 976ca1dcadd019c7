/**
 * Who is told of a broken page before it touches it.
 */
import { BUS_MCEERR_AO, PR_MCE_KILL_DEFAULT, PR_MCE_KILL_EARLY, SIGBUS } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { MmStruct } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';
import { sendSignal } from './signals.ts';

/**
 * Sends SIGBUS to the processes of an address space that want to know at once: by `prctl(PR_MCE_KILL)`, or by
 * `vm.memory_failure_early_kill`.
 *
 * @linux mm/memory-failure.c:kill_procs, find_early_kill_thread
 */
export function tellBrokenPage(kernel: Kernel, mm: MmStruct, addr: VirtAddr, pfn: number): void {
  for (const task of kernel.tasks.values()) {
    const { process } = task;
    if (task !== process.leader || process.mm !== mm) continue;
    const early = process.mceKill === PR_MCE_KILL_DEFAULT ? kernel.vm.sysctl.memoryFailureEarlyKill === 1 : process.mceKill === PR_MCE_KILL_EARLY;
    if (!early) continue;
    kernel.log.print(`Memory failure: 0x${pfn.toString(16)}: Sending SIGBUS to ${process.comm}:${process.tgid} due to hardware memory corruption`);
    sendSignal(process, task, { signo: SIGBUS, code: BUS_MCEERR_AO, addr, pid: 0 });
  }
}
