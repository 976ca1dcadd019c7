/**
 * Kernel samepage merging: pages of the same contents, in memory that asks for it, become one, written to by nobody; who
 * writes gets a copy.
 *
 * Pages that are shared are in the *stable* tree, ordered by what they hold, which cannot change. Pages seen once whose
 * contents did not change since the last look are in the *unstable* tree, ordered by what they held then: it may be out of
 * order, and is thrown away at the end of each pass.
 *
 *     pagesShared  === pages in the stable tree that somebody has
 *     pagesSharing === who has them, beyond one each
 *     pagesUnshared === pages in the unstable tree
 *     zeroPages    === entries that show the zero page and are dirty: with `use_zero_pages`, what was a page of zeros
 *     frames.mapping[pfn] === id of the page's place in the stable tree, with PG_KSM
 *
 * @linux mm/ksm.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { IdTable, RbTree } from '@pagelab/lib';
import type { RbNode } from '@pagelab/lib';
import { GFP_KERNEL, PG_ANON, PG_KSM } from '@pagelab/mm-core';
import type { AnonVma } from './anon-vma.ts';
import { isZeroPage } from './deferred-split.ts';
import { breakKsm, isKsmZeroAt, makeKsmPage, mergePage, mergeZeroPage, mergeablePage } from './ksm-page.ts';
import type { MmStruct } from './mm-struct.ts';
import { linearPageIndex } from './rmap.ts';
import type { Vm } from './vm.ts';
import { VM_HUGETLB, VM_MAYSHARE, VM_MERGEABLE, VM_SHARED, VM_SPECIAL } from './vma.ts';
import type { VmArea } from './vma.ts';

/** A page of an address space as KSM keeps track of it. @linux mm/ksm.c:ksm_rmap_item */
export interface KsmItem {
  readonly mm: MmStruct;
  readonly address: VirtAddr;
  checksum: number;
  /** Passes in which it was looked at, and in which it may still be passed over. */
  age: number;
  skips: number;
  /** Its place among the pages seen once, of pass `unstablePass`. */
  unstable: RbNode<KsmItem> | null;
  unstablePass: number;
  /** The shared page that it shows, and by which anon_vma others of its family are found. */
  shared: KsmPage | null;
  anonVma: AnonVma | null;
  readonly object: VirtAddr;
}

/** A shared page. @linux mm/ksm.c:ksm_stable_node */
export interface KsmPage {
  readonly id: number;
  pfn: Pfn;
  readonly nid: number;
  node: RbNode<KsmPage[]> | null;
  readonly items: Set<KsmItem>;
  readonly object: VirtAddr;
}

/** An address space with memory that may be merged. @linux mm/ksm.c:ksm_mm_slot */
interface KsmSlot {
  readonly mm: MmStruct;
  /** By ascending address. */
  readonly items: KsmItem[];
  readonly object: VirtAddr;
}

/** Age from which a page is passed over now and then. @linux mm/ksm.c:should_skip_rmap_item */
const YOUNG = 3;
const MAX_AGE = 255;

/** All of KSM's state, and what `/sys/kernel/mm/ksm` sets and counts. */
export class Ksm {
  /** 0 stands still, 1 scans, 2 has undone everything. */
  run = 0;
  pagesToScan = 100;
  sleepMs = 20;
  mergeAcrossNodes = 1;
  /** Who may share one page; more get another. */
  maxPageSharing = 256;
  /** Whether pages that never merge are looked at less and less. */
  smartScan = 1;
  /** Whether pages of zeros become the zero page; and how many entries show it for that. */
  useZeroPages = 0;
  zeroPages = 0;
  pagesShared = 0;
  pagesSharing = 0;
  pagesUnshared = 0;
  pagesScanned = 0;
  pagesSkipped = 0;
  fullScans = 0;
  readonly slots: KsmSlot[] = [];
  /** By node; one for all where pages are merged across nodes. A place has several pages where one would be shared too often. */
  readonly stable: RbTree<KsmPage[]>[];
  readonly unstable: RbTree<KsmItem>[];
  readonly pages = new IdTable<KsmPage>(1);
  /** Where the scan goes on: slot, address, and the next of its items. */
  slot = 0;
  address: VirtAddr = 0;
  next = 0;
  /** Whether a pass is under way. */
  inPass = false;
  /** Address spaces that were forgotten: getting memory may come to that, since somebody is killed for it. */
  exits = 0;

