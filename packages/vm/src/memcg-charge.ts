/**
 * Charging pages and objects to groups. Pages are charged by 64: the rest is a stock of the CPU, for the next ones. Where a
 * limit is in the way, the group is reclaimed, and when that does not help, a task of it is killed.
 *
 * @linux mm/memcontrol.c:try_charge_memcg, obj_cgroup_charge
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import {
  PF_MEMALLOC,
  PG_MEMCG,
  PG_SWAPCACHE,
  __GFP_DIRECT_RECLAIM,
  __GFP_HIGH,
  __GFP_NOFAIL,
  __GFP_NORETRY,
  __GFP_RETRY_MAYFAIL,
} from '@pagelab/mm-core';
import { MEMCG_EVENT, MEMCG_STAT, OBJECT_BYTES, memcgEvent } from './memcg.ts';
import type { MemCgroup, MemCgroups, ObjCgroup, StockSlot } from './memcg.ts';
import { memcgHandleOverHigh } from './memcg-high.ts';
import type { MmStruct } from './mm-struct.ts';
import { pageCounterCharge, pageCounterTryCharge, pageCounterUncharge } from './page-counter.ts';
import type { PageCounter } from './page-counter.ts';
import type { Vm } from './vm.ts';
import { tryToFreeMemCgroupPages } from './memcg-reclaim.ts';

/** Pages that are charged at once. @linux include/linux/memcontrol.h:MEMCG_CHARGE_BATCH */
export const MEMCG_CHARGE_BATCH = 64;
/** Rounds of reclaim in vain before somebody is killed. @linux mm/internal.h:MAX_RECLAIM_RETRIES */
const MAX_RECLAIM_RETRIES = 16;
/** @linux include/linux/mmzone.h:PAGE_ALLOC_COSTLY_ORDER */
const COSTLY_PAGES = 8;
const PAGE_BYTES = 4096;

// ---- pages

/** @linux mm/memcontrol.c:consume_stock */
function consumeStock(memcgs: MemCgroups, memcg: MemCgroup, nrPages: number): boolean {
  if (nrPages > MEMCG_CHARGE_BATCH) return false;
  const slots = memcgs.stock[memcgs.vm.smp.processorId];
  for (const slot of slots) {
    if (slot.memcg !== memcg || slot.nrPages < nrPages) continue;
    slot.nrPages -= nrPages;
    return true;
  }
  return false;
}

/** Puts pages that are charged, and that nobody wants now, into the CPU's stock. @linux mm/memcontrol.c:refill_stock */
function refillStock(memcgs: MemCgroups, memcg: MemCgroup, nrPages: number): void {
  const slots = memcgs.stock[memcgs.vm.smp.processorId];
  let free: StockSlot | undefined;
  for (const slot of slots) {
    if (slot.memcg === memcg) {
      slot.nrPages += nrPages;
      if (slot.nrPages > MEMCG_CHARGE_BATCH) memcgs.drainSlot(slot);
      return;
    }
    if (slot.memcg === null) free ??= slot;
  }
  // Linux throws one out by chance; the oldest goes here.
  if (free === undefined) {
    free = slots[0];
    memcgs.drainSlot(free);
    slots.push(slots.shift()!);
  }
  free.memcg = memcg;
  free.nrPages = nrPages;
  if (nrPages > MEMCG_CHARGE_BATCH) memcgs.drainSlot(free);
}

/** The group whose limit was in the way. */
function groupOfCounter(memcg: MemCgroup, counter: PageCounter): MemCgroup {
  let each = memcg;
  while (each.memory !== counter) each = each.parent!;
  return each;
}

/**
 * Charges pages to a group, which may come to reclaim, to a kill, and to the task's being held up.
 *
 * @returns 0 or −ENOMEM
 * @linux mm/memcontrol.c:try_charge_memcg
 */
