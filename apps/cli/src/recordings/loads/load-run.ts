/**
 * A recorded load under way on a machine: what the recording says comes next, and what came of it here.
 */
import { errnoName, isError, MAP_FIXED, O_RDONLY, Syscall, SyscallError } from '@pagelab/abi';
import type { Os, RegisterArg, SyscallName, VirtAddr } from '@pagelab/abi';
import type { Machine, MachineConfigInput, Process } from '@pagelab/kernel';
import type { Checks } from '../check.ts';
import { parseNumbers } from '../proc-text.ts';
import type { Recording } from '../recording.ts';

export const PAGE = 4096;
export const MIB = 2 ** 20;
const PROT_RW = 3;
const MAP_PRIVATE_ANON = 0x22;

/** A recorded load that can be done again. One file each beside this one. */
export interface Load {
  /** What `config.json` calls it, without the amount that may follow: `forkcow`, `swap`. */
  readonly name: string;
  /** What the machine has beside what every recording tells of. */
  readonly machine?: (recording: Recording) => Partial<MachineConfigInput>;
  /** Does on the machine what the recorded program did, a stage after the other, and compares what each step gave. */
  readonly run: (run: LoadRun) => void;
}

/** Thrown where the recording does not go on as the load's program does. */
export class LoadMismatch extends Error {
  override readonly name = 'LoadMismatch';
}

/** A value that has to be the same. */
export interface ExactRow {
  readonly area: string;
  readonly what: string;
  readonly recorded: string | number;
  readonly computed: string | number;
}

/** A figure of which only sign and order of magnitude are compared. */
export interface ShapeRow {
  readonly stage: string;
  readonly what: string;
  readonly recorded: number;
  readonly computed: number;
}

/** Counters of a stage: of `/proc/vmstat` by their names, of `/proc/meminfo` by theirs. */
export type StageFigures = ReadonlyMap<string, number>;

/** Faults of a C program's own that come on top of those of the memory it touches: pages of its stack, data and text. */
const OWN_FAULTS = 4;
/** log2 of the pages that are held together. @linux include/linux/mmzone.h:PAGE_ALLOC_COSTLY_ORDER */
const HELD_ORDER = 4;
/** Figures that differ by no more are alike: pages, faults, KiB that a C program and its kernel have by themselves. */
const SHAPE_NOISE = 2048;

/** What an event's line begins with. Two programs that write at once on two CPUs overwrite each other's: a line may begin late. */
const TIME = /^[\s\0]*\[ *\d+ ms\] ?/;

export class LoadRun {
  readonly recording: Recording;
  readonly machine: Machine;
  readonly checks: Checks;
  /** Values that are the same. */
  readonly exacts: ExactRow[] = [];
  /** Figures that are alike only in shape. */
  readonly shapes: ShapeRow[] = [];
  /** Recorded events without their times. */
  readonly #events: readonly string[];
  #at = 0;
  #stage = '';
  /** Recorded names of stages. */
  readonly #names = new Map<string, string>();
  readonly #recorded = new Map<string, StageFigures>();
  readonly #computed = new Map<string, StageFigures>();

  constructor(recording: Recording, machine: Machine, checks: Checks) {
    this.recording = recording;
    this.machine = machine;
    this.checks = checks;
    this.#events = recording.text('events.txt').split('\n').map((line) => line.replace(TIME, '')).filter((line) => line !== '');
  }

  // What was recorded

  /** The next event, without taking it; `''` at the end. */
  peek(): string {
    return this.#events[this.#at] ?? '';
  }

