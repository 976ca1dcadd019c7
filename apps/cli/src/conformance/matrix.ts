/**
 * A matrix: system calls with good and bad arguments, each in the same prepared state and a process of its own, and what a
 * real kernel made of them (`tools/recorders/matrix`).
 */
import { Syscall } from '@pagelab/abi';
import type { RegisterArg, SyscallName } from '@pagelab/abi';
import type { Machine, Process } from '@pagelab/kernel';
import { lockedKib, mappedPages, observe } from './matrix-state.ts';
import type { Area, Baseline, Observer, State } from './matrix-state.ts';

const PAGE = 4096;

/** `c`: a call, whose result is duplicated to a descriptor and bound to a slot where these are not -1; `w`: bytes; `f`: a byte repeated. */
type Setup =
  | readonly ['c', SyscallName, readonly string[], fd: number, slot: number]
  | readonly ['w', at: number, hex: string]
  | readonly ['f', at: number, length: number, byte: number];

interface RecordedCall {
  readonly name: SyscallName;
  /** Index of the state it is made in. */
  readonly baseline: number;
  /** Its result is not the same twice. */
  readonly any: boolean;
  /** Its result may be an address anywhere. */
  readonly placed: boolean;
  readonly flags: string;
  /** Values by argument. */
  readonly args: readonly (readonly string[])[];
  /** An index for each argument, and that of the outcome. */
  readonly rows: readonly (readonly number[])[];
}

export interface Matrix {
  readonly matrix: number;
  readonly areas: readonly Area[];
  readonly names: readonly string[];
  readonly setup: readonly Setup[];
  readonly slots: Readonly<Record<string, number>>;
  readonly baselines: readonly { readonly pre: readonly Setup[]; readonly state: string }[];
  readonly calls: readonly RecordedCall[];
  readonly outcomes: readonly string[];
}

/** A row that did not do here what it did on the real kernel. */
export interface MatrixDifference {
  /** As C would write it. */
  readonly call: string;
  readonly expected: string;
  readonly seen: string;
}

/** Runs a matrix's rows on one machine. */
export class MatrixRun {
  readonly #machine: Machine;
  readonly #matrix: Matrix;
  readonly #states = new Map<number, { readonly state: State; readonly contents: Baseline }>();
  #cleaner: Process;

  constructor(machine: Machine, matrix: Matrix) {
    this.#machine = machine;
    this.#matrix = matrix;
    this.#cleaner = machine.createProcess({ name: 'cleaner' });
  }

