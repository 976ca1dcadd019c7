/** Recorded loads, done again on machines of their shape; and that a value which is not what the kernel said is found. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { CaseResult } from '../conformance/run-case.ts';
import Table from 'cli-table3';
import { PLAIN } from '../plain-table.ts';
import { readPackedRecordings, recordingOf } from './recording.ts';
import type { Recording } from './recording.ts';
import { loadOf, verifyLoad, whyNoLoad } from './verify-load.ts';

const recordings = readPackedRecordings(fileURLToPath(new URL('../../../../test/data/boots/loads.json.br', import.meta.url)));
const failures = (results: readonly CaseResult[]): string[] =>
  results.filter(({ failure }) => failure !== null).map(({ area, id, failure }) => `${area} ${id}: ${failure}`);

/** A recording in which the first match in a file reads otherwise. */
function falsified(id: string, file: string, pattern: RegExp, replacement: string): Recording {
  const recording = recordings.find((each) => each.id === id)!;
  expect(recording.text(file)).toMatch(pattern);
  return recordingOf(id, (name) => (name === file ? recording.text(name).replace(pattern, replacement) : recording.text(name)));
}

describe('recorded loads', () => {
  const done = recordings.filter((recording) => whyNoLoad(recording) === null);

  it.each(done.map((recording) => [recording.id, recording] as const))('%s', (id, recording) => {
    const { results, shapes } = verifyLoad(recording);
    if (shapes.length > 0) {
      const table = new Table({ ...PLAIN, head: ['stage', 'figure', 'recorded', 'computed'] });
      for (const { stage, what, recorded, computed } of shapes) table.push([stage, what, recorded, computed]);
      console.log(`${id}: alike in shape\n${table.toString()}`);
    }
    expect(failures(results)).toEqual([]);
    expect(results.length).toBeGreaterThan(50);
  });

  it('are those that there is a program for', () => {
    expect(recordings.length).toBe(21);
    expect(new Set(done.map((recording) => loadOf(recording)!.name))).toContain('forkcow');
  });
});

describe('a falsified value', () => {
  it.each([
    ['a count of faults', 'load-forkcow-256m', /touch\): pid-self minflt=33072|after direct write touch: pid-self minflt=33072/, 'after direct write touch: pid-self minflt=33172', /^minor faults .*after direct write touch: recorded 8292, computed 8192$/],
    ['an errno', 'load-mlock-256m', /mlock\(p\+16\*MB,4096\) = -1 errno 12/, 'mlock(p+16*MB,4096) = -1 errno 11', /^results .*: recorded 'EAGAIN', computed 'ENOMEM'$/],
    ['a value', 'load-overcommit-256m', /max 256\): 11/, 'max 256): 12', /^results .*: recorded 12, computed 11$/],
    ['a page that compaction changed', 'load-compact-256m', /wrong words 0/, 'wrong words 1', /^results .*contents check after migration: recorded 'wrong words 1', computed 'wrong words 0'$/],
    ['a count of huge pages', 'load-compact-256m', /got 20/, 'got 21', /^results .*nr_hugepages=20: got: recorded 21, computed 20$/],
    ['an event', 'load-forkcow-256m', /parent before rewrite/, 'parent before overwrite', /^events .*: events\.txt: nothing like .*parent before rewrite/],
  ] as const)('%s is found', (_, id, pattern, replacement, failure) => {
    expect(failures(verifyLoad(falsified(id, 'events.txt', pattern, replacement)).results)).toContainEqual(expect.stringMatching(failure));
  });
});
