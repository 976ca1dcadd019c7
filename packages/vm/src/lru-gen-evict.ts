/**
 * Eviction: pages of the oldest generation go, those of a protected tier aside.
 *
 * @linux mm/vmscan.c:evict_folios
 */
import type { Pfn } from '@pagelab/hw';
import {
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  PG_ACTIVE,
  PG_ANON,
  PG_DIRTY,
  PG_LRU,
  PG_RECLAIM,
  PG_REFERENCED,
  PG_SWAPCACHE,
  PG_UNEVICTABLE,
  PG_WORKINGSET,
  PG_WRITEBACK,
  VM_EVENT,
  WMARK_HIGH,
  __GFP_IO,
  folioNrPages,
} from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { putbackFolios, takeFolios } from './isolate-folios.ts';
import { LRU_GEN_ANON, LRU_GEN_FILE, MIN_NR_GENS, genOf, genOfLruvec } from './lru-gen.ts';
import type { LruGen } from './lru-gen.ts';
import { evictableMinSeq, isEvictable, tryToIncMaxSeq, tryToIncMinSeq } from './lru-gen-aging.ts';
import type { LruGenContext } from './lru-gen-aging.ts';
import { MAX_NR_TIERS, MIN_LRU_BATCH } from './lru-gen-tiers.ts';
import { countReclaimEvents } from './memcg-events.ts';
import { memcgSwapPages } from './memcg-swap.ts';
import { endSwapWrites } from './page-io.ts';
import { DEF_PRIORITY, MAX_SWAPPINESS } from './scan-control.ts';
import type { ScanControl } from './scan-control.ts';
import { newReclaimStat } from './shrink-folio-list.ts';
import { folioEvictable, lruAddDrain } from './swap.ts';
import type { Vm } from './vm.ts';
import { wakeFlushers } from './wake-flushers.ts';

/** Pages that are looked at together at most. @linux include/linux/mmzone.h:MAX_LRU_BATCH */
const MAX_LRU_BATCH = MIN_LRU_BATCH * 64;

/** What one call of eviction has met beside what it took. */
export interface EvictRun {
  /** Pages of files, and dirty ones among them that nobody writes yet. @linux mm/vmscan.c:scan_control.nr */
  fileTaken: number;
  unqueuedDirty: number;
  /** Dirty ones of files that were met. */
  readonly dirty: Pfn[];
}

export function newEvictRun(): EvictRun {
  return { fileTaken: 0, unqueuedDirty: 0, dirty: [] };
}

/** How far anonymous memory is taken: not where there is next to nowhere to put it. @linux mm/vmscan.c:get_swappiness */
export function swappinessFor(vm: Vm, lruvec: Lruvec, sc: ScanControl): number {
  if (!sc.maySwap || ((sc.memcg === null ? vm.swap.nrFree : memcgSwapPages(vm, sc.memcg)) < MIN_LRU_BATCH && vm.tiers.nextDemotionNode(lruvec.nid) < 0)) return 0;
  return sc.swappiness >= 0 ? sc.swappiness : vm.sysctl.swappiness;
}

/** Takes pages of one lruvec. @linux mm/vmscan.c:lru_gen_shrink_node, try_to_shrink_lruvec */
export function shrinkGenerations(context: LruGenContext, lruvec: Lruvec, sc: ScanControl): void {
  const { vm } = context;
  if (!sc.mayWritepage || !sc.mayUnmap) return;
  lruAddDrain(vm);
  setInitialPriority(vm, lruvec, sc);
  const swappiness = swappinessFor(vm, lruvec, sc);
  const run = newEvictRun();
  let scanned = 0;
  for (;;) {
    const nrToScan = nrToScanOf(context, lruvec, sc, swappiness);
    if (nrToScan <= 0) break;
    const written = sc.nrWritten;
    const delta = evict(context, lruvec, sc, swappiness, nrToScan, run);
    if (delta === 0) break;
    // Where pages have to be written first, kswapd waits for the device.
    if (sc.isKswapd && sc.nrWritten > written) {
      sc.isCutShort = true;
      break;
    }
    scanned += delta;
    if (scanned >= nrToScan || shouldAbortScan(vm, lruvec, sc)) break;
  }
  if (run.unqueuedDirty > 0 && run.unqueuedDirty === run.fileTaken) wakeFlushers(vm, run.dirty);
}

/**
 * The first look at a large node is at so much that it may suffice.
 *
 * @linux mm/vmscan.c:set_initial_priority
 */
