import { VM_EVENT } from '@pagelab/mm-core';
import { dirtyLimits } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { hasStat, nodeStatShown, nodeStats, vmEvents, zoneStats } from './stat-names.ts';

/** `/proc/vmstat`: counters of all zones, then of all nodes, then events since boot. @linux mm/vmstat.c:vmstat_show */
export function vmstat(kernel: Kernel): string {
  const { pages, config } = kernel;
  const release = config.kernel;
  let text = '';
  const line = (name: string, value: number): void => {
    text += `${name} ${value}\n`;
  };
  for (const { name, item } of zoneStats(release, config.arch)) line(name, item < 0 ? 0 : pages.zoneState(item));
  for (const { name, item } of nodeStats(release, config.arch)) {
    line(name, item < 0 ? 0 : nodeStatShown(item, pages.nodeState(item)));
  }
  const { limit, background } = dirtyLimits(kernel.vm);
  line('nr_dirty_threshold', limit);
  line('nr_dirty_background_threshold', background);
  if (hasStat(release, 'nr_memmap_pages')) {
    line('nr_memmap_pages', 0);
    line('nr_memmap_boot_pages', Math.ceil(pages.memmapBytes().linux / 4096));
  }
  for (const { name, item } of vmEvents(release, config.arch)) {
    line(name, item < 0 ? 0 : pages.events[item]!);
    if (item !== VM_EVENT.HTLB_BUDDY_ALLOC_FAIL || pages.cmaAreas === null) continue;
    line('cma_alloc_success', pages.events[VM_EVENT.CMA_ALLOC_SUCCESS]!);
    line('cma_alloc_fail', pages.events[VM_EVENT.CMA_ALLOC_FAIL]!);
  }
  line('nr_unstable', 0);
  return text;
}