export function tryCharge(memcgs: MemCgroups, memcg: MemCgroup, gfp: number, nrPages: number): number {
  if (consumeStock(memcgs, memcg, nrPages)) return 0;
  const { vm } = memcgs;
  const { current } = memcgs;
  const mayWait = (gfp & __GFP_DIRECT_RECLAIM) !== 0;
  let batch = Math.max(MEMCG_CHARGE_BATCH, nrPages);
  let retries = MAX_RECLAIM_RETRIES;
  let drained = false;
  let passedOom = false;
  let noted = false;
  for (;;) {
    const counter = pageCounterTryCharge(memcg.memory, batch);
    if (counter === null) {
      if (batch > nrPages) refillStock(memcgs, memcg, batch - nrPages);
      noteOverHigh(memcgs, memcg, gfp, batch);
      return 0;
    }
    if (batch > nrPages) {
      batch = nrPages;
      continue;
    }
    const over = groupOfCounter(memcg, counter);
    // What frees memory, or is asked for on its behalf, is let through.
    if ((vm.pages.currentFlags & PF_MEMALLOC) !== 0) return force(memcgs, memcg, over, nrPages, noted);
    if (!mayWait) break;
    memcgEvent(over, MEMCG_EVENT.MAX);
    noted = true;
    const reclaimed = tryToFreeMemCgroupPages(vm, over, nrPages, gfp, { maySwap: true });
    if (over.memory.max - over.memory.usage >= nrPages) continue;
    if (!drained) {
      memcgs.drainStockOf(over);
      drained = true;
      continue;
    }
    if ((gfp & __GFP_NORETRY) !== 0) break;
    if (reclaimed > 0 && nrPages <= COSTLY_PAGES) continue;
    if (retries-- > 0) continue;
    if ((gfp & __GFP_RETRY_MAYFAIL) !== 0) break;
    if (passedOom && current?.isDying() === true) break;
    if (!memcgOom(memcgs, over, gfp, nrPages)) break;
    passedOom = true;
    retries = MAX_RECLAIM_RETRIES;
  }
  if ((gfp & (__GFP_NOFAIL | __GFP_HIGH)) === 0) return -Errno.ENOMEM;
  return force(memcgs, memcg, memcg, nrPages, noted);
}

function force(memcgs: MemCgroups, memcg: MemCgroup, over: MemCgroup, nrPages: number, noted: boolean): number {
  if (!noted) memcgEvent(over, MEMCG_EVENT.MAX);
  pageCounterCharge(memcg.memory, nrPages);
  return 0;
}

/** @linux mm/memcontrol.c:mem_cgroup_oom */
function memcgOom(memcgs: MemCgroups, memcg: MemCgroup, gfp: number, nrPages: number): boolean {
  const order = Math.ceil(Math.log2(nrPages));
  if (nrPages > COSTLY_PAGES) return false;
  memcgEvent(memcg, MEMCG_EVENT.OOM);
  return memcgs.hooks.outOfMemory(memcg, gfp, order);
}

/** A charge went beyond what the group, or one above, is to stay below: the task pays for it on its way back, or at once. */
function noteOverHigh(memcgs: MemCgroups, memcg: MemCgroup, gfp: number, batch: number): void {
  const { current, vm } = memcgs;
  if (current === null) return;
  for (let each = memcg; each.parent !== null; each = each.parent) {
    if (each.memory.usage <= each.memory.high && each.swap.usage <= each.swap.high) continue;
    current.nrPagesOverHigh += batch;
    break;
  }
  if (current.nrPagesOverHigh > MEMCG_CHARGE_BATCH && (vm.pages.currentFlags & PF_MEMALLOC) === 0 && (gfp & __GFP_DIRECT_RECLAIM) !== 0) {
    // In the middle of things nobody else can run meanwhile.
    vm.clock.advance(memcgHandleOverHigh(memcgs, gfp));
  }
}

/**
 * Charges a page of user space that is on no list yet.
 *
 * @param memcg whose it is; nothing is charged to the root
 * @returns 0 or −ENOMEM
 * @linux mm/memcontrol.c:charge_memcg
 */
export function chargeFolio(memcgs: MemCgroups, memcg: MemCgroup, pfn: Pfn, nrPages: number, gfp: number): number {
  if (memcg.parent === null) return 0;
  const { vm } = memcgs;
  const error = tryCharge(memcgs, memcg, gfp, nrPages);
  if (error !== 0) return error;
  vm.frames.memcg[pfn] = memcg.id;
  vm.frames.flags[pfn] |= PG_MEMCG;
  memcg.nrPages += nrPages;
  return 0;
}

/**
 * Charges a page to the group of an address space.
 *
 * @returns whether that could be
 * @linux mm/memcontrol.c:__mem_cgroup_charge
 */
export function chargeForMm(mm: MmStruct, pfn: Pfn, nrPages: number, gfp: number): boolean {
  const { memcgs } = mm.vm;
  return memcgs === null || mm.memcg === null || chargeFolio(memcgs, mm.memcg, pfn, nrPages, gfp) === 0;
}

