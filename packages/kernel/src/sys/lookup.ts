/**
 * From a path below `/sys` to the file the kernel makes up for it.
 */
import { Errno } from '@pagelab/abi';
import { CGROUP_MOUNT } from '../cgroup/cgroups.ts';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { compactFiles } from './compact.ts';
import { debugFiles } from './debug.ts';
import { hugepageFiles } from './hugepages.ts';
import { hwpoisonFiles } from './hwpoison.ts';
import { ksmFiles } from './ksm.ts';
import { interleaveWeightFiles } from './mempolicy.ts';
import { trueFalse } from './kstrto.ts';
import { lruGenFiles } from './lru-gen.ts';
import { listText, nodeFiles, nodeReclaimFiles } from './node.ts';
import { numaFiles } from './numa.ts';
import { pageOwnerText } from './page-owner.ts';
import { percpuStats } from './percpu-stats.ts';
import { slabFile, slabFiles } from './slab.ts';
import { thpFiles } from './thp.ts';
import { zswapFiles } from './zswap.ts';

const CPUS = '/sys/devices/system/cpu/';
/** Directories that are there even where they are empty. */
const DIRECTORIES: readonly string[] = ['/sys', '/sys/fs', '/sys/kernel', '/sys/kernel/mm'];

/** Every file there is now, by path. */
export function sysFiles(kernel: Kernel): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  const text = (path: string, read: () => string): void => void files.set(path, { mode: 0o444, read });
  for (const [path, file] of thpFiles(kernel)) files.set(path, file);
  const upTo = (count: number): string => `${listText(Array.from({ length: count }, (_, cpu) => cpu))}\n`;
  text(`${CPUS}online`, () => upTo(kernel.config.cpus));
  text(`${CPUS}present`, () => upTo(kernel.config.cpus));
  text(`${CPUS}possible`, () => upTo(kernel.config.possibleCpus));
  const { pageOwner } = kernel.pages;
  if (pageOwner !== null) text('/sys/kernel/debug/page_owner', () => pageOwnerText(kernel, pageOwner));
  const { kmemleak } = kernel;
  if (kmemleak !== null) {
    files.set('/sys/kernel/debug/kmemleak', { mode: 0o644, read: () => kmemleak.read(), write: (line) => kmemleak.write(line) });
  }
  files.set('/sys/kernel/debug/percpu_stats', { mode: 0o444, read: () => percpuStats(kernel) });
  for (const [path, read] of nodeFiles(kernel)) text(path, read);
  for (const [path, file] of ksmFiles(kernel)) files.set(path, file);
  for (const [path, file] of hwpoisonFiles(kernel)) files.set(path, file);
  for (const [path, file] of lruGenFiles(kernel)) files.set(path, file);
  for (const [path, file] of hugepageFiles(kernel)) files.set(path, file);
  for (const [path, file] of interleaveWeightFiles(kernel)) files.set(path, file);
  for (const [path, file] of nodeReclaimFiles(kernel)) files.set(path, file);
  files.set('/sys/kernel/mm/swap/vma_ra_enabled', trueFalse(() => kernel.vm.swap.vmaReadahead, (on) => {
    kernel.vm.swap.vmaReadahead = on;
  }));
  for (const [path, file] of slabFiles(kernel)) files.set(path, file);
  for (const [path, file] of compactFiles(kernel)) files.set(path, file);
  for (const [path, file] of debugFiles(kernel)) files.set(path, file);
  for (const [path, file] of numaFiles(kernel)) files.set(path, file);
  for (const [path, file] of zswapFiles(kernel)) files.set(path, file);
  return files;
}

/** The file of a path, `'directory'`, or -ENOENT. */
export function lookUpSys(kernel: Kernel, path: string): ProcFile | 'directory' | number {
  const ofSlab = slabFile(kernel, path);
  if (ofSlab !== undefined) return ofSlab;
  if (path === CGROUP_MOUNT || path.startsWith(`${CGROUP_MOUNT}/`)) return kernel.cgroups.lookUp(path);
  const files = sysFiles(kernel);
  const file = files.get(path);
  if (file !== undefined) return file;
  const inside = `${path}/`;
  if (DIRECTORIES.includes(path) || [...files.keys()].some((name) => name.startsWith(inside))) return 'directory';
  return -Errno.ENOENT;
}
