/**
 * Runs one conformance case on a machine of its own.
 */
import { errnoName, isError, TASK_SIZE } from '@pagelab/abi';
import type { SyscallName } from '@pagelab/abi';
import { TaskExit } from '@pagelab/kernel';
import type { Machine, Process } from '@pagelab/kernel';
import { argumentOffset, callArguments } from './call-arguments.ts';
import type { CallArgument } from './call-arguments.ts';
import type { ConformanceCase, ExpectedMapping, Step, Value } from './case.ts';
import { evaluate, namesIn } from './expression.ts';
import { pagemapLetter, readCounters, readMaps, readMeminfo, readPagemap, readSmaps } from './proc.ts';
import { isFault, SCRATCH_BYTES, Target } from './target.ts';
import { TASK_OPERATIONS, TaskNotes, compareNotes } from './task-steps.ts';
import type { ObservedFault } from './target.ts';
import {
  FALLOC_WORDS, flagsValue, IPC_WORDS, MADV_WORDS, MAP_WORDS, MCL_WORDS, MFD_WORDS, MLOCK_WORDS, MREMAP_WORDS, MS_WORDS,
  OPEN_WORDS, protValue, RLIMIT_WORDS, SEAL_WORDS, SHM_WORDS,
} from './words.ts';

const PAGE = 4096;
const MASK = (1n << 64n) - 1n;

/** A step that did not do what it expects. */
export class Mismatch extends Error {
  override readonly name = 'Mismatch';
}

/** A system call's value (unsigned) or `'-ENAME'`; an access's value or `'SIGNAL/CODE'`. */
type Outcome = bigint | string;

function show(outcome: Outcome | undefined): string {
  return typeof outcome === 'bigint' ? `0x${outcome.toString(16)}` : String(outcome);
}

/** Whether `text` is an outcome by name, not an expression. */
function isName(text: unknown): text is string {
  return typeof text === 'string' && (text.startsWith('-E') || text.startsWith('SIG'));
}

/** A system call's raw result as the cases write it. */
export function outcomeOf(result: number): Outcome {
  return isError(result) ? `-${errnoName(result)}` : BigInt.asUintN(64, BigInt(result));
}

const littleEndian = (values: readonly bigint[]): Uint8Array =>
  new Uint8Array(BigUint64Array.from(values, (value) => BigInt.asUintN(64, value)).buffer);

export type Operation = (run: CaseRun, step: Step, target: Target) => void;

/** A case under way. */
export class CaseRun {
  readonly machine: Machine;
  readonly names: Map<string, bigint>;
  readonly targets = new Map<string, Target>();
  readonly fds = new Map<string, number>();
  readonly tasks = new TaskNotes();
  #lastFault: number | undefined;
  #spaces = 0n;

  constructor(machine: Machine) {
    this.machine = machine;
    const meminfo = readMeminfo(machine);
    this.names = new Map<string, bigint>([
      ['PAGE', 4096n], ['KB', 1n << 10n], ['MB', 1n << 20n], ['GB', 1n << 30n], ['HUGE', 2n << 20n],
      ['TASK_SIZE', BigInt(TASK_SIZE)], ['UMAX', MASK], ['INFINITY', MASK], ['GAP', 256n * 4096n],
      ['MEMTOTAL', meminfo.get('MemTotal')!], ['SWAPTOTAL', meminfo.get('SwapTotal')!],
      ['MMAP_MIN', BigInt(machine.readFile('/proc/sys/vm/mmap_min_addr').trim())],
      ['MAX_MAP_COUNT', BigInt(machine.readFile('/proc/sys/vm/max_map_count').trim())],
    ]);
    const main = new Target(machine.createProcess({ name: 'main' }));
    this.tasks.at = main;
    main.start(() => this.tasks.at);
    this.targets.set('main', main);
    this.tasks.names.set(main.process.pid, 'main');
    this.names.set('main', BigInt(main.process.pid));
    this.names.set('SCRATCH', BigInt(main.scratch));
  }