  constructor(nrNodes: number) {
    this.stable = Array.from({ length: nrNodes }, () => new RbTree<KsmPage[]>());
    this.unstable = Array.from({ length: nrNodes }, () => new RbTree<KsmItem>());
  }

  /** Pages that are kept track of. */
  get nrItems(): number {
    return this.slots.reduce((sum, slot) => sum + slot.items.length, 0);
  }

  /** Places of the stable tree with more pages than one: how many they have. */
  chains(): number[] {
    const found: number[] = [];
    for (const tree of this.stable) tree.forEach((pages) => void (pages.length > 1 && found.push(pages.length)));
    return found;
  }

  /** Pages that are kept track of and in neither tree. */
  get pagesVolatile(): number {
    return Math.max(0, this.nrItems - this.pagesShared - this.pagesSharing - this.pagesUnshared);
  }
}

/** Keeps track of an address space from now on. @returns false without memory @linux mm/ksm.c:__ksm_enter */
export function ksmEnter(mm: MmStruct): boolean {
  const { ksm, caches } = mm.vm;
  if (mm.mergeable) return true;
  const object = caches.ksmMmSlot.alloc(GFP_KERNEL);
  if (object === 0) return false;
  mm.mergeable = true;
  ksm.slots.push({ mm, items: [], object });
  return true;
}

/** Whether pages of a mapping may be merged at all. @linux mm/ksm.c:ksm_compatible */
function isCompatible({ flags, droppable }: { readonly flags: number; readonly droppable: boolean }): boolean {
  return (flags & (VM_SHARED | VM_MAYSHARE | VM_SPECIAL | VM_HUGETLB)) === 0 && !droppable;
}

/** The flags of a new mapping in an address space all of whose memory may be merged. @linux mm/ksm.c:ksm_vma_flags */
export function ksmVmaFlags(mm: MmStruct, flags: number, droppable: boolean): number {
  return mm.mergeAny && isCompatible({ flags, droppable }) ? flags | VM_MERGEABLE : flags;
}

/** All memory of an address space may be merged from now on. @returns 0, or −ENOMEM @linux mm/ksm.c:ksm_enable_merge_any */
export function ksmEnableMergeAny(mm: MmStruct): number {
  if (mm.mergeAny) return 0;
  if (!ksmEnter(mm)) return -Errno.ENOMEM;
  mm.mergeAny = true;
  for (const vma of mm.vmas) if (isCompatible(vma)) vma.flags |= VM_MERGEABLE;
  return 0;
}

/** None of it may, and what was merged is not any more. @returns 0, or −ENOMEM @linux mm/ksm.c:ksm_disable_merge_any */
export function ksmDisableMergeAny(mm: MmStruct): number {
  if (!mm.mergeAny) return 0;
  for (const vma of mm.vmas) {
    if ((vma.flags & VM_MERGEABLE) === 0) continue;
    const error = ksmUnmerge(mm, vma.start, vma.end);
    if (error !== 0) {
      for (const other of mm.vmas) if (isCompatible(other)) other.flags |= VM_MERGEABLE;
      return error;
    }
    vma.flags &= ~VM_MERGEABLE;
  }
  mm.mergeAny = false;
  return 0;
}

/** Forgets an address space that goes. @linux mm/ksm.c:__ksm_exit */
export function ksmExit(mm: MmStruct): void {
  const { vm } = mm;
  const { ksm } = vm;
  const at = ksm.slots.findIndex((slot) => slot.mm === mm);
  ksm.exits++;
  mm.mergeable = false;
  if (at < 0) return;
  const slot = ksm.slots[at];
  for (const item of slot.items) forgetItem(vm, item);
  slot.items.length = 0;
  vm.caches.ksmMmSlot.free(slot.object);
  ksm.slots.splice(at, 1);
  if (at < ksm.slot) ksm.slot--;
  else if (at === ksm.slot) {
    ksm.address = 0;
    ksm.next = 0;
  }
}

