/**
 * NUMA balancing as a machine begins.
 *
 * @linux mm/mempolicy.c:check_numabalancing_enable
 */
import type { Kernel } from './kernel.ts';

/** It is on where there are several nodes, unless the command line says otherwise. */
export function bootNumaBalancing(kernel: Kernel): void {
  const { config, pages } = kernel;
  const wanted = config.commandLine.numaBalancing;
  if (wanted !== undefined) setNumaBalancing(kernel, wanted ? 1 : 0);
  if (pages.nodes.length === 1 || wanted !== undefined) return;
  kernel.log.print('mempolicy: Enabling automatic NUMA balancing. Configure with numa_balancing= or the kernel.numa_balancing sysctl');
  setNumaBalancing(kernel, 1);
}

/** Switches balancing on or off: `NUMA_BALANCING_…`. @linux kernel/sched/core.c:sysctl_numa_balancing */
export function setNumaBalancing(kernel: Kernel, mode: number): void {
  kernel.vm.numa.setMode(kernel.vm, mode);
  if (mode !== 0) kernel.daemons.wake(kernel, 'task-tick', 0);
}
