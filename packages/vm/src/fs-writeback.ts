/**
 * The flusher: writes what has been dirty for long, or is too much.
 *
 * @linux fs/fs-writeback.c
 */
import { NODE_STAT } from '@pagelab/mm-core';
import { endWritebacks } from './folio-writeback.ts';
import { TAG_DIRTY } from './page-cache.ts';
import { dirtyLimits } from './page-writeback.ts';
import type { Vm } from './vm.ts';

const NS_PER_CENTISECOND = 1e7;

/**
 * What the flusher does when its time has come: begins to write files that have been dirty for long, and others while more than
 * the background limit is dirty. It does not wait: where the device's queue is full, `vm.writeback.blocked` is set, and
 * it wants to go on when there is room.
 *
 * @returns pages whose writing began
 * @linux fs/fs-writeback.c:wb_workfn, wb_check_old_data_flush, wb_check_background_flush
 */
export function flushDirtyPages(vm: Vm): number {
  endWritebacks(vm);
  const { dirtied } = vm.writeback;
  vm.writeback.blocked = false;
  const before = vm.clock.now - vm.sysctl.dirtyExpireCentisecs * NS_PER_CENTISECOND;
  let begun = 0;
  for (const [id, since] of [...dirtied]) {
    if (since > before || vm.writeback.blocked) break;
    begun += writebackMapping(vm, id);
  }
  return begun + writebackUntil(vm, dirtyLimits(vm).background);
}

/**
 * Begins to write the files that have been dirty longest until no more than `nrPages` pages are dirty, or the device's queue is
 * full.
 *
 * @returns pages whose writing began
 * @linux fs/fs-writeback.c:wb_writeback
 */
export function writebackUntil(vm: Vm, nrPages: number): number {
  let begun = 0;
  for (const [id] of [...vm.writeback.dirtied]) {
    if (vm.writeback.blocked || vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY) <= nrPages) break;
    begun += writebackMapping(vm, id);
  }
  return begun;
}

/**
 * Begins to write one file. What could not be begun, since the queue is full or the page is on its way as it was before, comes
 * up again.
 *
 * @linux fs/fs-writeback.c:writeback_single_inode, requeue_inode
 */
function writebackMapping(vm: Vm, id: number): number {
  const { dirtied } = vm.writeback;
  const mapping = vm.mappings.get(id);
  if (mapping === undefined) {
    dirtied.delete(id);
    return 0;
  }
  const begun = mapping.ops.writeBack(mapping.inode, 0, Infinity, false);
  if (vm.writeback.blocked) return begun;
  dirtied.delete(id);
  if (mapping.pages.isMarked(TAG_DIRTY)) dirtied.set(id, vm.clock.now);
  return begun;
}
