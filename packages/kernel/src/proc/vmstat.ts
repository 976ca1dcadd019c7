import { NODE_STAT_NAMES, VM_EVENT, VM_EVENT_NAMES, ZONE_STAT_NAMES } from '@pagelab/mm-core';
import type { Kernel } from '../kernel.ts';

/** `/proc/vmstat`: counters of all zones, then of all nodes, then events since boot. @linux mm/vmstat.c:vmstat_show */
export function vmstat(kernel: Kernel): string {
  const { pages } = kernel;
  let text = '';
  const line = (name: string, value: number): void => {
    text += `${name} ${value}\n`;
  };
  ZONE_STAT_NAMES.forEach((name, item) => line(name, pages.zoneState(item)));
  NODE_STAT_NAMES.forEach((name, item) => line(name, pages.nodeState(item)));
  // Nothing is ever written back, so nothing is limited.
  line('nr_dirty_threshold', 0);
  line('nr_dirty_background_threshold', 0);
  line('nr_memmap_pages', 0);
  line('nr_memmap_boot_pages', Math.ceil(pages.memmapBytes().linux / 4096));
  VM_EVENT_NAMES.forEach((name, event) => {
    if (event < VM_EVENT.PGALLOC_HIGH) line(name, pages.events[event]!);
  });
  line('nr_unstable', 0);
  return text;
}
