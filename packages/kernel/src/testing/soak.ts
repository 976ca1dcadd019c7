/**
 * Many programs that together want four times the memory there is: they map, store, read back, fork, map files, lock, share,
 * give advice, and are killed. What each stored it has to read back, whatever was swapped, dropped and read again meanwhile.
 * A page of a file that could not be written may be what it was before, if msync has said so.
 */
import {
  Errno,
  MADV_COLD,
  MADV_DONTNEED,
  MADV_PAGEOUT,
  MADV_WILLNEED,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  MS_SYNC,
  O_CREAT,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
  PR_SET_MEMORY_MERGE,
  SIGBUS,
  SIGKILL,
  Syscall,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { REQ_OP_READ, REQ_OP_WRITE } from '@pagelab/hw';
import { Prng } from '@pagelab/lib';
import { VM_EVENT } from '@pagelab/mm-core';
import { DiskBlockStore } from '@pagelab/vm';
import type { Compressor } from '@pagelab/vm';
import { expect } from 'vitest';
import { bootKernel } from '../boot.ts';
import { parseMachineConfig } from '../config.ts';
import { createMachine } from '../machine.ts';
import type { Machine } from '../machine.ts';
import { inUse } from './run.ts';

const PAGE = 4096;
const RW = PROT_READ | PROT_WRITE;
/** Words that are stored to a page, or read from it, at a visit. */
const WORDS = 16;
const WORD_STEP = PAGE / WORDS;
const MOST_AT_A_TIME = 100;
const FILE_PAGES = 200;
const SHARED_PAGES = 16;
/** Status of a program that finds something other than what it stored. */
const WRONG = 1;
/** A slot for the killer: one step in so many kills somebody. */
const KILL_ODDS = 3000;

export interface SoakOptions {
  readonly seed: number;
  /** Loads and stores of all programs together. */
  readonly accesses: number;
  readonly programs: number;
  /** Chance of a request of the swap disk to fail, and of one of the disk that files lie on, if the machine has one. */
  readonly errorChance?: number;
  readonly fileErrorChance?: number;
  /** Whether the programs are in groups: with a limit, with one that slows them down, protected, and with neither. Taking swap away may kill in them. */
  readonly groups?: boolean;
  /** How often, spread over the run, swap is taken out of use under load, caches are dropped and memory is compacted. */
  readonly upheavals?: number;
  /** Of the machine, beside what is usual: 64 MiB, two CPUs, six times that to swap. */
  readonly machine?: object;
  /** What zswap compresses with. */
  readonly compressors?: readonly Compressor[];
  /** Files of /proc and /sys, and what is written to them first. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Whether all memory of the programs may be merged. */
  readonly merges?: boolean;
}

export interface SoakOutcome {
  readonly accesses: number;
  /** Programs that ended by themselves, that were killed, that lost a page, and that went when swap was taken from their group. */
  readonly done: number;
  readonly killed: number;
  readonly lost: number;
  readonly ofGroups: number;
  readonly swapoffs: readonly number[];
  readonly events: Float64Array;
}

/** What the programs have in common. */
interface Common {
  readonly accesses: number;
  left: number;
  /** Who runs, for who kills; and who was killed. */
  readonly running: number[];
  readonly victims: Set<number>;
  readonly pagesEach: number;
  /** Pages of files may be lost on their way to the disk. */
  readonly filesFail: boolean;
}

interface Region {
  readonly addr: number;
  /** What was stored to each page: a number that its words follow from; 0 for nothing yet. */
  readonly versions: Int32Array;
  /** Children of a fork see the same memory. */
  readonly shared: boolean;
  readonly file: boolean;
  /** Of a file that may not be written: what was stored to each page before. */
  readonly before?: number[][];
}

function wordOf(version: number, at: number): number {
  return version === 0 ? 0 : Math.imul(version + at, 0x9e37_79b1) >>> 0;
}

class SoakProgram {
  readonly #os: Os;
  readonly #rng: Prng;
  readonly #common: Common;
  readonly #regions: Region[] = [];
  #pages = 0;
  #version = 0;
  /** msync has said that something could not be written. */
  #knowsOfError = false;

  constructor(os: Os, seed: number, common: Common, first: readonly Region[]) {
    this.#os = os;
    this.#rng = new Prng(seed);
    this.#common = common;
    this.#regions.push(...first);
  }

  /** @returns whether all was as it should be */
  step(): boolean {
    const rng = this.#rng;
    const os = this.#os;
    const dice = rng.below(1000);
    if (this.#pages < this.#common.pagesEach && (dice < 60 || this.#regions.length < 4)) {
      this.#map(rng.below(4) === 0);
      return true;
    }
    const region = this.#regions[rng.below(this.#regions.length)]!;
    const { addr, versions } = region;
    // Mostly the first part of a region.
    const reach = rng.below(3) === 0 ? versions.length : Math.max(1, versions.length >>> 2);
    const first = rng.below(reach);
    const end = Math.min(first + 1 + rng.below(MOST_AT_A_TIME), versions.length);
    const [at, bytes] = [addr + first * PAGE, (end - first) * PAGE];
    if (dice < 500) {
      for (let page = first; page < end; page++) this.#store(region, page);
      return true;
    }
    if (dice < 930) return this.#check(region, first, end);
    if (dice < 940) os.syscall(Syscall.madvise, at, bytes, MADV_PAGEOUT);
    else if (dice < 950) os.syscall(Syscall.madvise, at, bytes, MADV_COLD);
    else if (dice < 960) os.syscall(Syscall.madvise, at, bytes, MADV_WILLNEED);
    else if (dice < 965) {
      if (region.shared) return true;
      os.syscall(Syscall.madvise, at, bytes, MADV_DONTNEED);
      versions.fill(0, first, end);
    } else if (dice < 980) {
      const locked = Math.min(bytes, 16 * PAGE);
      os.syscall(Syscall.mlock, at, locked);
      const good = this.#check(region, first, Math.min(end, first + 16));
      os.syscall(Syscall.munlock, at, locked);
      return good;
    } else if (dice < 985) {
      if (region.file) this.#sync(region);
    } else if (dice < 990) {
      if (region.file || this.#regions.length < 6) return true;
      const good = this.#check(region, 0, versions.length);
      os.munmap(addr, versions.length * PAGE);
      this.#regions.splice(this.#regions.indexOf(region), 1);
      this.#pages -= versions.length;
      return good;
    } else return this.#fork(region, first, Math.min(end, first + 30));
    return true;
  }

  finish(): boolean {
    return this.#regions.every((region) => this.#check(region, 0, region.versions.length));
  }

  #map(shared: boolean): void {
    const nrPages = 1 + this.#rng.below(Math.ceil(this.#common.pagesEach / 4));
    const addr = this.#os.mmap(0, nrPages * PAGE, RW, (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS);
    this.#regions.push({ addr, versions: new Int32Array(nrPages), shared, file: false });
    this.#pages += nrPages;
  }

  #store({ addr, versions, before }: Region, page: number): void {
    const { mem } = this.#os;
    const version = (this.#version += WORDS);
    const start = addr + page * PAGE;
    before?.[page]!.push(versions[page]!);
    for (let at = 0; at < WORDS; at++) mem.store32(start + at * WORD_STEP, wordOf(version, at));
    versions[page] = version;
    this.#common.left -= WORDS;
  }

  #check(region: Region, first: number, end: number): boolean {
    for (let page = first; page < end; page++) if (!this.#holds(region, page, region.versions[page]!) && !this.#wasLost(region, page)) return false;
    this.#common.left -= WORDS * (end - first);
    return true;
  }

  #holds({ addr }: Region, page: number, version: number): boolean {
    const { mem } = this.#os;
    const start = addr + page * PAGE;
    for (let at = 0; at < WORDS; at++) if (mem.load32(start + at * WORD_STEP) !== wordOf(version, at)) return false;
    return true;
  }

  /** Whether a page is what it was once, since it could not be written, and msync says so. */
  #wasLost(region: Region, page: number): boolean {
    const version = region.before?.[page]!.findLast((each) => this.#holds(region, page, each));
    if (version === undefined) return false;
    this.#sync(region);
    region.versions[page] = version;
    return this.#knowsOfError;
  }

  #sync({ addr, versions }: Region): void {
    if (this.#os.syscall(Syscall.msync, addr, versions.length * PAGE, MS_SYNC) === -Errno.EIO) this.#knowsOfError = true;
  }

  /** A child sees what there was, and stores to its own copy. */
  #fork(region: Region, first: number, end: number): boolean {
    if (region.shared) return true;
    const child = this.#os.fork((each) => {
      for (let page = first; page < end; page++) {
        const start = region.addr + page * PAGE;
        if (each.mem.load32(start) !== wordOf(region.versions[page]!, 0)) return WRONG;
        each.mem.store32(start, 7);
      }
      return 0;
    });
    const ended = this.#os.waitpid(child)!;
    return ended.status !== WRONG && this.#check(region, first, end);
  }
}

