/**
 * `strace -f` logs of memory and process calls, made again on a machine: several processes, forks, threads, other programs, with
 * every recorded address led to where this machine has what was there.
 */
import { Errno, errnoName, isError, SIGKILL, Syscall } from '@pagelab/abi';
import * as abi from '@pagelab/abi';
import { TaskExit } from '@pagelab/kernel';
import type { Machine, Process, Thread } from '@pagelab/kernel';
import { CommandFailure } from '../../errors.ts';
import type { PageSection } from '../../html/page.ts';
import { Progress } from '../../progress.ts';
import { count, formatReport, takeSnapshot } from '../../report.ts';
import type { MemoryReport, Snapshot } from '../../report.ts';
import type { Trace } from '../../trace-file.ts';
import { forEachLine } from '../trace-lines.ts';
import type { BrokenLines } from '../trace-lines.ts';
import { memoryCalls } from './memory-calls.ts';
import type { Outcome, RecordedCall } from './memory-calls.ts';
import { Space, StandIns } from './space.ts';
import { ONLY_TASK, parseStraceLine, splitArguments } from './strace-line.ts';
import type { CallResult } from './strace-line.ts';
import { fieldOf, numberValue, stringValue } from './strace-values.ts';

/** A call whose result was of another class here than recorded. */
export interface StraceException {
  readonly line: number;
  readonly call: string;
  readonly recorded: string;
  readonly here: string;
}

/** Calls that were not made again, by the reason. */
export interface NotReplayed {
  readonly reason: string;
  readonly count: number;
  readonly calls: readonly string[];
  /** Line of the first. */
  readonly line: number;
}

/** A process of the log, as it was when it ended. */
export interface StraceProcess {
  /** Its number in the log. */
  readonly pid: number;
  readonly name: string;
  readonly faults: number;
  readonly mappings: number;
  readonly peakKb: number;
  readonly residentPeakKb: number;
}

export interface StraceResult {
  readonly trace: string;
  readonly skippedLines: number;
  /** Calls in the log, those that were made again, and those of them with a result of the recorded class. */
  readonly calls: number;
  readonly replayed: number;
  readonly same: number;
  readonly exceptions: readonly StraceException[];
  readonly notReplayed: readonly NotReplayed[];
  readonly processes: readonly StraceProcess[];
  /** Files that stand for recorded ones; ranges set up because the log takes them for mapped. */
  readonly standIns: number;
  readonly assumedRanges: number;
  readonly samples: readonly StraceSample[];
  readonly memory: MemoryReport;
}

/** The machine after so many calls. */
export interface StraceSample {
  readonly calls: number;
  /** Of all live processes. In KiB. */
  readonly mappedKb: number;
  readonly residentKb: number;
  readonly processes: number;
}

/** A task of the log. */
interface LogTask {
  readonly number: number;
  /** Of its process: threads have the number of the first. */
  readonly group: number;
  space: Space;
  /** Where it is not the first of its process. */
  thread: Thread | null;
  /** Runs in its parent's address space until it runs another program, as after `vfork`. */
  borrows: boolean;
  name: string;
}

/** A fork whose child is not known by its number yet. */
interface Fork {
  readonly parent: LogTask;
  readonly child: Omit<LogTask, 'number' | 'group'>;
  /** The task that took it, before its parent's call returned. */
  claimedBy: number | null;
}

const FORKS = new Set(['fork', 'vfork', 'clone', 'clone3']);
/** Samples are taken more rarely as there are more calls, so that there are not more than this. */
const MAX_SAMPLES = 512;

