/**
 * `oom`: three programs of fixed sizes and one that grows, without swap: who is killed when memory runs out, and in what
 * order; then one that grows and may not be killed.
 */
import { SIGKILL } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { parseNumbers } from '../proc-text.ts';
import { LoadMismatch, MIB, PAGE, kibOf, map, touchWrite } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

export const oom: Load = { name: 'oom', run };

const MAP_NORESERVE = 0x4000;
const GROWER_BYTES = 400 * MIB;
/** What one page table of the last level covers. */
const TABLE_SPAN = 2 * MIB;

/** Pages that a CPU counts before it tells. @linux lib/percpu_counter.c:percpu_counter_batch */
const KEPT_BACK = 31;

/** A program as the recording tells of it. */
interface Told {
  readonly name: string;
  readonly score: number;
  readonly adj: number;
  /** Pages resident, and KiB of page tables. */
  readonly resident: number;
  readonly tablesKib: number;
}

const TOLD = /: pid \d+ (\S+) oom_score (\d+) oom_score_adj (-?\d+) statm\(.*?\) \d+ (\d+) .* VmPTE_kB (-?\d+)$/;

function told(line: string): Told {
  const match = TOLD.exec(line);
  if (match === null) throw new LoadMismatch(`events.txt: '${line}' tells of no program`);
  const [score, adj, resident, tablesKib] = match.slice(2).map(Number) as [number, number, number, number];
  return { name: match[1]!, score, adj, resident, tablesKib };
}

/** MiB that a program of fixed size touches: its name ends with them. */
const mibOf = ({ name }: Told): number => Number(/\d+$/.exec(name)?.[0] ?? 0);

function run(load: LoadRun): void {
  load.hold();
  load.stage('00-before');
  const init = load.start();
  // A machine's first process is never killed.
  init.os.writeFile('/proc/self/oom_score_adj', '-1000');
  load.equal('scores', 'init', told(load.take(/^before grower: .*\binit\b/).input).score, scoreOf(init));
  const lines: Told[] = [];
  while (/^before grower/.test(load.peek())) lines.push(told(load.take(/^before grower/).input));
  const statics = new Map(lines.map((line) => [line.name, beginStatic(load, init, line, lines)]));
  // One may have gone before the others were there.
  for (const line of lines) sameScore(load, line, statics.get(line.name)!, line.name);
  load.stage('01-three-static');

  grow(load, init, 'D', 0, statics);
  load.stage('02-after-grower-D-killed');
  const spared = grow(load, init, 'E', -1000, statics);
  load.stage('03-grower-E-holding');
  init.os.kill(spared.pid, SIGKILL);
  load.end(spared, 'grower-E');
  load.stage('04-after');
  const kills = load.change('00-before', '04-after', 'oom_kill');
  load.equal('victims', 'oom_kill', kills.recorded, kills.computed);
}

/** Starts a program of fixed size. Of one that was gone when it was told of, the others tell what a program has by itself. */
function beginStatic(load: LoadRun, init: Process, line: Told, lines: readonly Told[]): Process {
  const like = line.resident > 0 ? line : lines.find(({ resident }) => resident > 0);
  const process = begin(load, init, line.adj);
  load.whileAlive(process, () => {
    touchWrite(process.os, map(process.os, mibOf(line) * MIB), mibOf(line) * MIB);
    if (like === undefined) return;
    const more = mibOf(line) - mibOf(like);
    pad(process, { resident: like.resident + more * 256, tablesKib: like.tablesKib + more * 2 });
  });
  return process;
}

/**
 * Compares the score of a program. Since 6.2 pages are counted by CPU, and a score sees what each CPU keeps back of anonymous
 * pages and of files' neither here nor there.
 */
function sameScore(load: LoadRun, line: Told, process: Process, what: string): void {
  const total = parseNumbers(load.machine.readFile('/proc/meminfo')).get('MemTotal')! / 4;
  const keptBack = load.machine.config.kernel === '6.1' ? 0 : 2 * load.recording.config.cpus * KEPT_BACK;
  load.within('scores', what, line.score, process.alive ? scoreOf(process) : 0, Math.ceil((keptBack * 2000) / (total * 3)));
}

function begin(load: LoadRun, parent: Process, adj: number): Process {
  const process = load.fork(parent);
  process.os.writeFile('/proc/self/oom_score_adj', `${adj}`);
  return process;
}

const scoreOf = ({ os }: Process): number => Number(os.readFile('/proc/self/oom_score'));
const tablesOf = ({ os }: Process): number => kibOf(os.readFile('/proc/self/status'), 'VmPTE');
const residentOf = ({ os }: Process): number => Number(os.readFile('/proc/self/statm').split(' ')[1]);

/** Gives a program the pages and page tables that a C program has by itself. */
function pad(process: Process, { resident, tablesKib }: Pick<Told, 'resident' | 'tablesKib'>): void {
  const { os } = process;
  const missingTables = Math.max(0, Math.floor((tablesKib - tablesOf(process)) / 4));
  const area = map(os, (missingTables + 1) * TABLE_SPAN);
  for (let i = 0; i < missingTables && tablesOf(process) < tablesKib; i++) os.mem.store8(area + i * TABLE_SPAN, 1);
  const missing = Math.max(0, resident - residentOf(process));
  if (missing > 0) touchWrite(os, area + PAGE, Math.min(missing * PAGE, TABLE_SPAN - PAGE));
}

/** Lets a program grow until it is killed or, where it may not be, all others are gone. Compares who goes when. */
function grow(load: LoadRun, init: Process, letter: string, adj: number, statics: Map<string, Process>): Process {
  const grower = begin(load, init, adj);
  const { os } = grower;
  const start = map(os, GROWER_BYTES, MAP_NORESERVE);
  for (let offset = 0; offset < GROWER_BYTES; offset += MIB) {
    load.whileAlive(grower, () => {
      touchWrite(os, start + offset, MIB);
    });
    for (const [name, process] of statics) {
      if (process.alive) continue;
      statics.delete(name);
      death(load, name, offset / MIB, statics);
    }
    if (!grower.alive) {
      death(load, `grower-${letter}`, offset / MIB, statics);
      return grower;
    }
    if (statics.size === 0) break;
  }
  load.shape(`grower ${letter} stopped at MiB`, Number(load.take(/^grower stopped by itself at (\d+) MiB/)[1]), residentOf(grower) / 256);
  return grower;
}

/** Takes the next death. */
function death(load: LoadRun, name: string, mib: number, statics: ReadonlyMap<string, Process>): void {
  const [, who, status, at] = load.take(/^death: pid \d+ (\S+) status (0x\w+), grower.* at (\d+) MiB/);
  load.equal('victims', `the next after ${mib} MiB`, who, name);
  load.equal('victims', `${name}: status`, Number(status), SIGKILL);
  load.shape(`MiB when ${name} was killed`, Number(at), mib);
  while (/^after death/.test(load.peek())) {
    const line = told(load.take(/^after death/).input);
    const process = statics.get(line.name);
    if (process !== undefined) sameScore(load, line, process, `${line.name} after ${name}`);
  }
}
