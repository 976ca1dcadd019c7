/**
 * `swap`: a program writes and reads more memory than the machine has, in ascending order, and then a small part of it over
 * and over.
 */
import { Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { MIB, PAGE, kibOf, map, touchWrite, wrongWords } from './load-run.ts';
import type { Recording } from '../recording.ts';
import type { Load, LoadRun } from './load-run.ts';

export const swap: Load = { name: 'swap', run, machine: (recording) => ({ swap: [{ size: diskBytes(recording) }] }) };

/** The disk of a recording that does not say. */
const DISK_BYTES = 512 * MIB;
/** Where the machine has its disk. */
const DISK = '/dev/vdb';
const HOT = 16 * MIB;
const CHUNK = 4 * MIB;
const COUNTERS = ['pswpin', 'pswpout', 'pgmajfault', 'pgscan_anon', 'pgsteal_anon', 'pgrotated', 'nr_vmscan_write', 'workingset_refault_anon', 'swap_ra', 'swap_ra_hit'];
const WRITES = ['pswpout', 'pgrotated', 'nr_vmscan_write'];

/** Who reclaimed: how that is shared in each stage is a matter of when devices are done. */
const RECLAIMERS = ['pgscan_kswapd', 'pgscan_direct', 'pgsteal_kswapd', 'pgsteal_direct'];

function run(load: LoadRun): void {
  load.equal('results', 'swapon', load.take(/^swapon\(\S+\)=(-?\d+)/)[1], '0');
  compareSwaps(load);
  load.hold();
  load.stage('00-before');
  const hog = load.fork(load.start());
  const bytes = Number(load.take(/^hog: mmap (\d+) MiB/)[1]) * MIB;
  const start = map(hog.os, bytes);
  // The recorded program's words are their offsets: the seed of each chunk is where it begins.
  for (let offset = 0; offset < bytes; offset += CHUNK) touchWrite(hog.os, start + offset, CHUNK, offset);
  compareProcess(load, hog, 'after fill');
  load.stage('01-after-fill');
  load.likeChanges('00-before', '01-after-fill', COUNTERS);

  let wrong = 0;
  for (let offset = 0; offset < bytes; offset += CHUNK) wrong += wrongWords(hog.os, start + offset, CHUNK, offset);
  load.equal('contents', 'wrong words', load.take(/^hog: pass 2 read ascending, wrong words (\d+)/)[1], `${wrong}`);
  compareProcess(load, hog, 'after pass 2');
  load.stage('02-after-pass2-read');
  load.likeChanges('01-after-fill', '02-after-pass2-read', COUNTERS);

  for (let offset = 0; offset < HOT; offset += CHUNK) touchWrite(hog.os, start + offset, CHUNK, offset);
  for (let pass = 0; pass < 4; pass++) for (let offset = 0; offset < HOT; offset += PAGE) hog.os.mem.load8(start + offset);
  load.stage('03-after-hotset16m');
  // Whether the pages that go for these were written before is a matter of which they are.
  load.likeChanges('02-after-pass2-read', '03-after-hotset16m', COUNTERS.filter((name) => !WRITES.includes(name)));
  load.likeChanges('00-before', '03-after-hotset16m', [...WRITES, ...RECLAIMERS]);
  load.end(hog, 'hog');
  compareSwaps(load);
  load.stage('04-after-hog-exit');

  const { os } = load.start();
  load.equal('results', 'swapoff', load.take(/^swapoff=(-?\d+)/)[1], `${os.syscall(Syscall.swapoff, pathOf(os))}`);
  load.stage('05-after-swapoff');
  const { recorded, computed } = load.counter('05-after-swapoff', 'SwapTotal');
  load.equal('results', 'SwapTotal after swapoff', recorded, computed);
}

/** Bytes of the recorded disk: of the area on it, and the page before that. */
function diskBytes(recording: Recording): number {
  const kib = Number(/\/proc\/swaps: \/dev\S+ +\w+ +(\d+)/.exec(recording.text('events.txt'))?.[1] ?? DISK_BYTES / 1024 - 4);
  return kib * 1024 + PAGE;
}

function pathOf(os: Os): number {
  const at = map(os, PAGE);
  os.mem.storeCString(at, DISK);
  return at;
}

/** Size and priority of the area; what is in use once nothing is swapped differs: other programs had pages there. */
function compareSwaps(load: LoadRun): void {
  const row = /(partition|file)\s+(\d+)\s+(\d+)\s+(-?\d+)/;
  load.take(/^\/proc\/swaps: Filename/);
  const recorded = row.exec(load.take(/^\/proc\/swaps: \/dev/).input)!;
  const computed = row.exec(load.machine.readFile('/proc/swaps')) ?? [];
  for (const [at, what] of [[1, 'type'], [2, 'size'], [4, 'priority']] as const) load.equal('swaps', what, recorded[at], computed[at]);
  load.shape('KiB in use', Number(recorded[3]), Number(computed[3]));
}

function compareProcess(load: LoadRun, hog: Process, when: string): void {
  const [, minflt, majflt] = load.take(new RegExp(`^hog ${when}: pid-self minflt=(\\d+) majflt=(\\d+)`));
  const stat = hog.os.readFile('/proc/self/stat').split(') ')[1]!.split(' ').map(Number);
  load.shape(`minor faults ${when}`, Number(minflt), stat[7]!);
  load.shape(`major faults ${when}`, Number(majflt), stat[9]!);
  const recorded = load.take(new RegExp(`^hog ${when} status:`)).input;
  const computed = hog.os.readFile('/proc/self/status');
  for (const name of ['RssAnon', 'VmSwap']) load.shape(`${name} ${when}`, kibOf(recorded, name), kibOf(computed, name));
}