  /** Every `step`th row from `first` on. @returns rows run, and those that differ */
  run(step = 1, first = 0, only?: RegExp): { readonly rows: number; readonly differences: MatrixDifference[] } {
    const differences: MatrixDifference[] = [];
    let rows = 0;
    let at = 0;
    for (const [index, { state }] of this.#matrix.baselines.entries()) {
      const seen = [...this.#state(index).state].map(([letter, text]) => `${letter} ${text}\t`).join('');
      if (seen !== state) differences.push({ call: `the state ${index}`, expected: state, seen });
    }
    for (const call of this.#matrix.calls) {
      if (only !== undefined && !only.test(call.name)) continue;
      for (const row of call.rows) {
        if (at++ % step !== first) continue;
        rows++;
        const expected = this.#matrix.outcomes[row.at(-1)!]!;
        const args = call.args.map((values, i) => values[row[i]!]!);
        const seen = this.#row(call, args);
        if (seen !== expected) differences.push({ call: `${call.name}(${args.join(', ')})`, expected, seen });
      }
    }
    return { rows, differences };
  }

  /** Makes one call in a new process. @returns what came of it, as recorded */
  #row(call: RecordedCall, args: readonly string[]): string {
    const { state: base, contents } = this.#state(call.baseline);
    const [observer, slots] = this.#start(call.baseline);
    const { process } = observer;
    const [pages, locked] = [mappedPages(observer), lockedKib(observer)];
    let result = 0;
    try {
      result = process.os.syscall(Syscall[call.name], ...args.map((arg) => this.#value(arg, slots)));
    } catch (error) {
      if (process.alive) throw error;
    }
    let text: string;
    if (process.alive) {
      const withFlags = call.flags.includes('v');
      text = this.#resultText(call, result, slots);
      for (const [letter, part] of observe(observer, contents, mappedPages(observer) - pages, lockedKib(observer) - locked, withFlags, call.flags.includes('t'))) {
        if (letter === 'l' && call.flags.includes('w')) continue;
        if (base.get(letter) !== part) text += `\t${letter} ${letter === 'f' || letter === 'n' ? changedEntries(part, base.get(letter)!) : part}`;
      }
    } else {
      text = process.lastSignal === null ? `exit${process.status}` : `sig${process.lastSignal}`;
    }
    this.#clean(process);
    return text;
  }

  #resultText({ any, placed }: RecordedCall, result: number, slots: readonly bigint[]): string {
    if (any && result >= 0) return '+';
    if (!placed) return String(result);
    const { areas } = this.#matrix;
    const fromBreak = result - Number(slots[2]);
    if (fromBreak >= 0 && fromBreak < 1 << 20) return `B+${fromBreak}`;
    return result > PAGE && (result < areas[0]![0] || result > areas.at(-1)![0]) ? 'P' : String(result);
  }

  /** A process in the state of a baseline. */
  #start(baseline: number): [Observer, bigint[]] {
    const { setup, baselines, areas, names } = this.#matrix;
    const process = this.#machine.createProcess({ name: 'matrix' });
    const { os } = process;
    // Pages that observing uses are there before.
    for (const page of [0, 1]) os.mem.store8(process.image.bssStart + page * PAGE, 0);
    const slots = [BigInt(process.pid), 0n, 0n];
    for (const item of [...setup, ...baselines[baseline]!.pre]) {
      if (item[0] === 'w') os.mem.write(item[1], Uint8Array.from(item[2].match(/../g) ?? [], (hex) => Number.parseInt(hex, 16)));
      else if (item[0] === 'f') os.mem.fill(item[1], item[2], item[3]);
      else this.#setupCall(process, item, slots);
    }
    return [{ machine: this.#machine, process, areas, names }, slots];
  }

  #setupCall({ os }: Process, [, name, args, fd, slot]: Extract<Setup, readonly ['c', ...unknown[]]>, slots: bigint[]): void {
    const value = os.syscall(Syscall[name], ...args.map((arg) => this.#value(arg, slots)));
    if (value < 0 && value > -4096) throw new Error(`the setup failed: ${name}(${args.join(', ')}) = ${value}`);
    if (fd >= 0) {
      os.syscall(Syscall.dup2, value, fd);
      os.syscall(Syscall.close, value);
    }
    if (slot >= 0) slots[slot] = BigInt(value);
  }

  #state(index: number): { readonly state: State; readonly contents: Baseline } {
    const known = this.#states.get(index);
    if (known !== undefined) return known;
    const [observer] = this.#start(index);
    const contents: Baseline = [];
    const made = { state: observe(observer, contents, 0, 0, true, false), contents };
    this.#states.set(index, made);
    this.#clean(observer.process);
    return made;
  }

  /** An argument's number. */
  #value(arg: string, slots: readonly bigint[]): RegisterArg {
    const [, sign, name, offset] = /^(-?)([a-z]+)?([+-]?\d+)?$/.exec(arg)!;
    if (name === undefined) return BigInt(arg);
    const value = slots[this.#matrix.slots[name]!]!;
    return (sign === '-' ? -value : value) + BigInt(offset ?? 0);
  }

  /** Ends a row's process and takes away what it left. */
  #clean(process: Process): void {
    process.exit(0);
    // A signal to all ends it, too.
    if (!this.#cleaner.alive) this.#cleaner = this.#machine.createProcess({ name: 'cleaner' });
    const { os, image } = this.#cleaner;
    const at = image.bssStart;
    // A directory may have been given another's name, with what is in it.
    const names = [...this.#matrix.names].reverse();
    for (const name of [...names.map((above) => `${above}/g`), ...names]) {
      os.mem.storeCString(at, name);
      if (os.syscall(Syscall.unlink, at) !== 0) os.syscall(Syscall.rmdir, at);
    }
    const SHM_STAT = 13;
    const SHM_INFO = 14;
    const highest = os.syscall(Syscall.shmctl, 0, SHM_INFO, at);
    for (let place = 0; place <= highest; place++) {
      const id = os.syscall(Syscall.shmctl, place, SHM_STAT, at);
      if (id >= 0) os.syscall(Syscall.shmctl, id, 0, 0);
    }
  }
}

/** Entries that are new or otherwise, and the names of those that are gone with a `-`. */
function changedEntries(now: string, was: string): string {
  const before = was.split(',').slice(0, -1);
  const entries = now.split(',').slice(0, -1);
  const keys = new Set(entries.map((entry) => entry.split(':')[0]));
  const gone = before.map((entry) => entry.split(':')[0]!).filter((key) => !keys.has(key));
  return [...entries.filter((entry) => !before.includes(entry)), ...gone.map((key) => `-${key}`)].map((entry) => `${entry},`).join('');
}
