/**
 * Moving a page to another frame while it is in use: every entry that shows it, and the file it is cached for, change over.
 *
 *     refcount of a page that can be moved === entries that show it + (cached ? 1 : 0) + 1 for who isolated it
 *
 * Linux puts migration entries in place of those that show the page, so that who touches it meanwhile waits. Here nobody
 * runs meanwhile: an entry goes over in one step, and keeps all that it says of the page but the frame. What CPUs hold of
 * the old frame is flushed once for each batch of pages.
 *
 * @linux mm/migrate.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import { PTE_DIRTY, PTE_HI_FRAME_MASK, PTE_LO_FRAME_MASK, PTE_PS, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import {
  MIGRATE_SYNC,
  MR_NUMA_MISPLACED,
  NODE_STAT,
  PG_ANON,
  PG_BLOCK,
  PG_DIRTY,
  PG_HEAD,
  PG_HUGETLB,
  PG_KSM,
  PG_LOCKED,
  PG_LRU_WAITS,
  PG_MLOCKED,
  PG_OWNED,
  PG_RESERVED,
  PG_SLAB,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TABLE,
  PG_TAIL,
  PG_WRITEBACK,
  VM_EVENT,
  ZONE_STAT,
  blockOrder,
  folioNrPages,
} from '@pagelab/mm-core';
import type { GetNewPage, MigrationOps } from '@pagelab/mm-core';
import { moveFilePmds, unmapFilePmds } from './file-pmd.ts';
import { dissolveFolio } from './folio.ts';
import { copyUserPage } from './highmem.ts';
import { hugeReferences, splitHugePage } from './huge-memory.ts';
import { ksmMigrate } from './ksm.ts';
import { migrateCharge } from './memcg-charge.ts';
import { TAG_DIRTY, folioOrder, setPageDirty } from './page-cache.ts';
import { CPUPID_UNSET, usesAccessTime } from './numa-balancing.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { findLeaf } from './pgtable.ts';
import { pageMappings } from './rmap.ts';
import { moveHugeSwapEntry } from './swap-state.ts';
import { folioAddLru, isolateLru, lruAddDrainAll, putbackLru } from './swap.ts';
import { swpOffset } from './swapops.ts';
import { waitOnWriteback } from './folio-writeback.ts';
import type { Vm } from './vm.ts';

const { PGMIGRATE_SUCCESS, PGMIGRATE_FAIL, THP_MIGRATION_SUCCESS, THP_MIGRATION_FAIL, THP_MIGRATION_SPLIT } = VM_EVENT;

/** Pages whose flushes are made together. @linux mm/migrate.c:NR_MAX_BATCHED_MIGRATION */
const BATCH_PAGES = 512;

/** Flags of the frame itself and not of what it holds. */
const OWN_FLAGS = PG_HEAD | PG_TAIL | PG_OWNED;
/** What of the two words of an entry is not the frame. */
const LO_KEEP = ~PTE_LO_FRAME_MASK;
const HI_KEEP = ~PTE_HI_FRAME_MASK;

/**
 * Takes a page of user space out of use, to be moved: a reference, and off its list. Its head, where it is a compound page.
 *
 * @returns whether it could be: not where nobody has it, nor for what is no page of a process or file
 * @linux mm/folio-compat.c:folio_isolate_lru
 */
export function isolateMovable(vm: Vm, pfn: Pfn): boolean {
  const { flags, mapping, refcount } = vm.frames;
  const pageFlags = flags[pfn];
  if (refcount[pfn] === 0 || (pageFlags & (PG_TAIL | PG_SLAB | PG_TABLE | PG_RESERVED | PG_HUGETLB)) !== 0) return false;
  if (mapping[pfn] === 0 && (pageFlags & (PG_ANON | PG_SWAPCACHE)) === 0) return false;
  if ((pageFlags & PG_LRU_WAITS) !== 0) lruAddDrainAll(vm);
  if (!isolateLru(vm, pfn)) return false;
  if (vm.pmdMapped.size > 0 && vm.pmdMapped.has(pfn)) isolateRest(vm, pfn);
  countIsolated(vm, pfn, 1 << orderOf(vm, pfn));
  return true;
}

