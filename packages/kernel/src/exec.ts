/**
 * The first program of a process: an address space of its own, laid out as a small static program.
 *
 * @linux fs/exec.c
 */
import { Errno, PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Program, VirtAddr } from '@pagelab/abi';
import { FileTable } from '@pagelab/syscalls';
import { execLayout, mmAlloc, mmput } from '@pagelab/vm';
import type { MmLimits, ProgramImage as LoadedImage } from '@pagelab/vm';
import { rootCredentials, hasCapability } from './credentials.ts';
import { attachHandle } from './handle.ts';
import type { Kernel } from './kernel.ts';
import { openConsole } from './open.ts';
import { Process } from './process.ts';
import { copyLimits, initialLimits } from './resource-limits.ts';
import { allocProcessObjects, allocTaskObjects, freeKernelStack, freeProcessObjects, freeTaskObjects } from './task-objects.ts';
import { Task } from './task.ts';

/** Where a program's own parts lie. Addresses; ends are exclusive. */
export interface ProgramImage {
  readonly textStart: VirtAddr;
  readonly textEnd: VirtAddr;
  readonly dataStart: VirtAddr;
  readonly dataEnd: VirtAddr;
  /** Data that starts as zero. */
  readonly bssStart: VirtAddr;
  readonly bssEnd: VirtAddr;
  /** Where the heap begins. */
  readonly heapStart: VirtAddr;
  /** The program's stack pointer when it starts. */
  readonly stackPointer: VirtAddr;
}

const TEXT_START = 0x40_0000;
const TEXT_BYTES = 32 * 1024;
const CONSTANT_BYTES = 8 * 1024;
const DATA_BYTES = 4096;
const BSS_BYTES = 128 * 1024;

/**
 * A static program: code, constants, data with zeroed memory behind it, and a page of constants at the end, so that the
 * heap has no writable neighbour.
 */
function programImage(comm: string): LoadedImage {
  const constants = TEXT_START + TEXT_BYTES;
  const data = constants + CONSTANT_BYTES;
  const last = data + DATA_BYTES + BSS_BYTES;
  const part = (start: number, fileBytes: number, memoryBytes: number, prot: number) => ({
    start,
    offset: start - TEXT_START,
    fileBytes,
    memoryBytes,
    prot,
  });
  return {
    path: `/bin/${comm}`,
    segments: [
      part(TEXT_START, TEXT_BYTES, TEXT_BYTES, PROT_READ | PROT_EXEC),
      part(constants, CONSTANT_BYTES, CONSTANT_BYTES, PROT_READ),
      part(data, DATA_BYTES, DATA_BYTES + BSS_BYTES, PROT_READ | PROT_WRITE),
      { start: last, offset: data + DATA_BYTES - TEXT_START, fileBytes: PAGE_SIZE, memoryBytes: PAGE_SIZE, prot: PROT_READ },
    ],
  };
}

/** What a process is started with. */
export interface StartOptions {
  /** As `ps` shows it, at most 15 characters are kept; `program` by default. */
  readonly name?: string;
  /** What the program gets beside its handle. */
  readonly argv?: readonly string[];
}

/** The name a program runs under: at most 15 characters, none of which a path or a line could not hold. */
function commOf(name: string): string {
  return name.replace(/[^\x21-\x7e]|\//g, '_').slice(0, 15) || 'program';
}

/**
 * Makes a process whose parent is the machine, with root's credentials.
 *
 * @param program `null` for one that is driven from outside
 * @returns its first task, not yet ready to run; or -errno: ENOMEM, EAGAIN
 */
export function startProcess(kernel: Kernel, program: Program | null, options: StartOptions): Task | number {
  const comm = commOf(options.name ?? 'program');
  const argv = [...(options.argv ?? [])];
  const limits = copyLimits(initialLimits(kernel.pages.totalramPages));
  const credentials = rootCredentials();
  const mmLimits: MmLimits = {
    rlimit: (resource) => limits.cur[resource]!,
    rlimitMax: (resource) => limits.max[resource]!,
    capable: (capability) => hasCapability(credentials, capability),
  };
  const pid = kernel.tasks.allocPid();
  if (pid < 0) return -Errno.EAGAIN;
  const taskObjects = allocTaskObjects(kernel);
  if (typeof taskObjects === 'number') return taskObjects;
  const processObjects = allocProcessObjects(kernel);
  const mm = typeof processObjects === 'number' ? processObjects : mmAlloc(kernel.vm, mmLimits);
  const undo = (error: number): number => {
    if (typeof mm !== 'number') mmput(mm);
    if (typeof processObjects !== 'number') freeProcessObjects(kernel, processObjects);
    freeKernelStack(kernel, taskObjects);
    freeTaskObjects(kernel, taskObjects);
    return error;
  };
  if (typeof processObjects === 'number') return undo(processObjects);
  if (typeof mm === 'number') return undo(mm);
  const loaded = programImage(comm);
  const error = execLayout(mm, loaded);
  if (error < 0) return undo(error);

  const dataEnd = mm.endData;
  const files = new FileTable();
  for (let fd = 0; fd < 3; fd++) {
    const file = openConsole(kernel);
    if (typeof file === 'number') {
      files.closeAll();
      return undo(file);
    }
    files.install(file, -1);
  }
  const process = new Process({
    tgid: pid,
    comm,
    argv: [loaded.path, ...argv],
    parent: null,
    pgrp: pid,
    limits,
    files,
    library: { curbrk: -1 },
    image: {
      textStart: mm.startCode,
      textEnd: mm.endCode,
      dataStart: mm.startData,
      dataEnd,
      bssStart: dataEnd,
      bssEnd: dataEnd + BSS_BYTES,
      heapStart: mm.startBrk,
      stackPointer: mm.startStack,
    },
    mm,
    actions: new Map(),
    oomScoreAdj: 0,
    oomScoreAdjMin: 0,
    objects: processObjects,
    startTime: kernel.clock.now,
  });
  const task = new Task({
    kernel,
    process,
    pid,
    cpu: kernel.scheduler.placeTask(),
    state: program === null ? 'driven' : 'blocked',
    credentials,
    objects: taskObjects,
    program,
    argv,
  });
  process.leader = task;
  process.threads.push(task);
  attachHandle(task);
  kernel.tasks.add(task);
  return task;
}
