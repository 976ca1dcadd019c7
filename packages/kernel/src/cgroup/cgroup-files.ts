/**
 * `cgroup.*`: the files that every group has.
 *
 * @linux kernel/cgroup/cgroup.c:cgroup_base_files
 */
import { Errno } from '@pagelab/abi';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import type { Task } from '../task.ts';
import { CONTROLLERS, cgroupAttach, cgroupDescendants, cgroupKill, nrDyingMemcgs, writeSubtreeControl } from './cgroup.ts';
import type { Cgroup } from './cgroup.ts';

/** A file that is only read. */
export function readOnly(read: () => string): ProcFile {
  return { mode: 0o444, read };
}

/** A file that is written by one number or word. An empty write does nothing. */
export function writable(mode: number, read: (() => string) | undefined, write: (text: string, task: Task | null) => number): ProcFile {
  return {
    mode,
    ...(read === undefined ? {} : { read }),
    write: (text, task) => {
      if (text === '') return 0;
      const error = write(text, task);
      return error === 0 ? text.length : error;
    },
  };
}

/** A whole number as the kernel reads it: `undefined` for what is none. @linux lib/kstrtox.c:kstrtoint */
export function parseInt32(text: string): number | undefined {
  const word = text.trim();
  return /^[+-]?\d+$/.test(word) ? Number(word) : undefined;
}

/** The files of a group, by name. */
export function cgroupFiles(kernel: Kernel, cgroup: Cgroup): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  const { parent } = cgroup;
  const isRoot = parent === null;
  files.set('cgroup.controllers', readOnly(() => `${CONTROLLERS.filter((name) => parent === null || parent.subtreeControl.has(name)).join(' ')}\n`));
  if (!isRoot) {
    files.set('cgroup.events', readOnly(() => `populated ${cgroup.isPopulated ? 1 : 0}\nfrozen 0\n`));
    files.set('cgroup.kill', writable(0o200, undefined, (text) => writeKill(kernel, cgroup, text)));
  }
  files.set('cgroup.max.depth', limit(() => cgroup.maxDepth, (value) => {
    cgroup.maxDepth = value;
  }));
  files.set('cgroup.max.descendants', limit(() => cgroup.maxDescendants, (value) => {
    cgroup.maxDescendants = value;
  }));
  files.set('cgroup.procs', writable(0o644, () => procs(cgroup), (text, task) => writeProcs(kernel, cgroup, text, task)));
  files.set('cgroup.stat', readOnly(() => stat(kernel, cgroup)));
  files.set('cgroup.subtree_control', writable(
    0o644,
    () => `${CONTROLLERS.filter((name) => cgroup.subtreeControl.has(name)).join(' ')}\n`,
    (text) => writeSubtreeControl(kernel, cgroup, text),
  ));
  files.set('cgroup.threads', readOnly(() => [...cgroup.processes].flatMap(({ threads }) => threads.map(({ pid }) => `${pid}\n`)).join('')));
  if (!isRoot) files.set('cgroup.type', writable(0o644, () => 'domain\n', (text) => (text.trim() === 'threaded' ? -Errno.EOPNOTSUPP : -Errno.EINVAL)));
  return files;
}

function procs({ processes }: Cgroup): string {
  return [...processes].map(({ tgid }) => `${tgid}\n`).join('');
}

/** Moves a process here: 0 is the one that writes. @linux kernel/cgroup/cgroup.c:__cgroup_procs_write */
function writeProcs(kernel: Kernel, cgroup: Cgroup, text: string, writer: Task | null): number {
  const pid = parseInt32(text);
  if (pid === undefined || pid < 0) return -Errno.EINVAL;
  const task = pid === 0 ? writer : kernel.tasks.get(pid);
  if (task === undefined || task === null || task.process.isZombie) return -Errno.ESRCH;
  return cgroupAttach(kernel, task.process, cgroup);
}

/** @linux kernel/cgroup/cgroup.c:cgroup_kill_write */
function writeKill(kernel: Kernel, cgroup: Cgroup, text: string): number {
  const value = parseInt32(text);
  if (value === undefined) return -Errno.EINVAL;
  if (value !== 1) return -Errno.ERANGE;
  cgroupKill(kernel, cgroup);
  return 0;
}

function limit(get: () => number, set: (value: number) => void): ProcFile {
  return writable(0o644, () => (get() === Infinity ? 'max\n' : `${get()}\n`), (text) => {
    const value = text.trim() === 'max' ? Infinity : parseInt32(text);
    if (value === undefined) return -Errno.EINVAL;
    if (value < 0 || (value > 0x7fff_ffff && value !== Infinity)) return -Errno.ERANGE;
    set(value);
    return 0;
  });
}

/** @linux kernel/cgroup/cgroup.c:cgroup_stat_show */
function stat(kernel: Kernel, cgroup: Cgroup): string {
  const having = (controller: 'memcg' | 'cpuset'): number => {
    let count = cgroup.parent === null ? 1 : 0;
    for (const each of cgroupDescendants(cgroup)) if (each[controller] !== null) count++;
    return count;
  };
  const dying = nrDyingMemcgs(kernel, cgroup);
  return [
    `nr_descendants ${cgroup.nrDescendants}`,
    `nr_subsys_cpuset ${having('cpuset')}`,
    `nr_subsys_memory ${having('memcg')}`,
    `nr_dying_descendants ${dying}`,
    'nr_dying_subsys_cpuset 0',
    `nr_dying_subsys_memory ${dying}`,
    '',
  ].join('\n');
}
