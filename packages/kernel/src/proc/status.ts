import { RLIMIT_RSS, RLIMIT_SIGPENDING } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { unsigned } from '@pagelab/syscalls';
import type { CapabilitySet } from '@pagelab/syscalls';
import { MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS } from '@pagelab/vm';
import type { MmStruct } from '@pagelab/vm';
import type { Process } from '../process.ts';
import { effectiveMems } from '../cgroup/cpuset.ts';
import { listText } from '../sys/node.ts';
import type { Task } from '../task.ts';
import { signalsOf } from '../signal-set.ts';
import { processAccounting, residentPages, settleFaults } from '../usage.ts';
import { pagesToKb } from './proc-file.ts';
import { TICK_NS } from './stat.ts';

/** Pages of a program's code. */
function textPages(mm: MmStruct): number {
  const start = Math.floor(mm.startCode / PAGE_SIZE);
  return Math.ceil(mm.endCode / PAGE_SIZE) - start;
}

function stateOf(task: Task): readonly [letter: string, word: string] {
  if (task.isDead) return ['Z', 'zombie'];
  if (task.state === 'blocked') return ['S', 'sleeping'];
  return ['R', 'running'];
}

/** Lines of memory, of a process that has any. @linux fs/proc/task_mmu.c:task_mem */
function memoryLines(mm: MmStruct): string {
  const line = (name: string, kib: number): string => `${name}:\t${String(kib).padStart(8)} kB\n`;
  const rss = residentPages(mm);
  const text = Math.min(textPages(mm), mm.execVm);
  return (
    line('VmPeak', pagesToKb(Math.max(mm.hiwaterVm, mm.totalVm))) +
    line('VmSize', pagesToKb(mm.totalVm)) +
    line('VmLck', pagesToKb(mm.lockedVm)) +
    line('VmPin', 0) +
    line('VmHWM', pagesToKb(Math.max(mm.hiwaterRss, rss))) +
    line('VmRSS', pagesToKb(rss)) +
    line('RssAnon', pagesToKb(mm.rss[MM_ANONPAGES]!)) +
    line('RssFile', pagesToKb(mm.rss[MM_FILEPAGES]!)) +
    line('RssShmem', pagesToKb(mm.rss[MM_SHMEMPAGES]!)) +
    line('VmData', pagesToKb(mm.dataVm)) +
    line('VmStk', pagesToKb(mm.stackVm)) +
    line('VmExe', pagesToKb(text)) +
    line('VmLib', pagesToKb(mm.execVm - text)) +
    line('VmPTE', mm.pgtablesBytes / 1024) +
    line('VmSwap', pagesToKb(mm.rss[MM_SWAPENTS]!)) +
    line('HugetlbPages', (mm.hugetlbPages * mm.vm.tables.pmdSize) / 1024) +
    'CoreDumping:\t0\nTHP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n'
  );
}

/** `/proc/PID/status`. @linux fs/proc/array.c:proc_pid_status */
export function status(task: Task): string {
  const { kernel, process, credentials } = task;
  const { uid, gid } = credentials;
  const [letter, word] = stateOf(task);
  const same = (value: number): string => `${value}\t${value}\t${value}\t${value}`;
  settleFaults(task);
  let pending = 0n;
  for (const { signo } of task.pending) pending |= 1n << BigInt(signo - 1);
  const nrCpus = kernel.smp.cpus.length;
  return (
    `Name:\t${process.comm}\nUmask:\t0022\nState:\t${letter} (${word})\nTgid:\t${task.tgid}\nNgid:\t0\nPid:\t${task.pid}\n` +
    `PPid:\t${task.ppid}\nTracerPid:\t0\nUid:\t${same(uid)}\nGid:\t${same(gid)}\nFDSize:\t64\nGroups:\t \n` +
    `NStgid:\t${task.tgid}\nNSpid:\t${task.pid}\nNSpgid:\t${process.pgrp}\nNSsid:\t${process.pgrp}\nKthread:\t0\n` +
    (process.mm === null ? '' : memoryLines(process.mm)) +
    `Threads:\t${Math.max(1, process.threads.length)}\nSigQ:\t${task.pending.length}/${process.limits.cur[RLIMIT_SIGPENDING]}\n` +
    `SigPnd:\t${hex64(pending)}\nShdPnd:\t${hex64(mask(task.process.pending.map(({ signo }) => signo)))}\nSigBlk:\t${hex64(mask(signalsOf(task.blocked)))}\n` +
    `SigIgn:\t${hex64(actionMask(process, 'ignore'))}\nSigCgt:\t${hex64(actionMask(process, 'handler'))}\n` +
    `CapInh:\t${capabilities(credentials.inheritable)}\nCapPrm:\t${capabilities(credentials.permitted)}\n` +
    `CapEff:\t${capabilities(credentials.effective)}\nCapBnd:\t000001ffffffffff\nCapAmb:\t${hex64(0n)}\n` +
    `NoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n` +
    `Cpus_allowed:\t${((1n << BigInt(nrCpus)) - 1n).toString(16)}\nCpus_allowed_list:\t${nrCpus === 1 ? '0' : `0-${nrCpus - 1}`}\n` +
    memsAllowed(task) +
    `voluntary_ctxt_switches:\t${task.accounting.nvcsw}\nnonvoluntary_ctxt_switches:\t${task.accounting.nivcsw}\n`
  );
}

