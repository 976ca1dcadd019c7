/**
 * `memory.stat` and `memory.numa_stat`: what a group's memory is used for, and what happened to it.
 *
 * @linux mm/memcontrol.c:memory_stats, memcg_vm_event_stat
 */
import { LRU_UNEVICTABLE, NODE_STAT, VM_EVENT } from '@pagelab/mm-core';
import { MEMCG_STAT, descendants, memcgState } from '@pagelab/vm';
import type { MemCgroup } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';

const PAGE_BYTES = 4096;

/** Counters of nodes, in Linux's order: name, item, and the unit it is shown in. */
const NODE_ITEMS: readonly (readonly [name: string, item: number, unit: number])[] = [
  ['kernel_stack', NODE_STAT.NR_KERNEL_STACK_KB, 1024],
  ['pagetables', NODE_STAT.NR_PAGETABLE, PAGE_BYTES],
  ['sec_pagetables', NODE_STAT.NR_SECONDARY_PAGETABLE, PAGE_BYTES],
];
const SHMEM_ITEM: readonly [name: string, item: number, unit: number] = ['shmem', NODE_STAT.NR_SHMEM, PAGE_BYTES];
const USER_ITEMS: readonly (readonly [name: string, item: number, unit: number])[] = [
  ['file_mapped', NODE_STAT.NR_FILE_MAPPED, PAGE_BYTES],
  ['file_dirty', NODE_STAT.NR_FILE_DIRTY, PAGE_BYTES],
  ['file_writeback', NODE_STAT.NR_WRITEBACK, PAGE_BYTES],
  ['swapcached', NODE_STAT.NR_SWAPCACHE, PAGE_BYTES],
  ['anon_thp', NODE_STAT.NR_ANON_THPS, PAGE_BYTES],
  ['file_thp', NODE_STAT.NR_FILE_THPS, PAGE_BYTES],
  ['shmem_thp', NODE_STAT.NR_SHMEM_THPS, PAGE_BYTES],
  ['inactive_anon', NODE_STAT.NR_INACTIVE_ANON, PAGE_BYTES],
  ['active_anon', NODE_STAT.NR_ACTIVE_ANON, PAGE_BYTES],
  ['inactive_file', NODE_STAT.NR_INACTIVE_FILE, PAGE_BYTES],
  ['active_file', NODE_STAT.NR_ACTIVE_FILE, PAGE_BYTES],
  ['unevictable', LRU_UNEVICTABLE, PAGE_BYTES],
];
const COUNTED_ITEMS: readonly (readonly [name: string, item: number, unit: number])[] = [
  ['workingset_refault_anon', NODE_STAT.WORKINGSET_REFAULT_ANON, 1],
  ['workingset_refault_file', NODE_STAT.WORKINGSET_REFAULT_FILE, 1],
  ['workingset_activate_anon', NODE_STAT.WORKINGSET_ACTIVATE_ANON, 1],
  ['workingset_activate_file', NODE_STAT.WORKINGSET_ACTIVATE_FILE, 1],
  ['workingset_restore_anon', NODE_STAT.WORKINGSET_RESTORE_ANON, 1],
  ['workingset_restore_file', NODE_STAT.WORKINGSET_RESTORE_FILE, 1],
  ['workingset_nodereclaim', NODE_STAT.WORKINGSET_NODERECLAIM, 1],
  ['pgdemote_kswapd', NODE_STAT.PGDEMOTE_KSWAPD, 1],
  ['pgdemote_direct', NODE_STAT.PGDEMOTE_DIRECT, 1],
  ['pgdemote_khugepaged', NODE_STAT.PGDEMOTE_KHUGEPAGED, 1],
  ['pgdemote_proactive', NODE_STAT.PGDEMOTE_PROACTIVE, 1],
  ['pgpromote_success', NODE_STAT.PGPROMOTE_SUCCESS, 1],
];
/** Events, in Linux's order. */
const EVENTS: readonly (readonly [name: string, event: number])[] = [
  ['pswpin', VM_EVENT.PSWPIN],
  ['pswpout', VM_EVENT.PSWPOUT],
  ['pgscan_kswapd', VM_EVENT.PGSCAN_KSWAPD],
  ['pgscan_direct', VM_EVENT.PGSCAN_DIRECT],
  ['pgscan_khugepaged', VM_EVENT.PGSCAN_KHUGEPAGED],
  ['pgscan_proactive', VM_EVENT.PGSCAN_PROACTIVE],
  ['pgsteal_kswapd', VM_EVENT.PGSTEAL_KSWAPD],
  ['pgsteal_direct', VM_EVENT.PGSTEAL_DIRECT],
  ['pgsteal_khugepaged', VM_EVENT.PGSTEAL_KHUGEPAGED],
  ['pgsteal_proactive', VM_EVENT.PGSTEAL_PROACTIVE],
  ['pgfault', VM_EVENT.PGFAULT],
  ['pgmajfault', VM_EVENT.PGMAJFAULT],
  ['pgrefill', VM_EVENT.PGREFILL],
  ['pgactivate', VM_EVENT.PGACTIVATE],
  ['pgdeactivate', VM_EVENT.PGDEACTIVATE],
  ['pglazyfree', VM_EVENT.PGLAZYFREE],
  ['pglazyfreed', VM_EVENT.PGLAZYFREED],
  ['swpin_zero', VM_EVENT.SWPIN_ZERO],
  ['swpout_zero', VM_EVENT.SWPOUT_ZERO],
  ['zswpin', VM_EVENT.ZSWPIN],
  ['zswpout', VM_EVENT.ZSWPOUT],
  ['zswpwb', VM_EVENT.ZSWPWB],
  ['thp_fault_alloc', VM_EVENT.THP_FAULT_ALLOC],
  ['thp_collapse_alloc', VM_EVENT.THP_COLLAPSE_ALLOC],
  ['thp_swpout', VM_EVENT.THP_SWPOUT],
  ['thp_swpout_fallback', VM_EVENT.THP_SWPOUT_FALLBACK],
  ['numa_pages_migrated', VM_EVENT.NUMA_PAGES_MIGRATED],
  ['numa_pte_updates', VM_EVENT.NUMA_PTE_UPDATES],
  ['numa_hint_faults', VM_EVENT.NUMA_HINT_FAULTS],
];

