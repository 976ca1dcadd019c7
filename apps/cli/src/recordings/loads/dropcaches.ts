/**
 * `dropcaches`: a file is read, many small ones are made, names are looked up in vain; then `drop_caches` takes back what is clean and
 * not mapped, step by step.
 */
import { MAP_SHARED, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, PROT_READ, Syscall } from '@pagelab/abi';
import { MIB, PAGE, READ_BYTES, map, readToEnd, touchRead } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

export const dropcaches: Load = { name: 'dropcaches', run };

const DROP_CACHES = '/proc/sys/vm/drop_caches';
const PAGES = ['nr_file_pages', 'nr_dirty', 'nr_mapped'];
const TIMES = ['drop_pagecache', 'drop_slab'];
const SLABS = ['nr_slab_reclaimable', 'slabs_scanned'];

function run(load: LoadRun): void {
  const { os } = load.start();
  const name = map(os, PAGE);
  const buffer = map(os, READ_BYTES);
  const at = (path: string): number => {
    os.mem.storeCString(name, path);
    return name;
  };
  const bytes = Number(/ read (\d+) MiB file$/m.exec(load.recording.text('events.txt'))?.[1] ?? 48) * MIB;
  // The disk of the recording has the file already: here it is made, and holds nothing but zeros.
  const made = os.syscall(Syscall.open, at('/b'), O_RDWR | O_CREAT, 0o600);
  os.syscall(Syscall.ftruncate, made, bytes);
  os.syscall(Syscall.close, made);

  load.stage('00-before');
  load.equal('results', 'MiB read', load.take(/^read (\d+) MiB file$/)[1], `${readToEnd(os, at('/b'), buffer) / MIB}`);
  load.stage('01-read-48m');
  load.likeChanges('00-before', '01-read-48m', PAGES);

  const wanted = Number(load.take(/^created (\d+) files of 4 KiB$/)[1]);
  os.syscall(Syscall.mkdir, at('/d'), 0o755);
  let files = 0;
  for (let i = 0; i < wanted; i++) {
    const fd = os.syscall(Syscall.open, at(`/d/f${i}`), O_CREAT | O_WRONLY, 0o644);
    if (os.syscall(Syscall.write, fd, buffer, PAGE) === PAGE) files++;
    os.syscall(Syscall.close, fd);
  }
  load.equal('results', 'files made', wanted, files);
  const lookUps = Number(load.take(/^(\d+) negative look-ups$/)[1]);
  for (let i = 0; i < lookUps; i++) os.syscall(Syscall.stat, at(`/d/none${i}`), buffer);
  load.stage('02-files-and-negative-dentries');
  load.likeChanges('01-read-48m', '02-files-and-negative-dentries', [...PAGES, 'nr_slab_reclaimable']);

  const mapped = Number(load.take(/^(\d+) MiB of the file stays mapped$/)[1]) * MIB;
  const fd = os.syscall(Syscall.open, at('/b'), O_RDONLY, 0);
  const shown = os.mmap(0, mapped, PROT_READ, MAP_SHARED, fd);
  touchRead(os, shown, mapped);
  const drop = (kinds: string): void => os.writeFile(DROP_CACHES, kinds);
  drop('1');
  compare(load, '02-files-and-negative-dentries', '03-drop1-unsynced', PAGES);
  os.syscall(Syscall.sync);
  compare(load, '03-drop1-unsynced', '04-synced', PAGES);
  drop('1');
  compare(load, '04-synced', '05-drop1', PAGES);
  drop('2');
  compare(load, '05-drop1', '06-drop2', [...PAGES, ...SLABS]);
  drop('3');
  compare(load, '06-drop2', '07-drop3', [...PAGES, ...SLABS]);
  os.munmap(shown, mapped);
  os.syscall(Syscall.close, fd);
  drop('3');
  compare(load, '07-drop3', '08-unmapped-drop3', [...PAGES, ...SLABS]);
  // What is mapped stays, however often it is asked for; what was not clean went once it was written.
  load.likeChanges('00-before', '05-drop1', PAGES);
  load.likeChanges('00-before', '08-unmapped-drop3', PAGES);
}

/** Notes a stage: how often was dropped is the same, what that did alike. */
function compare(load: LoadRun, before: string, stage: string, like: readonly string[]): void {
  load.stage(stage);
  load.sameChanges('results', before, stage, TIMES);
  load.likeChanges(before, stage, like);
}
