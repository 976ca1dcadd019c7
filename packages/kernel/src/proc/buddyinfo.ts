import { MIGRATE_CMA, MIGRATE_TYPES, MIGRATETYPE_NAMES, NR_PAGE_ORDERS, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES } from '@pagelab/mm-core';
import type { Zone } from '@pagelab/mm-core';
import type { Kernel } from '../kernel.ts';

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

/** `/proc/pagetypeinfo`: the same by migrate type, and pageblocks of each type. @linux mm/vmstat.c:pagetypeinfo_show */
export function pagetypeinfo(kernel: Kernel): string {
  const types: number[] = [];
  // The stock kernels are built without CMA.
  for (let type = 0; type < MIGRATE_TYPES; type++) if (type !== MIGRATE_CMA) types.push(type);
  let text = `Page block order: ${PAGEBLOCK_ORDER}\nPages per block:  ${PAGEBLOCK_PAGES}\n\n`;
  text += `${'Free pages count per migrate type at order'.padEnd(43)} `;
  for (let order = 0; order < NR_PAGE_ORDERS; order++) text += `${String(order).padStart(6)} `;
  text += '\n';
  for (const zone of populated(kernel)) {
    for (const type of types) {
      text += `Node ${String(zone.nid).padStart(4)}, zone ${zone.name.padStart(8)}, type ${MIGRATETYPE_NAMES[type]!.padStart(12)} `;
      for (let order = 0; order < NR_PAGE_ORDERS; order++) {
        text += `${String(zone.allocator.nrFreeBlocks(order, type)).padStart(6)} `;
      }
      text += '\n';
    }
  }
  text += `\n${'Number of blocks type '.padEnd(23)}`;
  for (const type of types) text += `${MIGRATETYPE_NAMES[type]!.padStart(12)} `;
  text += '\n';
  for (const zone of populated(kernel)) {
    const counts = new Float64Array(MIGRATE_TYPES);
    const { blockTypes } = kernel.pages;
    for (let pfn = zone.startPfn; pfn < zone.endPfn; pfn = (Math.floor(pfn / PAGEBLOCK_PAGES) + 1) * PAGEBLOCK_PAGES) {
      if (kernel.ram.isRam(pfn)) counts[blockTypes[Math.floor(pfn / PAGEBLOCK_PAGES)]!]! += 1;
    }
    text += `Node ${zone.nid}, zone ${zone.name.padStart(8)} `;
    for (const type of types) text += `${String(counts[type]).padStart(12)} `;
    text += '\n';
  }
  return text;
}

/** Zones that have memory. */
export function populated(kernel: Kernel): Zone[] {
  return kernel.pages.zones.filter((zone) => zone.present > 0);
}
