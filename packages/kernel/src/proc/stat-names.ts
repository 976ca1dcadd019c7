/**
 * Which counters a release shows, and in which order: the rest of the table is that of 6.18.
 *
 * Read from `/proc/vmstat` and `/proc/zoneinfo` of the three releases.
 */
import { NODE_STAT, NODE_STAT_NAMES, VM_EVENT, VM_EVENT_NAMES, ZONE_STAT_NAMES } from '@pagelab/mm-core';
import type { KernelVersion } from '@pagelab/mm-core';
import type { MachineConfig } from '../config.ts';

/** A counter: its name, and its index, or −1 for one that is always 0. */
export interface StatName {
  readonly name: string;
  readonly item: number;
}

const ORDER: readonly KernelVersion[] = ['6.1', '6.12', '6.18'];

/** Counters that came after 6.1, and with which release. */
const SINCE: Readonly<Record<string, KernelVersion>> = {
  nr_iommu_pages: '6.12', pgdemote_kswapd: '6.12', pgdemote_direct: '6.12', pgdemote_khugepaged: '6.12',
  nr_memmap_pages: '6.12', nr_memmap_boot_pages: '6.12', pgsteal_khugepaged: '6.12', pgscan_khugepaged: '6.12',
  zone_reclaim_success: '6.12', thp_underused_split_page: '6.12', swpin_zero: '6.12', swpout_zero: '6.12', zswpwb: '6.12',
  nr_free_pages_blocks: '6.18', pgpromote_candidate_nrl: '6.18', pgdemote_proactive: '6.18', nr_hugetlb: '6.18',
  nr_balloon_pages: '6.18', nr_kernel_file_pages: '6.18', pgsteal_proactive: '6.18', pgscan_proactive: '6.18',
  direct_map_level2_collapses: '6.18', direct_map_level3_collapses: '6.18',
};

/** Counters that 6.18 no longer has: behind which other they stood, and in which releases. Always 0 here. */
const GONE: readonly { readonly name: string; readonly after: string; readonly releases: readonly KernelVersion[] }[] = [
  { name: 'nr_bounce', after: 'nr_mlock', releases: ['6.1', '6.12'] },
  { name: 'nr_unaccepted', after: 'nr_free_cma', releases: ['6.12'] },
  { name: 'nr_writeback_temp', after: 'nr_writeback', releases: ['6.1', '6.12'] },
  // In 6.1 demotions are events.
  { name: 'pgdemote_kswapd', after: 'pgsteal_direct', releases: ['6.1'] },
  { name: 'pgdemote_direct', after: 'pgdemote_kswapd', releases: ['6.1'] },
];

/** Whether a release has a counter that 6.18 has. */
export function hasStat(release: KernelVersion, name: string): boolean {
  return ORDER.indexOf(SINCE[name] ?? '6.1') <= ORDER.indexOf(release);
}

function select(release: KernelVersion, names: readonly string[]): StatName[] {
  const rows: StatName[] = [];
  const push = (name: string, item: number): void => {
    rows.push({ name, item });
    for (const gone of GONE) if (gone.after === name && gone.releases.includes(release)) push(gone.name, -1);
  };
  names.forEach((name, item) => {
    if (hasStat(release, name)) push(name, item);
  });
  return rows;
}

/** Counters that kernels of 32 bits are built without: they know no nodes, and have other zones. */
const NOT_32_BIT = /^(numa_|pgpromote_|zone_reclaim_|\w+_(dma32|device)$|thp_split_pud$)/;

function selectFor(release: KernelVersion, arch: MachineConfig['arch'], names: readonly string[]): StatName[] {
  const rows = select(release, names);
  return arch === 'x86-64' ? rows : rows.filter(({ name }) => !NOT_32_BIT.test(name));
}

/** Counters of a zone, in order. */
export function zoneStats(release: KernelVersion, arch: MachineConfig['arch']): StatName[] {
  return selectFor(release, arch, ZONE_STAT_NAMES);
}

const { NR_ANON_THPS, NR_FILE_PMDMAPPED, NR_FILE_THPS, NR_SHMEM_PMDMAPPED, NR_SHMEM_THPS } = NODE_STAT;
const SHOWN_IN_THP: ReadonlySet<number> = new Set([NR_ANON_THPS, NR_FILE_PMDMAPPED, NR_FILE_THPS, NR_SHMEM_PMDMAPPED, NR_SHMEM_THPS]);

/** A node's counter as files show it: huge pages are counted by their small ones, and told by their own number. @linux include/linux/vmstat.h:vmstat_item_print_in_thp */
export function nodeStatShown(item: number, value: number): number {
  return SHOWN_IN_THP.has(item) ? value / 512 : value;
}

/** Counters of a node. */
export function nodeStats(release: KernelVersion, arch: MachineConfig['arch']): StatName[] {
  return selectFor(release, arch, NODE_STAT_NAMES);
}

/** Events. Those of high memory stand behind those of ZONE_NORMAL, where there can be any. */
export function vmEvents(release: KernelVersion, arch: MachineConfig['arch']): StatName[] {
  const rows = selectFor(release, arch, VM_EVENT_NAMES.slice(0, VM_EVENT.PGALLOC_HIGH));
  if (arch === 'x86-64') return rows;
  return rows.flatMap((row) => {
    const high = row.name.replace(/_normal$/, '_high');
    return high === row.name ? [row] : [row, { name: high, item: VM_EVENT_NAMES.indexOf(high) }];
  });
}
