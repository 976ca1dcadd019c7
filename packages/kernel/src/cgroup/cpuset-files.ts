/**
 * `cpuset.*`, as far as memory goes.
 *
 * @linux kernel/cgroup/cpuset.c:dfl_files
 */
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { listText } from '../sys/node.ts';
import type { Cgroup } from './cgroup.ts';
import { readOnly, writable } from './cgroup-files.ts';
import { effectiveMems, writeCpusetMems } from './cpuset.ts';

/** The files of a group's cpuset, by name; none where it has no cpuset. */
export function cpusetFiles(kernel: Kernel, cgroup: Cgroup): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  if (cgroup.parent !== null && cgroup.cpuset === null) return files;
  const cpus = Array.from({ length: kernel.config.cpus }, (_, cpu) => cpu);
  files.set('cpuset.cpus.effective', readOnly(() => `${listText(cpus)}\n`));
  if (cgroup.parent !== null) {
    files.set('cpuset.mems', writable(0o644, () => `${listText(cgroup.cpuset!.mems)}\n`, (text) => writeCpusetMems(kernel, cgroup, text)));
  }
  files.set('cpuset.mems.effective', readOnly(() => `${listText(effectiveMems(kernel, cgroup))}\n`));
  return files;
}
