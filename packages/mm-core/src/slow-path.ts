/**
 * What an allocation does when the zones are short of free pages: a ladder from asking kswapd to killing a task. Each rung
 * is a hook that a higher layer fills in.
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import {
  ALLOC_CMA,
  ALLOC_CPUSET,
  ALLOC_HIGHATOMIC,
  ALLOC_KSWAPD,
  ALLOC_MIN_RESERVE,
  ALLOC_NOFRAGMENT,
  ALLOC_NON_BLOCK,
  ALLOC_NO_WATERMARKS,
  ALLOC_OOM,
  WMARK_HIGH,
  WMARK_MIN,
} from './alloc-flags.ts';
import {
  COMPACT_DEFERRED,
  COMPACT_SKIPPED,
  COMPACT_SUCCESS,
  DEF_COMPACT_PRIORITY,
  INIT_COMPACT_PRIORITY,
  MIN_COMPACT_COSTLY_PRIORITY,
  MIN_COMPACT_PRIORITY,
  compactionZonelistSuitable,
  tryToCompactPages,
} from './compaction.ts';
import { getPageFromFreelist } from './freelist.ts';
import type { AllocContext } from './freelist.ts';
import {
  PF_MEMALLOC,
  __GFP_DIRECT_RECLAIM,
  __GFP_HIGH,
  __GFP_IO,
  __GFP_KSWAPD_RECLAIM,
  __GFP_MEMALLOC,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_RETRY_MAYFAIL,
  __GFP_THISNODE,
} from './gfp.ts';
import { unreserveHighatomicPageblock } from './highatomic.ts';
import { MIGRATE_MOVABLE } from './migratetype.ts';
import { PAGE_ALLOC_COSTLY_ORDER } from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import { ALLOCSTALL_OF_ZONE, VM_EVENT } from './vmstat.ts';
import { ZONE_NORMAL } from './zone-types.ts';

const { COMPACTSTALL, COMPACTSUCCESS, COMPACTFAIL } = VM_EVENT;

/** Rounds of reclaim without progress before giving up. @linux mm/internal.h:MAX_RECLAIM_RETRIES */
const MAX_RECLAIM_RETRIES = 16;
/** Rounds of compaction that seem to work before it tries harder. @linux mm/page_alloc.c:MAX_COMPACT_RETRIES */
const MAX_COMPACT_RETRIES = 16;
/** Pages that a round of direct reclaim aims at. @linux include/linux/swap.h:SWAP_CLUSTER_MAX */
const SWAP_CLUSTER_MAX = 32;

/**
 * Gets a block, or fails with −ENOMEM.
 *
 * @linux mm/page_alloc.c:__alloc_pages_slowpath
 */
export function allocPagesSlowpath(pages: PageAlloc, context: AllocContext): Pfn {
  const { gfp, order, migratetype } = context;
  if (context.zonelist.length === 0) return fail(pages, context);
  const canReclaim = (gfp & __GFP_DIRECT_RECLAIM) !== 0;
  const canCompact = (gfp & __GFP_IO) !== 0;
  const costly = order > PAGE_ALLOC_COSTLY_ORDER;
  const retry: CompactRetry = { priority: DEF_COMPACT_PRIORITY, retries: 0 };
  let allocFlags = gfpToAllocFlags(gfp, order, migratetype);
  if (pages.sysctl.defragMode) allocFlags |= ALLOC_NOFRAGMENT;

  // kswapd first: it may be all that is needed, and the min watermark leaves room while it works.
  wakeAllKswapds(pages, context, allocFlags);
  let pfn = getPageFromFreelist(pages, context, allocFlags);
  if (pfn >= 0) return pfn;

  // A large block: the pages are probably there, only scattered.
  if (canReclaim && canCompact && order > 0 && (costly || migratetype !== MIGRATE_MOVABLE) && reserveFlags(pages, gfp) === 0) {
    const compacted = directCompact(pages, context, allocFlags, INIT_COMPACT_PRIORITY);
    if (compacted.pfn >= 0) return compacted.pfn;
    if (costly && (gfp & __GFP_NORETRY) !== 0) {
      // Nowhere to move pages to, or it failed lately: not worth the trouble.
      if (compacted.result === COMPACT_SKIPPED || compacted.result === COMPACT_DEFERRED) return fail(pages, context);
      retry.priority = INIT_COMPACT_PRIORITY;
    }
  }

  let noProgress = 0;
  for (;;) {
    wakeAllKswapds(pages, context, allocFlags);
    const reserves = reserveFlags(pages, gfp);
    if (reserves !== 0) allocFlags = reserves | (allocFlags & (ALLOC_KSWAPD | ALLOC_CMA));
    pfn = getPageFromFreelist(pages, context, allocFlags);
    if (pfn >= 0) return pfn;
    if (!canReclaim || (pages.currentFlags & PF_MEMALLOC) !== 0) break;

    const reclaimed = directReclaim(pages, context);
    pfn = afterReclaim(pages, context, allocFlags, reclaimed);
    if (pfn >= 0) return pfn;
    const compacted = order > 0 ? directCompact(pages, context, allocFlags, retry.priority) : NOT_COMPACTED;
    if (compacted.pfn >= 0) return compacted.pfn;

    if ((gfp & __GFP_NORETRY) !== 0) break;
    if (costly && (!canCompact || (gfp & __GFP_RETRY_MAYFAIL) === 0)) break;
    noProgress = reclaimed > 0 && !costly ? 0 : noProgress + 1;
    if (shouldReclaimRetry(pages, context, allocFlags, noProgress)) continue;
    if (reclaimed > 0 && canCompact && shouldCompactRetry(pages, context, compacted.result, retry)) continue;

    if ((allocFlags & ALLOC_NOFRAGMENT) !== 0) {
      // Before anybody is killed, blocks of other types are broken into after all.
      allocFlags &= ~ALLOC_NOFRAGMENT;
      continue;
    }
    const outcome = mayOom(pages, context);
    if (outcome.pfn >= 0) return outcome.pfn;
    if (pages.currentIsOomVictim && ((allocFlags & ALLOC_OOM) !== 0 || (gfp & __GFP_NOMEMALLOC) !== 0)) break;
    if (!outcome.progress) break;
    noProgress = 0;
  }
  if ((gfp & __GFP_NOFAIL) !== 0 && canReclaim) {
    // What may not fail gets some of the reserves, not all.
    pfn = getPageFromFreelist(pages, context, ALLOC_MIN_RESERVE | WMARK_MIN);
    if (pfn < 0) pfn = getPageFromFreelist(pages, context, ALLOC_NO_WATERMARKS);
    if (pfn >= 0) return pfn;
  }
  return fail(pages, context);
}