function setInitialPriority(vm: Vm, lruvec: Lruvec, sc: ScanControl): void {
  if (sc.priority !== DEF_PRIORITY || sc.nrToReclaim < MIN_LRU_BATCH) return;
  const { lru } = vm.pages;
  let reclaimable = lru.size(lruvec.nid, LRU_INACTIVE_FILE);
  if (vm.swap.nrFree > 0) reclaimable += lru.size(lruvec.nid, LRU_INACTIVE_ANON);
  const priority = fls(reclaimable) - 1 - fls(sc.nrToReclaim - 1);
  sc.priority = Math.min(Math.max(priority, DEF_PRIORITY / 2), DEF_PRIORITY);
}

function fls(value: number): number {
  return value < 1 ? 0 : Math.floor(Math.log2(value)) + 1;
}

/**
 * Pages to look at; makes a generation where the old ones run out.
 *
 * @returns −1 where that was so
 * @linux mm/vmscan.c:get_nr_to_scan
 */
function nrToScanOf(context: LruGenContext, lruvec: Lruvec, sc: ScanControl, swappiness: number): number {
  const lrugen = genOfLruvec(lruvec);
  const { maxSeq, minSeq } = lrugen;
  const oldest = evictableMinSeq(lrugen, swappiness);
  let [size, young, old] = [0, 0, 0];
  if (oldest + MIN_NR_GENS <= maxSeq) {
    for (const type of [LRU_GEN_ANON, LRU_GEN_FILE]) {
      if (!isEvictable(type, swappiness)) continue;
      for (let seq = minSeq[type]; seq <= maxSeq; seq++) {
        const pages = lrugen.size(seq, type);
        size += pages;
        if (seq === maxSeq) young += pages;
        else if (seq + MIN_NR_GENS === maxSeq) old += pages;
      }
    }
  }
  // What a removed group has left goes first.
  if (size > 0 && sc.memcg?.online === false) return size;
  let ages = oldest + MIN_NR_GENS >= maxSeq;
  // Before 6.14 only where the young ones are many, or the old ones few.
  if (context.lists.beforeRework && oldest + MIN_NR_GENS === maxSeq) ages = young * MIN_NR_GENS > size || old * (MIN_NR_GENS + 2) < size;
  if (!ages || (sc.priority === DEF_PRIORITY && size > 0)) return Math.floor(size / 2 ** sc.priority);
  return tryToIncMaxSeq(context, lruvec, maxSeq, swappiness, false) ? -1 : 0;
}

/** Whether there is enough: for kswapd, in every zone. @linux mm/vmscan.c:should_abort_scan */
function shouldAbortScan(vm: Vm, lruvec: Lruvec, sc: ScanControl): boolean {
  if (sc.nrReclaimed >= Math.max(sc.nrToReclaim, sc.order > 0 ? 2 << sc.order : 0)) return true;
  if (!sc.isKswapd || sc.order > 0) return false;
  for (const zone of vm.pages.nodes[lruvec.nid].zones) {
    if (zone.index > sc.reclaimIdx || zone.managed === 0) continue;
    if (!zone.watermarkOk(0, zone.wmarkPages(WMARK_HIGH) + MIN_LRU_BATCH, sc.reclaimIdx, 0, zone.nrFree)) return false;
  }
  return true;
}

/**
 * Takes a batch of pages.
 *
 * @returns pages looked at, 0 where that leads nowhere
 * @linux mm/vmscan.c:evict_folios
 */
