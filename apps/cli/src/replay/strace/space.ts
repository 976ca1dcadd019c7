/**
 * A recorded address space and the process that stands for it.
 */
import { MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, O_CREAT, O_RDWR, PROT_NONE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { Relocation } from './relocation.ts';

const PAGE = 4096;
const AT_FDCWD = -100;
/** Below the stack pointer: room for a path. */
const SCRATCH_BYTES = 1024;

export function pageFloor(address: number): number {
  return address - (address % PAGE);
}

export function pageCeil(address: number): number {
  return Math.ceil(address / PAGE) * PAGE;
}

/** A file that stands for one the program had open: its contents are zero. */
interface StandIn {
  readonly path: string;
  bytes: number;
}

/** Files that stand for recorded ones: by path where the log tells it, else one for each that is mapped from its beginning. */
export class StandIns {
  readonly #byPath = new Map<string, StandIn>();
  #made = 0;

  /** How many there are. */
  get size(): number {
    return this.#made;
  }

  of(path: string | null): StandIn {
    const known = path === null ? undefined : this.#byPath.get(path);
    if (known !== undefined) return known;
    const file = { path: `/recorded-${++this.#made}`, bytes: 0 };
    if (path !== null) this.#byPath.set(path, file);
    return file;
  }
}

export class Space {
  readonly process: Process;
  /** The handle of the task whose calls are made: of the process's first, or of another thread. */
  os: Os;
  readonly map: Relocation;
  readonly #standIns: StandIns;
  /** What descriptors lead to: a stand-in, and the path where it is known. */
  readonly #files: Map<number, StandIn>;
  readonly #paths: Map<number, string>;
  /** The recorded break now, and how much higher the machine's is; `null` before the log tells of a heap. */
  #heap: { recorded: number; readonly distance: number } | null = null;
  /** Ranges that were set up because the log takes them for mapped. */
  assumed = 0;

  constructor(process: Process, standIns: StandIns, parent?: Space) {
    this.process = process;
    this.os = process.os;
    this.#standIns = standIns;
    this.map = parent?.map.copy() ?? new Relocation();
    this.#files = new Map(parent === undefined ? [] : parent.#files);
    this.#paths = new Map(parent === undefined ? [] : parent.#paths);
    if (parent !== undefined && parent.#heap !== null) this.#heap = { ...parent.#heap };
  }

  call(name: keyof typeof Syscall, ...args: (number | bigint)[]): number {
    return this.os.syscall(Syscall[name], ...args);
  }

  /** `execve` took place: nothing of the old address space is left. */
  cleared(): void {
    this.os = this.process.os;
    this.map.clear();
    this.#files.clear();
    this.#heap = null;
  }

  /** The log tells where the recorded break is; returns where it is here. */
  heapAt(recorded: number): number {
    const here = this.call('brk', 0);
    this.#heap ??= { recorded, distance: here - recorded };
    return here;
  }

  /** Where a recorded break is here. A log that begins later has its first for the beginning of the heap. */
  breakHere(recorded: number): number {
    if (this.#heap === null) this.heapAt(recorded);
    return recorded + this.#heap!.distance;
  }

  /** The recorded break, and the one here, are in a new place. */
  breakMoved(recorded: number): void {
    const heap = this.#heap!;
    const before = pageCeil(heap.recorded);
    const now = pageCeil(recorded);
    if (now > before) this.map.set(before, now - before, before + heap.distance);
    else if (now < before) this.map.remove(now, before - now);
    heap.recorded = recorded;
  }

  /** The log says what a descriptor leads to. */
  opened(fd: number, path: string): void {
    this.#paths.set(fd, path);
    this.#files.delete(fd);
  }

  /** A descriptor is another file from now on. */
  closed(fd: number): void {
    this.#paths.delete(fd);
    this.#files.delete(fd);
  }

  /** Two descriptors lead to the same. */
  duplicated(from: number, to: number): void {
    const file = this.#files.get(from);
    const path = this.#paths.get(from);
    this.closed(to);
    if (file !== undefined) this.#files.set(to, file);
    if (path !== undefined) this.#paths.set(to, path);
  }

  /**
   * Opens the stand-in for a descriptor, large enough for [offset, offset + length).
   *
   * @param path what the log prints with the descriptor
   * @returns a descriptor of the machine's, or −errno
   */
  openStandIn(fd: number, path: string | null, offset: number, length: number): number {
    const known = path ?? this.#paths.get(fd) ?? null;
    if (known === '/dev/zero') return this.#open('/dev/zero');
    let file = known === null ? this.#files.get(fd) : this.#standIns.of(known);
    // A new library is mapped from its beginning, over the descriptor of the one before.
    if (file === undefined || (known === null && offset === 0)) file = this.#standIns.of(known);
    this.#files.set(fd, file);
    const opened = this.#open(file.path);
    if (opened < 0) return opened;
    const bytes = pageCeil(offset + length);
    if (file.bytes < bytes) {
      const result = this.call('ftruncate', opened, bytes);
      if (result < 0) {
        this.call('close', opened);
        return result;
      }
      file.bytes = bytes;
    }
    return opened;
  }

  #open(path: string): number {
    const scratch = this.process.image.stackPointer - SCRATCH_BYTES;
    this.os.mem.storeCString(scratch, path);
    return this.call('openat', AT_FDCWD, scratch, O_RDWR | O_CREAT, 0o644);
  }

  /**
   * Makes [start, start + length) of the recorded address space known where it is not: what was there before the log begins, or
   * what `execve` mapped.
   *
   * @returns 0 or −errno
   */
  assume(start: number, length: number): number {
    for (const piece of this.map.pieces(pageFloor(start), pageCeil(start + length) - pageFloor(start))) {
      if (piece.to !== null) continue;
      const at = this.place(piece.start, piece.length, PROT_READ | PROT_WRITE);
      if (at < 0) return at;
      this.map.set(piece.start, piece.length, at);
      this.assumed++;
    }
    return 0;
  }

  /**
   * Prepares a place that a fixed mapping of [start, start + length) will cover: where the whole range is known in one piece, that;
   * else a new one, and what is known of the range goes, as the mapping would have replaced it.
   *
   * @returns the address, or −errno
   */
  makeRoom(start: number, length: number): number {
    const pieces = this.map.pieces(start, length);
    const [first] = pieces;
    if (pieces.length === 1 && first !== undefined && first.to !== null) return first.to;
    const at = this.place(start, length);
    if (at < 0) return at;
    for (const { to, length: bytes } of pieces) if (to !== null) this.call('munmap', to, bytes);
    return at;
  }

  /** Maps memory for a recorded range: at the same address where that is free, else anywhere. @returns the address, or −errno */
  place(start: number, length: number, prot: number = PROT_NONE): number {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS;
    const same = this.call('mmap', start, length, prot, flags | MAP_FIXED_NOREPLACE, -1, 0);
    return same >= 0 ? same : this.call('mmap', 0, length, prot, flags, -1, 0);
  }
}
