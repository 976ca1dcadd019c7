/**
 * `/sys/devices/system/node`: the machine's nodes, and what each of them holds.
 *
 * @linux drivers/base/node.c
 */
import { Errno } from '@pagelab/abi';
import { GFP_KERNEL, NODE_STAT, ZONE_STAT } from '@pagelab/mm-core';
import type { MemoryNode } from '@pagelab/mm-core';
import { reclaimNode } from '@pagelab/vm';
import { proactiveReclaim } from '../cgroup/proactive-reclaim.ts';
import type { Kernel } from '../kernel.ts';
import { kbLine, pagesToKb } from '../proc/proc-file.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { nodeStatShown, nodeStats, zoneStats } from '../proc/stat-names.ts';

const DIRECTORY = '/sys/devices/system/node/';

/** Numbers as the kernel lists them: `0-2,5`. @linux lib/vsprintf.c:bitmap_list_string */
export function listText(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length; ) {
    let end = i;
    while (numbers[end + 1] === numbers[end]! + 1) end++;
    parts.push(end > i ? `${numbers[i]}-${numbers[end]}` : `${numbers[i]}`);
    i = end + 1;
  }
  return parts.join(',');
}

/** Numbers as a mask in hexadecimal, 32 bits between commas. @linux lib/vsprintf.c:bitmap_string */
function maskText(numbers: readonly number[], nrBits: number): string {
  const mask = numbers.reduce((bits, number) => bits | (1n << BigInt(number)), 0n);
  const digits = mask.toString(16).padStart(Math.ceil(nrBits / 4), '0');
  return digits.replace(/(?=(?:.{8})+$)(?!^)/g, ',');
}

/** The files below `/sys/devices/system/node`, by path. Kernels of 32 bits are built without nodes. */
export function nodeFiles(kernel: Kernel): Map<string, () => string> {
  const files = new Map<string, () => string>();
  if (kernel.config.arch !== 'x86-64') return files;
  const { nodes } = kernel.pages;
  const nids = (which: (node: MemoryNode) => boolean): string => listText(nodes.filter(which).map(({ nid }) => nid));
  const all = nids(() => true);
  files.set(`${DIRECTORY}online`, () => `${all}\n`);
  files.set(`${DIRECTORY}possible`, () => `${all}\n`);
  files.set(`${DIRECTORY}has_cpu`, () => `${nids(({ cpus }) => cpus.length > 0)}\n`);
  files.set(`${DIRECTORY}has_memory`, () => `${nids(({ present }) => present > 0)}\n`);
  files.set(`${DIRECTORY}has_normal_memory`, () => `${nids((node) => node.zones.some((zone) => zone.present > 0 && zone.name !== 'Movable'))}\n`);
  for (const node of nodes) {
    const path = `${DIRECTORY}node${node.nid}/`;
    files.set(`${path}cpulist`, () => `${listText(node.cpus)}\n`);
    files.set(`${path}cpumap`, () => `${maskText(node.cpus, kernel.config.possibleCpus)}\n`);
    files.set(`${path}distance`, () => `${node.distances.join(' ')}\n`);
    files.set(`${path}meminfo`, () => nodeMeminfo(kernel, node));
    files.set(`${path}numastat`, () => numastat(node));
    files.set(`${path}vmstat`, () => nodeVmstat(kernel, node));
    for (const name of ['total', 'ignored', 'failed', 'delayed', 'recovered'] as const) {
      files.set(`${path}memory_failure/${name}`, () => `${kernel.vm.hwpoison.nodes[node.nid]![name]}\n`);
    }
  }
  return files;
}

/** `nodeN/reclaim`: takes so much from a node; whatever goes wrong is EAGAIN. @linux mm/vmscan.c:reclaim_store */
export function nodeReclaimFiles(kernel: Kernel): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  if (kernel.config.arch !== 'x86-64' || kernel.config.kernel !== '6.18') return files;
  for (const { nid } of kernel.pages.nodes) {
    files.set(`${DIRECTORY}node${nid}/reclaim`, {
      mode: 0o200,
      write: (text) => {
        const error = proactiveReclaim(kernel, text, (nrPages, swappiness) => reclaimNode(kernel.vm, nid, nrPages, GFP_KERNEL, swappiness));
        return error === 0 ? text.length : -Errno.EAGAIN;
      },
    });
  }
  return files;
}

function zonesSum(node: MemoryNode, item: number): number {
  return node.zones.reduce((sum, zone) => sum + (zone.present > 0 ? zone.state(item) : 0), 0);
}

