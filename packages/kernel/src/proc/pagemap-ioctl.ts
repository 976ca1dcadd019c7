/**
 * Requests to `/proc/PID/pagemap`.
 *
 * @linux fs/proc/task_mmu.c:do_pagemap_cmd
 */
import {
  Errno,
  PAGEMAP_SCAN,
  PAGE_IS_FILE,
  PAGE_IS_GUARD,
  PAGE_IS_HUGE,
  PAGE_IS_PFNZERO,
  PAGE_IS_PRESENT,
  PAGE_IS_SOFT_DIRTY,
  PAGE_IS_SWAPPED,
  PAGE_IS_WPALLOWED,
  PAGE_IS_WRITTEN,
  PAGE_REGION_BYTES,
  PAGE_SIZE,
  PM_SCAN_ARG_BYTES,
  PM_SCAN_CHECK_WPASYNC,
  PM_SCAN_WP_MATCHING,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { accessOk, copyFromUser, copyToUser, pagemapScan } from '@pagelab/vm';
import type { MmStruct, PageRegion, PagemapScanQuery } from '@pagelab/vm';
import type { Task } from '../task.ts';

const CATEGORIES = BigInt(
  PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN | PAGE_IS_FILE | PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO | PAGE_IS_HUGE | PAGE_IS_SOFT_DIRTY | PAGE_IS_GUARD,
);
const FLAGS = BigInt(PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC);
/** Where the structure has `walk_end`. */
const WALK_END_OFFSET = 32;

/** @returns how many regions were found, or -errno: EINVAL, EFAULT, EPERM, ENOMEM */
export function pagemapIoctl(mm: MmStruct | null, task: Task, request: number, argument: VirtAddr): number {
  if (request !== PAGEMAP_SCAN) return -Errno.EINVAL;
  const bytes = copyFromUser(task.mm, argument, PM_SCAN_ARG_BYTES);
  if (typeof bytes === 'number') return -Errno.EFAULT;
  const words = new BigUint64Array(PM_SCAN_ARG_BYTES / 8);
  new Uint8Array(words.buffer).set(bytes);
  const vec = Number(words[5]);
  const query = readQuery(task.mm, words, vec);
  if (typeof query === 'number') return query;
  const { error, regions, walkEnd } = mm === null ? { error: 0, regions: [], walkEnd: query.end } : pagemapScan(mm, query);
  let result = error;
  if (regions.length > 0 && copyToUser(task.mm, vec, encode(regions)) !== 0) result = -Errno.EFAULT;
  else if (error === 0) result = regions.length;
  return copyToUser(task.mm, argument + WALK_END_OFFSET, encodeWords([walkEnd])) === 0 ? result : -Errno.EFAULT;
}

/** @linux fs/proc/task_mmu.c:pagemap_scan_get_args */
function readQuery(mm: MmStruct, words: BigUint64Array, vec: VirtAddr): PagemapScanQuery | number {
  const [size, flags, start, end, , , vecLength, maxPages, inverted, mask, anyof, returned] = words as unknown as readonly bigint[] & { readonly length: 12 };
  if (size !== BigInt(PM_SCAN_ARG_BYTES) || (flags! & ~FLAGS) !== 0n) return -Errno.EINVAL;
  if (((inverted! | mask! | anyof! | returned!) & ~CATEGORIES) !== 0n) return -Errno.EINVAL;
  if (start! % BigInt(PAGE_SIZE) !== 0n) return -Errno.EINVAL;
  if (!accessOk(mm, signed(start!), Number(BigInt.asUintN(64, end! - start!)))) return -Errno.EFAULT;
  if (vec === 0 && vecLength !== 0n) return -Errno.EINVAL;
  if (vec !== 0 && !accessOk(mm, signed(words[5]!), Number(vecLength) * PAGE_REGION_BYTES)) return -Errno.EFAULT;
  return {
    start: Number(start),
    end: Math.ceil(Number(end) / PAGE_SIZE) * PAGE_SIZE,
    flags: Number(flags),
    maxRegions: vecLength === 0n ? -1 : Number(vecLength),
    maxPages: maxPages === 0n ? Infinity : Number(maxPages),
    inverted: Number(inverted),
    mask: Number(mask),
    anyof: Number(anyof),
    returned: Number(returned),
  };
}

function signed(word: bigint): VirtAddr {
  return Number(BigInt.asIntN(64, word));
}

function encode(regions: readonly PageRegion[]): Uint8Array {
  return encodeWords(regions.flatMap(({ start, end, categories }) => [start, end, categories]));
}

function encodeWords(words: readonly number[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(words, BigInt).buffer);
}
