/**
 * Control groups that a configuration asks for: what an init system would make first.
 */
import { ConfigError } from '../config.ts';
import type { Kernel } from '../kernel.ts';
import { CONTROLLERS, cgroupMkdir, writeSubtreeControl } from './cgroup.ts';
import type { Cgroup } from './cgroup.ts';

/** Files of a group and what is written to them, in order. */
export type CgroupFiles = Readonly<Record<string, string | number>>;

/**
 * Makes groups, those above them too, with all controllers handed down to them.
 *
 * @param groups files by path from the mount point, as in `/jobs/a`
 * @throws ConfigError naming what could not be made or written
 */
export function bootCgroups(kernel: Kernel, groups: Readonly<Record<string, CgroupFiles>>): void {
  const wrong = (path: string, why: string): never => {
    throw new ConfigError(`cgroups: "${path}": ${why}`);
  };
  for (const [path, files] of Object.entries(groups)) {
    let cgroup: Cgroup = kernel.cgroups.root;
    const names = path.split('/').filter((name) => name !== '');
    if (names.length === 0) wrong(path, 'takes a path below the root, such as "/jobs"');
    for (const name of names) {
      if (writeSubtreeControl(kernel, cgroup, CONTROLLERS.map((each) => `+${each}`).join(' ')) < 0) wrong(path, 'no memory for it');
      if (!cgroup.children.has(name) && cgroupMkdir(kernel, cgroup, name) < 0) wrong(path, `"${name}" is no name of a group`);
      cgroup = cgroup.children.get(name)!;
    }
    const known = kernel.cgroups.filesOf(cgroup);
    for (const [name, value] of Object.entries(files)) {
      const file = known.get(name);
      if (file === undefined || !('write' in file)) wrong(path, `"${name}" is no file of a group that can be written; there are ${[...known].filter(([, each]) => 'write' in each).map(([each]) => each).join(', ')}`);
      else if ((file.write?.(String(value), null) ?? 0) < 0) wrong(path, `${name} cannot be set to ${JSON.stringify(value)}`);
    }
  }
}