function pathOf(os: Os, name: string): number {
  const at = os.mmap(0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  os.mem.storeCString(at, name);
  return at;
}

/** Directories of the groups, and what is written to their files, for a machine of 64 MiB. */
const GROUPS = '/sys/fs/cgroup';
const LIMITS: readonly (readonly [name: string, files: Readonly<Record<string, string>>])[] = [
  ['soak-max', { 'memory.max': '10M' }],
  ['soak-high', { 'memory.high': '10M' }],
  ['soak-low', { 'memory.max': '14M', 'memory.low': '8M', 'memory.min': '2M' }],
  ['soak-free', {}],
];

function makeGroups(os: Os): number {
  os.writeFile(`${GROUPS}/cgroup.subtree_control`, '+memory');
  for (const [name, files] of LIMITS) {
    os.mkdir(`${GROUPS}/${name}`);
    for (const [file, text] of Object.entries(files)) os.writeFile(`${GROUPS}/${name}/${file}`, text);
  }
  return 0;
}

function removeGroups(os: Os): number {
  for (const [name] of LIMITS) os.rmdir(`${GROUPS}/${name}`);
  os.writeFile(`${GROUPS}/cgroup.subtree_control`, '-memory');
  return 0;
}

/** A program's life: a file of its own, a part of memory that all share, and what it maps. */
function* live(os: Os, seed: number, common: Common, shared: number, group: string | null): Generator<undefined, number> {
  os.writeFile('/proc/self/oom_score_adj', '0');
  if (group !== null) os.writeFile(`${GROUPS}/${group}/cgroup.procs`, '0');
  const fd = os.syscall(Syscall.open, pathOf(os, `/soak${seed}`), O_RDWR | O_CREAT, 0o600);
  os.syscall(Syscall.ftruncate, fd, 0);
  os.syscall(Syscall.ftruncate, fd, FILE_PAGES * PAGE);
  const file = os.mmap(0, FILE_PAGES * PAGE, RW, MAP_SHARED, fd);
  const before = common.filesFail ? Array.from({ length: FILE_PAGES }, (): number[] => []) : undefined;
  const regions: Region[] = [{ addr: file, versions: new Int32Array(FILE_PAGES), shared: true, file: true, ...(before === undefined ? {} : { before }) }];
  if (shared !== 0) {
    os.mem.fill(shared, SHARED_PAGES * PAGE, 0);
    regions.push({ addr: shared, versions: new Int32Array(SHARED_PAGES), shared: true, file: true });
  }
  const program = new SoakProgram(os, seed, common, regions);
  const rng = new Prng(seed + 1);
  const self = os.getpid();
  while (common.left > 0) {
    if (!program.step()) return WRONG;
    if (rng.below(KILL_ODDS) === 0) {
      const victim = common.running[rng.below(common.running.length)]!;
      if (victim !== self && !common.victims.has(victim)) {
        common.victims.add(victim);
        os.kill(victim, SIGKILL);
      }
    }
    if (rng.below(3) === 0) yield;
  }
  return program.finish() ? 0 : WRONG;
}

const SWAP_DISK = '/dev/vdb';

/** Takes the swap area out of use, and into use again. Where there is no room for it all, who asked for it is killed. @returns the status of who asked; −1 where it was killed */
function emptySwap(os: Os): number {
  const name = pathOf(os, SWAP_DISK);
  const asker = os.fork((child) => {
    const off = child.syscall(Syscall.swapoff, name);
    if (off === 0) child.syscall(Syscall.swapon, name, 0);
    return off === 0 ? 0 : 1;
  });
  os.munmap(name, PAGE);
  const { signal, status } = os.waitpid(asker)!;
  if (signal === null) return status!;
  expect(signal).toBe(SIGKILL);
  return -1;
}

/** Now and then turns everything over while the others run. */
function* upheave(os: Os, common: Common, times: number, swapoffs: number[]): Generator<undefined, number> {
  for (let time = 1; time <= times; time++) {
    while (common.left > common.accesses * (1 - time / (times + 1))) yield;
    swapoffs.push(emptySwap(os));
    os.writeFile('/proc/sys/vm/drop_caches', '3');
    os.writeFile('/proc/sys/vm/compact_memory', '1');
  }
  return 0;
}

/** What is in use beside what caches would give back. */
function settled(machine: Machine): ReturnType<typeof inUse> {
  machine.writeFile('/proc/sys/vm/drop_caches', '2');
  return inUse(machine);
}

/**
 * Runs the programs until they have made so many accesses; who is killed has a successor. Now and then, and at the end, the
 * machine's invariants are checked and its swap area is taken out of use.
 *
 * Expects that nothing is wrong, that only those end early who were killed or lost a page to the disk, and that at the end
 * all memory is free.
 */
export function soak(options: SoakOptions): SoakOutcome {
  const { seed, accesses, programs, errorChance = 0, fileErrorChance = 0, groups = false, upheavals = 0 } = options;
  const { machine: own = {}, compressors = [], settings = {}, merges = false } = options;
  const config = parseMachineConfig({ memory: '64M', cpus: 2, seed, swap: [{ size: '384M' }], ...own });
  const kernel = bootKernel(config, { compressors });
  const machine = createMachine(kernel);
  const seeds = Array.from({ length: programs }, (_, i) => seed * 1000 + i);
  const pagesEach = Math.floor((4 * config.memory) / PAGE / programs);
  const common: Common = { accesses, left: accesses, filesFail: fileErrorChance > 0, pagesEach, running: [], victims: new Set() };
  const tidy = (os: Os): number => {
    for (const each of seeds) os.syscall(Syscall.unlink, pathOf(os, `/soak${each}`));
    os.writeFile('/proc/sys/vm/drop_caches', '3');
    // What is remembered of pages that are gone would be forgotten when it is next come across.
    if (merges) os.writeFile('/sys/kernel/mm/ksm/run', '2');
    return 0;
  };
  machine.run(tidy);
  for (const [path, text] of Object.entries(settings)) machine.writeFile(path, text);
  const before = settled(machine);
  if (errorChance > 0) {
    const disk = kernel.swapDisks.get('/dev/vdb')!;
    disk.inject({ op: REQ_OP_READ, chance: errorChance });
    disk.inject({ op: REQ_OP_WRITE, chance: errorChance });
  }
  const { store } = kernel.vm.blockFs;
  const fileDisk = store instanceof DiskBlockStore ? store.disk : null;
  if (fileErrorChance > 0) {
    fileDisk!.inject({ op: REQ_OP_READ, chance: fileErrorChance });
    fileDisk!.inject({ op: REQ_OP_WRITE, chance: fileErrorChance });
  }
  if (groups) machine.run(makeGroups);
  const swapoffs: number[] = [];
  let [done, killed, lost, ofGroups] = [0, 0, 0, 0];
  const result = machine.run((os) => {
    os.writeFile('/proc/self/oom_score_adj', '-1000');
    if (merges) os.syscall(Syscall.prctl, PR_SET_MEMORY_MERGE, 1, 0, 0, 0);
    // A page of it that is lost kills whoever gets it next, too.
    const shared = errorChance > 0 ? -1 : os.mmap(0, programs * SHARED_PAGES * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
    const slots = new Map<number, number>();
    const start = (slot: number): void => {
      const pid = os.fork((child) => {
        const ofShared = shared < 0 ? 0 : shared + slot * SHARED_PAGES * PAGE;
        return live(child, seeds[slot]!, common, ofShared, groups ? LIMITS[slot % LIMITS.length]![0] : null);
      });
      slots.set(pid, slot);
      common.running.push(pid);
    };
    for (let slot = 0; slot < programs; slot++) start(slot);
    let upheaver = upheavals > 0 ? os.fork((child) => upheave(child, common, upheavals, swapoffs)) : -1;
    for (let ends = 1; slots.size > 0 || upheaver > 0; ends++) {
      const { pid, status, signal } = os.waitpid(-1)!;
      if (pid === upheaver) {
        expect([status, signal]).toEqual([0, null]);
        upheaver = -1;
        continue;
      }
      const slot = slots.get(pid)!;
      slots.delete(pid);
      common.running.splice(common.running.indexOf(pid), 1);
      if (signal === null) {
        expect(status, `program ${pid} read what it had not stored`).toBe(0);
        done++;
      } else if (common.victims.has(pid)) {
        expect(signal).toBe(SIGKILL);
        killed++;
      } else if (groups && signal === SIGKILL) {
        // What a group has in swap may be more than its limit lets it have in memory.
        ofGroups++;
      } else {
        const log = machine.dmesg().split('\n').filter((line) => /oom-kill|invoked|Killed/.test(line)).slice(-20).join('\n');
        expect([errorChance + fileErrorChance > 0, signal], `program ${pid} ended too early:\n${log}`).toEqual([true, SIGBUS]);
        lost++;
      }
      if (signal !== null && common.left > 0) start(slot);
      if (ends % 8 !== 0) continue;
      machine.validate();
      swapoffs.push(emptySwap(os));
    }
    swapoffs.push(emptySwap(os));
    return tidy(os);
  });
  if (result.error !== undefined) throw result.error as Error;
  expect(result.status).toBe(0);
  const { vm } = kernel;
  expect(lost).toBeLessThanOrEqual(vm.swapErrors.reads + (fileDisk?.errors ?? 0));
  const kills = vm.pages.events[VM_EVENT.OOM_KILL]! - swapoffs.filter((status) => status < 0).length;
  // Children of programs may be among those that go for a group.
  if (groups) expect(kills).toBeGreaterThanOrEqual(ofGroups);
  else expect(kills).toBe(0);
  if (groups) machine.run(removeGroups);
  machine.validate();
  expect(settled(machine)).toEqual(before);
  expect(vm.swap.nrFree).toBe(vm.totalSwapPages);
  const outcome = { accesses: accesses - common.left, done, killed, lost, ofGroups, swapoffs, events: vm.pages.events.slice() };
  machine.dispose();
  return outcome;
}
