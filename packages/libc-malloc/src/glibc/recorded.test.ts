/// <reference types="node" />
import { readFileSync, readdirSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { MallocAbort } from '../malloc-abort.ts';
import { CallScript } from '../testing/call-script.ts';
import { FlatFault, FlatOs } from '../testing/flat-os.ts';
import { parseMallocTrace } from '../trace/malloc-trace-reader.ts';
import { formatBlockOffset, replayMallocTrace } from '../trace/replay-malloc-trace.ts';
import { Glibc } from './glibc.ts';
import type { GlibcOptions } from './ptmalloc.ts';

const FOLDER = new URL('../../../../test/data/traces/', import.meta.url);

/** The names of the recordings that end in `suffix`, without it. */
function recordingNames(suffix: string): string[] {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith(suffix));
  return names.map((name) => name.slice(0, -suffix.length)).sort();
}

function readRecording(name: string): Uint8Array {
  const bytes = readFileSync(new URL(name, FOLDER));
  return name.endsWith('.gz') ? gunzipSync(bytes) : bytes;
}

function readRecordingLines(name: string): string[] {
  const lines = new TextDecoder().decode(readRecording(name)).split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

describe('glibc against recordings of the real one', () => {
  it.each(recordingNames('.trace.gz'))('places every block of %s at its address', (name) => {
    const recorded = readRecordingLines(`${name}.addresses.gz`);
    const events = parseMallocTrace(readRecording(`${name}.trace.gz`));
    const os = new FlatOs();
    const malloc = new Glibc(os);
    const placed: string[] = [];
    replayMallocTrace(events, malloc, os, { onBlock: (offset) => placed.push(formatBlockOffset(offset)) });
    expect(firstDifference(placed, recorded)).toBe('');
    malloc.validate();
  });

  // From replay_glibc's last line.
  it.each([
    ['git-log', { arena: 2650112, uordblks: 2446720, fordblks: 203392, hblks: 1, hblkhd: 524288, keepcost: 134560 }],
    ['python-json', { arena: 2797568, uordblks: 233488, fordblks: 2564080, hblks: 2, hblkhd: 401408, keepcost: 1229872 }],
  ])('ends %s with the same counts', (name, recorded) => {
    const os = new FlatOs();
    const malloc = new Glibc(os);
    replayMallocTrace(parseMallocTrace(readRecording(`${name}.trace.gz`)), malloc, os);
    expect(malloc.mallinfo2()).toMatchObject(recorded);
  });

  it.each(recordingNames('.calls.gz'))('answers every call of %s the same', (name) => {
    const [header, ...lines] = readRecordingLines(`${name}.calls.gz`);
    const { tunables, heapBytes } = JSON.parse(header.replace('# calls v1 ', '')) as Header;
    // Thread arenas reserve much, and use little of it.
    const os = new FlatOs({ areaBytes: 3 * 2 ** 29, heapBytes: heapBytes ?? 2 ** 28 });
    const malloc = new Glibc(os, tunables);
    const script = new CallScript(malloc, os);
    const end = lines.pop()!.replace('# ', '');
    const recorded: string[] = [];
    const answers: string[] = [];
    lines.forEach((line, i) => {
      const [call] = line.split(' = ', 1);
      recorded.push(line.slice(call.length + 3));
      answers.push(script.call(call));
      if (i % 100 === 0) malloc.validate();
    });
    expect(firstDifference(answers, recorded)).toBe('');
    expect(script.final()).toBe(end);
  });
});

interface Header {
  readonly tunables: GlibcOptions;
  readonly heapBytes?: number;
}

function firstDifference(got: readonly string[], recorded: readonly string[]): string {
  const at = recorded.findIndex((value, i) => value !== got[i]);
  if (at >= 0) return `line ${at + 1}: ${got[at]} instead of ${recorded[at]}`;
  return got.length === recorded.length ? '' : `${got.length} lines instead of ${recorded.length}`;
}

describe('glibc on a smashed heap', () => {
  const smashes = readRecordingLines('smashes.txt').join('\n').split('\n\n## ').slice(1);
  it.each(smashes.map((smash) => smash.split('\n')).map(([name, ...lines]) => [name, lines] as const))(
    'does what the real one did: %s',
    (_name, lines) => {
      const calls = lines.slice(0, -1);
      expect(`= ${outcome(calls)}`).toBe(lines.at(-1));
    },
  );
});

function outcome(calls: readonly string[]): string {
  const os = new FlatOs({ areaBytes: 2 ** 29 });
  const script = new CallScript(new Glibc(os), os);
  try {
    for (const call of calls) script.call(call);
    return 'survives';
  } catch (error) {
    if (error instanceof MallocAbort) return error.message;
    if (error instanceof FlatFault) return 'SIGSEGV';
    throw error;
  }
}
