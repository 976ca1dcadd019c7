/**
 * What the kernel says of memory when it runs out.
 *
 * @linux mm/show_mem.c:show_free_areas, __show_mem
 */
import { MIGRATE_HIGHATOMIC, MIGRATE_TYPES, NODE_STAT, NR_PAGE_ORDERS, WMARK_HIGH, WMARK_LOW, WMARK_MIN, ZONE_HIGHMEM, ZONE_MOVABLE, ZONE_STAT } from '@pagelab/mm-core';
import type { MemoryNode, NodeMask, Zone } from '@pagelab/mm-core';
import { MAX_RECLAIM_RETRIES } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';
import { pagesToKb } from './proc/proc-file.ts';

/** A letter for each migrate type, by `MIGRATE_…`. @linux mm/show_mem.c:show_migration_types */
const TYPE_LETTERS = 'UMEHCI';

/** Prints it. @param only nodes to tell of; `null` for all */
export function showMem(kernel: Kernel, only: NodeMask | null): void {
  const { log, pages, vm } = kernel;
  const node = (item: number): number => pages.nodeState(item);
  const zones = pages.zones.filter((zone) => zone.present > 0);
  const shown = only === null ? zones : zones.filter(({ nid }) => only.has(nid));
  const perCpu = zones.reduce((sum, zone) => sum + zone.nrPcpPages(), 0);
  log.print('Mem-Info:');
  log.print(`active_anon:${node(NODE_STAT.NR_ACTIVE_ANON)} inactive_anon:${node(NODE_STAT.NR_INACTIVE_ANON)} isolated_anon:${node(NODE_STAT.NR_ISOLATED_ANON)}`);
  log.print(` active_file:${node(NODE_STAT.NR_ACTIVE_FILE)} inactive_file:${node(NODE_STAT.NR_INACTIVE_FILE)} isolated_file:${node(NODE_STAT.NR_ISOLATED_FILE)}`);
  log.print(` unevictable:${node(NODE_STAT.NR_UNEVICTABLE)} dirty:${node(NODE_STAT.NR_FILE_DIRTY)} writeback:${node(NODE_STAT.NR_WRITEBACK)}`);
  log.print(` slab_reclaimable:${node(NODE_STAT.NR_SLAB_RECLAIMABLE)} slab_unreclaimable:${node(NODE_STAT.NR_SLAB_UNRECLAIMABLE)}`);
  log.print(` mapped:${node(NODE_STAT.NR_FILE_MAPPED)} shmem:${node(NODE_STAT.NR_SHMEM)} pagetables:${node(NODE_STAT.NR_PAGETABLE)}`);
  log.print(` sec_pagetables:${node(NODE_STAT.NR_SECONDARY_PAGETABLE)} bounce:0`);
  log.print(` kernel_misc_reclaimable:${node(NODE_STAT.NR_KERNEL_MISC_RECLAIMABLE)}`);
  log.print(` free:${pages.nrFreePages()} free_pcp:${perCpu} free_cma:${pages.zoneState(ZONE_STAT.NR_FREE_CMA_PAGES)}`);
  for (const each of pages.nodes) if (each.present > 0 && only?.has(each.nid) !== false) log.print(nodeLine(kernel, each));
  for (const zone of shown) {
    log.print(zoneLine(kernel, zone));
    log.print(`lowmem_reserve[]: ${[...zone.lowmemReserve].join(' ')}`);
  }
  for (const zone of shown) log.print(blocksLine(zone));
  for (const each of pages.nodes) if (only?.has(each.nid) !== false) showHugepages(kernel, each.nid);
  log.print(`${node(NODE_STAT.NR_FILE_PAGES)} total pagecache pages`);
  log.print(`${node(NODE_STAT.NR_SWAPCACHE)} pages in swap cache`);
  log.print(`Free swap  = ${pagesToKb(vm.swap.nrFree)}kB`);
  log.print(`Total swap = ${pagesToKb(vm.totalSwapPages)}kB`);
  const present = zones.reduce((sum, zone) => sum + zone.present, 0);
  const high = zones.filter(({ kind }) => kind === ZONE_HIGHMEM || kind === ZONE_MOVABLE).reduce((sum, zone) => sum + zone.present, 0);
  log.print(`${present} pages RAM`);
  log.print(`${high} pages HighMem/MovableOnly`);
  log.print(`${present - pages.totalramPages} pages reserved`);
  // The kernels of 32 bits are built without.
  if (kernel.config.arch === 'x86-64') log.print(`${vm.hwpoison.count} pages hwpoisoned`);
}

/** @linux mm/hugetlb.c:hugetlb_show_meminfo_node */
function showHugepages({ log, vm }: Kernel, nid: number): void {
  const { nr, free, surplus } = vm.hugetlb.nodes[nid]!;
  log.print(`Node ${nid} hugepages_total=${nr} hugepages_free=${free.length} hugepages_surp=${surplus} hugepages_size=${vm.tables.pmdSize / 1024}kB`);
}

