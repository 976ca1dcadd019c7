import { NODE_STAT, WMARK_LOW, ZONE_HIGHMEM, ZONE_MOVABLE, ZONE_STAT, totalreservePages } from '@pagelab/mm-core';
import { hugetlbTotalPages, vmCommitLimit } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { vmallocTotalKib } from '../vmalloc-layout.ts';
import { kbLine, pagesToKb } from './proc-file.ts';

/** `/proc/meminfo`. @linux fs/proc/meminfo.c:meminfo_proc_show */
export function meminfo(kernel: Kernel): string {
  const { pages, vm, pageTables } = kernel;
  const node = (item: number): number => pagesToKb(pages.nodeState(item));
  const release = kernel.config.kernel;
  const { lru, activeAnon, inactiveAnon, activeFile, inactiveFile } = lruPages(kernel);
  const reclaimable = node(NODE_STAT.NR_SLAB_RECLAIMABLE);
  const unreclaimable = node(NODE_STAT.NR_SLAB_UNRECLAIMABLE);
  const shmem = node(NODE_STAT.NR_SHMEM);
  const { arch } = kernel.config;
  const rows: (readonly [name: string, kib: number])[] = [
    ['MemTotal', pagesToKb(pages.totalramPages)],
    ['MemFree', pagesToKb(pages.nrFreePages())],
    ['MemAvailable', pagesToKb(availablePages(kernel))],
    ['Buffers', 0],
    ['Cached', node(NODE_STAT.NR_FILE_PAGES) - node(NODE_STAT.NR_SWAPCACHE)],
    ['SwapCached', node(NODE_STAT.NR_SWAPCACHE)],
    ['Active', lru.active],
    ['Inactive', lru.inactive],
    ['Active(anon)', activeAnon],
    ['Inactive(anon)', inactiveAnon],
    ['Active(file)', activeFile],
    ['Inactive(file)', inactiveFile],
    ['Unevictable', node(NODE_STAT.NR_UNEVICTABLE)],
    ['Mlocked', pagesToKb(pages.zoneState(ZONE_STAT.NR_MLOCK))],
    ...highLow(kernel),
    ['SwapTotal', pagesToKb(vm.totalSwapPages)],
    ['SwapFree', pagesToKb(vm.swap.nrFree)],
    ['Zswap', pagesToKb(vm.zswap.totalPages)],
    ['Zswapped', pagesToKb(vm.zswap.storedPages)],
    ['Dirty', node(NODE_STAT.NR_FILE_DIRTY)],
    ['Writeback', node(NODE_STAT.NR_WRITEBACK)],
    ['AnonPages', node(NODE_STAT.NR_ANON_MAPPED)],
    ['Mapped', node(NODE_STAT.NR_FILE_MAPPED)],
    ['Shmem', shmem],
    ['KReclaimable', reclaimable + node(NODE_STAT.NR_KERNEL_MISC_RECLAIMABLE)],
    ['Slab', reclaimable + unreclaimable],
    ['SReclaimable', reclaimable],
    ['SUnreclaim', unreclaimable],
    ['KernelStack', pages.nodeState(NODE_STAT.NR_KERNEL_STACK_KB)],
    ['PageTables', node(NODE_STAT.NR_PAGETABLE)],
    ['SecPageTables', node(NODE_STAT.NR_SECONDARY_PAGETABLE)],
    ['NFS_Unstable', 0],
    ['Bounce', 0],
    ['WritebackTmp', 0],
    ['CommitLimit', pagesToKb(vmCommitLimit(vm))],
    ['Committed_AS', pagesToKb(vm.committedAs)],
    ['VmallocTotal', vmallocTotalKib(kernel.config, pages)],
    ['VmallocUsed', pagesToKb(vm.vmalloc.nrPages)],
    ['VmallocChunk', 0],
    ['Percpu', pagesToKb(kernel.percpu.nrPages)],
    ['HardwareCorrupted', pagesToKb(vm.hwpoison.count)],
    ['AnonHugePages', node(NODE_STAT.NR_ANON_THPS)],
    ['ShmemHugePages', node(NODE_STAT.NR_SHMEM_THPS)],
    ['ShmemPmdMapped', node(NODE_STAT.NR_SHMEM_PMDMAPPED)],
    ['FileHugePages', node(NODE_STAT.NR_FILE_THPS)],
    ['FilePmdMapped', node(NODE_STAT.NR_FILE_PMDMAPPED)],
  ];
  if (pages.cmaAreas !== null) {
    const total = pages.cmaAreas.reduce((sum, { count }) => sum + count, 0);
    rows.push(['CmaTotal', pagesToKb(total)], ['CmaFree', pagesToKb(pages.zoneState(ZONE_STAT.NR_FREE_CMA_PAGES))]);
  }
  if (release === '6.12') rows.push(['Unaccepted', 0]);
  if (release === '6.18') rows.push(['Balloon', 0]);
  let text = '';
  for (const [name, kib] of rows) text += kbLine(name, kib, 16, 8);
  const { hugetlb } = vm;
  const pool: readonly (readonly [name: string, pages: number])[] = [
    ['HugePages_Total', hugetlb.nrHugePages],
    ['HugePages_Free', hugetlb.freeHugePages],
    ['HugePages_Rsvd', hugetlb.resvHugePages],
    ['HugePages_Surp', hugetlb.surplusHugePages],
  ];
  for (const [name, count] of pool) {
    text += `${`${name}:`.padEnd(16)}${String(count).padStart(8)}\n`;
  }
  const largePage = arch === 'x86-32' ? '4M' : '2M';
  text += kbLine('Hugepagesize', arch === 'x86-32' ? 4096 : 2048, 16, 8) + kbLine('Hugetlb', pagesToKb(hugetlbTotalPages(vm)), 16, 8);
  text += kbLine('DirectMap4k', pageTables.directMap4K / 1024, 16, 8);
  text += kbLine(`DirectMap${largePage}`, pageTables.directMap2M / 1024, 16, 8);
  if (arch !== 'x86-64') return text;
  text += kbLine('DirectMap1G', pageTables.directMap1G / 1024, 16, 8);
  return text;
}