/** @linux mm/page_alloc.c:gfp_to_alloc_flags */
export function gfpToAllocFlags(gfp: number, order: number, migratetype: number): number {
  // __GFP_HIGH and __GFP_KSWAPD_RECLAIM have the values of their ALLOC_ flags.
  let flags = WMARK_MIN | ALLOC_CPUSET | (gfp & (__GFP_HIGH | __GFP_KSWAPD_RECLAIM));
  if ((gfp & __GFP_DIRECT_RECLAIM) === 0) {
    if ((gfp & __GFP_NOMEMALLOC) === 0) {
      flags |= ALLOC_NON_BLOCK;
      if (order > 0 && (flags & ALLOC_MIN_RESERVE) !== 0) flags |= ALLOC_HIGHATOMIC;
    }
    if ((flags & ALLOC_MIN_RESERVE) !== 0) flags &= ~ALLOC_CPUSET;
  }
  return migratetype === MIGRATE_MOVABLE ? flags | ALLOC_CMA : flags;
}

/** How far into the reserves the caller may go: all the way where it works for others to get memory. @linux mm/page_alloc.c:__gfp_pfmemalloc_flags */
function reserveFlags(pages: PageAlloc, gfp: number): number {
  if ((gfp & __GFP_NOMEMALLOC) !== 0) return 0;
  if ((gfp & __GFP_MEMALLOC) !== 0) return ALLOC_NO_WATERMARKS;
  if ((pages.currentFlags & PF_MEMALLOC) !== 0) return ALLOC_NO_WATERMARKS;
  return pages.currentIsOomVictim ? ALLOC_OOM : 0;
}

/** @linux mm/page_alloc.c:wake_all_kswapds */
function wakeAllKswapds(pages: PageAlloc, context: AllocContext, allocFlags: number): void {
  if ((allocFlags & ALLOC_KSWAPD) === 0) return;
  const order = pages.sysctl.defragMode ? Math.max(context.order, pages.pageblockOrder) : context.order;
  let last = -1;
  for (const zone of context.zonelist) {
    if (zone.nid !== last) pages.wakeKswapd(zone, order, context.gfp);
    last = zone.nid;
  }
}

/** What compacting for an allocation came to: a block or −1, and `COMPACT_…`. */
interface Compacted {
  readonly pfn: Pfn;
  readonly result: number;
}
const NOT_COMPACTED: Compacted = { pfn: -1, result: COMPACT_SKIPPED };

/** How hard compaction tries next, and how often it seemed to work and did not. */
interface CompactRetry {
  priority: number;
  retries: number;
}

/** @linux mm/page_alloc.c:__alloc_pages_direct_compact */
function directCompact(pages: PageAlloc, context: AllocContext, allocFlags: number, priority: number): Compacted {
  const saved = pages.currentFlags;
  pages.currentFlags |= PF_MEMALLOC;
  const captured = { pfn: -1 };
  const result = tryToCompactPages(pages, context, allocFlags, priority, captured);
  pages.currentFlags = saved;
  if (result === COMPACT_SKIPPED) return NOT_COMPACTED;
  pages.events[COMPACTSTALL]++;
  if (captured.pfn >= 0) pages.prepNewPage(captured.pfn, context.order, context.gfp);
  const pfn = captured.pfn >= 0 ? captured.pfn : getPageFromFreelist(pages, context, allocFlags);
  pages.events[pfn >= 0 ? COMPACTSUCCESS : COMPACTFAIL]++;
  if (pfn >= 0) {
    const { compact } = pages.zoneOf(pfn)!;
    compact.blockskipFlush = false;
    compact.deferReset(context.order, true);
  }
  return { pfn, result };
}