/**
 * Charges a page that is to be cached to the group of the running task, unless it is charged already.
 *
 * @returns whether that could be
 * @linux include/linux/memcontrol.h:mem_cgroup_charge
 */
export function chargeForCurrent(memcgs: MemCgroups, pfn: Pfn, gfp: number): boolean {
  // What comes from swap was charged, or is the root's, as its slot says.
  if (memcgs.current === null || (memcgs.vm.frames.flags[pfn] & (PG_MEMCG | PG_SWAPCACHE)) !== 0) return true;
  return chargeFolio(memcgs, memcgs.current.memcg, pfn, 1, gfp) === 0;
}

/** The page takes the place of another: it is charged in its stead. @linux mm/memcontrol.c:mem_cgroup_migrate */
export function migrateCharge(vm: Vm, from: Pfn, to: Pfn): void {
  if ((vm.frames.flags[from] & PG_MEMCG) === 0) return;
  vm.frames.memcg[to] = vm.frames.memcg[from];
  vm.frames.flags[to] |= PG_MEMCG;
}

// ---- kernel memory

/** The owner that the running task's kernel memory is charged to; `null` for the root. @linux mm/memcontrol.c:current_obj_cgroup */
export function currentObjcg(memcgs: MemCgroups): ObjCgroup | null {
  if (memcgs.current === null) return null;
  for (let { memcg } = memcgs.current; memcg.parent !== null; memcg = memcg.parent) if (memcg.objcg !== null) return memcg.objcg;
  return null;
}

/** The owner that kernel memory which stands for a page is charged to; `null` for the root. @linux mm/memcontrol.c:get_obj_cgroup_from_folio */
export function objcgOfFolio(memcgs: MemCgroups, pfn: Pfn): ObjCgroup | null {
  if ((memcgs.vm.frames.flags[pfn] & PG_MEMCG) === 0) return null;
  for (let memcg = memcgs.groupOf(pfn); memcg.parent !== null; memcg = memcg.parent) if (memcg.objcg !== null) return memcg.objcg;
  return null;
}

/** The group (`null`: the root) whose an object of kernel memory is. @linux mm/memcontrol.c:mem_cgroup_from_slab_obj */
export function groupOfObject({ memcgs }: Vm, object: VirtAddr): MemCgroup | null {
  const charge = memcgs?.objects.get(object);
  if (charge === undefined) return null;
  const { memcg } = memcgs!.owners[Math.floor(charge / OBJECT_BYTES)]!;
  return memcg.parent === null ? null : memcg;
}

/** @linux mm/memcontrol.c:obj_cgroup_charge_pages */
function chargeObjPages(memcgs: MemCgroups, objcg: ObjCgroup, gfp: number, nrPages: number): number {
  const { memcg } = objcg;
  const error = tryCharge(memcgs, memcg, gfp, nrPages);
  if (error !== 0) return error;
  memcg.stat[MEMCG_STAT.KMEM] += nrPages;
  objcg.nrPages += nrPages;
  return 0;
}

/** @linux mm/memcontrol.c:obj_cgroup_uncharge_pages */
function unchargeObjPages(memcgs: MemCgroups, objcg: ObjCgroup, nrPages: number): void {
  objcg.nrPages -= nrPages;
  const { memcg } = objcg;
  memcg.stat[MEMCG_STAT.KMEM] -= nrPages;
  if (memcg.parent !== null) refillStock(memcgs, memcg, nrPages);
  memcgs.releaseObjcg(objcg);
}

/** @linux mm/memcontrol.c:__memcg_kmem_charge_page */
export function chargeKmemPage(memcgs: MemCgroups, pfn: Pfn, order: number, gfp: number): number {
  const objcg = currentObjcg(memcgs);
  if (objcg === null) return 0;
  const error = chargeObjPages(memcgs, objcg, gfp, 1 << order);
  if (error !== 0) return error;
  const { frames } = memcgs.vm;
  frames.memcg[pfn] = objcg.id;
  frames.flags[pfn] |= PG_MEMCG;
  return 0;
}

/** Pages of an area of vmalloc that are charged come or go (−1). Those of areas that fail to be made are not counted. @linux mm/vmalloc.c:__vmalloc_area_node */
export function countVmalloc(memcgs: MemCgroups, pages: Int32Array, sign: 1 | -1): void {
  const { flags } = memcgs.vm.frames;
  for (const pfn of pages) if ((flags[pfn] & PG_MEMCG) !== 0) memcgs.groupOf(pfn).stat[MEMCG_STAT.VMALLOC] += sign;
}

