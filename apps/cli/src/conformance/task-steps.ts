/**
 * Steps about tasks: threads, children that share the memory, programs that take another's place, waiting, signals.
 *
 * Handlers take notes: of each run, what it was about, whether it ran on the alternate stack, and what was held back. From the
 * first `sigaction` on, what a step has let handlers of any process note is compared with its `seen`, and the processes that
 * ended by a signal with its `died`.
 */
import {
  CLD_EXITED, CLD_KILLED, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGCHLD, SS_ONSTACK, WNOHANG, isError, signalCodeName, signalName,
} from '@pagelab/abi';
import type { SigInfo, SignalDisposition } from '@pagelab/abi';
import { TaskExit } from '@pagelab/kernel';
import type { Step } from './case.ts';
import { Mismatch, outcomeOf } from './run-case.ts';
import type { CaseRun, Operation } from './run-case.ts';
import { Target, isOfAccess } from './target.ts';
import { SA_WORDS, SS_WORDS, WAIT_WORDS, flagsValue } from './words.ts';

const PERSONALITY = { fixed: 0x0040000, legacy: 0x0200000 };
const P_TYPES: Readonly<Record<string, number>> = { ALL: 0, PID: 1, PGID: 2, PIDFD: 3 };
const HOW: Readonly<Record<string, number>> = { BLOCK: SIG_BLOCK, UNBLOCK: SIG_UNBLOCK, SETMASK: SIG_SETMASK };
const NUMBERS = new Map(Array.from({ length: 64 }, (_, i) => [signalName(i + 1), i + 1]));

function signalNumber(name: unknown): number {
  return NUMBERS.get(String(name)) ?? Number(String(name).replace(/^SIG/, ''));
}

const numbersOf = (names: unknown): number[] => ((names as unknown[] | undefined) ?? []).map(signalNumber);

/** The signals of a set as it lies in memory. */
function namesIn(set: bigint): string[] {
  return Array.from({ length: 64 }, (_, i) => i + 1).filter((signal) => (set >> BigInt(signal - 1)) & 1n).map(signalName);
}

/** What the cases tell of tasks, beside the processes themselves. */
export class TaskNotes {
  /** Whether handlers take notes. */
  collects = false;
  /** Who is at work, for handlers, which belong to a process. */
  at!: Target;
  /** Names of parents that wait for a child which shares their memory, and that child's. */
  readonly suspended = new Map<string, string>();
  readonly names = new Map<number, string>();

  isSuspended(run: CaseRun, name: string): boolean {
    const child = this.suspended.get(name);
    return child !== undefined && run.targets.get(child)!.alive;
  }

  /** A child has left its parent's memory, by running another program. */
  resume(child: string): void {
    for (const [parent, other] of this.suspended) if (other === child) this.suspended.delete(parent);
  }

  nameOf(pid: number): string {
    return this.names.get(pid) ?? String(pid);
  }
}

function adopt(run: CaseRun, name: string, target: Target, pid: number): void {
  run.targets.set(name, target);
  run.names.set(name, BigInt(pid));
  run.tasks.names.set(pid, name);
}

/** A handler that notes how it is called, may raise another signal, and leaves an access that cannot be done. */
function noteTaker(run: CaseRun, raises: number): (info: SigInfo) => void {
  return (info) => {
    const target = run.tasks.at;
    const { os } = target;
    const name = signalName(info.signo);
    const about = isOfAccess(info) ? ` at ${BigInt.asUintN(64, BigInt(info.addr))}` : ` of ${run.tasks.nameOf(info.pid)}`;
    const where = (os.sigaltstack().flags & SS_ONSTACK) === 0 ? '' : ' on alternate stack';
    const held = os.sigprocmask(SIG_BLOCK, []).map(signalName).join(',');
    target.notes.push(`${name}/${signalCodeName(info.signo, info.code)}${about}${where} with ${held}`);
    if (raises !== 0) {
      os.syscall(234, target.process.pid, os.gettid(), raises);
      target.notes.push(`${name} ends`);
    }
    target.abandon(info);
  };
}

/** A note as recorded, its address as a number. */
function plainNote(run: CaseRun, note: string): string {
  return note.replace(/ at (.*?)(?= on alternate| with )/, (_, address: string) => ` at ${BigInt.asUintN(64, run.value(address))}`);
}

/** After a step: what was noted by handlers, and who is gone of those alive `before`, against what was recorded. */
export function compareNotes(run: CaseRun, step: Step, before: readonly string[]): void {
  const seen: Record<string, string[]> = {};
  for (const [name, target] of run.targets) {
    if (!target.alive || run.tasks.isSuspended(run, name)) continue;
    run.tasks.at = target;
    try {
      // Whatever has come for it is delivered on the way back.
      target.os.gettid();
    } catch (error) {
      if (!(error instanceof TaskExit)) throw error;
    }
  }
  for (const [name, target] of run.targets) {
    // What one that has ended has noted nobody has read.
    if (target.notes.length > 0 && target.alive) seen[name] = target.notes;
    target.notes = [];
  }
  const want: Record<string, string[]> = {};
  for (const [name, notes] of Object.entries((step.seen as Record<string, string[]> | undefined) ?? {})) {
    want[name] = notes.map((note) => plainNote(run, note));
  }
  const text = listed(seen);
  if (text !== listed(want)) throw new Mismatch(`expected handlers to note ${listed(want)}, observed ${text}`);
  if (ENDING.includes(step.op)) return;
  const died = before.filter((name) => !run.targets.get(name)!.alive).sort().join();
  const dead = ((step.died as string[] | undefined) ?? []).join();
  if (died !== dead) throw new Mismatch(`expected the end of ${dead || 'nobody'}, observed ${died || 'nobody'}`);
}

