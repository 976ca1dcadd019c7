/**
 * Events that count for the machine and for the group of a page or of a reclaim.
 *
 * @linux include/linux/memcontrol.h:count_memcg_folio_events
 */
import type { Pfn } from '@pagelab/hw';
import { PG_MEMCG } from '@pagelab/mm-core';
import type { ScanControl } from './scan-control.ts';
import type { Vm } from './vm.ts';

/** Counts an event (VM_EVENT) of a page, by its head. */
export function countFolioEvents(vm: Vm, pfn: Pfn, event: number, times: number): void {
  vm.pages.events[event] += times;
  if (vm.memcgs !== null && (vm.frames.flags[pfn] & PG_MEMCG) !== 0) vm.memcgs.groupOf(pfn).vmEvents[event] += times;
}

/** Counts an event of reclaim: for the group that is looked at, and for the machine unless it is only a group's limit that it is for. */
export function countReclaimEvents(vm: Vm, sc: ScanControl, event: number, times: number): void {
  if (sc.target === null) vm.pages.events[event] += times;
  if (sc.memcg !== null) sc.memcg.vmEvents[event] += times;
}