/** @linux drivers/base/node.c:node_read_meminfo */
function nodeMeminfo(kernel: Kernel, node: MemoryNode): string {
  const kib = (item: number): number => pagesToKb(node.vmStat[item]!);
  const total = pagesToKb(node.zones.reduce((pages, zone) => pages + zone.managed, 0));
  const free = pagesToKb(node.zones.reduce((pages, zone) => pages + zone.nrFree, 0));
  const activeAnon = kib(NODE_STAT.NR_ACTIVE_ANON);
  const inactiveAnon = kib(NODE_STAT.NR_INACTIVE_ANON);
  const activeFile = kib(NODE_STAT.NR_ACTIVE_FILE);
  const inactiveFile = kib(NODE_STAT.NR_INACTIVE_FILE);
  const reclaimable = kib(NODE_STAT.NR_SLAB_RECLAIMABLE);
  const unreclaimable = kib(NODE_STAT.NR_SLAB_UNRECLAIMABLE);
  const rows: (readonly [name: string, kib: number])[] = [
    ['MemTotal', total],
    ['MemFree', free],
    ['MemUsed', total - free],
    ['SwapCached', kib(NODE_STAT.NR_SWAPCACHE)],
    ['Active', activeAnon + activeFile],
    ['Inactive', inactiveAnon + inactiveFile],
    ['Active(anon)', activeAnon],
    ['Inactive(anon)', inactiveAnon],
    ['Active(file)', activeFile],
    ['Inactive(file)', inactiveFile],
    ['Unevictable', kib(NODE_STAT.NR_UNEVICTABLE)],
    ['Mlocked', pagesToKb(zonesSum(node, ZONE_STAT.NR_MLOCK))],
  ];
  rows.push(
    ['Dirty', kib(NODE_STAT.NR_FILE_DIRTY)],
    ['Writeback', kib(NODE_STAT.NR_WRITEBACK)],
    ['FilePages', kib(NODE_STAT.NR_FILE_PAGES)],
    ['Mapped', kib(NODE_STAT.NR_FILE_MAPPED)],
    ['AnonPages', kib(NODE_STAT.NR_ANON_MAPPED)],
    ['Shmem', kib(NODE_STAT.NR_SHMEM)],
    ['KernelStack', node.vmStat[NODE_STAT.NR_KERNEL_STACK_KB]!],
    ['PageTables', kib(NODE_STAT.NR_PAGETABLE)],
    ['SecPageTables', kib(NODE_STAT.NR_SECONDARY_PAGETABLE)],
    ['NFS_Unstable', 0],
    ['Bounce', 0],
    ['WritebackTmp', 0],
    ['KReclaimable', reclaimable + kib(NODE_STAT.NR_KERNEL_MISC_RECLAIMABLE)],
    ['Slab', reclaimable + unreclaimable],
    ['SReclaimable', reclaimable],
    ['SUnreclaim', unreclaimable],
    ['AnonHugePages', kib(NODE_STAT.NR_ANON_THPS)],
    ['ShmemHugePages', kib(NODE_STAT.NR_SHMEM_THPS)],
    ['ShmemPmdMapped', kib(NODE_STAT.NR_SHMEM_PMDMAPPED)],
    ['FileHugePages', kib(NODE_STAT.NR_FILE_THPS)],
    ['FilePmdMapped', kib(NODE_STAT.NR_FILE_PMDMAPPED)],
  );
  if (kernel.config.kernel === '6.12') rows.push(['Unaccepted', 0]);
  let text = '';
  for (const [name, value] of rows) text += `Node ${node.nid} ${kbLine(name, value, 16, 8)}`;
  const pool = kernel.vm.hugetlb.nodes[node.nid]!;
  for (const [name, count] of [['Total', pool.nr], ['Free', pool.free.length], ['Surp', pool.surplus]] as const) {
    text += `Node ${node.nid} ${`HugePages_${name}:`.padEnd(16)} ${String(count).padStart(5)}\n`;
  }
  return text;
}

/** @linux drivers/base/node.c:node_read_numastat */
function numastat(node: MemoryNode): string {
  const { NUMA_HIT, NUMA_MISS, NUMA_FOREIGN, NUMA_INTERLEAVE_HIT, NUMA_LOCAL, NUMA_OTHER } = ZONE_STAT;
  const rows: readonly (readonly [name: string, item: number])[] = [
    ['numa_hit', NUMA_HIT],
    ['numa_miss', NUMA_MISS],
    ['numa_foreign', NUMA_FOREIGN],
    ['interleave_hit', NUMA_INTERLEAVE_HIT],
    ['local_node', NUMA_LOCAL],
    ['other_node', NUMA_OTHER],
  ];
  return rows.map(([name, item]) => `${name} ${zonesSum(node, item)}\n`).join('');
}

/** @linux drivers/base/node.c:node_read_vmstat */
function nodeVmstat(kernel: Kernel, node: MemoryNode): string {
  const { kernel: release, arch } = kernel.config;
  const zones = zoneStats(release, arch).map(({ name, item }) => `${name} ${item < 0 ? 0 : zonesSum(node, item)}\n`);
  const stats = nodeStats(release, arch).map(({ name, item }) => `${name} ${item < 0 ? 0 : nodeStatShown(item, node.vmStat[item]!)}\n`);
  return zones.join('') + stats.join('');
}