export class StraceReplay {
  readonly #machine: Machine;
  readonly #standIns = new StandIns();
  readonly #tasks = new Map<number, LogTask>();
  /** The machine's process ids by the log's. */
  readonly #pids = new Map<number, number>();
  /** Tasks that have ended, until another has the number. */
  readonly #ended = new Set<number>();
  /** Forks under way, by the task that makes them; and calls that another task interrupted. */
  readonly #forks = new Map<number, Fork>();
  readonly #unfinished = new Map<number, { readonly name: string; readonly args: string; readonly line: number }>();
  readonly #notReplayed = new Map<string, { count: number; readonly calls: Set<string>; readonly line: number }>();
  readonly exceptions: StraceException[] = [];
  readonly processes: StraceProcess[] = [];
  calls = 0;
  replayed = 0;
  same = 0;
  assumedRanges = 0;
  /** The machine when most frames were in use. */
  peak: Snapshot | null = null;
  #peakFrames = -1;
  samples: StraceSample[] = [];
  #interval = 1;
  #nextSample = 1;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  get standIns(): number {
    return this.#standIns.size;
  }

  /** Replays a line; answers what is wrong with it, `''` where nothing is. */
  line(text: string, number: number): string {
    const line = parseStraceLine(text);
    if (line === null) return /^strace: /.test(text) ? '' : "expected 'TASK CALL(ARGUMENTS) = RESULT', or a signal or an exit";
    if (line.kind === 'signal') return '';
    if (line.kind === 'superseded') {
      this.#supersede(line.task, line.by);
      return '';
    }
    // A number may be given again, but what ends or goes on is the old task.
    const isOld = this.#ended.has(line.task) && line.kind !== 'call' && line.kind !== 'unfinished';
    const task = isOld ? null : this.#task(line.task);
    if (task === null) {
      if (line.kind === 'call' || line.kind === 'resumed') this.#afterEnd(line.name, number);
      return '';
    }
    if (line.kind === 'exited' || line.kind === 'killed') {
      this.#end(task, line.kind === 'killed' ? line.signal : null, line.kind === 'exited' ? line.status : 0);
      return '';
    }
    if (line.kind === 'unfinished') {
      this.#unfinished.set(line.task, { name: line.name, args: line.args, line: number });
      if (FORKS.has(line.name)) this.#beginFork(task, line.name, line.args);
      return '';
    }
    let { args } = line;
    let first = number;
    if (line.kind === 'resumed') {
      const begun = this.#unfinished.get(line.task);
      this.#unfinished.delete(line.task);
      if (begun === undefined || begun.name !== line.name) return `'${line.name}' resumes without having begun`;
      args = [begun.args, args].filter((part) => part !== '').join(', ');
      first = begun.line;
    }
    this.#call(task, line.name, args, line.result, first);
    return '';
  }

  /** Ends what still runs. */
  finish(): void {
    for (const task of [...this.#tasks.values()]) this.#end(task, null, 0);
  }

  #call(task: LogTask, name: string, args: string, result: CallResult, line: number): void {
    this.calls++;
    const call: RecordedCall = { line, task: task.number, name, args: splitArguments(args), value: result.value, errno: result.errno };
    if (FORKS.has(name)) {
      this.#count(call, args, this.#fork(task, call, args));
      return;
    }
    if (name === 'exit_group' || name === 'exit') {
      const status = Number(numberValue(call.args[0] ?? '0') ?? 0n);
      if (name === 'exit_group') this.#endGroup(task, null, status);
      else this.#end(task, null, status);
      this.#count(call, args, { result: 0, same: true });
      return;
    }
    this.#count(call, args, this.#made(task, call, args));
    if (this.calls >= this.#nextSample) this.#sample();
  }

  #made(task: LogTask, call: RecordedCall, args: string): Outcome {
    if (!task.space.process.alive) return { reason: 'its process has ended here' };
    if (call.name === 'execve' || call.name === 'execveat') return this.#execve(task, call);
    task.space.os = (task.thread ?? task.space.process).os;
    if (call.value === null && call.errno === null) return { reason: 'the log has no result' };
    if (call.name === 'wait4' || call.name === 'waitid' || call.name === 'waitpid') return this.#wait(task, call, args);
    if (call.name === 'kill' || call.name === 'tgkill' || call.name === 'tkill') return this.#kill(task, call);
    return memoryCalls[call.name]?.(task.space, call) ?? { reason: 'it has nothing to do with memory, or no counterpart here' };
  }

  /**
   * The task with a number: known, the child of a fork under way, or one that ran before the log began; `null` where it has
   * ended.
   */
  #task(number: number): LogTask | null {
    const known = this.#tasks.get(number);
    if (known !== undefined) return known;
    for (const fork of this.#forks.values()) {
      if (fork.claimedBy !== null) continue;
      fork.claimedBy = number;
      return this.#adopt(fork, number);
    }
    if (this.#ended.has(number)) return null;
    const name = number === ONLY_TASK ? 'program' : `task-${number}`;
    const process = this.#machine.createProcess({ name });
    return this.#enter({ number, group: number, space: this.#newSpace(process), thread: null, borrows: false, name });
  }

  #newSpace(process: Process, parent?: Space): Space {
    return new Space(process, this.#standIns, parent);
  }

  /** A thread takes its process's number, and with it the call that is under way: `execve`. */
  #supersede(number: number, by: number): void {
    const task = this.#tasks.get(by);
    const first = this.#tasks.get(number);
    const begun = this.#unfinished.get(by);
    if (task === undefined) return;
    this.#leave(task);
    if (first !== undefined) this.#leave(first);
    this.#enter({ ...task, number });
    if (begun !== undefined) this.#unfinished.set(number, begun);
  }

  /** A call of a task that has ended, as its threads' are that were under way. */
  #afterEnd(name: string, line: number): void {
    this.calls++;
    this.#unreplayed('its process has ended', name, line);
  }

  #enter(task: LogTask): LogTask {
    this.#ended.delete(task.number);
    this.#tasks.set(task.number, task);
    if (!task.borrows && task.number === task.group) this.#pids.set(task.number, task.space.process.pid);
    return task;
  }

  #adopt({ parent, child }: Fork, number: number): LogTask {
    return this.#enter({ ...child, number, group: child.thread === null ? number : parent.group });
  }

  /** Makes the child at once: its own calls may come before its parent's has returned. */
  #beginFork(task: LogTask, name: string, args: string): void {
    const flags = numberValue(fieldOf(args, 'flags') ?? '0') ?? 0n;
    const sharesMemory = name === 'vfork' || /\bCLONE_VM\b/.test(args) || (flags & 0x100n) !== 0n;
    let { space } = task;
    let thread: Thread | number | null = null;
    if (/\bCLONE_THREAD\b/.test(args)) {
      thread = space.process.alive ? space.process.thread() : -Errno.ESRCH;
      if (typeof thread === 'number') return;
    } else if (!sharesMemory) {
      const child = task.space.process.alive ? task.space.process.fork() : -Errno.ESRCH;
      if (typeof child === 'number') return;
      space = this.#newSpace(child, task.space);
    }
    this.#forks.set(task.number, { parent: task, child: { space, thread, borrows: sharesMemory && thread === null, name: task.name }, claimedBy: null });
  }

  #fork(task: LogTask, call: RecordedCall, args: string): Outcome {
    if (!this.#forks.has(task.number)) {
      if (call.errno !== null) return { reason: 'a fork that failed for want of something else than memory' };
      this.#beginFork(task, call.name, args);
    }
    const fork = this.#forks.get(task.number);
    this.#forks.delete(task.number);
    if (fork === undefined) return { result: -Errno.ENOMEM, same: call.errno === 'ENOMEM' };
    if (call.value === null || call.value <= 0n) {
      if (fork.claimedBy === null) abandon(fork.child);
      return { reason: 'a fork that failed, or whose child is not known' };
    }
    const number = Number(call.value);
    if (fork.claimedBy === null) this.#adopt(fork, number);
    else if (fork.claimedBy !== number) this.#swap(fork.claimedBy, number);
    const child = this.#tasks.get(number);
    return { result: child?.thread?.tid ?? child?.space.process.pid ?? 0, same: true };
  }

  /** Two children were taken for each other while neither had done anything but begin. */
  #swap(taken: number, number: number): void {
    const wrong = this.#tasks.get(taken);
    if (wrong === undefined) return;
    const other = [...this.#forks.values()].find(({ claimedBy }) => claimedBy === null || claimedBy === number);
    this.#tasks.delete(taken);
    this.#enter({ ...wrong, number, group: wrong.group === taken ? number : wrong.group });
    if (other === undefined) return;
    other.claimedBy = taken;
    this.#adopt(other, taken);
  }

  #execve(task: LogTask, call: RecordedCall): Outcome {
    if (call.errno !== null) return { reason: 'a program that could not be run' };
    const path = stringValue(call.args[call.name === 'execve' ? 0 : 1] ?? '');
    const name = path.slice(path.lastIndexOf('/') + 1) || task.name;
    if (task.borrows) {
      // The child had its parent's address space until now.
      const child = task.space.process.fork();
      if (typeof child === 'number') return { result: child, same: false };
      task.space = this.#newSpace(child);
      task.borrows = false;
      this.#pids.set(task.number, child.pid);
    }
    const result = task.space.process.execve({ name });
    if (result >= 0) {
      task.space.cleared();
      task.thread = null;
      this.#leaveOthers(task);
    }
    task.name = name;
    return { result, same: result >= 0 };
  }

  /** Waiting is not done again: who is waited for has ended where the log says so. */
  #wait({ space }: LogTask, call: RecordedCall, args: string): Outcome {
    const options = Number(numberValue(call.args[call.name === 'waitid' ? 3 : 2] ?? '0') ?? 0n);
    const who = call.name === 'waitid' ? Number(/si_pid=(\d+)/.exec(args)?.[1] ?? -1) : Number(call.value ?? 0n);
    if (who > 0) {
      const pid = this.#pids.get(who);
      if (pid === undefined) return { reason: 'the log does not show how the child began' };
      const result = space.call('wait4', pid, 0, (options & 1) | 1, 0);
      return { result, same: result === pid };
    }
    const wanted = Number(numberValue(call.args[0] ?? '-1') ?? -1n);
    const result = space.call('wait4', wanted > 0 ? (this.#pids.get(wanted) ?? wanted) : -1, 0, 1, 0);
    const recorded = call.errno === null ? 0 : -((Errno as Readonly<Record<string, number>>)[call.errno] ?? 0);
    return { result, same: result === recorded };
  }

  /** Signals are not sent, as handlers are not known: the log tells whom they ended. */
  #kill({ space }: LogTask, call: RecordedCall): Outcome {
    const target = Number(numberValue(call.args[0] ?? '') ?? 0n);
    const pid = this.#pids.get(target);
    if (pid === undefined || call.name !== 'kill') return { reason: 'a signal to a task that the log does not show, or to a thread' };
    const result = space.call('kill', pid, 0);
    return { result, same: call.errno === null ? result >= 0 : result < 0 };
  }

  #endGroup(task: LogTask, signal: string | null, status: number): void {
    this.#leaveOthers(task);
    this.#end(task, signal, status);
  }

  #leave({ number }: LogTask): void {
    this.#tasks.delete(number);
    this.#unfinished.delete(number);
    this.#ended.add(number);
  }

  #leaveOthers(task: LogTask): void {
    for (const other of [...this.#tasks.values()]) if (other.group === task.group && other !== task) this.#leave(other);
  }

  /** A task ends; its process with the last of them, or with a signal. */
  #end(task: LogTask, signal: string | null, status: number): void {
    this.#leave(task);
    const others = [...this.#tasks.values()].filter(({ group }) => group === task.group);
    if (others.length > 0 && signal === null) {
      // The first of a process stays until its last has ended: what the process had is looked at through its handle.
      task.thread?.exit();
      return;
    }
    for (const other of others) this.#leave(other);
    let { process } = task.space;
    if (task.borrows) {
      const child = process.alive ? process.fork() : -Errno.ESRCH;
      if (typeof child === 'number') return;
      process = child;
      this.#pids.set(task.number, child.pid);
    }
    if (!process.alive) return;
    if (!task.borrows) {
      this.#watchPeak(task.space);
      this.#note(task);
      this.assumedRanges += task.space.assumed;
    }
    if (signal === null) process.exit(status);
    else killWith(process, signalNumber(signal));
    if (process.alive) process.exit(status);
  }

  #note({ group, name, space }: LogTask): void {
    const { sizes } = takeSnapshot(this.#machine, space.process.os);
    const { minflt, majflt } = space.process.os.getrusage();
    this.processes.push({
      pid: group, name, faults: minflt + majflt, mappings: sizes?.mappings ?? 0, peakKb: sizes?.peakKb ?? 0, residentPeakKb: sizes?.residentPeakKb ?? 0,
    });
  }

  #watchPeak(space: Space): void {
    if (!space.process.alive) return;
    const snapshot = takeSnapshot(this.#machine, space.process.os);
    const used = Object.entries(snapshot.stats.framesByOwner).reduce((sum, [owner, frames]) => (owner === 'free' ? sum : sum + frames), 0);
    if (used <= this.#peakFrames) return;
    this.#peakFrames = used;
    this.peak = snapshot;
  }

  #sample(): void {
    let mappedKb = 0;
    let residentKb = 0;
    const spaces = new Set([...this.#tasks.values()].map(({ space }) => space).filter(({ process }) => process.alive));
    for (const { process } of spaces) {
      const [size = 0, resident = 0] = process.os.readFile('/proc/self/statm').split(' ').map(Number);
      mappedKb += size * 4;
      residentKb += resident * 4;
    }
    this.samples.push({ calls: this.calls, mappedKb, residentKb, processes: spaces.size });
    if (this.samples.length === MAX_SAMPLES) {
      this.samples = this.samples.filter((_, at) => at % 2 === 0);
      this.#interval *= 2;
    }
    this.#nextSample = this.calls + this.#interval;
  }

  #count(call: RecordedCall, args: string, outcome: Outcome): void {
    if ('reason' in outcome) {
      this.#unreplayed(outcome.reason, call.name, call.line);
      return;
    }
    this.replayed++;
    if (outcome.same) {
      this.same++;
      return;
    }
    this.exceptions.push({
      line: call.line, call: `${call.name}(${args})`, recorded: call.errno ?? (call.value === null ? '?' : resultText(Number(call.value))), here: resultText(outcome.result),
    });
  }

  #unreplayed(reason: string, name: string, line: number): void {
    const entry = this.#notReplayed.get(reason) ?? { count: 0, calls: new Set<string>(), line };
    entry.count++;
    entry.calls.add(name);
    this.#notReplayed.set(reason, entry);
  }

  get notReplayed(): NotReplayed[] {
    return [...this.#notReplayed].map(([reason, { count: times, calls, line }]) => ({ reason, count: times, calls: [...calls].sort(), line }));
  }
}

/** Ends what was made for a task that there is not. */
function abandon({ space, thread, borrows }: Pick<LogTask, 'space' | 'thread' | 'borrows'>): void {
  if (thread !== null) thread.exit();
  else if (!borrows) space.process.exit(0);
}

/** Sends a process a signal of its own: its handle answers by throwing where that ends it. */
function killWith({ pid, os }: Process, signal: number): void {
  try {
    os.syscall(Syscall.kill, pid, signal);
  } catch (error) {
    if (!(error instanceof TaskExit)) throw error;
  }
}

function signalNumber(name: string): number {
  const value = (abi as unknown as Readonly<Record<string, unknown>>)[name];
  return typeof value === 'number' ? value : SIGKILL;
}

function resultText(result: number): string {
  if (isError(result)) return errnoName(result);
  return result >= 4096 ? `0x${result.toString(16)}` : String(result);
}

/**
 * Replays a log on a machine.
 *
 * @throws CommandFailure where a line is broken and that ends it, or where the machine gives up
 */
export async function replayStrace(machine: Machine, trace: Trace, broken: BrokenLines): Promise<StraceResult> {
  const before = machine.stats();
  const replay = new StraceReplay(machine);
  const progress = new Progress('calls', 0);
  let skippedLines: number;
  try {
    skippedLines = await forEachLine(trace, (line, number) => {
      progress.advance();
      return replay.line(line, number);
    }, broken);
  } finally {
    progress.clear();
  }
  replay.finish();
  if (replay.calls === 0) throw new CommandFailure(`${trace.name} has no calls: record it with strace -f -e trace=memory,process -o FILE PROGRAM`);
  machine.quiesce();
  const { calls, replayed, same, exceptions, notReplayed, processes, standIns, assumedRanges, samples, peak } = replay;
  return {
    trace: trace.name, skippedLines, calls, replayed, same, exceptions, notReplayed, processes, standIns, assumedRanges, samples,
    memory: { before, end: peak, after: machine.stats() },
  };
}

const EXCEPTIONS_SHOWN = 20;

/** The result as people read it. */
export function formatStrace(result: StraceResult): string {
  const { trace, calls, replayed, same, exceptions, notReplayed, processes, standIns, assumedRanges, memory } = result;
  const lines = [
    `${trace}: ${count(calls)} calls of ${count(processes.length)} processes; ${count(replayed)} made again, ${count(same)} with a result as recorded`,
  ];
  for (const { line, call, recorded, here } of exceptions.slice(0, EXCEPTIONS_SHOWN)) lines.push(`  line ${line}: ${call}: ${recorded} recorded, ${here} here`);
  if (exceptions.length > EXCEPTIONS_SHOWN) lines.push(`  and ${count(exceptions.length - EXCEPTIONS_SHOWN)} more with another result`);
  for (const { reason, count: times, calls: names, line } of notReplayed) {
    lines.push(`  not made again: ${count(times)} of ${names.join(', ')}, first in line ${line}: ${reason}`);
  }
  if (standIns > 0) lines.push(`  ${count(standIns)} files of zeros stand for those that were mapped`);
  if (assumedRanges > 0) lines.push(`  ${count(assumedRanges)} ranges were set up that the log takes for mapped: execve did, or whatever came before it`);
  for (const { pid, name, faults, mappings, peakKb, residentPeakKb } of processes) {
    lines.push(`  ${String(pid).padEnd(8)}${name.padEnd(16)}${count(mappings)} mappings at its end, ${count(peakKb)} KiB at most; ${count(residentPeakKb)} KiB resident at most, ${count(faults)} faults`);
  }
  return [lines.join('\n'), formatReport(memory)].join('\n\n');
}

/** The result as a page with plots. */
export function stracePage(result: StraceResult): PageSection[] {
  const { samples } = result;
  const x = samples.map(({ calls }) => calls);
  const common = { kind: 'plot' as const, xLabel: 'calls', x };
  return [
    { kind: 'text', title: result.trace, text: formatStrace(result) },
    {
      ...common, title: 'Memory over time', yLabel: 'MiB',
      series: [{ label: 'mapped', y: samples.map(({ mappedKb }) => mappedKb / 1024) }, { label: 'resident', y: samples.map(({ residentKb }) => residentKb / 1024) }],
    },
    { ...common, title: 'Processes over time', yLabel: 'processes', series: [{ label: 'processes', y: samples.map(({ processes }) => processes) }] },
  ];
}
