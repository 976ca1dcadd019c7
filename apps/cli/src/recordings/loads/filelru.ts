/**
 * `filelru`: files read over and over, one larger than memory among them: which pages stay, which are asked for again.
 */
import { MAP_SHARED, O_CREAT, O_RDONLY, O_RDWR, PROT_READ, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { MIB, PAGE, READ_BYTES, map, readToEnd } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

export const filelru: Load = { name: 'filelru', run };

const FILES = { a: 400 * MIB, b: 48 * MIB, c: 32 * MIB } as const;
const COUNTERS = ['pgscan_file', 'pgsteal_file', 'pgactivate', 'workingset_refault_file', 'nr_file_pages', 'workingset_nodes'];

function run(load: LoadRun): void {
  const init = load.start();
  const { os } = init;
  // The disk of the recording has the files already: here they are made, and hold nothing but zeros.
  for (const [name, bytes] of Object.entries(FILES)) {
    const fd = os.syscall(Syscall.open, path(os, `/${name}`), O_RDWR | O_CREAT, 0o600);
    os.syscall(Syscall.ftruncate, fd, bytes);
    os.syscall(Syscall.close, fd);
  }
  const read = (name: keyof typeof FILES): number => readFile(init, name);
  load.hold();
  load.stage('00-before');
  load.equal('results', 'bytes of A', load.take(/^read A once: (\d+) bytes/)[1], `${read('a')}`);
  load.stage('01-after-A-once');
  load.likeChanges('00-before', '01-after-A-once', COUNTERS);
  compareResident(load, init, 'a');
  for (const [stage, before] of [['02-after-B-once', '01-after-A-once'], ['03-after-B-twice', '02-after-B-once'], ['04-after-B-thrice', '03-after-B-twice']] as const) {
    read('b');
    load.stage(stage);
    load.likeChanges(before, stage, COUNTERS);
  }
  read('a');
  load.stage('05-after-A-again');
  load.likeChanges('04-after-B-thrice', '05-after-A-again', COUNTERS);
  compareResident(load, init, 'b');
  compareResident(load, init, 'a');
  read('b');
  load.stage('06-after-B-fourth');
  // How much of B the other file had pushed out depends on how much memory there is beside it.
  load.likeChanges('05-after-A-again', '06-after-B-fourth', ['pgactivate', 'nr_file_pages']);
}

function path(os: Os, name: string): number {
  const at = map(os, PAGE);
  os.mem.storeCString(at, name);
  return at;
}

function readFile({ os }: Process, name: keyof typeof FILES): number {
  const buffer = map(os, READ_BYTES);
  const total = readToEnd(os, path(os, `/${name}`), buffer);
  os.munmap(buffer, READ_BYTES);
  return total;
}

/** Pages of a file that are cached. */
function compareResident(load: LoadRun, { os }: Process, name: keyof typeof FILES): void {
  const [, recorded] = load.take(new RegExp(`^mincore /mnt/${name}: (\\d+) of`));
  const fd = os.syscall(Syscall.open, path(os, `/${name}`), O_RDONLY, 0);
  const bytes = FILES[name];
  const start = os.mmap(0, bytes, PROT_READ, MAP_SHARED, fd);
  const vector = map(os, bytes / PAGE);
  os.syscall(Syscall.mincore, start, bytes, vector);
  let resident = 0;
  for (let i = 0; i < bytes / PAGE; i++) resident += os.mem.load8(vector + i) & 1;
  os.munmap(start, bytes);
  os.munmap(vector, bytes / PAGE);
  os.syscall(Syscall.close, fd);
  load.shape(`resident pages of ${name}`, Number(recorded), resident);
}