/** Looks at the next pages, and merges what is alike. @linux mm/ksm.c:ksm_do_scan */
export function ksmScan(vm: Vm, pages: number): void {
  for (let left = pages; left > 0; left--) {
    const found = nextItem(vm);
    if (found === null) return;
    vm.ksm.pagesScanned++;
    compareAndMerge(vm, found.item, found.pfn);
  }
}

/** The next page to look at, and its item; `null` at the end of a pass, or without memory. @linux mm/ksm.c:scan_get_next_rmap_item */
function nextItem(vm: Vm): { item: KsmItem; pfn: Pfn } | null {
  const { ksm } = vm;
  if (!ksm.inPass) for (const tree of ksm.unstable) startPass(ksm, tree);
  ksm.inPass = true;
  while (ksm.slot < ksm.slots.length) {
    const slot = ksm.slots[ksm.slot];
    for (let vma = slot.mm.vmas.find(ksm.address); vma !== undefined; vma = slot.mm.vmas.find(vma.end)) {
      if ((vma.flags & VM_MERGEABLE) === 0 || vma.anonVma === null) continue;
      for (let address = Math.max(ksm.address, vma.start); address < vma.end; address += PAGE_SIZE) {
        const pfn = mergeablePage(vma, address);
        if (pfn < 0) continue;
        const item = itemAt(vm, slot, address);
        if (item === null) return null;
        ksm.address = address + PAGE_SIZE;
        if (mayPassOver(vm, item, pfn)) continue;
        return { item, pfn };
      }
    }
    for (const item of slot.items.splice(ksm.next)) forgetItem(vm, item);
    ksm.slot++;
    ksm.address = 0;
    ksm.next = 0;
  }
  ksm.slot = 0;
  ksm.address = 0;
  ksm.inPass = false;
  ksm.fullScans++;
  return null;
}

/** What was seen once in the last pass is forgotten. */
function startPass(ksm: Ksm, tree: RbTree<KsmItem>): void {
  tree.clear();
  ksm.pagesUnshared = 0;
}

/** The item of a page, made where there is none; those before it, of pages that are no longer there, go. @linux mm/ksm.c:get_next_rmap_item */
function itemAt(vm: Vm, slot: KsmSlot, address: VirtAddr): KsmItem | null {
  const { ksm } = vm;
  const { items } = slot;
  while (ksm.next < items.length && items[ksm.next].address < address) forgetItem(vm, items.splice(ksm.next, 1)[0]);
  const known = items[ksm.next];
  if (known?.address === address) {
    ksm.next++;
    return known;
  }
  const { exits } = ksm;
  const object = vm.caches.ksmRmapItem.alloc(GFP_KERNEL);
  if (object === 0) return null;
  if (ksm.exits !== exits) {
    // It may be gone that was looked at: later, from where that leaves off.
    vm.caches.ksmRmapItem.free(object);
    return null;
  }
  const item: KsmItem = {
    mm: slot.mm, address, checksum: -1, age: 0, skips: 0, unstable: null, unstablePass: -1, shared: null, anonVma: null, object,
  };
  items.splice(ksm.next++, 0, item);
  return item;
}

/** @linux mm/ksm.c:should_skip_rmap_item */
function mayPassOver(vm: Vm, item: KsmItem, pfn: Pfn): boolean {
  const { ksm, frames } = vm;
  if (ksm.smartScan === 0 || (frames.flags[pfn] & PG_KSM) !== 0) return false;
  const { age } = item;
  if (age < MAX_AGE) item.age++;
  if (age < YOUNG) return false;
  if (item.skips === 0) {
    item.skips = age <= 3 ? 1 : age <= 5 ? 2 : age <= 8 ? 4 : 8;
    return false;
  }
  ksm.pagesSkipped++;
  item.skips--;
  leaveTrees(vm, item);
  return true;
}

