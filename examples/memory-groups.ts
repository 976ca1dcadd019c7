/**
 * Memory cgroups: two groups of programs, each held to so much memory. One that wants more than its group may have is swapped,
 * and where the group may not swap either, it is killed; the other group hears nothing of it.
 */
import { MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '64M', swap: [{ size: '32M' }] };

const MIB = 2 ** 20;
const GROUPS = '/sys/fs/cgroup';

function makeGroup(os: Os, name: string, files: Readonly<Record<string, string>>): void {
  os.mkdir(`${GROUPS}/${name}`);
  for (const [file, text] of Object.entries(files)) os.writeFile(`${GROUPS}/${name}/${file}`, text);
}

/** A figure of a group's, in KiB. */
function kib(os: Os, name: string, file: string): number {
  return Number(os.readFile(`${GROUPS}/${name}/${file}`)) / 1024;
}

/** A child that joins a group, stores to so much memory, and looks whether it is all there. */
function use(os: Os, group: string, bytes: number): void {
  const pid = os.fork((child) => {
    child.writeFile(`${GROUPS}/${group}/cgroup.procs`, '0');
    const start = child.mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    for (let at = 0; at < bytes; at += PAGE_SIZE) child.mem.store32(start + at, at);
    child.print(`${group}: ${kib(child, group, 'memory.current') <= 4096 ? 'at most 4 MiB' : 'more than 4 MiB'} in memory, ${kib(child, group, 'memory.swap.current') > 0 ? 'the rest in swap' : 'nothing in swap'}`);
    for (let at = 0; at < bytes; at += PAGE_SIZE) if (child.mem.load32(start + at) !== at) return 1;
    return 0;
  });
  const { status, signal } = os.waitpid(pid)!;
  os.print(`${group}: a program that wants ${bytes / MIB} MiB ${signal === null ? `ends with ${status}` : `is killed by signal ${signal}`}`);
}

export default function memoryGroups(os: Os): void {
  os.writeFile(`${GROUPS}/cgroup.subtree_control`, '+memory');
  makeGroup(os, 'patient', { 'memory.max': '4M' });
  makeGroup(os, 'strict', { 'memory.max': '4M', 'memory.swap.max': '0' });
  use(os, 'patient', 3 * MIB);
  use(os, 'patient', 12 * MIB);
  use(os, 'strict', 12 * MIB);
  for (const group of ['patient', 'strict']) {
    const [, kills] = /oom_kill (\d+)/.exec(os.readFile(`${GROUPS}/${group}/memory.events`))!;
    os.print(`${group}: ${kills} killed, ${kib(os, group, 'memory.peak')} KiB at most`);
    os.rmdir(`${GROUPS}/${group}`);
  }
}
