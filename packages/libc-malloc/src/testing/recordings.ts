/// <reference types="node" />
import { readFileSync, readdirSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const FOLDER = new URL('../../../../test/data/traces/', import.meta.url);

/** The names of the recordings that end in `suffix`, without it. */
export function recordingNames(suffix: string): string[] {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith(suffix));
  return names.map((name) => name.slice(0, -suffix.length)).sort();
}

/** The bytes of a recording, unpacked. */
export function readRecording(name: string): Uint8Array {
  const bytes = readFileSync(new URL(name, FOLDER));
  return name.endsWith('.gz') ? gunzipSync(bytes) : bytes;
}

/** The lines of a recording. */
export function readRecordingLines(name: string): string[] {
  const lines = new TextDecoder().decode(readRecording(name)).split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}
