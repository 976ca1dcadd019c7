/** Runs the built command as a user does. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const pagelab = fileURLToPath(new URL('../../bin/pagelab.js', import.meta.url));

export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function runCli(...args: readonly string[]): CliResult {
  const { status, stdout, stderr } = spawnSync(process.execPath, [pagelab, ...args], { encoding: 'utf8', maxBuffer: 2 ** 28 });
  return { status, stdout, stderr };
}
