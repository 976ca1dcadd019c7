/**
 * GFP flags: what an allocation may use, and what it may do to get it.
 *
 * The values are those of Linux 6.18 (`include/linux/gfp_types.h`) with none of the debugging options set.
 */
import { ZONE_DMA, ZONE_DMA32, ZONE_HIGHMEM, ZONE_MOVABLE, ZONE_NORMAL } from './zone-types.ts';

// Where: zone modifiers and mobility.
/** From ZONE_DMA. */
export const __GFP_DMA = 0x1;
/** High memory will do. */
export const __GFP_HIGHMEM = 0x2;
/** From ZONE_DMA32 or below. */
export const __GFP_DMA32 = 0x4;
/** The page can be migrated or reclaimed; with {@link __GFP_HIGHMEM}, ZONE_MOVABLE will do. */
export const __GFP_MOVABLE = 0x8;
/** A shrinker can free it: reclaimable slab. */
export const __GFP_RECLAIMABLE = 0x10;

// How: access to reserves, what may be done to get memory.
/** Urgent: may use half of what the min watermark keeps. */
export const __GFP_HIGH = 0x20;
/** Reclaim may start physical I/O. */
export const __GFP_IO = 0x40;
/** Reclaim may call into file systems. */
export const __GFP_FS = 0x80;
/** Return zeroed memory. */
export const __GFP_ZERO = 0x100;
/** May sleep, and reclaim pages itself. */
export const __GFP_DIRECT_RECLAIM = 0x400;
/** Wakes kswapd when the low watermark is reached. */
export const __GFP_KSWAPD_RECLAIM = 0x800;
/** The page is about to be written to. */
export const __GFP_WRITE = 0x1000;
/** No report on failure. */
export const __GFP_NOWARN = 0x2000;
/** Try hard, but fail rather than kill. */
export const __GFP_RETRY_MAYFAIL = 0x4000;
/** Never fail. */
export const __GFP_NOFAIL = 0x8000;
/** Give up after one round of reclaim. */
export const __GFP_NORETRY = 0x10000;
/** May use all reserves. */
export const __GFP_MEMALLOC = 0x20000;
/** Make a compound page. */
export const __GFP_COMP = 0x40000;
/** May not use reserves, whatever else says so. */
export const __GFP_NOMEMALLOC = 0x80000;
/** Obeys the cpuset. */
export const __GFP_HARDWALL = 0x100000;
/** From this node or none. */
export const __GFP_THISNODE = 0x200000;
/** Charged to the memory cgroup. */
export const __GFP_ACCOUNT = 0x400000;
/** Zero the memory tags too. Has no effect on x86. */
export const __GFP_ZEROTAGS = 0x800000;
/** Both kinds of reclaim. */
export const __GFP_RECLAIM = __GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM;
/** Every bit there is; 0x200 is unused. @linux include/linux/gfp_types.h:__GFP_BITS_MASK */
export const __GFP_BITS_MASK = 0xffffff & ~0x200;

/** Cannot sleep, and may use reserves. */
export const GFP_ATOMIC = __GFP_HIGH | __GFP_KSWAPD_RECLAIM;
/** For the kernel itself: may sleep, reclaim, do I/O and call into file systems. */
export const GFP_KERNEL = __GFP_RECLAIM | __GFP_IO | __GFP_FS;
/** {@link GFP_KERNEL}, charged to the cgroup. */
export const GFP_KERNEL_ACCOUNT = GFP_KERNEL | __GFP_ACCOUNT;
/** Cannot sleep, and has no right to reserves. */
export const GFP_NOWAIT = __GFP_KSWAPD_RECLAIM | __GFP_NOWARN;
/** May reclaim, without starting I/O. */
export const GFP_NOIO = __GFP_RECLAIM;
/** May reclaim and do I/O, without calling into file systems. */
export const GFP_NOFS = __GFP_RECLAIM | __GFP_IO;
/** For user space, as memory the kernel or hardware also addresses. */
export const GFP_USER = __GFP_RECLAIM | __GFP_IO | __GFP_FS | __GFP_HARDWALL;
/** For devices that reach 16 MiB. */
export const GFP_DMA = __GFP_DMA;
/** For devices that reach 4 GiB. */
export const GFP_DMA32 = __GFP_DMA32;
/** For user space; the kernel needs no permanent address of it. */
export const GFP_HIGHUSER = GFP_USER | __GFP_HIGHMEM;
/** For user pages that can be moved. */
export const GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | __GFP_MOVABLE;
/** For huge pages, where failing is cheap. */
export const GFP_TRANSHUGE_LIGHT = (GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOMEMALLOC | __GFP_NOWARN) & ~__GFP_RECLAIM;
/** For huge pages, with direct reclaim. */
export const GFP_TRANSHUGE = GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM;