export function evict(context: LruGenContext, lruvec: Lruvec, sc: ScanControl, swappiness: number, nrToScan: number, run: EvictRun): number {
  const { vm } = context;
  const lrugen = genOfLruvec(lruvec);
  const list: Pfn[] = [];
  const { beforeRework } = context.lists;
  let { type, lastTier } = beforeRework ? typeBefore(lrugen, sc, swappiness) : { type: lrugen.tiers.typeToScan(swappiness), lastTier: -1 };
  let scanned = 0;
  for (let tries = 0; tries < 2; tries++) {
    if (lastTier < 0) lastTier = lrugen.tiers.lastEvictable(type, beforeRework);
    if (isEvictable(type, swappiness)) scanned = scan(context, lruvec, sc, type, lastTier, nrToScan, list, run);
    if (scanned > 0) break;
    lastTier = -1;
    type = type === LRU_GEN_ANON ? LRU_GEN_FILE : LRU_GEN_ANON;
  }
  if (tryToIncMinSeq(context, lruvec, swappiness)) scanned++;
  if (evictableMinSeq(lrugen, swappiness) + MIN_NR_GENS > lrugen.maxSeq) scanned = 0;
  if (list.length === 0) return scanned;
  const pending: Pfn[] = [];
  const stat = newReclaimStat();
  sc.nrReclaimed += takeFolios(vm, lruvec, sc, list, type, stat, pending);
  run.unqueuedDirty += stat.nrUnqueuedDirty;
  // What was refused does not come back to the oldest generation.
  const { flags } = vm.frames;
  for (const pfn of list) {
    if (beforeRework) {
      refuseBefore(context, pfn);
      continue;
    }
    if (!folioEvictable(flags[pfn]) || context.lists.seqFor(lruvec, pfn, false) !== lrugen.minSeq[type]) continue;
    flags[pfn] = (flags[pfn] & ~PG_REFERENCED) | PG_ACTIVE;
  }
  putbackFolios(vm, list);
  endSwapWrites(vm, pending);
  return scanned;
}

/**
 * The kind to take first before 6.14: the one with the older generation, unless swappiness decides; and the last tier of it,
 * −1 where that is open.
 *
 * @linux mm/vmscan.c:isolate_folios
 */
function typeBefore({ minSeq, tiers }: LruGen, sc: ScanControl, swappiness: number): { type: 0 | 1; lastTier: number } {
  if (swappiness === 0) return { type: LRU_GEN_FILE, lastTier: -1 };
  if (minSeq[LRU_GEN_ANON] < minSeq[LRU_GEN_FILE]) return { type: LRU_GEN_ANON, lastTier: -1 };
  if (swappiness === 1) return { type: LRU_GEN_FILE, lastTier: -1 };
  if (swappiness >= MAX_SWAPPINESS) return { type: LRU_GEN_ANON, lastTier: -1 };
  if ((sc.gfp & __GFP_IO) === 0) return { type: LRU_GEN_FILE, lastTier: -1 };
  return tiers.typeAndTier(swappiness);
}

/** Before 6.14 what was refused goes to the youngest generation, but for what is on its way to a device. */
function refuseBefore({ vm, lists }: LruGenContext, pfn: Pfn): void {
  const { flags } = vm.frames;
  if (!folioEvictable(flags[pfn])) return;
  if ((flags[pfn] & PG_RECLAIM) !== 0 && (flags[pfn] & (PG_DIRTY | PG_WRITEBACK)) !== 0) {
    if ((flags[pfn] & PG_WORKINGSET) !== 0) flags[pfn] |= PG_REFERENCED;
    return;
  }
  lists.setRefs(pfn, 0);
  flags[pfn] = (flags[pfn] & ~(PG_REFERENCED | PG_WORKINGSET)) | PG_ACTIVE;
}

/**
 * Goes through the oldest generation of a kind from its end, and isolates what may go.
 *
 * @param list gets the frames
 * @returns pages looked at, 0 where none was isolated and there are no more
 * @linux mm/vmscan.c:scan_folios
 */
function scan(context: LruGenContext, lruvec: Lruvec, sc: ScanControl, type: 0 | 1, lastTier: number, nrToScan: number, list: Pfn[], run: EvictRun): number {
  const { vm } = context;
  const { events } = vm.pages;
  const lrugen = genOfLruvec(lruvec);
  if (lrugen.nrGens(type) === MIN_NR_GENS) return 0;
  const { lists } = vm.frames;
  const gen = genOf(lrugen.minSeq[type]);
  let remaining = context.lists.beforeRework ? MAX_LRU_BATCH : Math.min(nrToScan, MAX_LRU_BATCH);
  let [scanned, sorted, isolated] = [0, 0, 0];
  for (let i = lrugen.nrZones; i > 0 && remaining > 0 && isolated < MIN_LRU_BATCH; i--) {
    const zone = (Math.min(sc.reclaimIdx, lrugen.nrZones - 1) + i) % lrugen.nrZones;
    const head = lrugen.heads + lrugen.at(gen, type, zone);
    const moved: Pfn[] = [];
    let skipped = 0;
    for (let pfn = lists.last(head); pfn !== 0; pfn = lists.last(head)) {
      const nrPages = folioNrPages(vm.frames, pfn);
      scanned += nrPages;
      if (sort(context, lruvec, sc, pfn, type, zone, lastTier, run)) sorted += nrPages;
      else if (isolate(context, lruvec, sc, pfn, gen)) {
        list.push(pfn);
        isolated += nrPages;
      } else {
        lists.remove(pfn);
        moved.push(pfn);
        skipped += nrPages;
      }
      if (--remaining <= 0 || Math.max(isolated, skipped) >= MIN_LRU_BATCH) break;
    }
    for (const pfn of moved) lists.pushFront(head, pfn);
  }
  countReclaimEvents(vm, sc, VM_EVENT.PGREFILL, sorted);
  countReclaimEvents(vm, sc, VM_EVENT.PGSCAN_KSWAPD + sc.reclaimer, isolated);
  events[VM_EVENT.PGSCAN_ANON + type] += isolated;
  sc.nrScanned += isolated;
  if (type === LRU_GEN_FILE) run.fileTaken += isolated;
  return isolated > 0 || remaining <= 0 ? scanned : 0;
}

