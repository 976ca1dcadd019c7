import type { Kernel } from '../kernel.ts';

/** Nanoseconds of a tick, in which `/proc` counts time. */
export const TICK_NS = 1e7;

/** `/proc/stat`: CPU time, in ticks, and tasks. @linux fs/proc/stat.c */
export function procStat(kernel: Kernel): string {
  let user = 0;
  let system = 0;
  let switches = 0;
  for (const task of kernel.tasks.values()) {
    user += task.accounting.utime;
    system += task.accounting.stime;
    switches += task.accounting.nvcsw + task.accounting.nivcsw;
  }
  const line = (name: string, share: number): string =>
    `${name} ${Math.floor(user / TICK_NS / share)} 0 ${Math.floor(system / TICK_NS / share)} 0 0 0 0 0 0 0\n`;
  const nrCpus = kernel.smp.cpus.length;
  return (
    line('cpu ', 1) +
    kernel.smp.cpus.map((cpu) => line(`cpu${cpu.id}`, nrCpus)).join('') +
    `intr 0\nctxt ${switches}\nbtime 0\nprocesses ${kernel.tasks.forks}\nprocs_running ${kernel.scheduler.nrReady + 1}\nprocs_blocked 0\n`
  );
}