/** Takes the other pages of a file's folio, which entries show as one, off their lists, too: it moves as one then. */
function isolateRest(vm: Vm, head: Pfn): void {
  const behind = head + vm.tables.ptrsPerPte;
  lruAddDrainAll(vm);
  for (let pfn = head + 1; pfn < behind; pfn++) {
    if (isolateLru(vm, pfn)) continue;
    for (let undone = head + 1; undone < pfn; undone++) putbackLru(vm, undone);
    return;
  }
  vm.isolatedFolios.add(head);
}

/** Order of what was isolated by its first page. */
function orderOf(vm: Vm, pfn: Pfn): number {
  return vm.isolatedFolios.size > 0 && vm.isolatedFolios.has(pfn) ? vm.tables.hugeOrder : blockOrder(vm.frames, pfn);
}

/** What compaction and isolation move pages by: `PageAllocHooks.migration`. */
export function migrationOps(vm: Vm): MigrationOps {
  return {
    drain: () => lruAddDrainAll(vm),
    isolate: (pfn, compacting) => (compacting !== true || folioOrder(vm, pfn) < vm.tables.hugeOrder) && isolateMovable(vm, pfn),
    putback: (list) => putbackMovablePages(vm, list),
    migrate: (list, getNewPage, mode, reason) => migratePages(vm, list, getNewPage, mode, reason),
  };
}

/** Puts pages back that were isolated and not moved. Empties the list. @linux mm/migrate.c:putback_movable_pages */
export function putbackMovablePages(vm: Vm, list: Pfn[]): void {
  for (const pfn of list) releaseIsolated(vm, pfn, orderOf(vm, pfn));
  list.length = 0;
}

/**
 * Moves isolated pages. Those that are moved leave the list; the others stay in it, isolated still: see
 * {@link putbackMovablePages}.
 *
 * @param list heads of pages that {@link isolateMovable} took; huge ones move whole where there is a block for them, and
 *   are split otherwise
 * @param getNewPage asked once it is clear that the page can be moved
 * @param mode `MIGRATE_…`
 * @param reason `MR_…`
 * @returns how many were not moved; −ENOMEM where frames ran out
 * @linux mm/migrate.c:migrate_pages
 */
export function migratePages(vm: Vm, list: Pfn[], getNewPage: GetNewPage, mode: number, reason: number): number {
  const { events } = vm.pages;
  const work = list.splice(0).reverse();
  let outOfMemory = false;
  let failed = 0;
  let succeeded = 0;
  let inBatch = 0;
  while (work.length > 0 && !outOfMemory) {
    const pfn = work.pop()!;
    const order = orderOf(vm, pfn);
    if (vm.frames.refcount[pfn] === 1) {
      // Everybody else has let go of it.
      releaseIsolated(vm, pfn, order);
      succeeded += 1 << order;
      continue;
    }
    const movable = mayMove(vm, pfn, order, mode);
    const to = movable ? getNewPage(pfn, order) : -1;
    if (to >= 0) {
      if (vm.isolatedFolios.has(pfn)) moveFolio(vm, pfn, to);
      else movePage(vm, pfn, to, order);
      succeeded += 1 << order;
      if (order > 0) events[THP_MIGRATION_SUCCESS]++;
      inBatch += 1 << order;
      if (inBatch >= BATCH_PAGES) {
        vm.smp.flushBatch();
        inBatch = 0;
      }
      continue;
    }
    if (order > 0) events[THP_MIGRATION_FAIL]++;
    // Who used a huge page is not worth splitting it.
    if (movable && order > 0 && reason !== MR_NUMA_MISPLACED) {
      // There may be room for its parts.
      events[THP_MIGRATION_SPLIT]++;
      work.push(...splitIsolated(vm, pfn).reverse());
      continue;
    }
    outOfMemory = movable;
    failed += 1 << order;
    list.push(pfn);
  }
  vm.smp.flushBatch();
  while (work.length > 0) list.push(work.pop()!);
  events[PGMIGRATE_SUCCESS] += succeeded;
  events[PGMIGRATE_FAIL] += failed;
  if (vm.trace.enabled) vm.trace.emit(vm.traceMigratePages, succeeded, failed, mode, reason);
  return outOfMemory ? -Errno.ENOMEM : list.length;
}

