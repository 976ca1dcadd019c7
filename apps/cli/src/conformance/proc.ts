/**
 * What the runner reads from `/proc`, as any tool on Linux would.
 */
import type { Machine } from '@pagelab/kernel';

/** A line of `/proc/PID/maps`. */
export interface MapsLine {
  readonly start: bigint;
  readonly end: bigint;
  readonly perms: string;
  readonly offset: bigint;
  readonly name: string;
}

const MAPS_LINE = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ \d+\s*(.*)$/;

function parseMapsLine(line: string): MapsLine | undefined {
  const match = MAPS_LINE.exec(line);
  if (!match) return undefined;
  const [, start, end, perms, offset, name] = match;
  return { start: BigInt(`0x${start}`), end: BigInt(`0x${end}`), perms: perms!, offset: BigInt(`0x${offset}`), name: name! };
}

/** Mappings of a process that overlap `length` bytes from `start`. */
export function readMaps(machine: Machine, pid: number, start = 0n, length = 1n << 64n): MapsLine[] {
  return machine
    .readFile(`/proc/${pid}/maps`)
    .split('\n')
    .map(parseMapsLine)
    .filter((line): line is MapsLine => line !== undefined && line.start < start + length && start < line.end);
}

const KIB = 1024n;

/** `Name:  value kB` lines, in bytes; lines without the unit are counts. */
function parseFields(text: string): Map<string, bigint> {
  const fields = new Map<string, bigint>();
  for (const line of text.split('\n')) {
    const match = /^(\w+(?:\(\w+\))?):\s+(\d+)( kB)?$/.exec(line);
    if (match) fields.set(match[1]!, BigInt(match[2]!) * (match[3] ? KIB : 1n));
  }
  return fields;
}

/** `/proc/meminfo` in bytes. */
export function readMeminfo(machine: Machine): Map<string, bigint> {
  return parseFields(machine.readFile('/proc/meminfo'));
}

/** All that `mark` and `delta` compare. */
export function readCounters(machine: Machine, pid: number, taskSize: bigint): Map<string, bigint> {
  const counters = new Map<string, bigint>();
  for (const [name, value] of parseFields(machine.readFile(`/proc/${pid}/status`))) {
    if (/^(Vm|Rss)/.test(name)) counters.set(name, value);
  }
  const stat = machine.readFile(`/proc/${pid}/stat`);
  const words = stat.slice(stat.lastIndexOf(')') + 1).trim().split(' ');
  counters.set('minflt', BigInt(words[7]!));
  counters.set('majflt', BigInt(words[9]!));
  const statm = machine.readFile(`/proc/${pid}/statm`).trim().split(' ');
  for (const [i, name] of ['size', 'resident', 'shared', 'text', 'lib', 'data', 'dirty'].entries()) {
    counters.set(`statm_${name}`, BigInt(statm[i]!) * 4096n);
  }
  counters.set('nvmas', BigInt(readMaps(machine, pid, 0n, taskSize).length));
  const meminfo = readMeminfo(machine);
  for (const name of ['CommitLimit', 'Committed_AS']) counters.set(name, meminfo.get(name)!);
  return counters;
}

/** Sums over the mappings that overlap a range, and the first one's VmFlags. */
export function readSmaps(
  machine: Machine, pid: number, start: bigint, length: bigint,
): { sums: Map<string, bigint>; flags: string[] | undefined } {
  const sums = new Map<string, bigint>();
  let flags: string[] | undefined;
  let inside = false;
  for (const line of machine.readFile(`/proc/${pid}/smaps`).split('\n')) {
    const mapping = parseMapsLine(line);
    if (mapping) {
      inside = mapping.start < start + length && start < mapping.end;
    } else if (inside && line.startsWith('VmFlags:')) {
      flags ??= line.split(/\s+/).slice(1).filter((word) => word !== '');
    } else if (inside) {
      for (const [name, value] of parseFields(line)) sums.set(name, (sums.get(name) ?? 0n) + value);
    }
  }
  return { sums, flags };
}

/** Entries of `/proc/PID/pagemap` for `pages` pages from `start`. */
export function readPagemap(machine: Machine, pid: number, start: bigint, pages: number): bigint[] {
  const bytes = machine.readFileBytes(`/proc/${pid}/pagemap`, Number((start / 4096n) * 8n), pages * 8);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / 8 }, (_, i) => view.getBigUint64(i * 8, true));
}

/** One letter a page, as the cases write a page map. */
export function pagemapLetter(entry: bigint): string {
  const bit = (n: bigint): boolean => ((entry >> n) & 1n) === 1n;
  if (bit(58n)) return 'g';
  if (!bit(63n)) return bit(62n) ? 's' : '-';
  const letter = bit(61n) ? 'f' : 'a';
  return bit(56n) ? letter.toUpperCase() : letter;
}