/**
 * Puts a page that is not to go where it belongs.
 *
 * @returns whether it was one
 * @linux mm/vmscan.c:sort_folio
 */
function sort(
  { vm, lists }: LruGenContext,
  lruvec: Lruvec,
  sc: ScanControl,
  pfn: Pfn,
  type: 0 | 1,
  zone: number,
  lastTier: number,
  run: EvictRun,
): boolean {
  const { frames } = vm;
  const { lru } = vm.pages;
  const flags = frames.flags[pfn];
  const lrugen = genOfLruvec(lruvec);
  const nrPages = folioNrPages(frames, pfn);
  if (!folioEvictable(flags)) {
    lru.del(pfn);
    frames.flags[pfn] = (frames.flags[pfn] & ~PG_ACTIVE) | PG_UNEVICTABLE;
    lru.add(pfn);
    vm.pages.countEvent(VM_EVENT.UNEVICTABLE_PGCULLED, nrPages);
    return true;
  }
  // It was found in use since it was put here.
  const gen = lists.folioGen(pfn);
  if (gen !== genOf(lrugen.minSeq[type])) {
    frames.lists.moveTo(lists.row(lruvec, pfn, gen), pfn);
    return true;
  }
  const { beforeRework } = lists;
  const tier = lists.tier(pfn);
  const isSaturated = lists.isSaturated(pfn);
  if (tier > lastTier || isSaturated) {
    const row = lists.row(lruvec, pfn, lists.incGen(lruvec, pfn, type, false));
    if (beforeRework) frames.lists.moveToBack(row, pfn);
    else frames.lists.moveTo(row, pfn);
    if (beforeRework || !isSaturated) lrugen.tiers.protected[type * MAX_NR_TIERS + tier] += nrPages;
    return true;
  }
  if (zone > sc.reclaimIdx) {
    frames.lists.moveToBack(lists.row(lruvec, pfn, lists.incGen(lruvec, pfn, type, false)), pfn);
    return true;
  }
  const isDirtyFile = type === LRU_GEN_FILE && (flags & PG_DIRTY) !== 0;
  if (isDirtyFile) {
    run.fileTaken += nrPages;
    if ((flags & PG_WRITEBACK) === 0) run.unqueuedDirty += nrPages;
    run.dirty.push(pfn);
  }
  if (isDirtyFile || (flags & PG_WRITEBACK) !== 0) {
    frames.lists.moveTo(lists.row(lruvec, pfn, lists.incGen(lruvec, pfn, type, true)), pfn);
    return true;
  }
  return false;
}

/** Takes a page off its list, with a reference; not one that could not be written. @linux mm/vmscan.c:isolate_folio */
function isolate({ vm, lists }: LruGenContext, lruvec: Lruvec, sc: ScanControl, pfn: Pfn, gen: number): boolean {
  const { flags, refcount } = vm.frames;
  const before = flags[pfn];
  if ((sc.gfp & __GFP_IO) === 0 && ((before & PG_DIRTY) !== 0 || (before & (PG_ANON | PG_SWAPCACHE)) === PG_ANON)) return false;
  if ((before & PG_REFERENCED) === 0) lists.setRefs(pfn, 0);
  if (lists.beforeRework) flags[pfn] &= (before & PG_REFERENCED) === 0 ? ~PG_WORKINGSET : ~PG_REFERENCED;
  lists.takeOff(lruvec, pfn, gen);
  vm.frames.lists.remove(pfn);
  flags[pfn] &= ~(PG_LRU | PG_RECLAIM);
  refcount[pfn]++;
  return true;
}
