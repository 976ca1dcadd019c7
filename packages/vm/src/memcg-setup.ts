/**
 * The first memory cgroup: from here on pages and objects are charged.
 */
import type { Pfn } from '@pagelab/hw';
import { PG_MEMCG, __GFP_ACCOUNT } from '@pagelab/mm-core';
import type { Lruvec, MemcgAccounting } from '@pagelab/mm-core';
import { SLAB_ACCOUNT, SLAB_KMALLOC, SLAB_RECLAIM_ACCOUNT } from '@pagelab/slab';
import type { KmemCache, PercpuAccounting, PercpuPtr } from '@pagelab/slab';
import { MEMCG_STAT, MemCgroups, descendants, modMemcgState } from './memcg.ts';
import type { MemcgHooks } from './memcg.ts';
import { chargeKmemPage, chargeObject, currentObjcg, objCgroupCharge, objCgroupUncharge, unchargeObject, unchargePages } from './memcg-charge.ts';
import type { Vm } from './vm.ts';

/** Bytes of the pointer to its owner that an object takes. @linux mm/memcontrol.c:obj_full_size */
const OWNER_BYTES = 8;

/**
 * Makes memory cgroups possible: the root is there, and nothing is charged yet. Called when the first group is made.
 *
 * @returns what there is already, the second time
 */
export function enableMemCgroups(vm: Vm, hooks: MemcgHooks): MemCgroups {
  if (vm.memcgs !== null) return vm.memcgs;
  const memcgs = new MemCgroups(vm, hooks);
  vm.memcgs = memcgs;
  vm.pages.enableMemcg(new FrameCharges(memcgs));
  if (vm.percpu !== null) vm.percpu.accounting = new PercpuCharges(memcgs);
  vm.slab.account((cache) => {
    // `kmalloc` has caches of its own for what is charged.
    if ((cache.flags & SLAB_ACCOUNT) !== 0 || (cache.flags & SLAB_KMALLOC) === 0) accountObjects(cache, memcgs);
  });
  return memcgs;
}

class FrameCharges implements MemcgAccounting {
  readonly #memcgs: MemCgroups;

  constructor(memcgs: MemCgroups) {
    this.#memcgs = memcgs;
  }

  chargeKmem(pfn: Pfn, order: number, gfp: number): number {
    return chargeKmemPage(this.#memcgs, pfn, order, gfp);
  }

  uncharge(pfn: Pfn, nrPages: number): void {
    unchargePages(this.#memcgs, pfn, nrPages);
  }

  split(pfn: Pfn, nrPages: number): void {
    const { flags, memcg } = this.#memcgs.vm.frames;
    for (let part = pfn + 1; part < pfn + nrPages; part++) {
      flags[part] |= PG_MEMCG;
      memcg[part] = memcg[pfn];
    }
  }

  modState(head: Pfn, item: number, delta: number): void {
    const memcgs = this.#memcgs;
    modMemcgState(memcgs.groupOf(head), memcgs.vm.pages.nodeOf(head), item, delta);
  }

  lruvecOf(pfn: Pfn, nid: number): Lruvec {
    return this.#memcgs.groupOf(pfn).lruvecs[nid];
  }

  *lruvecs(): Generator<Lruvec> {
    const { root } = this.#memcgs;
    for (const memcg of descendants(root)) if (memcg !== root) yield* memcg.lruvecs;
  }
}

/** @linux mm/percpu.c:pcpu_memcg_pre_alloc_hook */
class PercpuCharges implements PercpuAccounting {
  readonly #memcgs: MemCgroups;

  constructor(memcgs: MemCgroups) {
    this.#memcgs = memcgs;
  }

  charge(pointer: PercpuPtr, bytes: number, gfp: number): number {
    const memcgs = this.#memcgs;
    const objcg = currentObjcg(memcgs);
    if (objcg === null) return 0;
    const error = objCgroupCharge(memcgs, objcg, gfp, bytes);
    if (error !== 0) return error;
    objcg.memcg.stat[MEMCG_STAT.PERCPU_B] += bytes;
    memcgs.percpu.set(pointer, { objcg, bytes });
    return 0;
  }

  uncharge(pointer: PercpuPtr): void {
    const memcgs = this.#memcgs;
    const charge = memcgs.percpu.get(pointer);
    if (charge === undefined) return;
    memcgs.percpu.delete(pointer);
    charge.objcg.memcg.stat[MEMCG_STAT.PERCPU_B] -= charge.bytes;
    objCgroupUncharge(memcgs, charge.objcg, charge.bytes);
  }
}

/**
 * Has a cache charge its objects: all where it says SLAB_ACCOUNT, otherwise those that are asked for with __GFP_ACCOUNT. Its methods call one another: only the outermost call does.
 *
 * @linux mm/slub.c:memcg_slab_post_alloc_hook, memcg_slab_free_hook
 */
function accountObjects(cache: KmemCache, memcgs: MemCgroups): void {
  const bytes = cache.size + OWNER_BYTES;
  const reclaimable = (cache.flags & SLAB_RECLAIM_ACCOUNT) !== 0;
  let depth = 0;
  const free = cache.free.bind(cache);
  const all = (cache.flags & SLAB_ACCOUNT) !== 0;
  const charged = (make: () => number, gfp: number): number => {
    if (!all && (gfp & __GFP_ACCOUNT) === 0) return make();
    depth++;
    const object = make();
    depth--;
    if (depth > 0 || object === 0 || chargeObject(memcgs, object, bytes, gfp, reclaimable) === 0) return object;
    free(object);
    return 0;
  };
  const alloc = cache.alloc.bind(cache);
  const allocNode = cache.allocNode.bind(cache);
  const allocSized = cache.allocSized.bind(cache);
  cache.alloc = (gfp) => charged(() => alloc(gfp), gfp);
  cache.allocNode = (gfp, node) => charged(() => allocNode(gfp, node), gfp);
  cache.allocSized = (gfp, size) => charged(() => allocSized(gfp, size), gfp);
  cache.free = (object) => {
    if (depth === 0 && object !== 0) unchargeObject(memcgs, object, reclaimable);
    depth++;
    free(object);
    depth--;
  };
}

/** Charges the pages of a kernel stack, which may have been another's, to the running task's group. @returns 0 or −ENOMEM @linux kernel/fork.c:memcg_charge_kernel_stack */
export function chargeStackPages(vm: Vm, frames: readonly Pfn[], gfp: number): number {
  const { memcgs } = vm;
  if (memcgs === null) return 0;
  for (const [i, pfn] of frames.entries()) {
    const error = chargeKmemPage(memcgs, pfn, 0, gfp);
    if (error === 0) continue;
    unchargeStackPages(vm, frames.slice(0, i));
    return error;
  }
  return 0;
}

/** @linux kernel/fork.c:exit_task_stack_account */
export function unchargeStackPages(vm: Vm, frames: readonly Pfn[]): void {
  const { flags, memcg } = vm.frames;
  for (const pfn of frames) {
    if ((flags[pfn] & PG_MEMCG) === 0) continue;
    unchargePages(vm.memcgs!, pfn, 1);
    flags[pfn] &= ~PG_MEMCG;
    memcg[pfn] = 0;
  }
}
