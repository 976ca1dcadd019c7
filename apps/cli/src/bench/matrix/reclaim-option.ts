/**
 * `--reclaim NAMES|FILES`: the machine's own policies by name, or one that a file exports.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { RECLAIM_POLICIES } from '@pagelab/kernel/reclaim';
import type { ReclaimPolicyFactory } from '@pagelab/kernel/reclaim';
import { CommandFailure, UsageError } from '../../errors.ts';
import { loadModule } from '../../program-loader.ts';

/** Whether a value of `--reclaim` is a file's. */
export function isReclaimFile(nameOrFile: string): boolean {
  return /\.[mc]?[jt]s$/.test(nameOrFile);
}

/** @throws UsageError for what is neither a policy's name nor a file */
export function checkReclaim(nameOrFile: string): void {
  if (nameOrFile === '' || RECLAIM_POLICIES.includes(nameOrFile)) return;
  if (isReclaimFile(nameOrFile) && existsSync(nameOrFile)) return;
  throw new UsageError(`no reclaim policy '${nameOrFile}': give some of ${RECLAIM_POLICIES.join(', ')}, all, or .ts or .js files that export one`);
}

/**
 * The policy that a file exports; `undefined` for a name, which is the machine's to know.
 *
 * @throws CommandFailure where the file exports none
 */
export async function loadReclaim(nameOrFile: string): Promise<ReclaimPolicyFactory | undefined> {
  if (!isReclaimFile(nameOrFile)) return undefined;
  const { default: factory } = await loadModule(resolve(nameOrFile), nameOrFile);
  if (typeof (factory as Partial<ReclaimPolicyFactory> | undefined)?.create !== 'function') {
    throw new CommandFailure(`${nameOrFile} exports no reclaim policy: it needs 'export default { name, create }'`);
  }
  return factory as ReclaimPolicyFactory;
}
