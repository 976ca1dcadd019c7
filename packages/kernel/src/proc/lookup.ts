/**
 * From a path to the file the kernel makes up for it.
 */
import { Errno } from '@pagelab/abi';
import type { Kernel } from '../kernel.ts';
import type { Task } from '../task.ts';
import { lookUpSys, sysFiles } from '../sys/lookup.ts';
import { buddyinfo, pagetypeinfo } from './buddyinfo.ts';
import { kmsg } from './kmsg.ts';
import { diskstats } from './diskstats.ts';
import { interrupts } from './interrupts.ts';
import { iomem } from './iomem.ts';
import { meminfo } from './meminfo.ts';
import { PID_FILES, pidFile } from './pid.ts';
import type { ProcFile } from './proc-file.ts';
import { slabinfo } from './slabinfo.ts';
import { procStat } from './stat.ts';
import { procSwaps } from '../swapon.ts';
import { SYSCTL_NAMES, sysctlFile } from './sysctl.ts';
import { uptime, version } from './version.ts';
import { vmallocinfo } from './vmallocinfo.ts';
import { vmstat } from './vmstat.ts';
import { zoneinfo } from './zoneinfo.ts';

/** Files of the whole machine, by path. */
const FILES: Readonly<Record<string, (kernel: Kernel) => ProcFile>> = {
  '/proc/meminfo': (kernel) => text(0o444, () => meminfo(kernel)),
  '/proc/zoneinfo': (kernel) => text(0o444, () => zoneinfo(kernel)),
  '/proc/buddyinfo': (kernel) => text(0o444, () => buddyinfo(kernel)),
  '/proc/pagetypeinfo': (kernel) => text(0o400, () => pagetypeinfo(kernel)),
  '/proc/slabinfo': (kernel) => text(0o400, () => slabinfo(kernel)),
  '/proc/vmallocinfo': (kernel) => text(0o400, () => vmallocinfo(kernel)),
  '/proc/vmstat': (kernel) => text(0o444, () => vmstat(kernel)),
  '/proc/iomem': (kernel) => text(0o444, (task) => iomem(kernel, task)),
  '/proc/stat': (kernel) => text(0o444, () => procStat(kernel)),
  '/proc/interrupts': (kernel) => text(0o444, () => interrupts(kernel)),
  '/proc/swaps': (kernel) => text(0o444, () => procSwaps(kernel)),
  '/proc/diskstats': (kernel) => text(0o444, () => diskstats(kernel)),
  '/proc/cmdline': (kernel) => text(0o444, () => `${kernel.config.cmdline}\n`),
  '/proc/version': (kernel) => text(0o444, () => version(kernel)),
  '/proc/uptime': (kernel) => text(0o444, () => uptime(kernel)),
  '/dev/kmsg': (kernel) => text(0o644, () => kmsg(kernel)),
};

const DIRECTORIES: readonly string[] = ['/', '/proc', '/proc/sys', '/proc/sys/vm', '/dev'];

const SYSCTL = '/proc/sys/';

/** The file of a path, `'directory'`, or -ENOENT. `task` is what `self` means. */
export function lookUp(kernel: Kernel, task: Task | null, path: string): ProcFile | 'directory' | number {
  const made = FILES[path];
  if (made !== undefined && Object.hasOwn(FILES, path)) return made(kernel);
  if (DIRECTORIES.includes(path)) return 'directory';
  if (path === '/sys' || path.startsWith('/sys/')) return lookUpSys(kernel, path);
  if (path.startsWith(SYSCTL)) return sysctlFile(kernel, path.slice(SYSCTL.length)) ?? -Errno.ENOENT;
  const match = /^\/proc\/(\d+|self|thread-self)(?:\/(.*))?$/.exec(path);
  if (match === null) return -Errno.ENOENT;
  const target = targetOf(kernel, task, match[1]!);
  if (target === undefined) return -Errno.ENOENT;
  let name = match[2];
  const thread = name === undefined ? null : /^task\/(\d+)(?:\/(.*))?$/.exec(name);
  if (thread !== null) {
    const other = kernel.tasks.get(Number(thread[1]));
    if (other === undefined || other.process !== target.process) return -Errno.ENOENT;
    name = thread[2];
    return name === undefined ? 'directory' : (pidFile(other, name, true) ?? -Errno.ENOENT);
  }
  if (name === undefined || name === 'task') return 'directory';
  return pidFile(target, name, match[1] === 'thread-self') ?? -Errno.ENOENT;
}

/** Paths of every file there is now, sorted. */
export function listFiles(kernel: Kernel): string[] {
  const paths = Object.keys(FILES).filter((path) => !path.startsWith('/dev'));
  for (const name of SYSCTL_NAMES) if (sysctlFile(kernel, name) !== undefined) paths.push(SYSCTL + name);
  paths.push(...sysFiles(kernel).keys());
  for (const [path] of kernel.cgroups.files()) paths.push(path);
  for (const task of kernel.tasks.values()) {
    if (task !== task.process.leader) continue;
    for (const name of PID_FILES) paths.push(`/proc/${task.pid}/${name}`);
  }
  return paths.sort();
}

function targetOf(kernel: Kernel, task: Task | null, word: string): Task | undefined {
  if (word === 'self') return task?.process.leader;
  if (word === 'thread-self') return task ?? undefined;
  return kernel.tasks.get(Number(word));
}

/** A file that is only read. Who may open it for writing all the same gets EIO. @linux fs/proc/inode.c:proc_reg_write */
function text(mode: number, read: (task: Task | null) => string): ProcFile {
  return { mode, read, write: () => -Errno.EIO, mmapError: -Errno.EIO };
}