/** @linux mm/ksm.c:cmp_and_merge_page */
function compareAndMerge(vm: Vm, item: KsmItem, pfn: Pfn): void {
  const { ksm, frames } = vm;
  const own = (frames.flags[pfn] & PG_KSM) !== 0 ? ksm.pages.get(frames.mapping[pfn]) : undefined;
  if (own !== undefined && item.shared === own) return;
  const nid = treeOf(vm, pfn);
  const place = findStable(vm, nid, pfn);
  const target = place?.value.find((page) => page.items.size < ksm.maxPageSharing || page === own);
  leaveTrees(vm, item);
  if (target !== undefined) {
    if (target.pfn === pfn || mergePage(item, pfn, target.pfn)) share(vm, item, target);
    return;
  }
  const checksum = checksumOf(vm, pfn);
  if (item.checksum !== checksum) {
    item.checksum = checksum;
    return;
  }
  if (ksm.useZeroPages === 1 && isZeroPage(vm, pfn) && mergeZeroPage(item, pfn)) return;
  const other = ksm.unstable[nid].find((each) => compareItem(vm, pfn, each));
  if (other === null) {
    item.unstable = ksm.unstable[nid].insert(item, (each) => compareItem(vm, pfn, each));
    item.unstablePass = ksm.fullScans;
    ksm.pagesUnshared++;
    return;
  }
  mergeTwo(vm, nid, item, pfn, other.value, place);
}

/** Two pages that are alike become a shared one. @linux mm/ksm.c:try_to_merge_two_pages, stable_tree_insert */
function mergeTwo(vm: Vm, nid: number, item: KsmItem, pfn: Pfn, other: KsmItem, place: RbNode<KsmPage[]> | null): void {
  const { ksm, caches } = vm;
  const otherPfn = pageOf(other);
  if (otherPfn < 0 || otherPfn === pfn) return;
  const { exits } = ksm;
  const object = caches.ksmStableNode.alloc(GFP_KERNEL);
  if (object === 0) return;
  if (ksm.exits !== exits || pageOf(item) !== pfn || pageOf(other) !== otherPfn) {
    // Getting memory has changed what was found alike.
    caches.ksmStableNode.free(object);
    return;
  }
  const page: KsmPage = { id: 0, pfn, nid, node: null, items: new Set(), object };
  (page as { id: number }).id = ksm.pages.alloc(page);
  if (!makeKsmPage(item, pfn, page.id)) {
    dropPage(vm, page);
    return;
  }
  leaveTrees(vm, other);
  if (!mergePage(other, otherPfn, pfn)) {
    // It is nobody else's: its owner gets a page to write to.
    breakKsm(item);
    dropPage(vm, page);
    return;
  }
  if (place === null) page.node = ksm.stable[nid].insert([page], (pages) => comparePlace(vm, pfn, pages));
  else {
    place.value.push(page);
    page.node = place;
  }
  share(vm, other, page);
  share(vm, item, page);
}

/** The pages of the stable tree that hold the same; places whose pages are gone are dropped on the way. @linux mm/ksm.c:stable_tree_search */
function findStable(vm: Vm, nid: number, pfn: Pfn): RbNode<KsmPage[]> | null {
  const tree = vm.ksm.stable[nid];
  for (;;) {
    const found = tree.find((pages) => comparePlace(vm, pfn, pages));
    if (found === null) return null;
    const isAlive = found.value.some((page) => isLive(vm, page));
    for (const page of [...found.value]) if (!isLive(vm, page)) dropPage(vm, page);
    if (isAlive) return found;
  }
}

/** A place whose pages are all gone ends the search. */
function comparePlace(vm: Vm, pfn: Pfn, pages: readonly KsmPage[]): number {
  const live = pages.find((page) => isLive(vm, page));
  return live === undefined ? 0 : comparePages(vm, pfn, live.pfn);
}

/**
 * Whether a shared page is still what it was: it goes by itself when nobody maps it any more, and the swap cache has let go
 * of it.
 *
 * @linux mm/ksm.c:ksm_get_folio
 */
function isLive({ frames }: Vm, page: KsmPage): boolean {
  return (frames.flags[page.pfn] & PG_KSM) !== 0 && frames.mapping[page.pfn] === page.id && frames.refcount[page.pfn] > 0;
}