/**
 * Whether nobody but page tables, the page's file and who isolated it refers to a page: otherwise it is pinned, or somebody
 * works on it.
 *
 * @linux mm/migrate.c:folio_expected_refs
 */
function mayMove(vm: Vm, pfn: Pfn, order: number, mode: number): boolean {
  if (order > 0 && vm.isolatedFolios.has(pfn)) {
    for (let page = pfn; page < pfn + (1 << order); page++) if (!mayMove(vm, page, 0, mode)) return false;
    return true;
  }
  const { flags, mapcount, mapping, refcount } = vm.frames;
  if ((flags[pfn] & PG_LOCKED) !== 0) return false;
  if ((flags[pfn] & PG_WRITEBACK) !== 0) {
    if (mode !== MIGRATE_SYNC) return false;
    waitOnWriteback(vm, pfn);
  }
  if (order === 0) {
    const cached = (flags[pfn] & PG_ANON) === 0 && mapping[pfn] !== 0 ? 1 : 0;
    const swapCached = (flags[pfn] & PG_SWAPCACHE) !== 0 ? 1 : 0;
    if (refcount[pfn] !== mapcount[pfn] + cached + swapCached + 1) return false;
    return pageMappings(vm, pfn).length === mapcount[pfn];
  }
  return refcount[pfn] === hugeReferences(vm, pfn) + 1;
}

/** @linux mm/migrate.c:migrate_folio_unmap, migrate_folio_move */
function movePage(vm: Vm, from: Pfn, to: Pfn, order: number): void {
  const { mapcount, private: priv, refcount } = vm.frames;
  // One of which not all was isolated moves page by page, and does not lie side by side afterwards.
  if (order === 0 && folioOrder(vm, from) === vm.tables.hugeOrder) unmapFilePmds(vm, from);
  bugOn(refcount[to] !== 1 || blockOrder(vm.frames, to) !== order, 'migrate: the new page is not one');
  const size = 1 << order;
  // Huge entries show all of a huge page, and are found by its head.
  const hugeEntries = order > 0 ? priv[from] : 0;
  for (let i = 0; i < size; i++) {
    if (mapcount[from + i] > (i === 0 ? 0 : hugeEntries)) exchangeEntries(vm, from + i, to + i);
    copyUserPage(vm, to + i, from + i);
  }
  vm.clock.advance(vm.costs.copyPage * size);
  if (vm.memcgs !== null) migrateCharge(vm, from, to);
  countIsolated(vm, from, -size);
  if (order > 0) moveHugeState(vm, from, to);
  for (let i = 0; i < size; i++) movePageState(vm, from + i, to + i);
  if (vm.memcgs !== null) vm.frames.memcg[from] = 0;
  // The references of entries and file go over; that of the allocation goes, and so does the isolation's.
  refcount[to] = refcount[from] - 1;
  refcount[from] = 1;
  vm.pages.putPage(from);
  folioAddLru(vm, to);
}

/** Moves a folio of a file, which entries show as one, into a block; entries that show single pages of it change over, too. */
function moveFolio(vm: Vm, from: Pfn, to: Pfn): void {
  const { flags, mapcount, refcount } = vm.frames;
  const { hugeOrder, ptrsPerPte } = vm.tables;
  vm.isolatedFolios.delete(from);
  // The pages of a file are frames of their own.
  flags[to] = (flags[to] & ~PG_HEAD) | PG_BLOCK;
  vm.pages.splitPage(to, hugeOrder);
  const entries = vm.pmdMapped.get(from) ?? 0;
  if (vm.memcgs !== null) for (let i = 0; i < ptrsPerPte; i++) migrateCharge(vm, from + i, to + i);
  moveFilePmds(vm, from, to);
  countIsolated(vm, from, -ptrsPerPte);
  for (let i = 0; i < ptrsPerPte; i++) {
    if (mapcount[from + i] > entries) exchangeEntries(vm, from + i, to + i);
    copyUserPage(vm, to + i, from + i);
    movePageState(vm, from + i, to + i);
    if (vm.memcgs !== null) vm.frames.memcg[from + i] = 0;
    refcount[to + i] = refcount[from + i] - 1;
    refcount[from + i] = 1;
    vm.pages.putPage(from + i);
    folioAddLru(vm, to + i);
  }
  vm.clock.advance(vm.costs.copyPage * ptrsPerPte);
}