  step(step: Step): void {
    const target = this.targets.get(step.in ?? 'main');
    if (!target) throw new Mismatch(`no process named ${step.in}`);
    if (!target.alive) throw new Mismatch('the target process died');
    const operation = OPERATIONS[step.op] ?? TASK_OPERATIONS[step.op];
    if (!operation) throw new Mismatch(`unknown operation '${step.op}'`);
    const alive = this.tasks.collects ? [...this.targets.keys()].filter((name) => this.targets.get(name)!.alive) : [];
    this.tasks.at = target;
    try {
      operation(this, step, target);
    } catch (error) {
      if (!this.tasks.collects || !(error instanceof TaskExit)) throw error;
    }
    if (this.tasks.collects) compareNotes(this, step, alive);
  }

  steps(steps: readonly Step[], prefix = ''): void {
    for (const [i, step] of steps.entries()) {
      try {
        this.step(step);
      } catch (error) {
        if (error instanceof Mismatch) throw new Mismatch(`step ${prefix}${i} ${JSON.stringify(step)}: ${error.message}`);
        throw error;
      }
    }
  }

  // Values

  /** A field as an exact integer; absent is 0. */
  value(field: unknown): bigint {
    if (field === undefined) return 0n;
    if (typeof field === 'boolean' || typeof field === 'number') return BigInt(field);
    return evaluate(field as string, this.names);
  }

  /** A field that is a count or a length for the runner itself. */
  count(field: unknown): number {
    return Number(this.value(field));
  }

  /** A descriptor by the name it was bound to, or by number. */
  fd(field: unknown, absent = 0n): bigint {
    if (field === undefined) return absent;
    const known = typeof field === 'string' ? this.fds.get(field) : undefined;
    return known === undefined ? this.value(field) : BigInt(known);
  }

  bind(step: Step, outcome: Outcome): void {
    if (step.as !== undefined && typeof outcome === 'bigint') this.names.set(step.as, outcome);
  }

  // Expectations

  /** Compares with the step's `expect`; without one, nothing may fail. */
  same(step: Pick<Step, 'expect'>, actual: Outcome): void {
    const want = step.expect;
    if (want === undefined) {
      if (typeof actual === 'string') throw new Mismatch(`expected success, observed ${actual}`);
    } else if (isName(want)) {
      if (actual !== want) throw new Mismatch(`expected ${want}, observed ${show(actual)}`);
    } else {
      const value = this.value(want) & MASK;
      if (actual !== value) throw new Mismatch(`expected ${JSON.stringify(want)} (${show(value)}), observed ${show(actual)}`);
    }
  }

  /** Compares named values with the step's `expect`, modulo 2^64 unless they may be negative. */
  fields(step: Step, seen: ReadonlyMap<string, bigint>, modulus: bigint | null = MASK): void {
    const wrong: string[] = [];
    for (const [name, want] of Object.entries(step.expect as Record<string, Value>)) {
      const expected = modulus === null ? this.value(want) : this.value(want) & modulus;
      const actual = seen.get(name);
      if (actual !== expected) wrong.push(`${name}: expected ${String(want)} (${expected}), observed ${String(actual)}`);
    }
    if (wrong.length > 0) throw new Mismatch(wrong.join('; '));
  }

  call(step: Step, target: Target, name: SyscallName, ...args: (number | bigint)[]): void {
    const outcome = outcomeOf(target.syscall(name, ...args));
    this.same(step, outcome);
    this.bind(step, outcome);
  }

  /** An access: its value or its fault against the step's expectations. */
  access(step: Step, result: bigint | ObservedFault): void {
    this.#lastFault = isFault(result) ? result.addr : undefined;
    this.same(step, isFault(result) ? result.signal : result);
    if (step.fault_at !== undefined) {
      const want = this.value(step.fault_at) & MASK;
      const seen = this.#lastFault === undefined ? undefined : BigInt.asUintN(64, BigInt(this.#lastFault));
      if (seen !== want) throw new Mismatch(`expected the fault at ${show(want)}, observed ${show(seen)}`);
    }
  }

