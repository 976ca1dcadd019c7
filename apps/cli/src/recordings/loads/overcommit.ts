/**
 * `overcommit`: what may be mapped in each of the three modes, and what is committed meanwhile.
 */
import { Errno, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE, Syscall, isError } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { MIB, PAGE, becomeUser } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

const SYSCTL = '/proc/sys/vm/';
const RW = PROT_READ | PROT_WRITE;
const AREA = 'results';
const WORDS: Readonly<Record<number, string>> = {
  [Errno.ENOMEM]: 'Cannot allocate memory', [Errno.EAGAIN]: 'Resource temporarily unavailable', [Errno.EINVAL]: 'Invalid argument', [Errno.EPERM]: 'Operation not permitted',
};

export const overcommit: Load = { name: 'overcommit', run };

function run(load: LoadRun): void {
  load.stage('00-before');
  const init = load.start();
  const child = load.fork(init);
  alignCommitted(load, init);
  const { os } = child;
  while (load.expects(/^overcommit_memory=/)) mode(load, os);
  for (let match; (match = load.takeIf(/^mode 2 (ratio|overcommit_kbytes) (\d+): (.*)$/)) !== null; ) {
    os.writeFile(`${SYSCTL}${match[1] === 'ratio' ? 'overcommit_ratio' : match[1]!}`, match[2]!);
    load.equal('commit limit', `mode 2 ${match[1]} ${match[2]}`, match[3], committed(load));
  }
  becomeUser(os, Number(load.take(/^as uid (\d+):$/)[1]));
  cumulative(load, os);
  load.says('commit limit', 'end', committed(load));
  load.end(child, 'oc');
  load.machine.writeFile(`${SYSCTL}overcommit_memory`, '0');
  load.stage('01-after');
}

/** Everything that is tried in one mode. */
function mode(load: LoadRun, os: Os): void {
  const [, number, ratio] = load.take(/^overcommit_memory=(\d) overcommit_ratio=(-?\d+)$/);
  os.writeFile(`${SYSCTL}overcommit_memory`, number!);
  load.equal(AREA, `mode ${number}: overcommit_ratio`, ratio, os.readFile(`${SYSCTL}overcommit_ratio`).trim());
  load.says('commit limit', 'start', committed(load));
  while (/^mmap private writable /.test(load.peek())) sizes(load, os, number!);
  cumulative(load, os, () => load.says('commit limit', 'with them mapped', committed(load)));
}

/** Maps one size in three ways. What works read-only without reserve is not told, and must work. */
function sizes(load: LoadRun, os: Os, modeName: string): void {
  const [, mib, said] = load.take(/^mmap private writable (\d+) MiB: (.*)$/);
  const bytes = Number(mib) * MIB;
  const what = `mode ${modeName}: ${mib} MiB`;
  const map = (prot: number, flags: number): number => os.syscall(Syscall.mmap, 0, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  const writable = map(RW, 0);
  load.equal(AREA, `${what}: writable`, said, word(writable));
  const now = load.takeIf(/^while mapped: (.*)$/);
  if (now !== null) load.equal('commit limit', `${what}: while mapped`, now[1], committed(load));
  if (!isError(writable)) os.munmap(writable, bytes);
  const readOnly = map(PROT_READ, 0);
  const failed = load.takeIf(/^ {2}read-only \d+ MiB failed$/) !== null;
  load.equal(AREA, `${what}: read-only`, failed ? 'failed' : 'ok', isError(readOnly) ? 'failed' : 'ok');
  if (!isError(readOnly)) {
    const refused = load.takeIf(/^ {2}read-only \d+ MiB ok but mprotect writable: (.*)$/)?.[1] ?? 'ok';
    load.equal(AREA, `${what}: mprotect`, refused, word(os.syscall(Syscall.mprotect, readOnly, bytes, RW)));
    os.munmap(readOnly, bytes);
  }
  const noReserve = map(RW, MAP_NORESERVE);
  const unreserved = load.takeIf(/^ {2}MAP_NORESERVE \d+ MiB: (.*)$/)?.[1] ?? 'ok';
  load.equal(AREA, `${what}: MAP_NORESERVE`, unreserved, word(noReserve));
  if (!isError(noReserve)) os.munmap(noReserve, bytes);
}

/** Maps pieces until one fails. */
function cumulative(load: LoadRun, os: Os, meanwhile?: () => void): void {
  const [what, mib, , most, count] = load.take(/^cumulative (\d+) MiB maps (that succeeded \(max (\d+)\)|unprivileged): (\d+)$/);
  const bytes = Number(mib) * MIB;
  const pieces: number[] = [];
  while (pieces.length < Number(most ?? 256)) {
    const piece = os.syscall(Syscall.mmap, 0, bytes, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (isError(piece)) break;
    pieces.push(piece);
  }
  load.equal(AREA, what.replace(/: \d+$/, ''), Number(count), pieces.length);
  if (meanwhile === undefined) return;
  meanwhile();
  for (const piece of pieces) os.munmap(piece, bytes);
}

/** Lets `init` map what the recorded programs had mapped, so that both begin with as much committed. */
function alignCommitted(load: LoadRun, init: Process): void {
  const start = Number(/start: CommitLimit \d+ kB Committed_AS (\d+) kB/.exec(load.recording.text('events.txt'))?.[1] ?? 0);
  const own = Number(/Committed_AS: +(\d+)/.exec(load.machine.readFile('/proc/meminfo'))![1]);
  const missing = start * 1024 - own * 1024;
  if (missing >= PAGE) init.os.mmap(0, missing, RW, MAP_PRIVATE | MAP_ANONYMOUS);
}

function committed(load: LoadRun): string {
  const meminfo = load.machine.readFile('/proc/meminfo');
  const kib = (name: string): string => new RegExp(`${name}: +(\\d+)`).exec(meminfo)![1]!;
  return `CommitLimit ${kib('CommitLimit')} kB Committed_AS ${kib('Committed_AS')} kB`;
}

/** As the C library words it. */
function word(result: number): string {
  return isError(result) ? (WORDS[-result] ?? `errno ${-result}`) : 'ok';
}
