/**
 * The hierarchy of control groups that is mounted at `/sys/fs/cgroup`.
 */
import { Errno } from '@pagelab/abi';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { Cgroup, cgroupMkdir, cgroupRmdir } from './cgroup.ts';
import { cgroupFiles } from './cgroup-files.ts';
import { effectiveMems } from './cpuset.ts';
import { cpusetFiles } from './cpuset-files.ts';
import { memoryFiles } from './memory-files.ts';

/** Where it is mounted. */
export const CGROUP_MOUNT = '/sys/fs/cgroup';

export class Cgroups {
  readonly root = new Cgroup('', null);
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** Nodes that the processes of a group may use, where the group has no cpuset of its own or hands its own down. */
  effectiveMems(cgroup: Cgroup): readonly number[] {
    return effectiveMems(this.#kernel, cgroup);
  }

  /** The group of a directory; `undefined` where there is none. @param path without `.` and `..` */
  find(path: string): Cgroup | undefined {
    if (path === CGROUP_MOUNT) return this.root;
    if (!path.startsWith(`${CGROUP_MOUNT}/`)) return undefined;
    let cgroup: Cgroup | undefined = this.root;
    for (const part of path.slice(CGROUP_MOUNT.length + 1).split('/')) if (part !== '') cgroup = cgroup?.children.get(part);
    return cgroup;
  }

  /** The files of a group's directory, by name. */
  filesOf(cgroup: Cgroup): ReadonlyMap<string, ProcFile> {
    return new Map([...cgroupFiles(this.#kernel, cgroup), ...cpusetFiles(this.#kernel, cgroup), ...memoryFiles(this.#kernel, cgroup)]);
  }

  /** A file or directory below the mount point. */
  lookUp(path: string): ProcFile | 'directory' | number {
    if (this.find(path) !== undefined) return 'directory';
    const slash = path.lastIndexOf('/');
    const cgroup = this.find(path.slice(0, slash));
    return (cgroup === undefined ? undefined : this.filesOf(cgroup).get(path.slice(slash + 1))) ?? -Errno.ENOENT;
  }

  /** Every file there is, by path. */
  *files(): Generator<[path: string, file: ProcFile]> {
    const visit = [this.root];
    for (let cgroup = visit.pop(); cgroup !== undefined; cgroup = visit.pop()) {
      const directory = cgroup.parent === null ? CGROUP_MOUNT : `${CGROUP_MOUNT}${cgroup.path}`;
      for (const [name, file] of this.filesOf(cgroup)) yield [`${directory}/${name}`, file];
      visit.push(...cgroup.children.values());
    }
  }

  /** @returns 0 or −errno @linux fs/kernfs/dir.c:kernfs_iop_mkdir */
  mkdir(path: string): number {
    if (this.find(path) !== undefined) return -Errno.EEXIST;
    const slash = path.lastIndexOf('/');
    const parent = this.find(path.slice(0, slash));
    const name = path.slice(slash + 1);
    if (parent === undefined) return -Errno.ENOENT;
    if (this.filesOf(parent).has(name)) return -Errno.EEXIST;
    return cgroupMkdir(this.#kernel, parent, name);
  }

  /** @returns 0 or −errno @linux fs/kernfs/dir.c:kernfs_iop_rmdir */
  rmdir(path: string): number {
    const cgroup = this.find(path);
    if (cgroup !== undefined) return cgroupRmdir(this.#kernel, cgroup);
    return typeof this.lookUp(path) === 'number' ? -Errno.ENOENT : -Errno.ENOTDIR;
  }
}
