/**
 * `mlock`: locking memory as a user with a limit, then as root without one.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, RLIMIT_MEMLOCK, Syscall, isError } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { parseNumbers } from '../proc-text.ts';
import { FaultLog } from './forkcow.ts';
import { MIB, becomeUser, kibOf, map, mapBefore, shown, touchWrite } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

export const mlock: Load = { name: 'mlock', run };

/** Small pages of a huge one. */
const HUGE_PAGES = 512;
const EVENTS = { mlocked: 'unevictable_pgs_mlocked', munlocked: 'unevictable_pgs_munlocked', culled: 'unevictable_pgs_culled', rescued: 'unevictable_pgs_rescued' };

function run(load: LoadRun): void {
  load.stage('00-before');
  const init = load.start();
  user(load, load.fork(init));
  root(load, load.fork(init));
  load.stage('08-after');
}

/** A user without CAP_IPC_LOCK. */
function user(load: LoadRun, process: Process): void {
  const { os } = process;
  const [, soft, hard] = load.take(/^default RLIMIT_MEMLOCK soft (\d+) hard (\d+)$/);
  const limit = os.getrlimit(RLIMIT_MEMLOCK);
  load.equal('RLIMIT_MEMLOCK', 'soft', Number(soft), limit.cur);
  load.equal('RLIMIT_MEMLOCK', 'hard', Number(hard), limit.max);
  becomeUser(os, Number(load.take(/^now uid (\d+), no CAP_IPC_LOCK$/)[1]));
  const p = mapBefore(os, 32 * MIB, pagesBefore(load));
  const report = new LockReport(load, process);
  const call = (): void => load.replayCall(process, { p, MCL_CURRENT: 1, MCL_FUTURE: 2 });
  report.take('start');
  call();
  report.take('after mlock 4M');
  load.stage('02-user-mlock-4m');
  for (const label of ['after mlock 8M at same start', 'after mlock 8M+4K', 'after extra 4K elsewhere', 'relock second half']) {
    call();
    report.take(label);
  }
  load.stage('03-user-mlock-8m');
  call();
  report.take('after munlock first 4M');
  call();
  report.take('after mlock2 ONFAULT 4M (untouched)');
  touchWrite(os, p + 16 * MIB, 2 * MIB, 1);
  report.take('after touching 2M of it');
  call();
  report.take('after munlockall');
  call();
  report.take('after mlockall(MCL_CURRENT) with 32 MiB mapped');
  call();
  report.take('unmapped 32M');
  // From here on the program's own pages are locked with the others, and every program has its own.
  report.alone = false;
  call();
  report.take('after mlockall CURRENT|FUTURE');
  for (const pattern of [/^mmap (\d+) MiB under MCL_FUTURE: (\w+) errno (\d+)/, /^mmap (\d+) MiB under MCL_FUTURE: (\w+)$/]) {
    const [, mib, said, errno] = load.take(pattern);
    const result = os.syscall(Syscall.mmap, 0, Number(mib) * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    load.equal('results', `mmap ${mib} MiB under MCL_FUTURE`, said, isError(result) ? 'failed' : 'ok');
    if (errno !== undefined) load.equal('results', `mmap ${mib} MiB under MCL_FUTURE: errno`, Number(errno), isError(result) ? -result : 0);
  }
  report.take('end future');
  load.stage('04-user-mlockall');
  os.munlockall();
  os.setrlimit(RLIMIT_MEMLOCK, { cur: 0, max: 0 });
  load.replayCall(process, { q: map(os, MIB) });
  report.take('rlimit 0');
  load.end(process, 'mluser');
}

/**
 * Small pages that the recorded program had in front of the first huge page it touched; nothing where it had none. Where the
 * memory lies is chance, and 2 MiB that begin anywhere are so many small pages and a huge one.
 */
function pagesBefore(load: LoadRun): number | undefined {
  const events = load.recording.text('events.txt');
  const locked = (label: string): number => Number(new RegExp(`${label}: .* unevictable_pgs_mlocked (\\d+)`).exec(events)?.[1] ?? 0);
  const pages = locked('after touching 2M of it') - locked('after mlock2 ONFAULT 4M \\(untouched\\)');
  return pages > HUGE_PAGES && pages < 2 * HUGE_PAGES ? pages - HUGE_PAGES : undefined;
}

/** Root, whom no limit binds. */
function root(load: LoadRun, process: Process): void {
  const { os } = process;
  const size = Number(/root mlock (\d+)M/.exec(load.recording.text('events.txt'))?.[1] ?? 48) * MIB;
  const p = map(os, size);
  const faults = new FaultLog(load);
  const report = new LockReport(load, process);
  const call = (): void => load.replayCall(process, { p, MCL_CURRENT: 1, MCL_FUTURE: 2 });
  call();
  report.take(`root mlock ${size / MIB}M`);
  load.stage('05-root-mlock-48m');
  touchWrite(os, p, MIB, 1);
  call();
  report.take(`root munlock ${size / MIB}M`);
  load.stage('06-root-munlock');
  report.alone = false;
  call();
  report.take('root mlockall');
  const more = Number(/root mapped (\d+)M more/.exec(load.recording.text('events.txt'))?.[1] ?? 16);
  load.equal('results', `mmap ${more} MiB under MCL_FUTURE as root`, 'ok', isError(map(os, more * MIB)) ? shown(-1) : 'ok');
  report.take(`root mapped ${more}M more under MCL_FUTURE (untouched)`);
  load.stage('07-root-mlockall-future');
  const { recorded, computed } = faults.note('root', process);
  load.shape('root: minor faults', recorded, computed);
  load.end(process, 'mlroot');
}

/** What is locked, as the recorder reports it after each call. */
class LockReport {
  readonly #load: LoadRun;
  readonly #process: Process;
  /** Whether what is locked is what the calls named, and nothing of the program's own. */
  alone = true;
  #last: { recorded: Readonly<Record<string, number>>; computed: Readonly<Record<string, number>> } | null = null;

  constructor(load: LoadRun, process: Process) {
    this.#load = load;
    this.#process = process;
  }

  /** Takes the recorded line of this label and compares: the amounts, and how the counters moved since the last. */
  take(label: string): void {
    const load = this.#load;
    const escaped = label.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const match = load.take(new RegExp(`^${escaped}: Unevictable (\\d+) kB Mlocked (\\d+) kB VmLck (\\d+) kB VmRSS (\\d+) kB unevictable_pgs_mlocked (\\d+) munlocked (\\d+) culled (\\d+) rescued (\\d+)$`));
    const [unevictable, mlocked, lck, rss, pgsMlocked, pgsMunlocked, culled, rescued] = match.slice(1).map(Number) as [number, number, number, number, number, number, number, number];
    const status = load.machine.readFile(`/proc/${this.#process.pid}/status`);
    const meminfo = load.machine.readFile('/proc/meminfo');
    const vmstat = parseNumbers(load.machine.readFile('/proc/vmstat'));
    const event = (name: keyof typeof EVENTS): number => vmstat.get(EVENTS[name]) ?? 0;
    const recordedNow = { mlocked: pgsMlocked, munlocked: pgsMunlocked };
    const computedNow = { mlocked: event('mlocked'), munlocked: event('munlocked') };
    if (this.alone) {
      load.equal('locked', `${label}: VmLck`, lck, kibOf(status, 'VmLck'));
      for (const name of ['mlocked', 'munlocked'] as const) {
        const change = (now: Readonly<Record<string, number>>, last: Readonly<Record<string, number>> | undefined): number => now[name]! - (last?.[name] ?? now[name]!);
        load.equal('locked', `${label}: ${EVENTS[name]}`, change(recordedNow, this.#last?.recorded), change(computedNow, this.#last?.computed));
      }
    } else {
      load.shape(`${label}: VmLck (kB)`, lck, kibOf(status, 'VmLck'));
    }
    // A CPU keeps up to 15 pages back before it moves them between the lists.
    load.note(`${label}: Unevictable (kB)`, unevictable, kibOf(meminfo, 'Unevictable'));
    load.shape(`${label}: Mlocked (kB)`, mlocked, kibOf(meminfo, 'Mlocked'));
    load.shape(`${label}: VmRSS (kB)`, rss, kibOf(status, 'VmRSS'));
    load.note(`${label}: culled`, culled, event('culled'));
    load.note(`${label}: rescued`, rescued, event('rescued'));
    this.#last = { recorded: recordedNow, computed: computedNow };
  }
}