/** Where the figures come from: a group and all below it, or the machine as a whole, which is the root. */
interface Figures {
  /** A counter (NODE_STAT), over all nodes or of one. */
  state(item: number, nid?: number): number;
  /** Pages or bytes of MEMCG_STAT. */
  stat(item: number): number;
  /** Bytes of slab objects: reclaimable ones (0), others (1). */
  slab(kind: 0 | 1, nid?: number): number;
  event(event: number): number;
}

function groupFigures(memcg: MemCgroup): Figures {
  const sum = (of: (each: MemCgroup) => number): number => {
    let total = 0;
    for (const each of descendants(memcg)) total += of(each);
    return total;
  };
  return {
    state: (item, nid = -1) => memcgState(memcg, item, nid),
    stat: (item) => sum((each) => each.stat[item]!),
    slab: (kind, nid = -1) =>
      sum(({ slabBytes }) => slabBytes.reduce((bytes, own, at) => (at % 2 === kind && (nid < 0 || at >> 1 === nid) ? bytes + own : bytes), 0)),
    event: (event) => sum((each) => each.vmEvents[event]!),
  };
}

function rootFigures({ pages }: Kernel): Figures {
  const state = (item: number, nid = -1): number => (nid < 0 ? pages.nodeState(item) : pages.nodes[nid]!.vmStat[item]!);
  return {
    // What the machine counts of files has the swap cache in it.
    state: (item, nid) => (item === NODE_STAT.NR_FILE_PAGES ? state(item, nid) - state(NODE_STAT.NR_SWAPCACHE, nid) : state(item, nid)),
    stat: () => 0,
    slab: (kind, nid) => state(kind === 0 ? NODE_STAT.NR_SLAB_RECLAIMABLE : NODE_STAT.NR_SLAB_UNRECLAIMABLE, nid) * PAGE_BYTES,
    event: (event) => pages.events[event]!,
  };
}