/** The nodes that its cpuset leaves it. @linux kernel/cgroup/cpuset.c:cpuset_task_status_allowed */
function memsAllowed({ kernel, process: { cgroup } }: Task): string {
  const nodes = effectiveMems(kernel, cgroup);
  const mask = nodes.reduce((bits, nid) => bits | (1n << BigInt(nid)), 0n);
  return `Mems_allowed:\t${mask.toString(16)}\nMems_allowed_list:\t${listText(nodes)}\n`;
}

/** `/proc/PID/statm`, in pages. @linux fs/proc/array.c:proc_pid_statm */
export function statm(mm: MmStruct | null): string {
  if (mm === null) return '0 0 0 0 0 0 0\n';
  const shared = mm.rss[MM_FILEPAGES]! + mm.rss[MM_SHMEMPAGES]!;
  return `${mm.totalVm} ${shared + mm.rss[MM_ANONPAGES]!} ${shared} ${textPages(mm)} 0 ${mm.dataVm + mm.stackVm} 0\n`;
}

/** `/proc/PID/stat`, and of a thread alone. @linux fs/proc/array.c:do_task_stat */
export function stat(task: Task, isThread: boolean): string {
  const { process } = task;
  const { mm } = process;
  settleFaults(task);
  const own = isThread ? task.accounting : processAccounting(process);
  const { waited } = process;
  const ticks = (ns: number): number => Math.floor(ns / TICK_NS);
  let pending = 0n;
  for (const { signo } of task.pending) if (signo < 32) pending |= 1n << BigInt(signo - 1);
  const rssLimit = process.limits.cur[RLIMIT_RSS]!;
  const fields: (number | string | bigint)[] = [
    task.pid, `(${process.comm})`, stateOf(task)[0], task.ppid, process.pgrp, process.pgrp, 0, -1, 4_194_304,
    own.minflt, waited.minflt, own.majflt, waited.majflt,
    ticks(own.utime), ticks(own.stime), ticks(waited.utime), ticks(waited.stime),
    20, 0, Math.max(1, process.threads.length), 0, ticks(process.startTime),
    mm === null ? 0 : mm.totalVm * PAGE_SIZE, mm === null ? 0 : residentPages(mm),
    rssLimit === -1 ? '18446744073709551615' : unsigned(rssLimit),
    mm?.startCode ?? 0, mm?.endCode ?? 0, mm?.startStack ?? 0, 0, 0,
    pending, mask(signalsOf(task.blocked)) & 0x7fff_ffffn, actionMask(process, 'ignore') & 0x7fff_ffffn, actionMask(process, 'handler') & 0x7fff_ffffn,
    0, 0, 0, 17, task.cpu, 0, 0, 0, 0, 0,
    mm?.startData ?? 0, mm?.endData ?? 0, mm?.startBrk ?? 0, 0, 0, 0, 0, Math.max(0, process.statusWord),
  ];
  return `${fields.join(' ')}\n`;
}

function mask(signals: readonly number[]): bigint {
  return signals.reduce((bits, signal) => bits | (1n << BigInt(signal - 1)), 0n);
}

function actionMask(process: Process, kind: 'ignore' | 'handler'): bigint {
  let bits = 0n;
  for (const [signal, { disposition }] of process.actions) {
    if (kind === 'ignore' ? disposition === 'ignore' : typeof disposition === 'function') bits |= 1n << BigInt(signal - 1);
  }
  return bits;
}

function hex64(bits: bigint): string {
  return bits.toString(16).padStart(16, '0');
}

function capabilities({ low, high }: CapabilitySet): string {
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
}