/** Takes a shared page out of the tree; who had it is told. @linux mm/ksm.c:remove_node_from_stable_tree */
function dropPage(vm: Vm, page: KsmPage): void {
  const { ksm } = vm;
  if (page.items.size > 0) {
    ksm.pagesShared--;
    ksm.pagesSharing -= page.items.size - 1;
  }
  for (const item of page.items) {
    item.shared = null;
    item.anonVma = null;
    item.mm.ksmMerging--;
  }
  page.items.clear();
  if (page.node !== null) {
    page.node.value.splice(page.node.value.indexOf(page), 1);
    if (page.node.value.length === 0) ksm.stable[page.nid].remove(page.node);
    page.node = null;
  }
  ksm.pages.free(page.id);
  vm.caches.ksmStableNode.free(page.object);
}

/** @linux mm/ksm.c:stable_tree_append */
function share({ ksm }: Vm, item: KsmItem, page: KsmPage): void {
  if (page.items.size > 0) ksm.pagesSharing++;
  else ksm.pagesShared++;
  page.items.add(item);
  item.shared = page;
  item.anonVma = item.mm.vmas.get(item.address)?.anonVma ?? null;
  item.mm.ksmMerging++;
}

/** @linux mm/ksm.c:remove_rmap_item_from_tree */
function leaveTrees(vm: Vm, item: KsmItem): void {
  const { ksm } = vm;
  const { shared } = item;
  if (shared !== null) {
    shared.items.delete(item);
    if (shared.items.size > 0) ksm.pagesSharing--;
    else ksm.pagesShared--;
    item.shared = null;
    item.anonVma = null;
    item.mm.ksmMerging--;
    // What the swap cache alone has is copied by who wants it back.
    if (shared.items.size === 0 && (!isLive(vm, shared) || vm.frames.mapcount[shared.pfn] === 0)) dropPage(vm, shared);
  } else if (item.unstable !== null) {
    // That of an earlier pass is gone already.
    if (item.unstablePass === ksm.fullScans) {
      unstableTreeOf(ksm, item.unstable).remove(item.unstable);
      ksm.pagesUnshared--;
    }
    item.unstable = null;
  }
}

/** The tree of a node that is in one. */
function unstableTreeOf(ksm: Ksm, node: RbNode<KsmItem>): RbTree<KsmItem> {
  let root = node;
  while (root.parent !== null) root = root.parent;
  return ksm.unstable.find((tree) => tree.root === root)!;
}

function forgetItem(vm: Vm, item: KsmItem): void {
  leaveTrees(vm, item);
  vm.caches.ksmRmapItem.free(item.object);
}

/** The page that an item's address shows now; −1 for none that may be merged. */
function pageOf(item: KsmItem): Pfn {
  const vma = item.mm.vmas.get(item.address);
  return vma === undefined || (vma.flags & VM_MERGEABLE) === 0 ? -1 : mergeablePage(vma, item.address);
}

function treeOf(vm: Vm, pfn: Pfn): number {
  return vm.ksm.mergeAcrossNodes === 1 ? 0 : vm.pages.nodeOf(pfn);
}

function compareItem(vm: Vm, pfn: Pfn, item: KsmItem): number {
  const other = pageOf(item);
  return other < 0 ? -1 : comparePages(vm, pfn, other);
}

/** Order of two pages by what they hold. @linux mm/ksm.c:memcmp_pages */
export function comparePages({ ram }: Vm, a: Pfn, b: Pfn): number {
  const { u8 } = ram;
  const from = ram.frameWord(a) * 4;
  const to = ram.frameWord(b) * 4;
  for (let i = 0; i < PAGE_SIZE; i++) {
    const order = u8[from + i] - u8[to + i];
    if (order !== 0) return order;
  }
  return 0;
}

/** @linux mm/ksm.c:calc_checksum */
function checksumOf({ ram }: Vm, pfn: Pfn): number {
  const { i32 } = ram;
  const from = ram.frameWord(pfn);
  let sum = 0x811c_9dc5 | 0;
  for (let i = 0; i < PAGE_SIZE / 4; i++) sum = Math.imul(sum ^ i32[from + i], 0x0100_0193);
  return sum >>> 0;
}