function nodeLine({ config, vm }: Kernel, { nid, vmStat }: MemoryNode): string {
  // Until 6.1 some have a blank before the number; the last names went and came by release.
  const gap = config.kernel === '6.1' ? ' ' : '';
  const kb = (name: string, item: number): string => `${name}:${pagesToKb(vmStat[item]!)}kB`;
  const given = vm.reclaim.nodes[nid]!.kswapdFailures >= MAX_RECLAIM_RETRIES;
  return [
    `Node ${nid}`,
    kb('active_anon', NODE_STAT.NR_ACTIVE_ANON),
    kb('inactive_anon', NODE_STAT.NR_INACTIVE_ANON),
    kb('active_file', NODE_STAT.NR_ACTIVE_FILE),
    kb('inactive_file', NODE_STAT.NR_INACTIVE_FILE),
    kb('unevictable', NODE_STAT.NR_UNEVICTABLE),
    kb('isolated(anon)', NODE_STAT.NR_ISOLATED_ANON),
    kb('isolated(file)', NODE_STAT.NR_ISOLATED_FILE),
    kb('mapped', NODE_STAT.NR_FILE_MAPPED),
    kb('dirty', NODE_STAT.NR_FILE_DIRTY),
    kb('writeback', NODE_STAT.NR_WRITEBACK),
    kb('shmem', NODE_STAT.NR_SHMEM),
    `shmem_thp:${gap}${pagesToKb(vmStat[NODE_STAT.NR_SHMEM_THPS]!)}kB`,
    `shmem_pmdmapped:${gap}${pagesToKb(vmStat[NODE_STAT.NR_SHMEM_PMDMAPPED]!)}kB`,
    `anon_thp:${gap}${pagesToKb(vmStat[NODE_STAT.NR_ANON_THPS]!)}kB`,
    ...(config.kernel === '6.18' ? [] : ['writeback_tmp:0kB']),
    `kernel_stack:${vmStat[NODE_STAT.NR_KERNEL_STACK_KB]}kB`,
    kb('pagetables', NODE_STAT.NR_PAGETABLE),
    kb('sec_pagetables', NODE_STAT.NR_SECONDARY_PAGETABLE),
    `all_unreclaimable? ${given ? 'yes' : 'no'}`,
    ...(config.kernel === '6.18' ? ['Balloon:0kB'] : []),
  ].join(' ');
}

function zoneLine({ config, smp }: Kernel, zone: Zone): string {
  const isNew = config.kernel === '6.18';
  const kb = (name: string, pages: number): string => `${name}:${pagesToKb(pages)}kB`;
  const state = (name: string, item: number): string => kb(name, zone.state(item));
  return [
    `Node ${zone.nid} ${zone.name}`,
    kb('free', zone.nrFree),
    kb('boost', zone.watermarkBoost),
    kb('min', zone.wmarkPages(WMARK_MIN)),
    kb('low', zone.wmarkPages(WMARK_LOW)),
    kb('high', zone.wmarkPages(WMARK_HIGH)),
    `reserved_highatomic:${pagesToKb(zone.nrReservedHighatomic)}KB`,
    ...(isNew ? [`free_highatomic:${pagesToKb(freeHighatomic(zone))}KB`] : []),
    state('active_anon', ZONE_STAT.NR_ZONE_ACTIVE_ANON),
    state('inactive_anon', ZONE_STAT.NR_ZONE_INACTIVE_ANON),
    state('active_file', ZONE_STAT.NR_ZONE_ACTIVE_FILE),
    state('inactive_file', ZONE_STAT.NR_ZONE_INACTIVE_FILE),
    state('unevictable', ZONE_STAT.NR_ZONE_UNEVICTABLE),
    state('writepending', ZONE_STAT.NR_ZONE_WRITE_PENDING),
    ...(isNew ? [state('zspages', ZONE_STAT.NR_ZSPAGES)] : []),
    kb('present', zone.present),
    kb('managed', zone.managed),
    state('mlocked', ZONE_STAT.NR_MLOCK),
    'bounce:0kB',
    kb('free_pcp', zone.nrPcpPages()),
    `local_pcp:${pagesToKb(zone.pcp[smp.processorId]!.count)}kB`,
    state('free_cma', ZONE_STAT.NR_FREE_CMA_PAGES),
  ].join(' ');
}

/** @linux include/linux/mmzone.h:zone.nr_free_highatomic */
function freeHighatomic({ allocator }: Zone): number {
  let pages = 0;
  for (let order = 0; order < NR_PAGE_ORDERS; order++) pages += allocator.nrFreeBlocks(order, MIGRATE_HIGHATOMIC) * 2 ** order;
  return pages;
}

/** `Node 0 DMA: 2*4kB (UM) 1*8kB (M) … = 864kB` */
function blocksLine(zone: Zone): string {
  let line = `Node ${zone.nid} ${zone.name}: `;
  let total = 0;
  for (let order = 0; order < NR_PAGE_ORDERS; order++) {
    const blocks = zone.nrFreeBlocks(order);
    total += blocks * 2 ** order;
    let letters = '';
    for (let type = 0; type < MIGRATE_TYPES; type++) if (zone.allocator.nrFreeBlocks(order, type) > 0) letters += TYPE_LETTERS[type]!;
    line += `${blocks}*${pagesToKb(2 ** order)}kB ${blocks > 0 ? `(${letters}) ` : ''}`;
  }
  return `${line}= ${pagesToKb(total)}kB`;
}