/** A charged page, or some of a block, is freed. @linux mm/memcontrol.c:uncharge_folio, uncharge_batch */
export function unchargePages(memcgs: MemCgroups, pfn: Pfn, nrPages: number): void {
  const owner = memcgs.owners[memcgs.vm.frames.memcg[pfn]]!;
  if (!('objcgs' in owner)) {
    unchargeObjPages(memcgs, owner, nrPages);
    return;
  }
  owner.nrPages -= nrPages;
  pageCounterUncharge(owner.memory, nrPages);
  if (!owner.online) memcgs.releaseIfUnused(owner);
}

/** What the CPU has of a page for the owner's next objects. @linux mm/memcontrol.c:refill_obj_stock */
function refillObjStock(memcgs: MemCgroups, objcg: ObjCgroup, nrBytes: number, mayUncharge: boolean): void {
  const cpu = memcgs.vm.smp.processorId;
  const stock = memcgs.objStock[cpu];
  let uncharge = mayUncharge;
  if (stock.objcg !== objcg) {
    memcgs.drainObjStock(cpu);
    stock.objcg = objcg;
    stock.nrBytes = objcg.spareBytes;
    objcg.spareBytes = 0;
    uncharge = true;
  }
  stock.nrBytes += nrBytes;
  if (!uncharge || stock.nrBytes <= PAGE_BYTES) return;
  const nrPages = Math.floor(stock.nrBytes / PAGE_BYTES);
  stock.nrBytes -= nrPages * PAGE_BYTES;
  unchargeObjPages(memcgs, objcg, nrPages);
}

/**
 * Charges bytes of kernel memory to an owner.
 *
 * @returns 0 or −ENOMEM
 * @linux mm/memcontrol.c:obj_cgroup_charge
 */
export function objCgroupCharge(memcgs: MemCgroups, objcg: ObjCgroup, gfp: number, bytes: number): number {
  const stock = memcgs.objStock[memcgs.vm.smp.processorId];
  if (stock.objcg === objcg && stock.nrBytes >= bytes) {
    stock.nrBytes -= bytes;
    return 0;
  }
  const nrPages = Math.ceil(bytes / PAGE_BYTES);
  const error = chargeObjPages(memcgs, objcg, gfp, nrPages);
  if (error !== 0) return error;
  const rest = nrPages * PAGE_BYTES - bytes;
  if (rest > 0) refillObjStock(memcgs, objcg, rest, false);
  return 0;
}

/** Takes the charge of bytes back. @linux mm/memcontrol.c:obj_cgroup_uncharge */
export function objCgroupUncharge(memcgs: MemCgroups, objcg: ObjCgroup, bytes: number): void {
  refillObjStock(memcgs, objcg, bytes, true);
}

/**
 * Charges an object of kernel memory to the running task's group.
 *
 * @param bytes of it, with what its owner takes
 * @returns 0 or −ENOMEM
 * @linux mm/slub.c:memcg_slab_post_alloc_hook
 */
export function chargeObject(memcgs: MemCgroups, object: VirtAddr, bytes: number, gfp: number, reclaimable: boolean): number {
  const objcg = currentObjcg(memcgs);
  if (objcg === null) return 0;
  const error = objCgroupCharge(memcgs, objcg, gfp, bytes);
  if (error !== 0) return error;
  memcgs.objects.set(object, objcg.id * OBJECT_BYTES + bytes);
  countObject(memcgs, objcg, object, bytes, reclaimable);
  return 0;
}

/** Takes the charge of an object back; nothing for one that has none. @linux mm/memcontrol.c:__memcg_slab_free_hook */
export function unchargeObject(memcgs: MemCgroups, object: VirtAddr, reclaimable: boolean): void {
  const charge = memcgs.objects.get(object);
  if (charge === undefined) return;
  const objcg = memcgs.owners[Math.floor(charge / OBJECT_BYTES)] as ObjCgroup;
  const bytes = charge % OBJECT_BYTES;
  memcgs.objects.delete(object);
  countObject(memcgs, objcg, object, -bytes, reclaimable);
  refillObjStock(memcgs, objcg, bytes, true);
}

function countObject(memcgs: MemCgroups, { memcg }: ObjCgroup, object: VirtAddr, bytes: number, reclaimable: boolean): void {
  const { pages } = memcgs.vm;
  memcg.slabBytes[pages.nodeOf(pages.virtToPfn(object)) * 2 + (reclaimable ? 0 : 1)] += bytes;
}