/**
 * Gives everybody in [start, end) a page of their own again.
 *
 * @returns 0, or −ENOMEM
 * @linux mm/ksm.c:unmerge_ksm_pages
 */
export function ksmUnmerge(mm: MmStruct, start: VirtAddr, end: VirtAddr): number {
  const { vm } = mm;
  for (let vma = mm.vmas.find(start); vma !== undefined && vma.start < end; vma = mm.vmas.find(vma.end)) {
    if (vma.anonVma === null) continue;
    for (let address = Math.max(start, vma.start); address < Math.min(end, vma.end); address += PAGE_SIZE) {
      const pfn = mergeablePage(vma, address);
      const isMerged = pfn < 0 ? mm.ksmZeroPages > 0 && isKsmZeroAt(mm, address) : (vm.frames.flags[pfn] & PG_KSM) !== 0;
      if (!isMerged) continue;
      const error = breakKsm({ mm, address });
      if (error !== 0) return error;
    }
  }
  return 0;
}

/** Undoes all merging, and forgets all pages. @returns 0, or −ENOMEM @linux mm/ksm.c:unmerge_and_remove_all_rmap_items */
export function ksmUnmergeAll(vm: Vm): number {
  const { ksm } = vm;
  for (const slot of [...ksm.slots]) {
    for (const vma of [...slot.mm.vmas]) {
      if ((vma.flags & VM_MERGEABLE) === 0) continue;
      const error = ksmUnmerge(slot.mm, vma.start, vma.end);
      if (error !== 0) return error;
    }
    for (const item of slot.items.splice(0)) forgetItem(vm, item);
  }
  for (const tree of ksm.stable) {
    const places: KsmPage[][] = [];
    tree.forEach((pages) => places.push(pages));
    for (const pages of places) for (const page of [...pages]) if (!isLive(vm, page)) dropPage(vm, page);
  }
  for (const tree of ksm.unstable) startPass(ksm, tree);
  ksm.slot = 0;
  ksm.address = 0;
  ksm.next = 0;
  ksm.inPass = false;
  return 0;
}

/**
 * Calls `check` for each mapping that may show a shared page, with the address it would be at.
 *
 * @linux mm/ksm.c:rmap_walk_ksm
 */
export function ksmWalk(vm: Vm, pfn: Pfn, check: (vma: VmArea, address: VirtAddr) => void): void {
  const page = vm.ksm.pages.get(vm.frames.mapping[pfn]);
  if (page === undefined) return;
  const seen = new Set<unknown>();
  for (const { anonVma, address } of page.items) {
    if (anonVma === null || vm.anonVmas.get(anonVma.id) !== anonVma) continue;
    anonVma.chains.forEachOverlap(0, Number.MAX_SAFE_INTEGER, ({ vma }) => {
      if (address < vma.start || address >= vma.end) return;
      const key = `${vma.mm.id}:${address}`;
      if (seen.has(key)) return;
      seen.add(key);
      check(vma, address);
    });
  }
}

/**
 * Whether a page of the swap cache cannot be shown at an address, since it was a shared page when it went to swap, and is
 * somebody else's now.
 *
 * @linux mm/ksm.c:ksm_might_need_to_copy
 */
export function ksmNeedsCopy(vm: Vm, pfn: Pfn, vma: VmArea, address: VirtAddr): boolean {
  const { flags, index, mapping } = vm.frames;
  if ((flags[pfn] & PG_KSM) !== 0) return vm.ksm.run === 2 || vm.ksm.pages.get(mapping[pfn])?.pfn !== pfn;
  if ((flags[pfn] & PG_ANON) === 0) return false;
  return index[pfn] !== linearPageIndex(vma, address) || vm.anonVmas.get(mapping[pfn])?.root !== vma.anonVma!.root;
}

/** A shared page moves to another frame. @linux mm/ksm.c:folio_migrate_ksm */
export function ksmMigrate({ frames, ksm }: Vm, from: Pfn, to: Pfn): void {
  const page = ksm.pages.get(frames.mapping[from]);
  if (page !== undefined && page.pfn === from) page.pfn = to;
}
