/**
 * Frames that are about to break are retired: what they hold moves to another, and nobody loses anything. And frames that were
 * said to be broken are taken back, for tests.
 *
 * @linux mm/memory-failure.c:soft_offline_page, unpoison_memory
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import {
  GFP_USER,
  MIGRATE_SYNC,
  MR_MEMORY_FAILURE,
  OWNER_ANON,
  OWNER_FILE,
  OWNER_FREE,
  OWNER_HOLE,
  OWNER_HUGETLB,
  OWNER_SHMEM,
  PG_ANON,
  PG_DIRTY,
  PG_HEAD,
  PG_HUGETLB,
  PG_SWAPCACHE,
  PG_WRITEBACK,
  __GFP_MOVABLE,
  __GFP_RETRY_MAYFAIL,
  compoundHead,
  frameOwner,
} from '@pagelab/mm-core';
import { softOfflineHugetlb } from './hugetlb-failure.ts';
import { putHugetlbPage } from './hugetlb.ts';
import { hex, separate, takeOffBuddy } from './memory-failure.ts';
import { isolateMovable, migratePages, putbackMovablePages } from './migrate.ts';
import { removeFromPageCache } from './page-cache.ts';
import { lruAddDrainAll } from './swap.ts';
import type { Vm } from './vm.ts';

/**
 * Retires a frame.
 *
 * @returns 0, also for one that is broken already; −EBUSY where what it holds cannot be moved, −EIO for pages of the kernel,
 *   −EOPNOTSUPP where that is switched off, −ENXIO where there is no memory
 * @linux mm/memory-failure.c:soft_offline_page
 */
export function softOfflinePage(vm: Vm, pfn: Pfn): number {
  const { hwpoison } = vm;
  const owner = frameOwner(vm.frames, pfn);
  if (owner === OWNER_HOLE) return -Errno.ENXIO;
  if (vm.sysctl.enableSoftOffline === 0) {
    if (!hwpoison.saidDisabled) vm.log('Soft offline: disabled by /proc/sys/vm/enable_soft_offline');
    hwpoison.saidDisabled = true;
    return -Errno.EOPNOTSUPP;
  }
  if (hwpoison.has(pfn)) {
    vm.log(`Soft offline: ${hex(pfn)}: page already poisoned`);
    return 0;
  }
  let error: number;
  switch (owner) {
    case OWNER_HUGETLB:
      error = softOfflineHugetlb(vm, pfn);
      break;
    case OWNER_FREE:
      error = takeOffBuddy(vm, pfn) ? 0 : -Errno.EBUSY;
      break;
    case OWNER_ANON:
    case OWNER_FILE:
    case OWNER_SHMEM:
      error = softOfflineInUse(vm, pfn);
      break;
    default:
      vm.log(`Memory failure: ${hex(pfn)}: unhandlable page.`);
      return -Errno.EIO;
  }
  if (error !== 0) return error;
  hwpoison.frames.set(pfn, 'anon');
  hwpoison.count++;
  return 0;
}

/** @linux mm/memory-failure.c:soft_offline_in_use_page */
function softOfflineInUse(vm: Vm, pfn: Pfn): number {
  const { flags, index, mapcount, mapping, refcount } = vm.frames;
  lruAddDrainAll(vm);
  separate(vm, pfn);
  const file = (flags[pfn] & PG_ANON) === 0 ? vm.mappings.get(mapping[pfn]) : undefined;
  const isIdle = (flags[pfn] & (PG_DIRTY | PG_WRITEBACK | PG_SWAPCACHE)) === 0 && mapcount[pfn] === 0 && refcount[pfn] === 1;
  if (file !== undefined && isIdle && !file.ops.swapBacked) {
    removeFromPageCache(vm, file, index[pfn]);
    vm.log(`Soft offline: ${hex(pfn)}: invalidated`);
  } else if (!moveAway(vm, pfn)) {
    return -Errno.EBUSY;
  }
  return takeOffBuddy(vm, pfn) ? 0 : -Errno.EBUSY;
}

/** What a frame holds moves to another. @returns whether it did */
function moveAway(vm: Vm, pfn: Pfn): boolean {
  if (!isolateMovable(vm, pfn)) return false;
  const list = [pfn];
  const nid = vm.pages.nodeOf(pfn);
  migratePages(vm, list, () => vm.pages.allocPagesNode(nid, GFP_USER | __GFP_MOVABLE | __GFP_RETRY_MAYFAIL, 0), MIGRATE_SYNC, MR_MEMORY_FAILURE);
  if (list.length === 0) return true;
  putbackMovablePages(vm, list);
  return false;
}

/**
 * A frame that was said to be broken is good again. Who has lost what it held gets nothing back.
 *
 * @returns 0; −EBUSY where it is not broken, or somebody has it still; −EIO where there is no memory
 * @linux mm/memory-failure.c:unpoison_memory
 */
export function unpoisonMemory(vm: Vm, pfn: Pfn): number {
  const { frames, hwpoison } = vm;
  const say = (what: string): void => {
    vm.log(`Unpoison: ${hex(pfn)}: ${what}`);
  };
  if (frameOwner(frames, pfn) === OWNER_HOLE) return -Errno.EIO;
  const head = compoundHead(frames, pfn);
  const raw = hwpoison.raw.get(head);
  if (!hwpoison.has(pfn) && raw?.has(pfn) !== true) {
    say('page was already unpoisoned');
    return -Errno.EBUSY;
  }
  const isPool = (frames.flags[head] & PG_HUGETLB) !== 0;
  const isOut = hwpoison.takenOff.has(pfn);
  const isKept = hwpoison.kept.has(isPool ? head : pfn);
  if (!isOut && !isKept) return -Errno.EBUSY;
  if (frames.refcount[head] > (isPool ? 2 : 1)) {
    say('someone grabs the hwpoison page');
    return -Errno.EBUSY;
  }
  if (frames.mapping[head] !== 0 && !isOut) {
    say('the hwpoison page has non-NULL mapping');
    return -Errno.EBUSY;
  }
  hwpoison.frames.delete(pfn);
  if (isPool) {
    hwpoison.count -= raw!.size;
    hwpoison.raw.delete(head);
    hwpoison.kept.delete(head);
    putHugetlbPage(vm, head);
  } else {
    hwpoison.count--;
    hwpoison.takenOff.delete(pfn);
    hwpoison.kept.delete(pfn);
    frames.flags[pfn] &= PG_HEAD;
    vm.pages.freePage(pfn);
  }
  say('software-unpoisoned page');
  return 0;
}