/** The mobility bits, which shifted by {@link GFP_MOVABLE_SHIFT} are the migrate type. */
export const GFP_MOVABLE_MASK = __GFP_MOVABLE | __GFP_RECLAIMABLE;
export const GFP_MOVABLE_SHIFT = 3;
/** The bits that choose the zone. */
export const GFP_ZONEMASK = __GFP_DMA | __GFP_HIGHMEM | __GFP_DMA32 | __GFP_MOVABLE;

/** What a task may carry that narrows or widens its allocations (`task_struct.flags`). */
export const PF_MEMALLOC = 0x800;
/** Its allocations are {@link GFP_NOFS}. */
export const PF_MEMALLOC_NOFS = 0x40000;
/** Its allocations are {@link GFP_NOIO}. */
export const PF_MEMALLOC_NOIO = 0x80000;
/** Its movable allocations stay out of ZONE_MOVABLE and CMA: they will be pinned. */
export const PF_MEMALLOC_PIN = 0x10000000;

/** It has a memory policy: its allocations do not simply go to the node of its CPU. No flag of Linux's, which looks at the policy itself. */
export const PF_MEMPOLICY = 0x1;

/** Tells whether the allocation may sleep. @linux include/linux/gfp.h:gfpflags_allow_blocking */
export function gfpAllowsBlocking(gfp: number): boolean {
  return (gfp & __GFP_DIRECT_RECLAIM) !== 0;
}

/** What of `gfp` a task may do that carries `PF_MEMALLOC*` flags. @linux include/linux/sched/mm.h:current_gfp_context */
export function currentGfpContext(gfp: number, taskFlags: number): number {
  let narrowed = gfp;
  if ((taskFlags & PF_MEMALLOC_NOIO) !== 0) narrowed &= ~(__GFP_IO | __GFP_FS);
  else if ((taskFlags & PF_MEMALLOC_NOFS) !== 0) narrowed &= ~__GFP_FS;
  if ((taskFlags & PF_MEMALLOC_PIN) !== 0) narrowed &= ~__GFP_MOVABLE;
  return narrowed;
}