  /** An address for the memory interface: a number, sign-extended. Where no double holds it, the nearest that faults alike. */
  address(field: unknown): number {
    return Number(BigInt.asIntN(64, this.value(field)));
  }

  /** An address range far below everything placed automatically, free and left free. */
  findSpace(target: Target, length: bigint, align: bigint): bigint {
    this.#spaces++;
    const total = length + align + (this.#spaces << 40n);
    const at = target.syscall('mmap', 0, total, 0, 0x4022, -1, 0);
    if (at <= 0) throw new Mismatch('no room');
    if (target.syscall('munmap', at, total) !== 0) throw new Mismatch('munmap of the space failed');
    return ((BigInt(at) + align - 1n) / align) * align;
  }

  path(text: string): string {
    return text.replace(/^file:(\w+)/, '/tmp/$1').replace(/^dir:$/, '/tmp');
  }

  fork(step: Step, target: Target): void {
    const child = target.process.fork();
    if (typeof child === 'number') {
      // It may have failed in the middle.
      target.ownPages();
      this.same(step, outcomeOf(child));
      return;
    }
    this.same({ expect: step.expect }, BigInt(child.pid));
    const forked = new Target(child);
    forked.ownPages();
    target.ownPages();
    this.targets.set(step.as!, forked);
    this.names.set(step.as!, BigInt(child.pid));
    this.tasks.names.set(child.pid, step.as!);
  }
}

/** Reads or writes through a file of the process's own /proc directory. */
function throughProc(target: Target, file: string, flags: number, body: (fd: number) => Outcome): Outcome {
  const fd = target.syscall('open', target.putCString(`/proc/self/${file}`), flags, 0);
  if (fd < 0) return outcomeOf(fd);
  const outcome = body(fd);
  target.syscall('close', fd);
  return outcome;
}

function transfer(run: CaseRun, step: Step, target: Target, kind: 'read' | 'write', address: bigint): void {
  const fd = run.fd(step.fd);
  const length = run.value(step.len);
  if (step.off === undefined) run.call(step, target, kind, fd, address, length);
  else run.call(step, target, kind === 'read' ? 'pread64' : 'pwrite64', fd, address, length, run.value(step.off));
}

function vmTransfer(run: CaseRun, step: Step, target: Target, call: 'process_vm_readv' | 'process_vm_writev'): void {
  const vector = (pairs: unknown, offset: number): number => {
    target.put(offset, littleEndian((pairs as Value[][]).flat().map((item) => run.value(item))));
    return target.scratch + offset;
  };
  const local = vector(step.local, 0);
  const remote = vector(step.remote, SCRATCH_BYTES / 2);
  run.call(
    step, target, call, run.value(step.pid),
    local, run.value(step.local_count ?? (step.local as unknown[]).length),
    remote, run.value(step.remote_count ?? (step.remote as unknown[]).length),
    run.value(step.flags),
  );
}

function readLimit(target: Target, resource: number): [bigint, bigint] {
  target.syscall('prlimit64', 0, resource, 0, target.scratch);
  return [target.os.mem.load64(target.scratch), target.os.mem.load64(target.scratch + 8)];
}

/** A file's pages as one run of bytes: page n filled with `pages[n]`, as far as `size` goes. */
function fileContents(run: CaseRun, step: Step): Uint8Array {
  const pages = (step.pages as Value[] | undefined) ?? [];
  const data = new Uint8Array(Math.min(pages.length * PAGE, run.count(step.size)));
  for (const [n, content] of pages.entries()) data.fill(run.count(content), n * PAGE, (n + 1) * PAGE);
  return data;
}

/** Writes from the start of a file, `stepBytes` with each call: how many shows in the size of the folios. */
function writeContents(target: Target, fd: number, data: Uint8Array, stepBytes: number): void {
  for (let offset = 0; offset < data.length; offset += stepBytes) {
    const part = data.subarray(offset, offset + stepBytes);
    target.put(0, part);
    const written = target.syscall('pwrite64', fd, target.scratch, part.length, offset);
    if (written !== part.length) throw new Mismatch(`pwrite64: ${show(outcomeOf(written))}`);
  }
}

function setSize(run: CaseRun, step: Step, target: Target, fd: number): void {
  const truncated = target.syscall('ftruncate', fd, run.count(step.size));
  if (truncated !== 0) throw new Mismatch(`ftruncate: ${show(outcomeOf(truncated))}`);
}

/** A call by its name; `any` for a result that only must not be an error, `data` for what it leaves behind argument `out`. */
function callByName(run: CaseRun, step: Step, target: Target): void {
  const args = callArguments(step.args as CallArgument[], target, (field) => run.fd(field), (text) => run.path(text));
  const outcome = outcomeOf(target.syscall(step.name as SyscallName, ...args));
  if (step.any !== true || typeof outcome === 'string' || isName(step.expect)) run.same(step, outcome);
  run.bind(step, outcome);
  if (step.data === undefined) return;
  const data = step.data as string;
  const seen = target.get(argumentOffset(step.out as number), data.length / 2);
  const text = Array.from(seen, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (text !== data) throw new Mismatch(`expected ${data}, observed ${text}`);
}

const OPERATIONS: Readonly<Record<string, Operation>> = {
  // Names and control
  let: (run, s) => run.names.set(s.as!, run.value(s.value)),
  assert: (run, s) => {
    const that = s.that as string;
    if (run.value(that) !== 0n) return;
    const used = namesIn(that).filter((name) => run.names.has(name)).map((name) => `${name}=${show(run.names.get(name))}`);
    throw new Mismatch(`not so: ${used.join(', ')}`);
  },
  space: (run, s, t) => run.names.set(s.as!, run.findSpace(t, run.value(s.len), run.value(s.align ?? 'PAGE'))),
  repeat: (run, s) => {
    for (let i = 0n; i < run.value(s.count); i++) {
      run.names.set(s.var as string, i);
      run.steps(s.steps as Step[], `(${String(s.var)}=${i}) `);
    }
  },
  vma: (run, s, t) => {
    const found = readMaps(run.machine, t.process.pid).find((line) => line.name === s.name);
    if (found) {
      run.names.set(s.as!, found.start);
      run.names.set(`${s.as!}_end`, found.end);
    } else if (s.expect !== 'absent') {
      throw new Mismatch(`no mapping named ${String(s.name)}`);
    }
  },

  // Processes and settings
  fork: (run, s, t) => run.fork(s, t),
  exit: (run, s, t) => t.process.exit(run.count(s.code)),
  wait: (run, s, t) => {
    const child = run.targets.get(s.for as string)!;
    const result = t.syscall('wait4', child.process.pid, t.scratch, 0, 0);
    if (result !== child.process.pid) throw new Mismatch(`wait4 returned ${result}`);
    const status = t.os.mem.load32(t.scratch);
    const signal = status & 127;
    run.same(s, signal === 0 ? BigInt((status >> 8) & 255) : `SIG${signal}`);
  },
  drop_caps: (run, s, t) => {
    t.put(0, new Uint8Array(new Uint32Array([0x2008_0522, 0, 0, 0, 0, 0, 0, 0]).buffer));
    run.call(s, t, 'capset', t.scratch, t.scratch + 8);
  },
  sysctl: (run, s) => run.machine.writeFile(`/proc/sys/${String(s.name)}`, String(run.value(s.value))),
  setrlimit: (run, s, t) => {
    const resource = flagsValue(s.resource as string, RLIMIT_WORDS);
    const [cur, max] = readLimit(t, resource);
    t.put(0, littleEndian([s.cur === undefined ? cur : run.value(s.cur), s.max === undefined ? max : run.value(s.max)]));
    run.same(s, outcomeOf(t.syscall('prlimit64', 0, resource, t.scratch, 0)));
  },
  getrlimit: (run, s, t) => {
    const [cur, max] = readLimit(t, flagsValue(s.resource as string, RLIMIT_WORDS));
    run.fields(s, new Map([['cur', cur], ['max', max]]));
  },

  // Mappings
  mmap: (run, s, t) => run.call(
    s, t, 'mmap', run.value(s.addr), run.value(s.len), protValue(s.prot as string), flagsValue(s.flags as string, MAP_WORDS),
    run.fd(s.fd, -1n), run.value(s.off),
  ),
  munmap: (run, s, t) => run.call(s, t, 'munmap', run.value(s.at), run.value(s.len)),
  mprotect: (run, s, t) => run.call(s, t, 'mprotect', run.value(s.at), run.value(s.len), protValue(s.prot as string)),
  mremap: (run, s, t) => run.call(
    s, t, 'mremap', run.value(s.at), run.value(s.old), run.value(s.new), flagsValue(s.flags as string, MREMAP_WORDS), run.value(s.to),
  ),
  madvise: (run, s, t) => run.call(s, t, 'madvise', run.value(s.at), run.value(s.len), flagsValue(s.advice as string, MADV_WORDS)),
  mlock: (run, s, t) => run.call(s, t, 'mlock', run.value(s.at), run.value(s.len)),
  mlock2: (run, s, t) => run.call(s, t, 'mlock2', run.value(s.at), run.value(s.len), flagsValue(s.flags as string, MLOCK_WORDS)),
  munlock: (run, s, t) => run.call(s, t, 'munlock', run.value(s.at), run.value(s.len)),
  mlockall: (run, s, t) => run.call(s, t, 'mlockall', flagsValue(s.flags as string, MCL_WORDS)),
  munlockall: (run, s, t) => run.call(s, t, 'munlockall'),
  msync: (run, s, t) => run.call(s, t, 'msync', run.value(s.at), run.value(s.len), flagsValue(s.flags as string, MS_WORDS)),
  mincore: (run, s, t) => {
    const pages = Number((run.value(s.len) + 4095n) / 4096n);
    if (s.vec === undefined) t.put(0, new Uint8Array(Math.min(pages + 1, SCRATCH_BYTES)).fill(0xaa));
    run.call(s, t, 'mincore', run.value(s.at), run.value(s.len), s.vec === undefined ? t.scratch : run.value(s.vec));
    if (s.pages === undefined) return;
    const seen = Array.from(t.get(0, pages), (byte) => byte & 1).join('');
    if (seen !== s.pages) throw new Mismatch(`expected pages ${s.pages as string}, observed ${seen}`);
  },
  brk: (run, s, t) => run.call(s, t, 'brk', run.value(s.addr)),
  sbrk: (run, s, t) => {
    let outcome: Outcome;
    try {
      outcome = BigInt(t.os.sbrk(Number(run.value(s.inc))));
    } catch (error) {
      outcome = `-${(error as { code?: string }).code ?? String(error)}`;
    }
    run.same(s, outcome);
    run.bind(s, outcome);
  },

  // Accesses
  load8: (run, s, t) => run.access(s, t.access((mem) => BigInt(mem.load8(run.address(s.at))))),
  load64: (run, s, t) => run.access(s, t.access((mem) => mem.load64(run.address(s.at)))),
  store8: (run, s, t) => run.access(s, t.access((mem) => {
    mem.store8(run.address(s.at), Number(run.value(s.value) & 255n));
    return 0n;
  })),
  store64: (run, s, t) => run.access(s, t.access((mem) => {
    mem.store64(run.address(s.at), run.value(s.value) & MASK);
    return 0n;
  })),
  fetch: (run, s, t) => run.access(s, t.access((mem) => {
    mem.fetch8(run.address(s.at));
    return 0n;
  })),
  fill: (run, s, t) => run.access(s, t.access((mem) => {
    mem.fill(run.address(s.at), run.count(s.len), run.count(s.value));
    return 0n;
  })),
  check: (run, s, t) => {
    const result = t.access((mem) => BigInt(mem.findNot(run.address(s.at), run.count(s.len), run.count(s.value))));
    if (typeof result === 'bigint') {
      if (result >= 0n) throw new Mismatch(`differs at offset ${show(result)}`);
      if (s.expect !== undefined) throw new Mismatch(`expected ${JSON.stringify(s.expect)}, observed no fault`);
    } else {
      run.access(s, result);
    }
  },
  touch: (run, s, t) => run.access(s, t.access((mem) => {
    const at = run.address(s.at);
    const length = run.count(s.len);
    const stride = run.count(s.stride ?? PAGE);
    for (let offset = 0; offset < length; offset += stride) {
      if (s.mode === 'w') mem.store8(at + offset, run.count(s.value ?? 1));
      else mem.load8(at + offset);
    }
    return 0n;
  })),

  // Files
  file: (run, s, t) => {
    const fd = t.syscall('open', t.putCString(run.path(`file:${s.as!}`)), 0o102, 0o600);
    if (fd < 0) throw new Mismatch(`open: ${show(outcomeOf(fd))}`);
    run.fds.set(s.as!, fd);
    // As the recorder does it: all of a regular file in one call, and its size afterwards.
    writeContents(t, fd, fileContents(run, s), SCRATCH_BYTES);
    setSize(run, s, t, fd);
  },
  memfd: (run, s, t) => {
    const outcome = outcomeOf(
      t.syscall('memfd_create', t.putCString((s.name as string | undefined) ?? s.as!), flagsValue(s.flags as string, MFD_WORDS)),
    );
    run.same(s, outcome);
    if (typeof outcome === 'string') return;
    run.fds.set(s.as!, Number(outcome));
    setSize(run, s, t, Number(outcome));
    writeContents(t, Number(outcome), fileContents(run, s), PAGE);
  },
  open: (run, s, t) => {
    const fd = t.syscall('open', t.putCString(run.path(s.path as string)), flagsValue(s.mode as string, OPEN_WORDS), 0o600);
    run.same(s, outcomeOf(fd));
    if (fd >= 0) run.fds.set(s.as!, fd);
  },
  pipe: (run, s, t) => {
    const result = t.syscall('pipe', t.scratch);
    if (result !== 0) throw new Mismatch(`pipe: ${show(outcomeOf(result))}`);
    run.fds.set(s.as!, t.os.mem.load32(t.scratch));
    run.fds.set(`${s.as!}_w`, t.os.mem.load32(t.scratch + 4));
  },
  close: (run, s, t) => run.call(s, t, 'close', run.fd(s.fd)),
  unlink: (run, s, t) => run.call(s, t, 'unlink', t.putCString(run.path(s.path as string))),
  ftruncate: (run, s, t) => run.call(s, t, 'ftruncate', run.fd(s.fd), run.value(s.size)),
  fallocate: (run, s, t) => run.call(
    s, t, 'fallocate', run.fd(s.fd), flagsValue(s.mode as string | undefined, FALLOC_WORDS), run.value(s.off), run.value(s.len),
  ),
  add_seals: (run, s, t) => run.call(s, t, 'fcntl', run.fd(s.fd), 1033, flagsValue(s.seals as string, SEAL_WORDS)),
  get_seals: (run, s, t) => {
    const outcome = outcomeOf(t.syscall('fcntl', run.fd(s.fd), 1034, 0));
    const want = s.expect;
    run.same({ expect: typeof want === 'string' && !isName(want) ? flagsValue(want, SEAL_WORDS) : want }, outcome);
  },
  pread: (run, s, t) => transfer(run, s, t, 'read', run.value(s.to)),
  pwrite: (run, s, t) => transfer(run, s, t, 'write', run.value(s.from)),
  fread: (run, s, t) => {
    const outcome = outcomeOf(t.syscall('pread64', run.fd(s.fd), t.scratch, run.value(s.len), run.value(s.off)));
    run.same(s, outcome);
    if (s.fill === undefined || typeof outcome === 'string') return;
    const want = run.count(s.fill) & 255;
    const bytes = t.get(0, Number(outcome));
    if (bytes.some((byte) => byte !== want)) throw new Mismatch(`expected bytes ${want}, read ${bytes.subarray(0, 16).join(' ')} …`);
  },
  fwrite: (run, s, t) => {
    const length = run.count(s.len);
    t.put(0, new Uint8Array(length).fill(run.count(s.fill)));
    run.call(s, t, 'pwrite64', run.fd(s.fd), t.scratch, length, run.value(s.off));
  },

  call: callByName,

  // System V shared memory
  shmget: (run, s, t) => run.call(
    s, t, 'shmget', s.key === 'PRIVATE' ? 0n : 0x1000_0000n + run.value(s.key), run.value(s.size),
    flagsValue(s.flags as string | undefined, IPC_WORDS) | run.count(s.mode ?? 0o600),
  ),
  shmat: (run, s, t) => run.call(
    s, t, 'shmat', run.value(s.id), run.value(s.addr), flagsValue(s.flags as string | undefined, SHM_WORDS),
  ),
  shmdt: (run, s, t) => run.call(s, t, 'shmdt', run.value(s.at)),
  shmrm: (run, s, t) => run.call(s, t, 'shmctl', run.value(s.id), 0, 0),
  shmstat: (run, s, t) => {
    const outcome = outcomeOf(t.syscall('shmctl', run.value(s.id), 2, t.scratch));
    if (typeof outcome === 'string' || typeof s.expect === 'string') {
      run.same(s, outcome);
      return;
    }
    const mode = t.os.mem.load32(t.scratch + 20);
    run.fields(s, new Map([
      ['mode', BigInt(mode & 0o777)], ['removed', BigInt((mode >> 9) & 1)],
      ['size', t.os.mem.load64(t.scratch + 48)], ['nattch', t.os.mem.load64(t.scratch + 88)],
    ]));
  },

  process_vm_readv: (run, s, t) => vmTransfer(run, s, t, 'process_vm_readv'),
  process_vm_writev: (run, s, t) => vmTransfer(run, s, t, 'process_vm_writev'),

  // Looking
  mark: (run, s, t) => {
    for (const [name, value] of readCounters(run.machine, t.process.pid, BigInt(TASK_SIZE))) run.names.set(`${s.as!}.${name}`, value);
  },
  delta: (run, s, t) => {
    const now = readCounters(run.machine, t.process.pid, BigInt(TASK_SIZE));
    const change = new Map<string, bigint>();
    for (const [name, value] of now) change.set(name, value - (run.names.get(`${String(s.since)}.${name}`) ?? 0n));
    run.fields(s, change, null);
  },
  maps: (run, s, t) => {
    const seen = readMaps(run.machine, t.process.pid, run.value(s.at), run.value(s.len));
    const want = s.expect as ExpectedMapping[];
    const text = seen
      .map((m) => `${m.start.toString(16)}-${m.end.toString(16)} ${m.perms} ${m.offset.toString(16)} ${m.name}`.trim())
      .join(' | ');
    if (seen.length !== want.length) throw new Mismatch(`expected ${want.length} mappings, observed: ${text || 'none'}`);
    for (const [i, mapping] of seen.entries()) {
      const expected = want[i]!;
      const [start, end] = expected.range.split('..').map((part) => run.value(part));
      const same =
        mapping.start === start && mapping.end === end && mapping.perms === expected.perms &&
        (expected.offset === undefined || mapping.offset === run.value(expected.offset)) &&
        (expected.name === undefined || mapping.name === run.path(expected.name));
      if (!same) throw new Mismatch(`expected ${JSON.stringify(expected)}, observed: ${text}`);
    }
  },
  smaps: (run, s, t) => run.fields(s, readSmaps(run.machine, t.process.pid, run.value(s.at), run.value(s.len ?? 1)).sums),
  vmflags: (run, s, t) => {
    const { flags } = readSmaps(run.machine, t.process.pid, run.value(s.at), 1n);
    if (!flags) throw new Mismatch('no mapping');
    const missing = ((s.has as string[] | undefined) ?? []).filter((flag) => !flags.includes(flag));
    const extra = ((s.lacks as string[] | undefined) ?? []).filter((flag) => flags.includes(flag));
    if (missing.length + extra.length > 0) {
      throw new Mismatch(`flags ${flags.join(' ')}: missing ${missing.join(' ') || 'none'}, unwanted ${extra.join(' ') || 'none'}`);
    }
  },
  pagemap: (run, s, t) => {
    const seen = readPagemap(run.machine, t.process.pid, run.value(s.at), Math.floor(run.count(s.len) / PAGE)).map(pagemapLetter).join('');
    if (seen !== s.expect) throw new Mismatch(`expected ${String(s.expect)}, observed ${seen}`);
  },
  same_frame: (run, s, t) => {
    const frameAt = (process: Process, at: unknown): bigint => {
      const [entry] = readPagemap(run.machine, process.pid, run.value(at), 1);
      if (entry === undefined || entry >> 63n !== 1n) throw new Mismatch('a page is not present');
      return entry & ((1n << 55n) - 1n);
    };
    const other = run.targets.get((s.other_in as string | undefined) ?? s.in ?? 'main')!;
    const same = frameAt(t.process, s.at) === frameAt(other.process, s.other);
    if (same !== Boolean(s.expect)) throw new Mismatch(`expected ${String(s.expect)}, observed ${same}`);
  },
  proc_read: (run, s, t) => {
    const outcome = throughProc(t, s.file as string, 0, (fd) => outcomeOf(t.syscall('read', fd, t.scratch, 4096)));
    if (typeof outcome === 'string') {
      run.same(s, outcome);
      return;
    }
    const text = new TextDecoder().decode(t.get(0, Number(outcome)));
    if (text !== s.text) throw new Mismatch(`expected ${JSON.stringify(s.text)}, observed ${JSON.stringify(text)}`);
  },
  proc_write: (run, s, t) => {
    const bytes = new TextEncoder().encode(s.text as string);
    run.same(s, throughProc(t, s.file as string, 1, (fd) => {
      t.put(0, bytes);
      return outcomeOf(t.syscall('write', fd, t.scratch, bytes.length));
    }));
  },
  mem_read: (run, s, t) => {
    run.same(s, throughProc(t, 'mem', 2, (fd) => {
      const outcome = outcomeOf(t.syscall('pread64', fd, t.scratch, 1, run.value(s.at)));
      return typeof outcome === 'string' ? outcome : BigInt(t.get(0, 1)[0]!);
    }));
  },
  mem_write: (run, s, t) => {
    run.same(s, throughProc(t, 'mem', 2, (fd) => {
      t.put(0, Uint8Array.of(run.count(s.value)));
      return outcomeOf(t.syscall('pwrite64', fd, t.scratch, 1, run.value(s.at)));
    }));
  },
};

/** How a case went. */
export interface CaseResult {
  readonly id: string;
  readonly area: string;
  /** `null` where it passed; else what differed. */
  readonly failure: string | null;
}

/**
 * Runs a case. Whatever it asks for, the result is a pass or a failure with its reason: a machine that breaks (a kernel
 * bug, a validator that objects) is a failure of the case.
 *
 * @param machine a machine of the case's own
 */
export function runCase(testCase: ConformanceCase, machine: Machine): CaseResult {
  let failure: string | null = null;
  try {
    new CaseRun(machine).steps(testCase.steps);
  } catch (error) {
    failure = error instanceof Mismatch ? error.message : `${(error as Error).name}: ${(error as Error).message}`;
  }
  try {
    machine.validate();
  } catch (error) {
    failure = `${failure === null ? '' : `${failure}; `}afterwards the machine is not valid: ${(error as Error).message}`;
  }
  return { id: testCase.id, area: testCase.area, failure };
}