/** Makes every entry that shows one frame show the other, and has it flushed. @linux mm/rmap.c:try_to_migrate_one, mm/migrate.c:remove_migration_pte */
function exchangeEntries(vm: Vm, from: Pfn, to: Pfn): void {
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  for (const { mm, address } of pageMappings(vm, from)) {
    const entry = findLeaf(mm, address);
    // What shows a file's folio as one has changed over.
    if ((i32[entry] & PTE_PS) !== 0 && (vm.frames.flags[from] & PG_ANON) === 0) continue;
    if ((i32[entry] & PTE_DIRTY) !== 0) markDirty(vm, from);
    const hi = entryHi(i32, entry, step);
    setEntry(i32, entry, step, (i32[entry] & LO_KEEP) | pteLo(to, 0), (hi & HI_KEEP) | pteHi(to, 0));
    vm.smp.addToBatch(mm.pgd * PAGE_SIZE);
  }
}

/** @linux mm/page-writeback.c:folio_mark_dirty */
function markDirty(vm: Vm, pfn: Pfn): void {
  if ((vm.frames.flags[pfn] & PG_ANON) !== 0) vm.frames.flags[pfn] |= PG_DIRTY;
  else setPageDirty(vm, pfn);
}

/** All that is known of a frame goes over to another, and its file finds it there. @linux mm/migrate.c:folio_migrate_mapping, folio_migrate_flags */
function movePageState(vm: Vm, from: Pfn, to: Pfn): void {
  const { flags, index, mapcount, mapping, private: priv } = vm.frames;
  const moving = flags[from] & ~OWN_FLAGS;
  if ((moving & PG_KSM) !== 0) ksmMigrate(vm, from, to);
  const file = (moving & PG_ANON) === 0 ? vm.mappings.get(mapping[from]) : undefined;
  countPage(vm, from, moving, file?.pages.getMark(index[from], TAG_DIRTY) === true, -1);
  vm.pages.pageOwner?.copy(from, to);
  flags[to] |= moving;
  flags[from] &= OWN_FLAGS;
  if (vm.numa.lastCpupid !== null) moveCpupid(vm, from, to);
  mapping[to] = mapping[from];
  mapping[from] = 0;
  index[to] = index[from];
  mapcount[to] = mapcount[from];
  if (file !== undefined) {
    file.pages.set(index[to], to);
    priv[to] = priv[from];
    priv[from] = 0;
  }
  if ((moving & PG_SWAPCACHE) !== 0 && (flags[to] & PG_HEAD) === 0) {
    priv[to] = priv[from];
    priv[from] = 0;
    vm.swap.area(priv[to]).cache[swpOffset(priv[to])] = to + 1;
  }
  countPage(vm, to, moving, file?.pages.getMark(index[to], TAG_DIRTY) === true, 1);
  mapcount[from] = 0;
  if ((moving & PG_MLOCKED) === 0) return;
  vm.pages.events[VM_EVENT.UNEVICTABLE_PGMUNLOCKED]++;
  vm.pages.events[VM_EVENT.UNEVICTABLE_PGMLOCKED]++;
}

/** Who used a page last goes with it, unless on one side it is known when, and on the other who. @linux mm/migrate.c:folio_migrate_flags */
function moveCpupid(vm: Vm, from: Pfn, to: Pfn): void {
  const { pages } = vm;
  const lastCpupid = vm.numa.lastCpupid!;
  const alike = usesAccessTime(vm, pages.nodeOf(from)) === usesAccessTime(vm, pages.nodeOf(to));
  lastCpupid[to] = alike ? lastCpupid[from] : CPUPID_UNSET;
  lastCpupid[from] = CPUPID_UNSET;
}

