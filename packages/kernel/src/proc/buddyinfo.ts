import { MIGRATE_CMA, MIGRATE_TYPES, MIGRATETYPE_NAMES, NR_PAGE_ORDERS } from '@pagelab/mm-core';
import type { Zone } from '@pagelab/mm-core';
import type { Kernel } from '../kernel.ts';

const SECTION_BYTES = 2 ** 27;

/** `/proc/buddyinfo`: free blocks of each order, by zone. @linux mm/vmstat.c:frag_show */
export function buddyinfo(kernel: Kernel): string {
  let text = '';
  for (const zone of populated(kernel)) {
    text += `Node ${zone.nid}, zone ${zone.name.padStart(8)} `;
    for (let order = 0; order < NR_PAGE_ORDERS; order++) text += `${String(zone.nrFreeBlocks(order)).padStart(6)} `;
    text += '\n';
  }
  return text;
}

/**
 * `/proc/pagetypeinfo`: the same by migrate type, and pageblocks of each type; node after node.
 *
 * @linux mm/vmstat.c:pagetypeinfo_show
 */
export function pagetypeinfo(kernel: Kernel): string {
  const types: number[] = [];
  // The stock kernels are built without CMA: one that was asked for a region is another.
  for (let type = 0; type < MIGRATE_TYPES; type++) if (type !== MIGRATE_CMA || kernel.pages.cmaAreas !== null) types.push(type);
  const { pageblockOrder, pageblockPages } = kernel.pages;
  const sections = sectionsWithMemory(kernel);
  let text = '';
  for (const node of kernel.pages.nodes) {
    const zones = node.zones.filter((zone) => zone.present > 0);
    if (zones.length === 0) continue;
    text += `Page block order: ${pageblockOrder}\nPages per block:  ${pageblockPages}\n\n`;
    text += `${'Free pages count per migrate type at order'.padEnd(43)} `;
    for (let order = 0; order < NR_PAGE_ORDERS; order++) text += `${String(order).padStart(6)} `;
    text += '\n';
    for (const zone of zones) for (const type of types) text += freeBlocksLine(zone, type);
    text += `\n${'Number of blocks type '.padEnd(23)}`;
    for (const type of types) text += `${MIGRATETYPE_NAMES[type]!.padStart(12)} `;
    text += '\n';
    for (const zone of zones) {
      const counts = countBlocks(kernel, zone, sections);
      text += `Node ${zone.nid}, zone ${zone.name.padStart(8)} `;
      for (const type of types) text += `${String(counts[type]).padStart(12)} `;
      text += '\n';
    }
  }
  return text;
}

function freeBlocksLine(zone: Zone, type: number): string {
  let text = `Node ${String(zone.nid).padStart(4)}, zone ${zone.name.padStart(8)}, type ${MIGRATETYPE_NAMES[type]!.padStart(12)} `;
  for (let order = 0; order < NR_PAGE_ORDERS; order++) text += `${String(zone.allocator.nrFreeBlocks(order, type)).padStart(6)} `;
  return `${text}\n`;
}

/** Sections of 128 MiB that hold memory; those of a machine with 32 bits are all described. @linux mm/sparse.c:pfn_to_online_page */
function sectionsWithMemory({ ram, config }: Kernel): Set<number> | null {
  if (config.arch !== 'x86-64') return null;
  const sections = new Set<number>();
  for (const range of ram.map) {
    if (range.type !== 'usable') continue;
    for (let at = Math.floor(range.start / SECTION_BYTES); at * SECTION_BYTES < range.end; at++) sections.add(at);
  }
  return sections;
}

/** Pageblocks of a zone by migrate type, counted from its first frame. @linux mm/vmstat.c:pagetypeinfo_showblockcount_print */
function countBlocks({ pages }: Kernel, zone: Zone, sections: Set<number> | null): Float64Array {
  const counts = new Float64Array(MIGRATE_TYPES);
  for (let pfn = zone.startPfn; pfn < zone.endPfn; pfn += pages.pageblockPages) {
    if (sections !== null && !sections.has(Math.floor((pfn * 4096) / SECTION_BYTES))) continue;
    counts[pages.pageblockType(pfn)]! += 1;
  }
  return counts;
}

/** Zones that have memory. */
export function populated(kernel: Kernel): Zone[] {
  return kernel.pages.zones.filter((zone) => zone.present > 0);
}
