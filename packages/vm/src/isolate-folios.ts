/**
 * What every reclaim policy does with the pages that it has chosen: take them off their list, have them taken away, and put
 * back what stays.
 *
 * @linux mm/vmscan.c:isolate_lru_folios, shrink_inactive_list, move_folios_to_lru
 */
import type { Pfn } from '@pagelab/hw';
import { NODE_STAT, PG_LRU, PG_UNEVICTABLE, VM_EVENT, folioNrPages } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { countReclaimEvents } from './memcg-events.ts';
import { endSwapWrites } from './page-io.ts';
import type { ScanControl } from './scan-control.ts';
import { shrinkFolioList } from './shrink-folio-list.ts';
import type { ReclaimStat } from './shrink-folio-list.ts';
import { folioAddLru, folioEvictable } from './swap.ts';
import type { Vm } from './vm.ts';
import { wakeFlushers } from './wake-flushers.ts';

/**
 * Takes a page off its list, with a reference. What a policy names is looked at first: a page that is on none of this
 * lruvec's lists, or in none of the zones that help, is refused.
 *
 * @returns whether it is isolated now
 */
export function isolateFolio(vm: Vm, lruvec: Lruvec, sc: ScanControl, pfn: Pfn): boolean {
  const { flags, refcount } = vm.frames;
  const { lru } = vm.pages;
  if ((flags[pfn] & (PG_LRU | PG_UNEVICTABLE)) !== PG_LRU || refcount[pfn] === 0) return false;
  if (lru.lruvecOf(pfn) !== lruvec || vm.pages.zoneOf(pfn)!.index > sc.reclaimIdx) return false;
  lru.del(pfn);
  flags[pfn] &= ~PG_LRU;
  refcount[pfn]++;
  return true;
}

/**
 * Takes up to `nrToScan` pages off the end of a list.
 *
 * @param head row of the list's head
 * @param list gets the frames
 * @returns pages looked at
 * @linux mm/vmscan.c:isolate_lru_folios
 */
export function isolateFolios(vm: Vm, sc: ScanControl, head: number, nrToScan: number, list: Pfn[]): number {
  const { flags, lists, mapcount, refcount } = vm.frames;
  const skipped: Pfn[] = [];
  let scanned = 0;
  while (scanned < nrToScan) {
    const pfn = lists.last(head);
    if (pfn === 0) break;
    if (vm.pages.zoneOf(pfn)!.index > sc.reclaimIdx) {
      lists.remove(pfn);
      skipped.push(pfn);
      if (skipped.length > nrToScan * 4) break;
      continue;
    }
    scanned += folioNrPages(vm.frames, pfn);
    if (!sc.mayUnmap && mapcount[pfn] > 0) {
      lists.moveTo(head, pfn);
      continue;
    }
    vm.pages.lru.del(pfn);
    flags[pfn] &= ~PG_LRU;
    refcount[pfn]++;
    list.push(pfn);
  }
  for (const pfn of skipped) lists.pushFront(head, pfn);
  return scanned;
}

/** Puts pages back where their flags tell now, and drops the references. @linux mm/vmscan.c:move_folios_to_lru */
export function putbackFolios(vm: Vm, list: readonly Pfn[]): void {
  const { flags } = vm.frames;
  for (const pfn of list) {
    if (!folioEvictable(flags[pfn])) {
      folioAddLru(vm, pfn);
    } else {
      flags[pfn] |= PG_LRU;
      vm.pages.lru.add(pfn);
    }
    vm.pages.putPage(pfn);
  }
}

/**
 * Takes isolated pages of one kind away as far as that goes, and counts what went.
 *
 * @param list frames; on return those that stay, isolated still
 * @param pending gets the pages whose writing began: `endSwapWrites` once the list was put back
 * @returns pages freed
 */
export function takeFolios(vm: Vm, lruvec: Lruvec, sc: ScanControl, list: Pfn[], file: 0 | 1, stat: ReclaimStat, pending: Pfn[]): number {
  const { events, nodes } = vm.pages;
  const { vmStat } = nodes[lruvec.nid];
  const taken = list.length;
  vmStat[NODE_STAT.NR_ISOLATED_ANON + file] += taken;
  const reclaimed = shrinkFolioList(vm, list, sc, stat, pending, true);
  sc.nrWritten += stat.nrPageout;
  vmStat[NODE_STAT.NR_ISOLATED_ANON + file] -= taken;
  countReclaimEvents(vm, sc, VM_EVENT.PGSTEAL_KSWAPD + sc.reclaimer, reclaimed);
  events[VM_EVENT.PGSTEAL_ANON + file] += reclaimed;
  return reclaimed;
}

/**
 * Takes isolated pages of one kind away as far as that goes, puts the others back, and counts both.
 *
 * @param list frames; on return those that were put back
 * @param file 1 for pages of files, 0 for anonymous ones
 * @param scanned pages that were looked at for these
 * @param stat what became of them
 * @returns pages freed
 * @linux mm/vmscan.c:shrink_inactive_list
 */
export function evictFolios(vm: Vm, lruvec: Lruvec, sc: ScanControl, list: Pfn[], file: 0 | 1, scanned: number, stat: ReclaimStat): number {
  const { events } = vm.pages;
  const taken = list.length;
  countReclaimEvents(vm, sc, VM_EVENT.PGSCAN_KSWAPD + sc.reclaimer, scanned);
  events[VM_EVENT.PGSCAN_ANON + file] += scanned;
  sc.nrScanned += scanned;
  if (taken === 0) return 0;
  const pending: Pfn[] = [];
  const reclaimed = takeFolios(vm, lruvec, sc, list, file, stat, pending);
  putbackFolios(vm, list);
  endSwapWrites(vm, pending);
  if (stat.nrUnqueuedDirty > 0 && stat.nrUnqueuedDirty === taken) wakeFlushers(vm, list);
  return reclaimed;
}