/** Whether compacting once more, or harder, could help. @linux mm/page_alloc.c:should_compact_retry */
function shouldCompactRetry(pages: PageAlloc, context: AllocContext, result: number, retry: CompactRetry): boolean {
  const { order } = context;
  if (order === 0) return false;
  if (result === COMPACT_SKIPPED) return compactionZonelistSuitable(pages, context);
  const costly = order > PAGE_ALLOC_COSTLY_ORDER;
  if (result === COMPACT_SUCCESS && ++retry.retries <= (costly ? MAX_COMPACT_RETRIES / 4 : MAX_COMPACT_RETRIES)) return true;
  if (retry.priority <= (costly ? MIN_COMPACT_COSTLY_PRIORITY : MIN_COMPACT_PRIORITY)) return false;
  retry.priority--;
  retry.retries = 0;
  return true;
}

/** @linux mm/page_alloc.c:__perform_reclaim */
function directReclaim(pages: PageAlloc, context: AllocContext): number {
  const reclaim = pages.hooks.directReclaim;
  if (reclaim === undefined) return 0;
  pages.events[ALLOCSTALL_OF_ZONE[pages.nodes[0].zones[context.highestIndex].kind]]++;
  // What reclaim itself allocates must not reclaim.
  const saved = pages.currentFlags;
  pages.currentFlags |= PF_MEMALLOC;
  try {
    return reclaim(context.gfp, context.order, Math.max(SWAP_CLUSTER_MAX, 1 << context.order), context.allowed ?? pages.memsAllowed);
  } finally {
    pages.currentFlags = saved;
  }
}

/**
 * Tries again after reclaim; if pages were freed and yet none is to be had, looks for them on the per-CPU lists and in the
 * urgent reserve. Without reclaim those lists are all there is to get memory back from.
 *
 * @linux mm/page_alloc.c:__alloc_pages_direct_reclaim
 */
function afterReclaim(pages: PageAlloc, context: AllocContext, allocFlags: number, reclaimed: number): Pfn {
  if (reclaimed === 0 && pages.hooks.directReclaim !== undefined) return -1;
  const pfn = reclaimed > 0 ? getPageFromFreelist(pages, context, allocFlags) : -1;
  if (pfn >= 0) return pfn;
  const unreserved = unreserveHighatomicPageblock(pages, context, false);
  if (!unreserved && !context.zonelist.some((zone) => zone.nrPcpPages() > 0)) return -1;
  pages.drainAllPages();
  return getPageFromFreelist(pages, context, allocFlags);
}

/** Whether another round could help: if all that can be reclaimed were free, would the allocation succeed? @linux mm/page_alloc.c:should_reclaim_retry */
function shouldReclaimRetry(pages: PageAlloc, context: AllocContext, allocFlags: number, noProgress: number): boolean {
  const { directReclaim: reclaim, zoneReclaimablePages } = pages.hooks;
  if (reclaim !== undefined && noProgress <= MAX_RECLAIM_RETRIES) {
    for (const zone of context.zonelist) {
      const available = zone.nrFree + (zoneReclaimablePages?.(zone) ?? 0);
      if (zone.watermarkOk(context.order, zone.wmarkPages(WMARK_MIN), context.highestIndex, allocFlags, available)) return true;
    }
  }
  // Before anybody is killed, the urgent reserve goes.
  return unreserveHighatomicPageblock(pages, context, true);
}

/** @linux mm/page_alloc.c:__alloc_pages_may_oom */
function mayOom(pages: PageAlloc, context: AllocContext): { readonly pfn: Pfn; readonly progress: boolean } {
  const { gfp, order } = context;
  // Perhaps a task was killed meanwhile and much is free again: then it would be a pity.
  const pfn = getPageFromFreelist(pages, context, WMARK_HIGH | ALLOC_CPUSET);
  if (pfn >= 0) return { pfn, progress: true };
  const nothing = { pfn: -1, progress: false };
  if (order > PAGE_ALLOC_COSTLY_ORDER) return nothing;
  if ((gfp & (__GFP_RETRY_MAYFAIL | __GFP_THISNODE)) !== 0) return nothing;
  // Killing does not help a device that reaches little memory.
  if (pages.nodes[0].zones[context.highestIndex].kind < ZONE_NORMAL) return nothing;
  if (pages.hooks.outOfMemory?.(gfp, order, context.allowed) !== true) return nothing;
  return { pfn: -1, progress: true };
}

/** @linux mm/page_alloc.c:warn_alloc */
function fail(pages: PageAlloc, context: AllocContext): Pfn {
  if ((context.gfp & __GFP_NOWARN) === 0) {
    pages.failures++;
    pages.hooks.warnAlloc?.(context.gfp, context.order);
  }
  return -Errno.ENOMEM;
}