function figures(kernel: Kernel, memcg: MemCgroup | null): Figures {
  return memcg === null ? rootFigures(kernel) : groupFigures(memcg);
}

/** The lines of `memory.stat`; those of the root (`null`) tell of the machine. @linux mm/memcontrol.c:memcg_stat_format */
export function memoryStat(kernel: Kernel, memcg: MemCgroup | null): string[] {
  const from = figures(kernel, memcg);
  const item = ([name, of, unit]: readonly [string, number, number]): string => `${name} ${from.state(of) * unit}`;
  const events = (...of: number[]): number => of.reduce((sum, event) => sum + from.event(event), 0);
  return [
    `anon ${from.state(NODE_STAT.NR_ANON_MAPPED) * PAGE_BYTES}`,
    `file ${from.state(NODE_STAT.NR_FILE_PAGES) * PAGE_BYTES}`,
    `kernel ${from.stat(MEMCG_STAT.KMEM) * PAGE_BYTES}`,
    ...NODE_ITEMS.map(item),
    `percpu ${from.stat(MEMCG_STAT.PERCPU_B)}`,
    'sock 0',
    `vmalloc ${from.stat(MEMCG_STAT.VMALLOC) * PAGE_BYTES}`,
    item(SHMEM_ITEM),
    `zswap ${from.stat(MEMCG_STAT.ZSWAP_B)}`,
    `zswapped ${from.stat(MEMCG_STAT.ZSWAPPED) * PAGE_BYTES}`,
    ...USER_ITEMS.map(item),
    `slab_reclaimable ${from.slab(0)}`,
    `slab_unreclaimable ${from.slab(1)}`,
    `slab ${from.slab(0) + from.slab(1)}`,
    ...COUNTED_ITEMS.map(item),
    `pgscan ${events(VM_EVENT.PGSCAN_KSWAPD, VM_EVENT.PGSCAN_DIRECT, VM_EVENT.PGSCAN_KHUGEPAGED, VM_EVENT.PGSCAN_PROACTIVE)}`,
    `pgsteal ${events(VM_EVENT.PGSTEAL_KSWAPD, VM_EVENT.PGSTEAL_DIRECT, VM_EVENT.PGSTEAL_KHUGEPAGED, VM_EVENT.PGSTEAL_PROACTIVE)}`,
    ...EVENTS.map(([name, event]) => `${name} ${from.event(event)}`),
  ];
}

/** `memory.numa_stat`. @linux mm/memcontrol.c:memory_numa_stat_show */
export function memoryNumaStat(kernel: Kernel, memcg: MemCgroup | null): string {
  const from = figures(kernel, memcg);
  const line = (name: string, of: (nid: number) => number): string =>
    `${name} ${kernel.pages.nodes.map(({ nid }) => `N${nid}=${of(nid)}`).join(' ')}`;
  const item = ([name, of, unit]: readonly [string, number, number]): string => line(name, (nid) => from.state(of, nid) * unit);
  return [
    line('anon', (nid) => from.state(NODE_STAT.NR_ANON_MAPPED, nid) * PAGE_BYTES),
    line('file', (nid) => from.state(NODE_STAT.NR_FILE_PAGES, nid) * PAGE_BYTES),
    ...NODE_ITEMS.map(item),
    item(SHMEM_ITEM),
    ...USER_ITEMS.map(item),
    line('slab_reclaimable', (nid) => from.slab(0, nid)),
    line('slab_unreclaimable', (nid) => from.slab(1, nid)),
    ...COUNTED_ITEMS.map(item),
    '',
  ].join('\n');
}
