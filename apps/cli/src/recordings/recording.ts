/**
 * What a real kernel reported of itself: a set of small text files, in a directory or in a packed extract of many.
 */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { CommandFailure } from '../errors.ts';

/** `config.json` of a recording: the machine as it was started. */
export interface RecordingConfig {
  readonly id: string;
  /** `boot`, `host` (a machine that runs) or `load`. */
  readonly kind: string;
  /** `x86_64`, `i386`, `i386 (PAE)` or another. */
  readonly arch: string;
  /** The release, `6.1.0-56-amd64`. */
  readonly kernel: string;
  readonly cmdline: string;
  readonly memory_mib: number;
  readonly cpus: number;
  readonly numa: readonly { readonly node: number; readonly memory_mib: number; readonly cpus: string }[];
  /** Node, node, distance both ways. Others are 20. */
  readonly numa_distances: readonly (readonly [number, number, number])[];
  /** Of a load: which. */
  readonly load?: string;
  /** The command that started it. */
  readonly qemu?: string;
}

/** A recording. */
export interface Recording {
  readonly id: string;
  readonly config: RecordingConfig;
  /** The text of one of its files, `''` where there is none. */
  readonly text: (name: string) => string;
}

/** Whether a path is the directory of a recording. */
export function isRecording(directory: string): boolean {
  return existsSync(join(directory, 'config.json'));
}

/**
 * Reads the recording in a directory; its files are read as they are asked for.
 *
 * @throws CommandFailure where its `config.json` is none
 */
export function readRecording(directory: string): Recording {
  const text = (name: string): string => {
    const file = join(directory, name);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  };
  return recordingOf(basename(resolve(directory)), text);
}

/** Recordings in a packed extract: JSON of file names and texts by recording, compressed with Brotli. */
export function readPackedRecordings(file: string): Recording[] {
  const packed = JSON.parse(brotliDecompressSync(readFileSync(file)).toString('utf8')) as Record<string, Record<string, string>>;
  return Object.entries(packed).map(([id, files]) => recordingOf(id, (name) => files[name] ?? ''));
}

/** A recording of the files that `text` has. */
export function recordingOf(id: string, text: (name: string) => string): Recording {
  let config: Partial<RecordingConfig>;
  try {
    config = JSON.parse(text('config.json')) as Partial<RecordingConfig>;
  } catch (error) {
    throw new CommandFailure(`${id}: config.json is not JSON: ${(error as Error).message}`);
  }
  for (const key of ['kind', 'arch', 'kernel', 'memory_mib', 'cpus'] as const) {
    if (config[key] === undefined) throw new CommandFailure(`${id}: config.json has no "${key}"`);
  }
  const whole = { numa: [], numa_distances: [], cmdline: '', ...config } as RecordingConfig;
  // To a kernel with this word there are no more CPUs.
  const most = Number(/\bnr_cpus=(\d+)/.exec(whole.cmdline)?.[1] ?? Infinity);
  return { id, config: { ...whole, cpus: Math.min(whole.cpus, most) }, text };
}
