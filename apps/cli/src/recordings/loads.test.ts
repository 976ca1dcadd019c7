/** Recorded loads, done again on machines of their shape; and that a value which is not what the kernel said is found. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import type { CaseResult } from '../conformance/run-case.ts';
import { runCli } from '../testing/run-cli.ts';
import { loadTables } from './load-tables.ts';
import { readPackedRecordings, recordingOf } from './recording.ts';
import type { Recording } from './recording.ts';
import { loadOf, verifyLoad, whyNoLoad } from './verify-load.ts';

const recordings = ['loads', 'more-loads'].flatMap((name) => readPackedRecordings(fileURLToPath(new URL(`../../../../test/data/boots/${name}.json.br`, import.meta.url))));
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
    const result = verifyLoad(recording);
    const { results } = result;
    console.log(loadTables(id, result));
    expect(failures(results)).toEqual([]);
    expect(results.length).toBeGreaterThan(50);
  });

  it('are those that there is a program for', () => {
    expect(recordings.length).toBe(29);
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

describe('pagelab verify DIRECTORY… of a load', () => {
  const directory = mkdtempSync(join(tmpdir(), 'pagelab-loads-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  const files = ['config.json', 'dmesg.txt', 'events.txt', ...['00-before', '01-nr20', '02-touched8', '03-surplus', '04-shrunk', '05-max', '06-after'].flatMap((stage) => [`${stage}.meminfo.txt`, `${stage}.vmstat.txt`, `${stage}.zoneinfo.txt`])];
  function unpack(name: string, change: (file: string, text: string) => string | null = (_, text) => text): string {
    const recording = recordings.find(({ id }) => id === 'load-hugetlb-512m')!;
    mkdirSync(join(directory, name));
    for (const file of files) {
      const text = change(file, recording.text(file));
      if (text !== null) writeFileSync(join(directory, name, file), text);
    }
    return join(directory, name);
  }

  it('prints what is the same and what is alike', () => {
    const { status, stdout } = runCli('verify', unpack('whole'));
    expect(stdout).toMatch(/^whole: the same\n +area +figure +recorded +computed\n/);
    expect(stdout).toMatch(/\n +minor faults +after touch +8 +8\n/);
    expect(stdout).toMatch(/\nwhole: alike in shape\n +stage +figure +recorded +computed\n/);
    expect(stdout).toMatch(/\nhuge pages: \d+ passed, 0 failed\n/);
    expect(stdout).toMatch(/\n\d+ passed, 0 failed\n$/);
    expect(status).toBe(0);
  });

  it('gives both tables as JSON, of the areas that were asked for', () => {
    const { stdout } = runCli('verify', unpack('json'), '--json', '--only', 'minor faults');
    const { loads, passed } = JSON.parse(stdout) as { loads: Record<string, unknown>; passed: number };
    expect(passed).toBe(1);
    expect(loads).toEqual({ json: { exacts: [{ area: 'minor faults', what: 'after touch', recorded: 8, computed: 8 }], shapes: [] } });
  });

  it('compares what there is where stages or lines have other names, or a file is missing', () => {
    const renamed = unpack('renamed', (file, text) => (file === 'events.txt' ? text.replace('snapshot 01-nr20', 'snapshot 01-twenty') : text));
    const overwritten = unpack('overwritten', (file, text) => (file === 'events.txt' ? text.replace('\n[', `\n${'\0'.repeat(40)}  [`) : text));
    const without = unpack('without', (file, text) => (file.startsWith('02-') ? null : text));
    const { status, stdout } = runCli('verify', renamed, overwritten, without);
    expect(stdout.split('\n').filter((line) => line.startsWith('FAIL'))).toEqual([]);
    expect(status).toBe(0);
  });

  it('says where the program did something else', () => {
    const { status, stdout } = runCli('verify', unpack('other', (file, text) => (file === 'events.txt' ? text.replace(/.*mmap 24 MiB more.*\n/, '') : text)));
    expect(stdout).toMatch(/\nFAIL events other: hugetlb: events\.txt: nothing like .* after /);
    expect(status).toBe(1);
  });
});
