/**
 * How much may be dirty, and what happens when it is more: writers wait, and the flusher writes.
 *
 *     background  ≤ dirty pages: the flusher writes until there are fewer
 *     (background + limit) / 2  ≤ dirty pages: who makes pages dirty waits until there are fewer
 *
 * @linux mm/page-writeback.c
 */
import { PAGE_SIZE } from '@pagelab/abi';
import { NODE_STAT, totalreservePages } from '@pagelab/mm-core';
import type { AddressSpace } from './file.ts';
import { TAG_DIRTY } from './page-cache.ts';
import type { Vm } from './vm.ts';

const NS_PER_CENTISECOND = 1e7;
/** Pages that may be made dirty between two looks at the limits. @linux mm/page-writeback.c:ratelimit_pages */
const RATELIMIT_PAGES = 32;

/** What is dirty of files on devices, and since when. */
export interface WritebackState {
  /** By page cache's id: when its first dirty page was made so, in ns of the virtual clock. In that order. */
  readonly dirtied: Map<number, number>;
  /** Pages made dirty since the limits were last looked at. */
  nrDirtied: number;
  /** Lets the flusher run soon; set by whoever has a flusher. */
  wakeFlusher: () => void;
}

/** @linux include/linux/backing-dev.h:bdi_init */
export function newWritebackState(): WritebackState {
  return {
    dirtied: new Map(),
    nrDirtied: 0,
    wakeFlusher: () => {
      // Without a flusher there is nobody to wake.
    },
  };
}

/** From how many dirty pages on the flusher writes, and beyond how many nobody may go. In pages. */
export interface DirtyLimits {
  readonly background: number;
  readonly limit: number;
}

/** @linux mm/page-writeback.c:global_dirtyable_memory */
function dirtyableMemory({ pages }: Vm): number {
  const files = pages.nodeState(NODE_STAT.NR_INACTIVE_FILE) + pages.nodeState(NODE_STAT.NR_ACTIVE_FILE);
  return Math.max(0, pages.nrFreePages() - totalreservePages(pages.zones)) + files + 1;
}

/** Recomputes both limits from the settings. Costs a look at each zone. @linux mm/page-writeback.c:domain_dirty_limits */
export function dirtyLimits(vm: Vm): DirtyLimits {
  const { dirtyBytes, dirtyBackgroundBytes, dirtyRatio, dirtyBackgroundRatio } = vm.sysctl;
  const available = dirtyableMemory(vm);
  const share = (bytes: number, ratio: number): number =>
    bytes > 0 ? Math.ceil(bytes / PAGE_SIZE) : Math.floor((Math.floor((ratio * PAGE_SIZE) / 100) * available) / PAGE_SIZE);
  const limit = share(dirtyBytes, dirtyRatio);
  const background = share(dirtyBackgroundBytes, dirtyBackgroundRatio);
  return { limit, background: background >= limit ? Math.floor(limit / 2) : background };
}

/** Notes that a page of a file became dirty. @linux mm/page-writeback.c:folio_account_dirtied, fs/fs-writeback.c:__mark_inode_dirty */
export function accountDirtied(vm: Vm, mapping: AddressSpace, pfn: number): void {
  vm.pages.modNodeState(pfn, NODE_STAT.NR_FILE_DIRTY, 1);
  vm.pages.modNodeState(pfn, NODE_STAT.NR_DIRTIED, 1);
  vm.writeback.nrDirtied++;
  if (!vm.writeback.dirtied.has(mapping.id)) vm.writeback.dirtied.set(mapping.id, vm.clock.now);
}

/**
 * Called by who has made pages of a file on a device dirty: lets the flusher write where there are many, and waits where there
 * are too many. Cheap until some 32 pages were made dirty.
 *
 * @linux mm/page-writeback.c:balance_dirty_pages_ratelimited
 */
export function balanceDirtyPages(vm: Vm): void {
  const state = vm.writeback;
  if (state.nrDirtied < RATELIMIT_PAGES) return;
  state.nrDirtied = 0;
  const { background, limit } = dirtyLimits(vm);
  const dirty = vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY);
  if (dirty > background) state.wakeFlusher();
  const freerun = Math.floor((background + limit) / 2);
  // The flusher works while the writer sleeps: its time passes here.
  if (dirty > freerun) writebackUntil(vm, freerun);
}

/**
 * What the flusher does when its time has come: writes files that have been dirty for long, and others while more than the
 * background limit is dirty.
 *
 * @returns pages written
 * @linux fs/fs-writeback.c:wb_check_old_data_flush, wb_check_background_flush
 */
export function flushDirtyPages(vm: Vm): number {
  const { dirtied } = vm.writeback;
  const before = vm.clock.now - vm.sysctl.dirtyExpireCentisecs * NS_PER_CENTISECOND;
  let written = 0;
  for (const [id, since] of [...dirtied]) {
    if (since > before) break;
    written += writebackMapping(vm, id);
  }
  return written + writebackUntil(vm, dirtyLimits(vm).background);
}

/** Writes the files that have been dirty longest until no more than `nrPages` pages are. @linux fs/fs-writeback.c:wb_writeback */
function writebackUntil(vm: Vm, nrPages: number): number {
  let written = 0;
  for (const [id] of [...vm.writeback.dirtied]) {
    if (vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY) <= nrPages) break;
    written += writebackMapping(vm, id);
  }
  return written;
}

/**
 * Writes one file. What cannot be written counts as clean: whoever syncs the file is told.
 *
 * @returns pages written
 * @linux fs/fs-writeback.c:writeback_single_inode
 */
function writebackMapping(vm: Vm, id: number): number {
  const mapping = vm.mappings.get(id);
  vm.writeback.dirtied.delete(id);
  if (mapping === undefined || mapping.pages.findMarked(0, TAG_DIRTY) < 0) return 0;
  const before = vm.pages.nodeState(NODE_STAT.NR_WRITTEN);
  mapping.ops.sync(mapping.inode, 0, Infinity);
  return vm.pages.nodeState(NODE_STAT.NR_WRITTEN) - before;
}