/** Steps that end tasks other than by a signal. */
const ENDING: readonly string[] = ['exit', 'exit_thread', 'exec'];

/** A record as text, in the order of its keys. */
function listed(record: object): string {
  return JSON.stringify(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function wanted(run: CaseRun, of: unknown): number {
  if (typeof of === 'number') return of;
  const name = String(of);
  return name.startsWith('-') ? -Number(run.value(name.slice(1))) : Number(run.value(name));
}

/** Compares what a call told, or its error, with the step's `expect`. */
function told(step: Step, seen: object | string | bigint): void {
  const text = typeof seen === 'object' ? listed(seen) : String(seen);
  const want = typeof step.expect === 'object' ? listed(step.expect as object) : `${step.expect as string | number}`;
  if (text !== want) throw new Mismatch(`expected ${want}, observed ${text}`);
}

export const TASK_OPERATIONS: Readonly<Record<string, Operation>> = {
  thread: (run, s, t) => {
    const thread = (t.thread ?? t.process).thread();
    if (typeof thread === 'number') {
      run.same(s, outcomeOf(thread));
      return;
    }
    adopt(run, s.as!, new Target(t.process, thread), thread.tid);
  },
  exit_thread: (_, __, t) => t.thread!.exit(),
  vfork: (run, s, t) => {
    const child = t.process.vfork();
    if (typeof child === 'number') throw new Mismatch(`vfork: ${String(outcomeOf(child))}`);
    adopt(run, s.as!, new Target(child), child.pid);
    run.tasks.suspended.set(s.in ?? 'main', s.as!);
  },
  exec: (run, s, t) => {
    const name = s.in ?? 'main';
    if (s.legacy !== undefined) t.syscall('personality', PERSONALITY.fixed | (s.legacy === true ? PERSONALITY.legacy : 0));
    const result = t.process.execve();
    if (result !== 0) throw new Mismatch(`execve: ${String(outcomeOf(result))}`);
    run.tasks.resume(name);
    const fresh = new Target(t.process);
    run.targets.set(name, fresh);
    run.tasks.at = fresh;
    fresh.start(() => run.tasks.at);
  },

  // Waiting
  wait4: (run, s, t) => {
    const got = t.syscall('wait4', wanted(run, s.of), t.scratch, flagsValue(s.options as string, WAIT_WORDS) | WNOHANG, 0);
    told(s, got <= 0 ? outcomeOf(got) : { pid: run.tasks.nameOf(got), status: t.os.mem.load32(t.scratch) });
  },
  waitid: (run, s, t) => {
    t.put(0, new Uint8Array(128).fill(0xaa));
    const got = t.syscall(
      'waitid', P_TYPES[s.which as string]!, wanted(run, s.of), t.scratch, flagsValue(s.options as string, WAIT_WORDS) | WNOHANG, 0,
    );
    if (isError(got)) {
      told(s, outcomeOf(got));
      return;
    }
    const field = (offset: number): number => t.os.mem.load32(t.scratch + offset) | 0;
    const code = field(8);
    const pid = field(16);
    const names: Record<number, string> = { [CLD_EXITED]: 'CLD_EXITED', [CLD_KILLED]: 'CLD_KILLED' };
    told(s, {
      signo: field(0), code: names[code] ?? (field(0) === SIGCHLD ? signalCodeName(SIGCHLD, code) : code),
      pid: pid === 0 ? 0 : run.tasks.nameOf(pid), status: field(24),
    });
  },

  // Signals
  sigaction: (run, s, t) => {
    run.tasks.collects = true;
    const to: SignalDisposition = s.does === 'note' ? noteTaker(run, s.raises === undefined ? 0 : signalNumber(s.raises)) : (s.does as 'default' | 'ignore');
    let outcome: bigint | string = 0n;
    try {
      t.os.sigaction(signalNumber(s.signal), to, { flags: flagsValue(s.flags as string, SA_WORDS) | 0, mask: numbersOf(s.mask) });
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error)) throw error;
      outcome = `-${String(error.code)}`;
    }
    run.same(s, outcome);
  },
  sigprocmask: (run, s, t) => {
    const set = numbersOf(s.set).reduce((bits, signal) => bits | (1n << BigInt(signal - 1)), 0n);
    t.put(0, new Uint8Array(BigUint64Array.of(set).buffer));
    const result = t.syscall('rt_sigprocmask', HOW[s.how as string] ?? run.count(s.how), t.scratch, t.scratch + 8, 8);
    told(s, isError(result) ? outcomeOf(result) : namesIn(t.os.mem.load64(t.scratch + 8)));
  },
  sigpending: (_, s, t) => {
    const result = t.syscall('rt_sigpending', t.scratch, 8);
    told(s, isError(result) ? outcomeOf(result) : namesIn(t.os.mem.load64(t.scratch)));
  },
  sigaltstack: (run, s, t) => {
    const flags = flagsValue(s.flags as string, SS_WORDS);
    t.put(0, new Uint8Array(BigUint64Array.of(BigInt.asUintN(64, run.value(s.at)), BigInt.asUintN(32, BigInt(flags)), BigInt.asUintN(64, run.value(s.size))).buffer));
    run.call(s, t, 'sigaltstack', t.scratch, 0);
  },
  send: (run, s, t) => {
    const to = wanted(run, s.whom);
    const signal = signalNumber(s.signal);
    if (s.how === 'kill') run.call(s, t, 'kill', to, signal);
    else run.call(s, t, 'tgkill', run.targets.get(s.whom as string)?.process.pid ?? to, to, signal);
  },
};