/** Adds a page to the counters of its node and zone, or takes it from them. */
function countPage(vm: Vm, pfn: Pfn, pageFlags: number, dirty: boolean, sign: number): void {
  const { pages } = vm;
  const isAnon = (pageFlags & PG_ANON) !== 0;
  if (vm.frames.mapcount[pfn] > 0) pages.modNodeState(pfn, isAnon ? NODE_STAT.NR_ANON_MAPPED : NODE_STAT.NR_FILE_MAPPED, sign);
  if ((pageFlags & PG_MLOCKED) !== 0) pages.modZoneState(pfn, ZONE_STAT.NR_MLOCK, sign);
  if ((pageFlags & PG_SWAPCACHE) !== 0) {
    const nrPages = sign * folioNrPages(vm.frames, pfn);
    pages.modOnlyNodeState(pfn, NODE_STAT.NR_FILE_PAGES, nrPages);
    pages.modNodeState(pfn, NODE_STAT.NR_SWAPCACHE, nrPages);
  }
  if (isAnon || vm.frames.mapping[pfn] === 0) return;
  pages.modNodeState(pfn, NODE_STAT.NR_FILE_PAGES, sign);
  if ((pageFlags & PG_SWAPBACKED) !== 0) pages.modNodeState(pfn, NODE_STAT.NR_SHMEM, sign);
  if (dirty) pages.modNodeState(pfn, NODE_STAT.NR_FILE_DIRTY, sign);
  if (folioOrder(vm, pfn) !== vm.tables.hugeOrder) return;
  pages.modNodeState(pfn, (pageFlags & PG_SWAPBACKED) !== 0 ? NODE_STAT.NR_SHMEM_THPS : NODE_STAT.NR_FILE_THPS, sign);
}

/** What the frames of a huge page share. */
function moveHugeState(vm: Vm, from: Pfn, to: Pfn): void {
  const { private: priv } = vm.frames;
  for (const at of [0, 2]) {
    priv[to + at] = priv[from + at];
    priv[from + at] = 0;
  }
  if (priv[to] > 0) {
    vm.pages.modNodeState(from, NODE_STAT.NR_ANON_THPS, -vm.tables.ptrsPerPte);
    vm.pages.modNodeState(to, NODE_STAT.NR_ANON_THPS, vm.tables.ptrsPerPte);
  }
  if ((vm.frames.flags[from] & PG_SWAPCACHE) !== 0) moveHugeSwapEntry(vm, from, to, vm.tables.ptrsPerPte);
  vm.deferredSplit.move(from, to);
}

/** Splits an isolated huge page; returns its parts that are in use, isolated each. @linux mm/migrate.c:try_split_folio */
function splitIsolated(vm: Vm, head: Pfn): Pfn[] {
  if (vm.isolatedFolios.delete(head)) {
    const { index, mapping } = vm.frames;
    unmapFilePmds(vm, head);
    dissolveFolio(vm, vm.mappings.get(mapping[head])!, index[head], vm.tables.hugeOrder);
    vm.pages.countEvent(VM_EVENT.THP_SPLIT_PAGE);
    return Array.from({ length: vm.tables.ptrsPerPte }, (_, i) => head + i);
  }
  const { mapcount } = vm.frames;
  const { ptrsPerPte } = vm.tables;
  releaseIsolated(vm, head, blockOrder(vm.frames, head));
  const parts: Pfn[] = [];
  for (let pfn = head; pfn < head + ptrsPerPte; pfn++) if (mapcount[pfn] > 0) parts.push(pfn);
  splitHugePage(vm, head);
  // Parts that held nothing but zeros are gone.
  const inUse = parts.filter((pfn) => mapcount[pfn] > 0);
  for (const pfn of inUse) bugOn(!isolateMovable(vm, pfn), 'migrate: a part of a huge page that is nobody\'s');
  return inUse;
}

/** Puts a page that was isolated back, and counts it so no more. */
function releaseIsolated(vm: Vm, pfn: Pfn, order: number): void {
  countIsolated(vm, pfn, -(1 << order));
  if (vm.isolatedFolios.delete(pfn)) for (let page = pfn + 1; page < pfn + (1 << order); page++) putbackLru(vm, page);
  putbackLru(vm, pfn);
}

/** @linux mm/vmscan.c:isolate_lru_folios */
function countIsolated(vm: Vm, pfn: Pfn, pages: number): void {
  const item = (vm.frames.flags[pfn] & (PG_ANON | PG_SWAPBACKED)) !== 0 ? NODE_STAT.NR_ISOLATED_ANON : NODE_STAT.NR_ISOLATED_FILE;
  vm.pages.modNodeState(pfn, item, pages);
}