  /** Takes the next event that matches; those before it are passed over. @throws LoadMismatch where there is none */
  take(pattern: RegExp): RegExpExecArray {
    for (let i = this.#at; i < this.#events.length; i++) {
      const match = pattern.exec(this.#events[i]!);
      if (match === null) continue;
      this.#at = i + 1;
      return match;
    }
    throw new LoadMismatch(`events.txt: nothing like ${String(pattern)} after '${this.#events[this.#at - 1] ?? ''}'`);
  }

  /** Takes the next event if it matches. */
  takeIf(pattern: RegExp): RegExpExecArray | null {
    const match = pattern.exec(this.peek());
    if (match !== null) this.#at++;
    return match;
  }

  /** Whether an event further on matches. */
  expects(pattern: RegExp): boolean {
    return this.#events.slice(this.#at).some((line) => pattern.test(line));
  }

  // Comparing

  /** Compares a value that has to be the same. */
  equal(area: string, what: string, recorded: string | number | undefined, computed: string | number | undefined): void {
    this.exacts.push({ area, what, recorded: recorded ?? '', computed: computed ?? '' });
    this.checks.equal(area, what, recorded, computed);
  }

  /** Compares numbers, the recorded one of which may be off by as much as `least` and `most` say, for a reason that the caller knows. */
  within(area: string, what: string, recorded: number, computed: number, least: number, most = least): void {
    const same = recorded >= computed - least && recorded <= computed + most;
    this.exacts.push({ area, what, recorded, computed });
    this.checks.add(area, what, same ? null : `recorded ${recorded}, computed ${computed}`);
  }

  /** Takes the next event, which begins with `what: `, and compares the rest of it. */
  says(area: string, what: string, computed: string): void {
    const escaped = what.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
    this.equal(area, what, this.take(new RegExp(`^ *${escaped}: ?(.*)$`))[1], computed);
  }

  /**
   * Compares faults that touching memory took. The recorded program may have had up to four of its own beside them, this
   * one has none.
   */
  faults(what: string, recorded: number, computed: number): void {
    this.within('minor faults', what, recorded, computed, 0, OWN_FAULTS);
  }

  /** Compares a figure that is alike in sign and order of magnitude only. */
  shape(what: string, recorded: number, computed: number): void {
    this.note(what, recorded, computed);
    const ofOneOrder = recorded * computed > 0 && Math.abs(Math.log10(recorded / computed)) <= 1;
    const alike = ofOneOrder || Math.abs(recorded - computed) <= SHAPE_NOISE;
    this.checks.add('shape', `${this.#stage}: ${what}`, alike ? null : `recorded ${recorded}, computed ${computed}: not of one order of magnitude`);
  }

  /**
   * Compares free memory, or how it changed. Since 6.7 the lists of CPUs keep as many pages as seems good to them, thousands,
   * and those do not count as free: then the figure is noted alone.
   */
  shapeOfFree(what: string, recorded: number, computed: number): void {
    if (this.machine.config.kernel === '6.1') this.shape(what, recorded, computed);
    else this.note(what, recorded, computed);
  }

  /** Notes a figure for the table alone. */
  note(what: string, recorded: number, computed: number): void {
    this.shapes.push({ stage: this.#stage, what, recorded, computed });
  }

  // Stages

  /**
   * Notes the counters at a stage's end, recorded and own.
   *
   * @param name as most recordings have it: `01-filled`. What follows the number may be another amount
   */
  stage(name: string): void {
    const [, recorded] = this.take(new RegExp(`^snapshot (${name.split('-')[0]}-\\S+)$`));
    this.#stage = name;
    this.#names.set(name, recorded!);
    const text = (file: string): string => this.recording.text(`${recorded}.${file}.txt`);
    this.#recorded.set(name, figures(text('vmstat'), text('meminfo')));
    this.#computed.set(name, figures(this.machine.readFile('/proc/vmstat'), this.machine.readFile('/proc/meminfo')));
  }

  /** Whether a stage was come to. */
  reached(stage: string): boolean {
    return this.#names.has(stage);
  }

  /** The text of a file of a stage that was reached, `''` where it was not recorded. @param file `buddyinfo` */
  stageText(stage: string, file: string): string {
    return this.recording.text(`${this.#names.get(stage) ?? stage}.${file}.txt`);
  }

  /** A counter as it was recorded at a stage, and as it is here; NaN where the stage or the counter is not there. */
  counter(stage: string, name: string): { recorded: number; computed: number } {
    return { recorded: this.#recorded.get(stage)?.get(name) ?? NaN, computed: this.#computed.get(stage)?.get(name) ?? NaN };
  }

  /** How a counter changed from one stage to another. */
  change(from: string, to: string, name: string): { recorded: number; computed: number } {
    const a = this.counter(from, name);
    const b = this.counter(to, name);
    return { recorded: b.recorded - a.recorded, computed: b.computed - a.computed };
  }

  /** Checks that counters changed alike from one stage to another. */
  sameChanges(area: string, from: string, to: string, names: readonly string[]): void {
    for (const name of names) {
      const { recorded, computed } = this.change(from, to, name);
      if (!Number.isNaN(recorded)) this.equal(area, `${from} to ${to}: ${name}`, recorded, computed);
    }
  }

  /** Notes how counters changed from one stage to another, to be alike in shape. */
  likeChanges(from: string, to: string, names: readonly string[]): void {
    this.#stage = to;
    for (const name of names) {
      const { recorded, computed } = this.change(from, to, name);
      if (Number.isNaN(recorded)) continue;
      if (name === 'nr_free_pages') this.shapeOfFree(`${name} since ${from}`, recorded, computed);
      else this.shape(`${name} since ${from}`, recorded, computed);
    }
  }

  // Programs

  /** The machine's first process: the recorder's `init`. */
  start(): Process {
    return this.machine.createProcess({ name: 'init' });
  }

  /**
   * Takes the pages that the recorded system had in use when the load began and this one has not: what its drivers, modules
   * and caches have. So both have as much left.
   */
  hold(): void {
    const [, first] = /^snapshot (\S+)$/m.exec(this.#events.join('\n')) ?? [];
    const pages = freePages(this.machine.readFile('/proc/zoneinfo')) - freePages(this.recording.text(`${first ?? ''}.zoneinfo.txt`));
    this.machine.module((kernel) => {
      let left = pages;
      // Blocks that no CPU's list has: those lists stay as they are.
      for (; left >= 1 << HELD_ORDER; left -= 1 << HELD_ORDER) kernel.allocPages(HELD_ORDER);
      for (; left > 0; left--) kernel.allocPages();
    });
  }

  /** Does what a process is to do, as long as it lives. @returns whether it lives at the end */
  whileAlive(process: Process, body: () => void): boolean {
    try {
      body();
    } catch (error) {
      if (process.alive || error instanceof LoadMismatch) throw error;
    }
    return process.alive;
  }

  /** A child of a process that is driven from here. */
  fork(parent: Process): Process {
    const child = parent.fork();
    if (typeof child === 'number') throw new SyscallError('fork', child);
    return child;
  }

  /** Ends a process as the recorded one ended, and checks that it had lived so long. */
  end(process: Process, name: string): void {
    const status = Number(this.take(new RegExp(`^${name} exited, wait status (0x[0-9a-f]+)`))[1]);
    if (process.alive) process.exit(0);
    this.equal('results', `${name}: wait status`, status, process.lastSignal ?? (process.status ?? 0) << 8);
  }

  /**
   * Takes the next event that is a system call of the recorder's, `mlock(p+16*MB,4096) = -1 errno 12 (…)`, makes that
   * call and compares value and errno.
   *
   * @param names what the names in its arguments stand for, beside MB
   */
  replayCall(process: Process, names: Readonly<Record<string, number>>): void {
    const [, call, args, value, errno] = this.take(/^(\w+)\((.*)\) = (-?\d+) errno (\d+) /);
    const values = args === '' ? [] : args!.split(',').map((each) => term(each, names));
    const [nr, registers]: [number, RegisterArg[]] =
      call === 'syscall' ? [values[0]!, values.slice(1)] : [Syscall[call as SyscallName], values];
    this.equal('results', `${call}(${args})`, outcome(Number(value), Number(errno)), shown(process.os.syscall(nr, ...registers)));
  }
}

/** A system call's result as the checks show it. */
export function shown(result: number): string {
  return isError(result) ? errnoName(result) : `${result}`;
}

/** A C library's result: −1 with an errno, or a value. */
function outcome(value: number, errno: number): string {
  return value === -1 && errno !== 0 ? errnoName(-errno) : `${value}`;
}

/** An argument of a recorded call: names and numbers joined by `+`, `*` and `|`. */
function term(text: string, names: Readonly<Record<string, number>>): number {
  const word = (name: string): number => {
    if (/^\d+$/.test(name)) return Number(name);
    if (name.startsWith('SYS_')) return Syscall[name.slice(4) as SyscallName];
    const value = name === 'MB' ? MIB : names[name.replace(/^&/, '')];
    if (value === undefined) throw new LoadMismatch(`events.txt: '${name}' in '${text}' is not known`);
    return value;
  };
  const product = (part: string): number => part.split('*').reduce((value, factor) => value * word(factor.trim()), 1);
  const sum = (part: string): number => part.split('+').reduce((value, each) => value + product(each), 0);
  return text.split('|').reduce((value, part) => (value === 0 ? sum(part) : value | sum(part)), 0);
}

function figures(vmstat: string, meminfo: string): StageFigures {
  return new Map([...parseNumbers(vmstat), ...parseNumbers(meminfo)]);
}

/** Free pages of all zones, those in the lists of CPUs among them; NaN where there is nothing to read. */
function freePages(zoneinfo: string): number {
  const found = [...zoneinfo.matchAll(/^ +(?:pages free|count:) +(\d+)$/gm)];
  return found.length === 0 ? NaN : found.reduce((pages, [, number]) => pages + Number(number), 0);
}

/** Maps private anonymous memory, as the recorder's `map`. */
export function map(os: Os, bytes: number, flags = 0): VirtAddr {
  return os.mmap(0, bytes, PROT_RW, MAP_PRIVATE_ANON | flags);
}

/** Maps memory that begins at a multiple of 2 MiB, as the recorder's `map2m`. */
export function map2m(os: Os, bytes: number): VirtAddr {
  const start = map(os, bytes + 2 * MIB);
  return Math.ceil(start / (2 * MIB)) * 2 * MIB;
}

/**
 * Maps memory in which so many small pages lie in front of the first whole huge one, or as the kernel places it. Where a
 * recorded program's memory lay is chance, but tells in its faults.
 */
export function mapBefore(os: Os, bytes: number, pages: number | undefined, flags = 0): VirtAddr {
  if (pages === undefined) return map(os, bytes, flags);
  const room = map(os, bytes + 4 * MIB);
  os.munmap(room, bytes + 4 * MIB);
  const boundary = (Math.floor(room / (2 * MIB)) + 1) * 2 * MIB;
  return os.mmap(boundary + (pages === 0 ? 0 : 2 * MIB - pages * PAGE), bytes, PROT_RW, MAP_PRIVATE_ANON | MAP_FIXED | flags);
}

/** The word that {@link touchWrite} leaves in the page at an offset. */
export function wordAt(seed: number, offset: number): number {
  return seed + offset;
}

/** Makes a process another user's, without capabilities. */
export function becomeUser(os: Os, uid: number): void {
  os.syscall(Syscall.setgid, uid);
  os.syscall(Syscall.setuid, uid);
}

/** Writes a word to each page. */
export function touchWrite(os: Os, start: VirtAddr, bytes: number, seed = 1): void {
  for (let offset = 0; offset < bytes; offset += PAGE) os.mem.storeAddress(start + offset, wordAt(seed, offset));
}

/** Reads a word of each page. */
export function touchRead(os: Os, start: VirtAddr, bytes: number): void {
  for (let offset = 0; offset < bytes; offset += PAGE) os.mem.loadAddress(start + offset);
}

/** Pages in which {@link touchWrite}'s word is not found. */
export function wrongWords(os: Os, start: VirtAddr, bytes: number, seed: number, step = PAGE, from = 0): number {
  let wrong = 0;
  for (let offset = from; offset < bytes; offset += step) if (os.mem.loadAddress(start + offset) !== wordAt(seed, offset)) wrong++;
  return wrong;
}

/** A field of a text such as `/proc/self/status` or smaps, in KiB; NaN where it is not there. */
export function kibOf(text: string, name: string): number {
  return Number(new RegExp(`(?:^|[\\n;] ?)${name}:\\s*(\\d+) kB`).exec(text)?.[1] ?? NaN);
}

/** What the recorded programs read at a time. */
export const READ_BYTES = 65_536;

/** Reads a file to its end. @param buffer room for `READ_BYTES` @returns its bytes */
export function readToEnd(os: Os, path: number, buffer: number): number {
  const fd = os.syscall(Syscall.open, path, O_RDONLY, 0);
  let total = 0;
  for (;;) {
    const got = os.syscall(Syscall.read, fd, buffer, READ_BYTES);
    if (got <= 0) break;
    total += got;
  }
  os.syscall(Syscall.close, fd);
  return total;
}
