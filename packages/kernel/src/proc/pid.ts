/**
 * `/proc/PID`: what one process, or one of its threads, looks like.
 *
 * @linux fs/proc/base.c
 */
import { Errno } from '@pagelab/abi';
import type { Kernel } from '../kernel.ts';
import type { Task } from '../task.ts';
import { writeClearRefs } from './clear-refs.ts';
import { limits } from './limits.ts';
import { ksmStat } from './ksm-stat.ts';
import { maps, smaps, smapsRollup } from './maps.ts';
import { readMem, writeMem } from './mem.ts';
import { numaMaps } from './numa-maps.ts';
import { oomAdjFile, oomScoreFile, oomScoreAdjFile } from './oom.ts';
import { pagemapIoctl } from './pagemap-ioctl.ts';
import { pagemap } from './pagemap.ts';
import type { ProcFile } from './proc-file.ts';
import { stat, statm, status } from './status.ts';

type PidFile = (task: Task, kernel: Kernel, isThread: boolean) => ProcFile;

const text =
  (mode: number, read: (task: Task, isThread: boolean) => string): PidFile =>
  (task, _kernel, isThread) => ({ mode, read: () => (isGone(task) ? -Errno.ESRCH : read(task, isThread)) });

const FILES: Readonly<Record<string, PidFile>> = {
  cgroup: text(0o444, ({ process: { cgroup } }) => `0::${cgroup.path}${cgroup.isDead ? ' (deleted)' : ''}\n`),
  cmdline: text(0o444, (task) => (task.process.mm === null ? '' : task.process.argv.map((word) => `${word}\0`).join(''))),
  clear_refs: (task) => ({ mode: 0o200, write: (written) => writeClearRefs(task.process.mm, written) }),
  comm: text(0o644, (task) => `${task.process.comm}\n`),
  ksm_merging_pages: text(0o400, (task) => `${task.process.mm?.ksmMerging ?? 0}\n`),
  ksm_stat: text(0o400, (task) => ksmStat(task.process.mm)),
  limits: text(0o444, (task) => limits(task.process.limits)),
  maps: text(0o444, (task) => (task.process.mm === null ? '' : maps(task.process.mm))),
  smaps: text(0o444, (task) => (task.process.mm === null ? '' : smaps(task.process.mm))),
  smaps_rollup: text(0o444, (task) => (task.process.mm === null ? '' : smapsRollup(task.process.mm))),
  numa_maps: text(0o444, (task) => (task.process.mm === null ? '' : numaMaps(task))),
  stat: text(0o444, (task, isThread) => stat(task, isThread)),
  statm: text(0o444, (task) => statm(task.process.mm)),
  status: text(0o444, (task) => status(task)),
  oom_score: (task) => oomScoreFile(task),
  oom_adj: (task) => oomAdjFile(task),
  oom_score_adj: (task) => oomScoreAdjFile(task),
  pagemap: (task) => ({
    mode: 0o400,
    readBytes: (position, length, reader) => pagemap(task.process.mm, position, length, reader),
    ioctl: (reader, request, argument) => pagemapIoctl(task.process.mm, reader, request, argument),
  }),
  mem: (task) => ({
    mode: 0o600,
    unsignedOffsets: true,
    readBytes: (position, length) => readMem(task.process.mm, position, length),
    writeBytes: (position, bytes) => writeMem(task.process.mm, position, bytes),
  }),
};

/** Names of the files of a process. */
export const PID_FILES: readonly string[] = Object.keys(FILES);

/** A file of a task's, `undefined` where there is none of that name. */
export function pidFile(task: Task, name: string, isThread: boolean): ProcFile | undefined {
  return Object.hasOwn(FILES, name) ? FILES[name]!(task, task.kernel, isThread) : undefined;
}

/** Whether it has been reaped since the file was opened. */
function isGone(task: Task): boolean {
  return task.kernel.tasks.get(task.pid) !== task;
}
