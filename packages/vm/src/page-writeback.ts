/**
 * How much may be dirty, and what happens when it is more: the flusher writes, and who makes pages dirty is held up.
 *
 *     background  ≤ dirty pages: the flusher writes until there are fewer
 *     (background + limit) / 2 = freerun  ≤ dirty and on their way: who makes pages dirty sleeps now and then, so that they come
 *     no faster than the device takes them; the longer, the closer they are to the limit
 *
 * @linux mm/page-writeback.c
 */
import { PAGE_SIZE } from '@pagelab/abi';
import { NODE_STAT, totalreservePages } from '@pagelab/mm-core';
import { newDirtyThrottle, noteBandwidth, positionRatio } from './dirty-throttle.ts';
import type { DirtyThrottle } from './dirty-throttle.ts';
import type { AddressSpace } from './file.ts';
import { endWritebacks, waitForSomeWriteback } from './folio-writeback.ts';
import type { PendingRead, WritebackBio } from './folio-writeback.ts';
import { flushDirtyPages } from './fs-writeback.ts';
import type { Vm } from './vm.ts';

/** Pages that may be made dirty between two looks at the limits, at first. @linux mm/page-writeback.c:ratelimit_pages */
const RATELIMIT_PAGES = 32;
/** The longest sleep, and the shortest that is worth it. @linux mm/page-writeback.c:MAX_PAUSE, wb_min_pause */
const MAX_PAUSE_NS = 2e8;
const MIN_PAUSE_NS = 1e7;
const NS_PER_SECOND = 1e9;

/** What is dirty of files on devices, and since when; what is on its way there. */
export interface WritebackState {
  /** By page cache's id: when its first dirty page was made so, in ns of the virtual clock. In that order. */
  readonly dirtied: Map<number, number>;
  /** Pages made dirty since the limits were last looked at, and after how many that is done again. */
  nrDirtied: number;
  ratelimitPages: number;
  /** What is under way, by the device's tag. */
  readonly bios: Map<number, WritebackBio>;
  /** Pages that are read and that nobody has waited for. */
  readonly reads: PendingRead[];
  /** The flusher had to leave off: the device's queue was full. */
  blocked: boolean;
  /** How fast the device has proved to be, and pages may be made dirty. Who makes them counts as one, however many they are. */
  readonly throttle: DirtyThrottle;
  /** Lets the flusher run soon; set by whoever has a flusher. */
  wakeFlusher: () => void;
  /** Something is under way: it will have to be ended; set by whoever sees time pass. */
  submitted: () => void;
}

/** @linux include/linux/backing-dev.h:bdi_init */
export function newWritebackState(): WritebackState {
  const nobody = (): void => {
    // Without a kernel around there is nobody to tell.
  };
  return {
    dirtied: new Map(),
    nrDirtied: 0,
    ratelimitPages: RATELIMIT_PAGES,
    bios: new Map(),
    reads: [],
    blocked: false,
    throttle: newDirtyThrottle(),
    wakeFlusher: nobody,
    submitted: nobody,
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
 * Called by who has made pages of a file on a device dirty. Cheap until some dozens of pages were made dirty.
 *
 * @linux mm/page-writeback.c:balance_dirty_pages_ratelimited
 */
export function balanceDirtyPages(vm: Vm): void {
  const state = vm.writeback;
  if (state.nrDirtied >= state.ratelimitPages) holdUp(vm);
}

/** @linux mm/page-writeback.c:balance_dirty_pages */
function holdUp(vm: Vm): void {
  const state = vm.writeback;
  const { throttle } = state;
  const dirtied = state.nrDirtied;
  state.nrDirtied = 0;
  for (;;) {
    endWritebacks(vm);
    const { background, limit } = dirtyLimits(vm);
    if (vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY) > background) state.wakeFlusher();
    const freerun = Math.floor((background + limit) / 2);
    if (nrDirtyOrOnTheWay(vm) > freerun) {
      // The flusher works on another CPU, or while the writer sleeps.
      flushDirtyPages(vm);
      endWritebacks(vm);
    }
    const now = nrDirtyOrOnTheWay(vm);
    if (now <= freerun) {
      state.ratelimitPages = Math.min(pollInterval(now, limit), cpuRatelimit(vm, limit));
      throttle.pausedAt = vm.clock.now;
      return;
    }
    const position = positionRatio(now, freerun, limit);
    noteBandwidth(vm, position, now < (freerun + limit) / 2);
    const rate = throttle.dirtyRatelimit * position;
    const worthwhile = Math.max(RATELIMIT_PAGES, Math.ceil((rate * MIN_PAUSE_NS) / NS_PER_SECOND));
    state.ratelimitPages = Math.min(worthwhile, cpuRatelimit(vm, limit));
    const period = rate > 0 ? (dirtied * NS_PER_SECOND) / rate : MAX_PAUSE_NS;
    // Time that it did something else counts, too.
    const owed = period - (vm.clock.now - throttle.pausedAt);
    if (rate > 0 && owed < MIN_PAUSE_NS) {
      throttle.pausedAt = owed < -NS_PER_SECOND ? vm.clock.now : throttle.pausedAt + period;
      return;
    }
    const pause = Math.min(owed, MAX_PAUSE_NS);
    sleep(vm, vm.clock.now + pause);
    throttle.pausedAt = vm.clock.now;
    throttle.pausedNs += pause;
    throttle.pauses++;
    if (rate > 0) return;
  }
}

/** Pages that the device has not got yet. @linux mm/page-writeback.c:domain_dirty_avail */
function nrDirtyOrOnTheWay({ pages }: Vm): number {
  return pages.nodeState(NODE_STAT.NR_FILE_DIRTY) + pages.nodeState(NODE_STAT.NR_WRITEBACK);
}

/** After how many pages the limits are to be looked at again: the square root of what is left. @linux mm/page-writeback.c:dirty_poll_interval */
function pollInterval(dirty: number, limit: number): number {
  return limit > dirty ? 1 << (Math.floor(Math.log2(limit - dirty)) >> 1) : 1;
}

/** After how many pages a CPU looks in any case: all of them together do not go far beyond the limit. @linux mm/page-writeback.c:writeback_set_ratelimit */
function cpuRatelimit({ smp }: Vm, limit: number): number {
  return Math.max(16, Math.floor(limit / (smp.cpus.length * 32)));
}

/** Lets time pass; the device and the flusher go on meanwhile. */
function sleep(vm: Vm, until: number): void {
  while (vm.clock.now < until) {
    if (!waitForSomeWriteback(vm, until - vm.clock.now)) {
      vm.clock.now = Math.max(vm.clock.now, until);
      return;
    }
    if (vm.writeback.blocked) flushDirtyPages(vm);
  }
}
