/**
 * Swap slots that belong to groups: a slot is charged to the group of its page until nobody names it, beside what the page
 * is charged as long as it is in memory.
 *
 *     swap.usage of a group === slots charged to it and below
 *
 * @linux mm/memcontrol.c:__mem_cgroup_try_charge_swap, mm/swap_cgroup.c
 */
import type { Pfn } from '@pagelab/hw';
import { PG_MEMCG } from '@pagelab/mm-core';
import { MEMCG_EVENT, MEMCG_STAT, memcgEvent } from './memcg.ts';
import type { MemCgroup, MemCgroups } from './memcg.ts';
import { chargeFolio } from './memcg-charge.ts';
import { pageCounterTryCharge, pageCounterUncharge } from './page-counter.ts';
import { vmSwapFull } from './swapfile.ts';
import type { SwapArea } from './swapfile.ts';
import { swpOffset } from './swapops.ts';
import type { Vm } from './vm.ts';

/** The group itself, or the nearest above that is not removed. @linux mm/memcontrol.c:mem_cgroup_private_id_get_online */
function onlineGroup(memcg: MemCgroup): MemCgroup {
  let each = memcg;
  while (!each.online) each = each.parent!;
  return each;
}

/**
 * Charges the slots that a page got, or notes that it got none (−1).
 *
 * @returns false where the group has no more: the slot is the caller's to give back
 */
export function chargeSwap(memcgs: MemCgroups, pfn: Pfn, nrPages: number, entry: number): boolean {
  const { vm } = memcgs;
  if ((vm.frames.flags[pfn] & PG_MEMCG) === 0) return true;
  const memcg = onlineGroup(memcgs.groupOf(pfn));
  if (memcg.parent === null) return true;
  if (entry < 0) {
    memcgEvent(memcg, MEMCG_EVENT.SWAP_FAIL);
    return true;
  }
  if (pageCounterTryCharge(memcg.swap, nrPages) !== null) {
    memcgEvent(memcg, MEMCG_EVENT.SWAP_MAX);
    memcgEvent(memcg, MEMCG_EVENT.SWAP_FAIL);
    return false;
  }
  const area = vm.swap.area(entry);
  area.memcg ??= new Uint16Array(area.max);
  area.memcg.fill(memcg.id, swpOffset(entry), swpOffset(entry) + nrPages);
  memcg.nrSwapSlots += nrPages;
  memcg.stat[MEMCG_STAT.SWAP] += nrPages;
  return true;
}

/** A slot is free. @linux mm/memcontrol.c:__mem_cgroup_uncharge_swap */
export function unchargeSwap(vm: Vm, owned: Uint16Array, slot: number): void {
  const memcgs = vm.memcgs!;
  const memcg = memcgs.owners[owned[slot]] as MemCgroup;
  owned[slot] = 0;
  pageCounterUncharge(memcg.swap, 1);
  memcg.nrSwapSlots--;
  memcg.stat[MEMCG_STAT.SWAP]--;
  if (!memcg.online) memcgs.releaseIfUnused(memcg);
}

/**
 * Charges a page that is read back to the group of its slot; where that is removed, to the running task's. Slots of the root are
 * charged to nobody, and neither are their pages.
 *
 * @returns whether that could be
 * @linux mm/memcontrol.c:mem_cgroup_swapin_charge_folio
 */
export function chargeSwapin(memcgs: MemCgroups, pfn: Pfn, entry: number, gfp: number): boolean {
  const id = memcgs.vm.swap.area(entry).memcg?.[swpOffset(entry)] ?? 0;
  if (id === 0) return true;
  const owner = memcgs.owners[id] as MemCgroup;
  const memcg = owner.online ? owner : (memcgs.current?.memcg ?? memcgs.root);
  return chargeFolio(memcgs, memcg, pfn, 1, gfp) === 0;
}

/** Slots that a group may still use. @linux mm/memcontrol.c:mem_cgroup_get_nr_swap_pages */
export function memcgSwapPages(vm: Vm, memcg: MemCgroup): number {
  let pages = vm.swap.nrFree;
  for (let each = memcg; each.parent !== null; each = each.parent) pages = Math.min(pages, each.swap.max - each.swap.usage);
  return pages;
}

/** Whether slots are short for a page: it is better to give its own back. @linux mm/memcontrol.c:mem_cgroup_swap_full */
export function folioSwapFull(vm: Vm, pfn: Pfn): boolean {
  if (vmSwapFull(vm)) return true;
  if (vm.memcgs === null || (vm.frames.flags[pfn] & PG_MEMCG) === 0) return false;
  for (let each = vm.memcgs.groupOf(pfn); each.parent !== null; each = each.parent) {
    if (each.swap.usage * 2 >= Math.min(each.swap.max, each.swap.high)) return true;
  }
  return false;
}

/** The slots of an area that are charged, by group, for validation. */
export function chargedSlots({ memcg }: SwapArea): Map<number, number> {
  const found = new Map<number, number>();
  for (const id of memcg ?? []) if (id !== 0) found.set(id, (found.get(id) ?? 0) + 1);
  return found;
}
