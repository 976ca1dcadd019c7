/**
 * `compact`: memory of which every second page was freed, and what compacting it brings.
 */
import { MADV_DONTNEED, O_RDONLY, Syscall } from '@pagelab/abi';
import type { Os, VirtAddr } from '@pagelab/abi';
import { parseNumbers } from '../proc-text.ts';
import { MIB, PAGE, map, touchWrite, wrongWords } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

const COMPACT = '/proc/sys/vm/compact_memory';
const HUGEPAGES = '/proc/sys/vm/nr_hugepages';
/** How memory is used, and what compaction did. */
const COUNTERS = [
  'nr_free_pages', 'nr_anon_pages', 'pgmigrate_success', 'pgmigrate_fail', 'compact_migrate_scanned', 'compact_free_scanned', 'compact_isolated',
  'compact_stall', 'compact_fail', 'compact_success', 'compact_daemon_wake', 'htlb_buddy_alloc_success', 'htlb_buddy_alloc_fail',
];
/** What a request to compact all of memory has nothing to do with. */
const NOT_ASKED = ['compact_stall', 'compact_fail', 'compact_success', 'compact_daemon_wake', 'thp_migration_success', 'thp_migration_fail', 'thp_migration_split'];
/** So few pages move where the free scanner finds nothing. */
const FEW = 1024;
const ORDERS = Array.from({ length: 11 }, (_, order) => order);

export const compact: Load = { name: 'compact', run };

function run(load: LoadRun): void {
  load.hold();
  load.stage('00-before');
  const init = load.start();
  const child = load.fork(init);
  const { os } = child;
  const mib = Number(load.take(/^touched (\d+) MiB of 4 KiB pages$/)[1]);
  const bytes = mib * MIB;
  const start = map(os, bytes);
  touchWrite(os, start, bytes);
  load.stage('01-filled');
  const freed = firstFreed(load, os, start, bytes);
  for (let offset = freed; offset < bytes; offset += 2 * PAGE) os.madvise(start + offset, PAGE, MADV_DONTNEED);
  load.stage('02-fragmented');
  const scattered = freeBlocks(load, '02-fragmented');
  os.writeFile(COMPACT, '1');
  load.stage('03-compacted');
  const compacted = freeBlocks(load, '03-compacted');
  load.says('results', 'contents check after migration', `wrong words ${wrongWords(os, start, bytes, 1, 2 * PAGE, PAGE - freed)}`);
  os.writeFile(COMPACT, '1');
  load.stage('04-compacted-again');
  const [, asked, got] = load.take(/^nr_hugepages=(\d+) asked, got (\d+)$/);
  os.writeFile(HUGEPAGES, asked!);
  load.equal('results', `nr_hugepages=${asked}: got`, Number(got), Number(os.readFile(HUGEPAGES)));
  load.stage('05-hugepages20');
  os.writeFile(HUGEPAGES, '0');
  load.end(child, 'frag');
  load.stage('06-after-exit');

  const stages = ['00-before', '01-filled', '02-fragmented', '03-compacted', '04-compacted-again', '05-hugepages20', '06-after-exit'];
  stages.slice(1).forEach((stage, i) => load.likeChanges(stages[i]!, stage, COUNTERS));
  load.sameChanges('compaction', '02-fragmented', '05-hugepages20', NOT_ASKED);
  if (load.stageText('02-fragmented', 'buddyinfo') === '') return;
  load.shape('pages free in single frames, scattered', scattered.recorded[0]!, scattered.computed[0]!);
  // Of two halves of memory one may have its free pages where the scanner looks, the other not.
  load.note('the same, compacted', compacted.recorded[0]!, compacted.computed[0]!);
  load.shape('pages free in blocks of 2 MiB and more, compacted', large(compacted.recorded), large(compacted.computed));
}

/**
 * The first of every two pages, or the second: those that lie as the pages that the recorded program freed did. Where the
 * free scanner found nothing in a block it looks at every second frame of the next, then at every fourth: of free pages that
 * all lie at odd frames it gets nothing. At which they lie is chance, but tells in how many pages moved.
 *
 * @returns bytes to the first page that is to be freed
 */
function firstFreed(load: LoadRun, os: Os, start: VirtAddr, bytes: number): number {
  const moved = (stage: RegExp): number => {
    const name = new RegExp(`snapshot (${stage.source}\\S*)`).exec(load.recording.text('events.txt'))?.[1] ?? '';
    return parseNumbers(load.recording.text(`${name}.vmstat.txt`)).get('pgmigrate_success') ?? NaN;
  };
  const fewMoved = moved(/03-/) - moved(/02-/) < FEW;
  const path = map(os, PAGE);
  const entries = map(os, MIB);
  os.mem.storeCString(path, '/proc/self/pagemap');
  const fd = os.syscall(Syscall.open, path, O_RDONLY, 0);
  let odd = 0;
  let even = 0;
  for (let offset = 0; offset < bytes; offset += 8 * MIB) {
    os.syscall(Syscall.pread64, fd, entries, 8, ((start + offset) / PAGE) * 8);
    if (os.mem.load32(entries) % 2 === 1) odd++;
    else even++;
  }
  os.syscall(Syscall.close, fd);
  os.munmap(entries, MIB);
  os.munmap(path, PAGE);
  return odd > even === fewMoved ? 0 : PAGE;
}

/** Pages free in blocks of each order, in all zones. */
function freeBlocks(load: LoadRun, stage: string): { recorded: number[]; computed: number[] } {
  const parse = (text: string): number[] => {
    const rows = text.trim().split('\n').map((line) => line.trim().split(/\s+/).slice(4).map(Number));
    return ORDERS.map((order) => rows.reduce((sum, row) => sum + (row[order] ?? 0), 0) * 2 ** order);
  };
  return { recorded: parse(load.stageText(stage, 'buddyinfo')), computed: parse(load.machine.readFile('/proc/buddyinfo')) };
}

function large(pages: readonly number[]): number {
  return pages[9]! + pages[10]!;
}
