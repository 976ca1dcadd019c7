/**
 * What `npm start` and `npm test` share: a clone with nothing installed becomes one that is built. Plain JavaScript on
 * Node's built-ins, because nothing else is there yet.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

const bin = join(root, 'node_modules', '.bin');
const stamp = join(root, 'node_modules', '.installed');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const environment = {
  ...process.env,
  PATH: `${bin}${delimiter}${process.env.PATH ?? ''}`,
  TURBO_TELEMETRY_DISABLED: '1',
  DO_NOT_TRACK: '1',
};

/**
 * Runs a command in the root, its output going where ours goes unless `capture` is set.
 *
 * @returns {{ status: number, output: string }}
 */
export function run(command, args, { capture = false } = {}) {
  const shell = process.platform === 'win32';
  const result = spawnSync(command, args, {
    cwd: root,
    env: environment,
    shell,
    stdio: capture ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 64 * 2 ** 20,
  });
  if (result.error) return { status: 127, output: `${command}: ${result.error.message}\n` };
  return { status: result.status ?? 1, output: `${result.stdout ?? ''}${result.stderr ?? ''}` };
}

/** Installs the dependencies with the pnpm version that package.json names, unless they are there already. */
export function install() {
  const lock = join(root, 'pnpm-lock.yaml');
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= statSync(lock).mtimeMs) return;
  console.log('Installing dependencies …');
  const { status, output } = run('npx', ['--yes', manifest.packageManager, 'install', '--frozen-lockfile'], { capture: true });
  if (status !== 0) {
    process.stderr.write(output);
    fail('the dependencies could not be installed (see above); the npm registry must be reachable for the first run');
  }
  writeFileSync(stamp, `${new Date().toISOString()}\n`);
}

/** Compiles every package that changed. */
export function build() {
  console.log('Building …');
  const { status, output } = run('turbo', ['run', 'build', '--output-logs=errors-only', '--ui=stream'], { capture: true });
  if (status !== 0) {
    process.stderr.write(output);
    fail('the build failed (see above)');
  }
}

/** Ends the process with a line on standard error. */
export function fail(message) {
  console.error(`pagelab: ${message}`);
  process.exit(1);
}