/** The migrate type that `gfp` asks for. @linux include/linux/gfp.h:gfp_migratetype */
export function gfpMigratetype(gfp: number): number {
  return (gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT;
}

/**
 * The kind of the highest zone that `gfp` may use, on a machine with zones of the given kinds; −1 for a combination of
 * zone modifiers that contradicts itself.
 *
 * @linux include/linux/gfp.h:gfp_zone
 */
export function gfpZone(gfp: number, kinds: readonly number[]): number {
  const pick = (kind: number): number => (kinds.includes(kind) ? kind : ZONE_NORMAL);
  switch (gfp & GFP_ZONEMASK) {
    case 0:
    case __GFP_MOVABLE:
      return ZONE_NORMAL;
    case __GFP_DMA:
    case __GFP_DMA | __GFP_MOVABLE:
      return pick(ZONE_DMA);
    case __GFP_HIGHMEM:
      return pick(ZONE_HIGHMEM);
    case __GFP_DMA32:
    case __GFP_DMA32 | __GFP_MOVABLE:
      return pick(ZONE_DMA32);
    case __GFP_HIGHMEM | __GFP_MOVABLE:
      return pick(ZONE_MOVABLE);
    default:
      return -1;
  }
}

/**
 * Why Linux refuses `gfp`, or an empty string where it does not: zone modifiers that contradict each other (GFP_ZONE_BAD),
 * two mobilities at once, or bits that do not exist. Linux built for debugging stops on each; a production kernel answers
 * at random.
 *
 * @linux include/linux/gfp.h:GFP_ZONE_BAD
 */
export function gfpRefusal(gfp: number): string {
  if ((gfp & ~__GFP_BITS_MASK) !== 0) return `unknown bits 0x${((gfp & ~__GFP_BITS_MASK) >>> 0).toString(16)}`;
  if ((gfp & GFP_MOVABLE_MASK) === GFP_MOVABLE_MASK) return '__GFP_MOVABLE with __GFP_RECLAIMABLE';
  if (gfpZone(gfp, []) < 0) return `zone modifiers that contradict each other: ${gfpText(gfp & GFP_ZONEMASK)}`;
  return '';
}

/**
 * For each value of the five low bits: the index of the highest zone in `kinds` (bits 0 to 2) and the migrate type (bits
 * 3 and 4); −1 where the combination is refused.
 */
export function gfpTable(kinds: readonly number[]): Int8Array {
  const table = new Int8Array(32).fill(-1);
  for (let low = 0; low < 32; low++) {
    const kind = gfpZone(low, kinds);
    if (kind < 0 || (low & GFP_MOVABLE_MASK) === GFP_MOVABLE_MASK) continue;
    table[low] = kinds.indexOf(kind) | (gfpMigratetype(low) << 3);
  }
  return table;
}

const NAMED: readonly (readonly [number, string])[] = [
  [GFP_TRANSHUGE, 'GFP_TRANSHUGE'],
  [GFP_TRANSHUGE_LIGHT, 'GFP_TRANSHUGE_LIGHT'],
  [GFP_HIGHUSER_MOVABLE, 'GFP_HIGHUSER_MOVABLE'],
  [GFP_HIGHUSER, 'GFP_HIGHUSER'],
  [GFP_USER, 'GFP_USER'],
  [GFP_KERNEL_ACCOUNT, 'GFP_KERNEL_ACCOUNT'],
  [GFP_KERNEL, 'GFP_KERNEL'],
  [GFP_NOFS, 'GFP_NOFS'],
  [GFP_ATOMIC, 'GFP_ATOMIC'],
  [GFP_NOIO, 'GFP_NOIO'],
  [GFP_NOWAIT, 'GFP_NOWAIT'],
  [__GFP_DMA, '__GFP_DMA'],
  [__GFP_HIGHMEM, '__GFP_HIGHMEM'],
  [__GFP_DMA32, '__GFP_DMA32'],
  [__GFP_MOVABLE, '__GFP_MOVABLE'],
  [__GFP_RECLAIMABLE, '__GFP_RECLAIMABLE'],
  [__GFP_HIGH, '__GFP_HIGH'],
  [__GFP_IO, '__GFP_IO'],
  [__GFP_FS, '__GFP_FS'],
  [__GFP_ZERO, '__GFP_ZERO'],
  [__GFP_DIRECT_RECLAIM, '__GFP_DIRECT_RECLAIM'],
  [__GFP_KSWAPD_RECLAIM, '__GFP_KSWAPD_RECLAIM'],
  [__GFP_WRITE, '__GFP_WRITE'],
  [__GFP_NOWARN, '__GFP_NOWARN'],
  [__GFP_RETRY_MAYFAIL, '__GFP_RETRY_MAYFAIL'],
  [__GFP_NOFAIL, '__GFP_NOFAIL'],
  [__GFP_NORETRY, '__GFP_NORETRY'],
  [__GFP_MEMALLOC, '__GFP_MEMALLOC'],
  [__GFP_COMP, '__GFP_COMP'],
  [__GFP_NOMEMALLOC, '__GFP_NOMEMALLOC'],
  [__GFP_HARDWALL, '__GFP_HARDWALL'],
  [__GFP_THISNODE, '__GFP_THISNODE'],
  [__GFP_ACCOUNT, '__GFP_ACCOUNT'],
  [__GFP_ZEROTAGS, '__GFP_ZEROTAGS'],
];

/** `gfp` as the kernel prints it: `GFP_KERNEL|__GFP_ZERO`. @linux include/trace/events/mmflags.h:show_gfp_flags */
export function gfpText(gfp: number): string {
  const words: string[] = [];
  let left = gfp;
  for (const [mask, name] of NAMED) {
    if ((left & mask) !== mask) continue;
    words.push(name);
    left &= ~mask;
  }
  if (left !== 0) words.push(`0x${(left >>> 0).toString(16)}`);
  return words.length === 0 ? 'none' : words.join('|');
}
