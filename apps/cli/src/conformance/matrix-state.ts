/**
 * What a call left behind: the parts of a process's state that a matrix compares, written as its recorder writes them
 * (`tools/recorders/matrix/harness.c`).
 */
import { crc32 } from 'node:zlib';
import { Syscall } from '@pagelab/abi';
import type { SyscallName } from '@pagelab/abi';
import type { Machine, Process } from '@pagelab/kernel';
import { pagemapLetter, readPagemap } from './proc.ts';

const PAGE = 4096;
/** Descriptors that are looked at: from 3 on, below this. */
const LAST_FD = 70;
const F_GETFD = 1;
const F_GETFL = 3;
const F_GETPIPE_SZ = 1032;
const F_GET_SEALS = 1034;
const O_PATH = 0o10000000;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;

/** A range of memory that is looked at: its start, and pages. */
export type Area = readonly [start: number, pages: number];

/** A part of the state by its letter. */
export type State = ReadonlyMap<string, string>;

/** What `contents` compares with: a page, or `null` where it cannot be read. */
export type Baseline = (Uint32Array | null)[];

export interface Observer {
  readonly machine: Machine;
  readonly process: Process;
  readonly areas: readonly Area[];
  readonly names: readonly string[];
}

const call = ({ process }: Observer, name: SyscallName, ...args: number[]): number => process.os.syscall(Syscall[name], ...args);

/** Pages that the process has mapped. */
export function mappedPages({ machine, process }: Observer): number {
  return Number.parseInt(machine.readFile(`/proc/${process.pid}/statm`), 10);
}

/** KiB that it has locked. */
export function lockedKib({ machine, process }: Observer): number {
  return Number(/VmLck:\s+(\d+)/.exec(machine.readFile(`/proc/${process.pid}/status`))?.[1] ?? -1);
}

/** Mappings that begin in an area: rights, page offset and whether of a file; or their VmFlags. */
function mappings({ machine, process, areas }: Observer, flags: boolean): string {
  let text = '';
  let within = false;
  for (const line of machine.readFile(`/proc/${process.pid}/${flags ? 'smaps' : 'maps'}`).split('\n')) {
    const found = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ \d+\s*(.*)$/.exec(line);
    if (found !== null) {
      const [start, end, offset] = [found[1]!, found[2]!, found[4]!].map((hex) => Number.parseInt(hex, 16)) as [number, number, number];
      const area = areas.findIndex(([from, pages]) => start >= from && start < from + pages * PAGE);
      within = area >= 0;
      if (!within || flags) continue;
      const isFile = found[5]!.startsWith('/');
      const first = (start - areas[area]![0]) / PAGE;
      text += `${String.fromCharCode(97 + area)}${first}+${(end - start) / PAGE} ${found[3]} ${isFile ? `${(offset / PAGE).toString(16)}f` : '0'},`;
    } else if (within && flags && line.startsWith('VmFlags:')) {
      text += `${line.slice(9)},`;
    }
  }
  return text;
}

function pageMap({ machine, process, areas }: Observer): string {
  return areas.map(([start, pages]) => `${readPagemap(machine, process.pid, BigInt(start), pages).map(pagemapLetter).join('')} `).join('');
}

/** Runs of words of 4 bytes that are not as in the baseline, which an empty one becomes. */
function contents(observer: Observer, baseline: Baseline, vague: boolean): string {
  const { process, areas } = observer;
  const { os } = process;
  const { bssStart } = process.image;
  const buffer = bssStart + PAGE;
  const isFirst = baseline.length === 0;
  let text = '';
  let at = 0;
  for (const [area, [start, pages]] of areas.entries()) {
    const letter = String.fromCharCode(97 + area);
    for (let page = 0; page < pages; page++, at++) {
      os.mem.write(bssStart, new Uint8Array(BigUint64Array.from([buffer, PAGE, start + page * PAGE, PAGE], BigInt).buffer));
      const read = call(observer, 'process_vm_readv', call(observer, 'getpid'), bssStart, 1, bssStart + 16, 1, 0);
      const words = read === PAGE ? new Uint32Array(os.mem.read(buffer, PAGE).slice().buffer) : null;
      if (isFirst) {
        baseline.push(words);
        continue;
      }
      const was = baseline[at];
      if (words === null) {
        if (was !== null) text += `${letter}${page}!,`;
        continue;
      }
      for (let word = 0; word < PAGE / 4; word++) {
        // Of what could not be read, all is new.
        if (words[word] === (was?.[word] ?? 0)) continue;
        let end = word;
        while (end < PAGE / 4 && words[end] !== (was?.[end] ?? 0)) end++;
        text += `${letter}${page}.${word * 4}+${(end - word) * 4}`;
        if (!vague) text += `=${crc32(new Uint8Array(words.buffer, word * 4, (end - word) * 4)).toString(16)}`;
        text += ',';
        word = end;
      }
    }
  }
  return text;
}

/** Of each open descriptor: size, position, F_GETFD, F_GETFL, seals and what a pipe holds. */
function descriptors(observer: Observer): string {
  const { os, image } = observer.process;
  const control = (fd: number, command: number): number => Math.max(-1, call(observer, 'fcntl', fd, command, 0));
  let text = '';
  for (let fd = 3; fd < LAST_FD; fd++) {
    const flags = control(fd, F_GETFL);
    if (flags < 0) continue;
    const size = call(observer, 'fstat', fd, image.bssStart) < 0 ? -1 : Number(os.mem.load64(image.bssStart + 48));
    const named = (flags & O_PATH) !== 0;
    const position = named ? -1 : Math.max(-1, call(observer, 'lseek', fd, 0, 1));
    const rest = named ? '-1 -1' : `${control(fd, F_GET_SEALS)} ${control(fd, F_GETPIPE_SZ)}`;
    text += `${fd}:${size} ${position} ${control(fd, F_GETFD)} ${flags.toString(8)} ${rest},`;
  }
  return text;
}

function existingNames(observer: Observer): string {
  const { os, image } = observer.process;
  const { bssStart } = image;
  let text = '';
  for (const name of observer.names) {
    os.mem.storeCString(bssStart + PAGE, name);
    if (call(observer, 'stat', bssStart + PAGE, bssStart) < 0) continue;
    const mode = os.mem.load32(bssStart + 24);
    const isDirectory = (mode & S_IFMT) === S_IFDIR;
    const [size, links] = isDirectory ? [0, 0] : [Number(os.mem.load64(bssStart + 48)), Number(os.mem.load64(bssStart + 16))];
    text += `${name}:${mode.toString(8)} ${size} ${links},`;
  }
  return text;
}

/** All parts of the state; `grown` and `locked` are pages mapped and KiB locked since before the call. */
export function observe(
  observer: Observer, baseline: Baseline, grown: number, locked: number, withFlags: boolean, vague: boolean,
): State {
  // In this order: reading contents makes pages present.
  const state = new Map([['s', String(grown)], ['l', String(locked)], ['m', mappings(observer, false)], ['p', pageMap(observer)]]);
  if (withFlags) state.set('v', mappings(observer, true));
  state.set('c', contents(observer, baseline, vague));
  state.set('f', descriptors(observer));
  state.set('n', existingNames(observer));
  return state;
}