/** Memory above and below the limit of permanent addresses, where there is one. */
function highLow({ config, pages }: Kernel): (readonly [name: string, kib: number])[] {
  if (config.arch === 'x86-64') return [];
  const someHigh = pages.zones.some(({ kind, present }) => kind === ZONE_HIGHMEM && present > 0);
  // Movable memory is cut out of the highest zone.
  const high = pages.zones.filter(({ kind }) => kind === ZONE_HIGHMEM || (kind === ZONE_MOVABLE && someHigh));
  const managed = high.reduce((sum, zone) => sum + zone.managed, 0);
  const free = high.reduce((sum, zone) => sum + zone.nrFree, 0);
  return [
    ['HighTotal', pagesToKb(managed)],
    ['HighFree', pagesToKb(free)],
    ['LowTotal', pagesToKb(pages.totalramPages - managed)],
    ['LowFree', pagesToKb(pages.nrFreePages() - free)],
  ];
}

/** What the LRU lists hold, in KiB. */
function lruPages(kernel: Kernel): {
  lru: { active: number; inactive: number };
  activeAnon: number;
  inactiveAnon: number;
  activeFile: number;
  inactiveFile: number;
} {
  const kib = (item: number): number => pagesToKb(kernel.pages.nodeState(item));
  const activeAnon = kib(NODE_STAT.NR_ACTIVE_ANON);
  const inactiveAnon = kib(NODE_STAT.NR_INACTIVE_ANON);
  const activeFile = kib(NODE_STAT.NR_ACTIVE_FILE);
  const inactiveFile = kib(NODE_STAT.NR_INACTIVE_FILE);
  const lru = { active: activeAnon + activeFile, inactive: inactiveAnon + inactiveFile };
  return { lru, activeAnon, inactiveAnon, activeFile, inactiveFile };
}

/** Pages that new programs could have without swapping. @linux mm/show_mem.c:si_mem_available */
export function availablePages(kernel: Kernel): number {
  const { pages } = kernel;
  let low = 0;
  for (const zone of pages.zones) if (zone.present > 0) low += zone.wmarkPages(WMARK_LOW);
  return availableFrom({
    free: pages.nrFreePages(),
    totalReserve: totalreservePages(pages.zones),
    low,
    files: pages.nodeState(NODE_STAT.NR_ACTIVE_FILE) + pages.nodeState(NODE_STAT.NR_INACTIVE_FILE),
    reclaimable: pages.nodeState(NODE_STAT.NR_SLAB_RECLAIMABLE) + pages.nodeState(NODE_STAT.NR_KERNEL_MISC_RECLAIMABLE),
  });
}

/**
 * What is free beyond the reserves, and most of what can be reclaimed: half of it, up to the low watermarks, is left alone.
 *
 * @param figures in pages; `low` is the sum of the low watermarks, boosts included
 * @linux mm/show_mem.c:si_mem_available
 */
export function availableFrom(figures: {
  readonly free: number;
  readonly totalReserve: number;
  readonly low: number;
  readonly files: number;
  readonly reclaimable: number;
}): number {
  const { free, totalReserve, low, files, reclaimable } = figures;
  const most = (pages: number): number => pages - Math.min(Math.floor(pages / 2), low);
  return Math.max(0, free - totalReserve + most(files) + most(reclaimable));
}
