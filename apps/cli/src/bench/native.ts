/**
 * The same work on the host's own kernel and C library.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MallocEvents } from '@pagelab/libc-malloc';
import { CommandFailure } from '../errors.ts';

const source = fileURLToPath(new URL('../../native/host-bench.c', import.meta.url));
const OPERATIONS = ['m', 'c', 'a', 'r', 'f'];

/** A trace in the form that `host-bench.c` reads. */
function packEvents({ count, ops, ids, extras, sizes }: MallocEvents): Uint8Array {
  const words = new BigUint64Array(count * 4);
  for (let i = 0; i < count; i++) {
    words[i * 4] = BigInt(OPERATIONS[ops[i]!]!.charCodeAt(0));
    words[i * 4 + 1] = BigInt(ids[i]!);
    words[i * 4 + 2] = BigInt(extras[i]!);
    words[i * 4 + 3] = BigInt(sizes[i]!);
  }
  return new Uint8Array(words.buffer);
}

/**
 * Nanoseconds by row, as the host does the work.
 *
 * @throws CommandFailure where this is not Linux or there is no C compiler
 */
export function measureNative(trace: MallocEvents): Map<string, number> {
  if (process.platform !== 'linux') throw new CommandFailure('--native needs Linux: it measures the host\'s own kernel');
  const directory = mkdtempSync(join(tmpdir(), 'pagelab-'));
  try {
    const program = join(directory, 'host-bench');
    const compiler = process.env.CC ?? 'cc';
    const compiled = spawnSync(compiler, ['-O2', '-o', program, source], { encoding: 'utf8' });
    if (compiled.error || compiled.status !== 0) {
      throw new CommandFailure(`--native needs a C compiler: '${compiler}' ${compiled.error ? 'is not there' : `says ${compiled.stderr.trim()}`}`);
    }
    const events = join(directory, 'events');
    writeFileSync(events, packEvents(trace));
    const measured = spawnSync(program, [events], { encoding: 'utf8' });
    if (measured.status !== 0) throw new CommandFailure(`the host's benchmark ended with status ${measured.status}`);
    return new Map(
      measured.stdout.trim().split('\n').map((line) => {
        const [row, ns] = line.split(' ');
        return [row!, Number(ns)];
      }),
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
