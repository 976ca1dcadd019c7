/**
 * Memory cgroups: groups of tasks whose memory is counted, limited and reclaimed together.
 *
 * A page of user space is *charged* to the group of the address space it was brought in for, and stays so until it is
 * freed, wherever its users move. Kernel memory is charged to an *object owner* of the group (Linux's obj_cgroup): when the
 * group is removed its owners pass to the parent. Pages on LRU lists do not: they stay with the removed group, which is kept
 * until the last of them is gone.
 *
 *     frames.memcg[pfn] is the id of a group or of an owner; both are numbered together, 0 is the root
 *     memory.usage  === pages charged here and below, and what CPUs have in stock for them
 *     nrPages       === frames of user space whose id is the group's
 *
 * The root is a group without counters: what the machine counts as a whole is its own. While it is the only group, nothing of
 * this is looked at.
 *
 * @linux mm/memcontrol.c
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { NODE_STAT_NAMES, NR_LRU_LISTS, VM_EVENT_NAMES } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import type { PercpuPtr } from '@pagelab/slab';
import { PAGE_COUNTER_MAX, PageCounter, pageCounterSetLow, pageCounterSetMin, pageCounterUncharge } from './page-counter.ts';
import type { Vm } from './vm.ts';

/** Ids: they fit 16 bits. @linux include/linux/memcontrol.h:MEM_CGROUP_ID_MAX */
const MEM_CGROUP_ID_MAX = 65_535;
const NR_NODE_STATS = NODE_STAT_NAMES.length;
/** More bytes than any object of a slab has. */
export const OBJECT_BYTES = 2 ** 20;

/** What `memory.events` and `memory.swap.events` count. @linux include/linux/memcontrol.h:memcg_memory_event */
export const MEMCG_EVENT = { LOW: 0, HIGH: 1, MAX: 2, OOM: 3, OOM_KILL: 4, OOM_GROUP_KILL: 5, SWAP_HIGH: 6, SWAP_MAX: 7, SWAP_FAIL: 8 } as const;
const NR_MEMCG_EVENTS = 9;

/** Counters of a group that nodes do not have: pages, and bytes of per-CPU memory. @linux include/linux/memcontrol.h:memcg_stat_item */
export const MEMCG_STAT = { KMEM: 0, PERCPU_B: 1, VMALLOC: 2, SWAP: 3, ZSWAP_B: 4, ZSWAPPED: 5 } as const;
const NR_MEMCG_STATS = 6;

/** Whom kernel memory is charged to: a group, and its parent once that is removed. @linux include/linux/memcontrol.h:obj_cgroup */
export class ObjCgroup {
  readonly id: number;
  memcg: MemCgroup;
  /** Pages charged to it, those that objects take parts of included. */
  nrPages = 0;
  /** Bytes of those pages that no object has. */
  spareBytes = 0;

  constructor(id: number, memcg: MemCgroup) {
    this.id = id;
    this.memcg = memcg;
  }
}

/** A group. @linux include/linux/memcontrol.h:mem_cgroup */
export class MemCgroup {
  readonly id: number;
  /** `null` for the root. */
  readonly parent: MemCgroup | null;
  /** In the order of making; removed ones that still own memory among them. */
  readonly children = new Set<MemCgroup>();
  readonly memory: PageCounter;
  readonly swap: PageCounter;
  /** Whether a kill takes all tasks of the group. */
  oomGroup = false;
  /** Pages that its compressed pages may take, and whether these may go to their slots. */
  zswapMax = PAGE_COUNTER_MAX;
  zswapWriteback = true;
  /** False once the group is removed. */
  online = true;
  /** The path of its directory below the mount point, as reports name it. */
  path: string;
  /** Whom its kernel memory is charged to; `null` once it is removed. */
  objcg: ObjCgroup | null = null;
  /** Owners that have come down to it: its own, and those of removed children. */
  readonly objcgs = new Set<ObjCgroup>();
  /** By node. */
  readonly lruvecs: readonly Lruvec[];
  /** Counters (NODE_STAT) of its own pages, at `nid * NODE_STAT_NAMES.length + item`: see {@link memcgState}. */
  readonly nodeStat: Float64Array;
  readonly stat = new Float64Array(NR_MEMCG_STATS);
  /** Bytes of its own slab objects, by node: reclaimable ones, others. */
  readonly slabBytes: Float64Array;
  /** Events (VM_EVENT) of its own. */
  readonly vmEvents = new Float64Array(VM_EVENT_NAMES.length);
  /** By MEMCG_EVENT: here and below, and here alone. */
  readonly events = new Float64Array(NR_MEMCG_EVENTS);
  readonly eventsLocal = new Float64Array(NR_MEMCG_EVENTS);
  /** Frames of user space, and slots of swap areas, that are charged to it. */
  nrPages = 0;
  nrSwapSlots = 0;
  /** Its number among those that shadows can name; −1 for none: see `workingset.ts`. */
  slot = -1;
  /** Where reclaim of all below it goes on, by node; `null` for its beginning. @linux include/linux/memcontrol.h:mem_cgroup_reclaim_iter */
  readonly iterators: (MemCgroup | null)[];
  /** Address of its object in the `mem_cgroup` cache; the hooks' to allocate and free. */
  object: VirtAddr = 0;

  /** @param id 0 for the root @param parent `null` for the root */
  constructor(id: number, parent: MemCgroup | null, path: string, lruvecs: readonly Lruvec[]) {
    this.id = id;
    this.parent = parent;
    this.path = path;
    const counted = parent !== null && parent.parent !== null ? parent : null;
    this.memory = new PageCounter(counted?.memory ?? null);
    this.swap = new PageCounter(counted?.swap ?? null);
    this.lruvecs = lruvecs;
    this.nodeStat = new Float64Array(lruvecs.length * NR_NODE_STATS);
    this.slabBytes = new Float64Array(lruvecs.length * 2);
    this.iterators = lruvecs.map(() => null);
  }

  /** As {@link ObjCgroup.memcg}: owners of both kinds lead to a group. */
  get memcg(): MemCgroup {
    return this;
  }
}

/** What a task that runs is charged to. Part of the task. */
export interface MemcgTask {
  memcg: MemCgroup;
  /** Pages charged beyond `memory.high` since it was last made to pay for that. @linux include/linux/sched.h:task_struct.memcg_nr_pages_over_high */
  nrPagesOverHigh: number;
  /** Whether it is to die, and must not be held up. */
  isDying(): boolean;
}

/** Pages that a CPU has charged in advance for one group. @linux mm/memcontrol.c:memcg_stock_pcp */
export interface StockSlot {
  memcg: MemCgroup | null;
  nrPages: number;
}

/** Groups that a shadow has room for. */
const NR_SLOTS = 256;

/** Groups that a CPU has pages in stock for. @linux mm/memcontrol.c:NR_MEMCG_STOCK */
const NR_MEMCG_STOCK = 7;

/** What the OOM killer of a group is asked. */
export interface MemcgHooks {
  /** Kills a task of the group, or below it. @returns whether charging is worth another try @linux mm/memcontrol.c:mem_cgroup_out_of_memory */
  outOfMemory(memcg: MemCgroup, gfp: number, order: number): boolean;
  /** A group is gone for good: what stood for it can be given back. */
  released(memcg: MemCgroup): void;
}

/** All groups but the root, and what is charged in advance. There is one from the first group on. */
export class MemCgroups {
  readonly vm: Vm;
  readonly hooks: MemcgHooks;
  /** The group of all that is in no other; its lists are the nodes' own. */
  readonly root: MemCgroup;
  /** Groups and owners by id. */
  readonly owners: (MemCgroup | ObjCgroup | undefined)[];
  /** Groups that shadows of reclaimed pages can name: 256 of them. */
  readonly slots: (MemCgroup | undefined)[] = [];
  /** Whom the task that runs is charged to; `null` where none runs. */
  current: MemcgTask | null = null;
  /** The stock of each CPU. */
  readonly stock: readonly StockSlot[][];
  /** Whose bytes of a page each CPU has in stock, and how many. @linux mm/memcontrol.c:obj_stock_pcp */
  readonly objStock: { objcg: ObjCgroup | null; nrBytes: number }[];
  /**
   * Whose slab objects these are, by address: the owner's id times OBJECT_BYTES, and the bytes that are charged. Those of the
   * root are none of them.
   *
   * @linux include/linux/slab.h:slabobj_ext
   */
  readonly objects = new Map<VirtAddr, number>();
  /** Whose per-CPU memory this is, by pointer, and the bytes of all copies. @linux mm/percpu-internal.h:pcpuobj_ext */
  readonly percpu = new Map<PercpuPtr, { readonly objcg: ObjCgroup; readonly bytes: number }>();
  /** Groups but the root that exist, removed ones that own memory included. */
  nrGroups = 0;
  #nextId = 1;

  constructor(vm: Vm, hooks: MemcgHooks) {
    this.vm = vm;
    this.hooks = hooks;
    this.stock = vm.smp.cpus.map(() => Array.from({ length: NR_MEMCG_STOCK }, () => ({ memcg: null, nrPages: 0 })));
    this.objStock = vm.smp.cpus.map(() => ({ objcg: null, nrBytes: 0 }));
    this.root = new MemCgroup(0, null, '/', vm.pages.lru.lruvecs);
    this.owners = [this.root];
    vm.frames.enableMemcg();
  }

  /** The group of a page, by its head. @linux include/linux/memcontrol.h:folio_memcg */
  groupOf(head: Pfn): MemCgroup {
    return this.owners[this.vm.frames.memcg[head]]!.memcg;
  }

  /** Makes a group. @returns it, or `null` where there are no ids left @linux mm/memcontrol.c:mem_cgroup_css_alloc, mem_cgroup_css_online */
  create(parent: MemCgroup, path: string): MemCgroup | null {
    if (this.owners.length > MEM_CGROUP_ID_MAX && this.owners.indexOf(undefined, 1) < 0) return null;
    const memcg = new MemCgroup(this.#allocId(), parent, path, this.#takeLruvecs(parent));
    this.owners[memcg.id] = memcg;
    const objcg = new ObjCgroup(this.#allocId(), memcg);
    this.owners[objcg.id] = objcg;
    memcg.objcg = objcg;
    memcg.objcgs.add(objcg);
    parent.children.add(memcg);
    this.#takeSlot(memcg);
    this.nrGroups++;
    return memcg;
  }

  /**
   * A group is removed: its kernel memory is the parent's from now on; it goes when nothing else is left of it.
   *
   * @linux mm/memcontrol.c:mem_cgroup_css_offline, memcg_reparent_objcgs
   */
  offline(memcg: MemCgroup): void {
    this.drainStockOf(memcg);
    memcg.online = false;
    pageCounterSetMin(memcg.memory, 0);
    pageCounterSetLow(memcg.memory, 0);
    const parent = memcg.parent!;
    memcg.objcg = null;
    for (const objcg of memcg.objcgs) {
      objcg.memcg = parent;
      parent.objcgs.add(objcg);
    }
    // What lists of caches have of it is its parent's as well.
    const above = parent.parent === null ? null : parent;
    for (const lists of this.vm.listLrus) lists.reparent(memcg, above);
    this.vm.slab.shrinkers.reparent(memcg, above);
    for (const objcg of memcg.objcgs) this.#releaseObjcg(objcg);
    memcg.objcgs.clear();
    this.releaseIfUnused(memcg);
  }

  /** Forgets an owner that owns nothing any more and is no group's. */
  releaseObjcg(objcg: ObjCgroup): void {
    this.#releaseObjcg(objcg);
    this.releaseIfUnused(objcg.memcg);
  }

  /** Forgets a removed group when nothing is charged to it any more. @linux mm/memcontrol.c:mem_cgroup_css_released, mem_cgroup_css_free */
  releaseIfUnused(memcg: MemCgroup): void {
    if (memcg.online || memcg.nrPages > 0 || memcg.nrSwapSlots > 0 || memcg.children.size > 0 || memcg.objcgs.size > 0) return;
    const parent = memcg.parent!;
    parent.children.delete(memcg);
    this.owners[memcg.id] = undefined;
    if (memcg.slot >= 0) this.slots[memcg.slot] = undefined;
    this.nrGroups--;
    for (let above: MemCgroup | null = parent; above !== null; above = above.parent) {
      for (let nid = 0; nid < above.iterators.length; nid++) if (above.iterators[nid] === memcg) above.iterators[nid] = null;
    }
    inheritStats(parent, memcg);
    this.vm.deferredSplit.forgetGroup(memcg);
    for (const lruvec of memcg.lruvecs) {
      this.vm.reclaim.policy.exitLruvec?.(lruvec);
      this.vm.pages.lru.destroy(lruvec);
    }
    this.hooks.released(memcg);
    this.releaseIfUnused(parent);
  }

  /** Gives back what CPUs have in stock for a group and those below it. @linux mm/memcontrol.c:drain_all_stock */
  drainStockOf(root: MemCgroup): void {
    for (const [cpu, slots] of this.stock.entries()) {
      const { objcg } = this.objStock[cpu];
      if (objcg !== null && isBelow(objcg.memcg, root)) this.drainObjStock(cpu);
      for (const slot of slots) if (slot.memcg !== null && isBelow(slot.memcg, root)) this.drainSlot(slot);
    }
  }

  /** @linux mm/memcontrol.c:drain_stock */
  drainSlot(slot: StockSlot): void {
    if (slot.memcg !== null && slot.nrPages > 0) pageCounterUncharge(slot.memcg.memory, slot.nrPages);
    slot.memcg = null;
    slot.nrPages = 0;
  }

  /** @linux mm/memcontrol.c:drain_obj_stock */
  drainObjStock(cpu: number): void {
    const stock = this.objStock[cpu];
    const { objcg } = stock;
    if (objcg === null) return;
    const nrPages = Math.floor(stock.nrBytes / 4096);
    if (nrPages > 0) unchargeNow(objcg, nrPages);
    objcg.spareBytes += stock.nrBytes % 4096;
    stock.objcg = null;
    stock.nrBytes = 0;
    this.#settle(objcg);
  }

  /** Pages of which nobody has a byte go back. @linux mm/memcontrol.c:obj_cgroup_release */
  #settle(objcg: ObjCgroup): void {
    const nrPages = Math.floor(objcg.spareBytes / 4096);
    if (nrPages > 0) {
      objcg.spareBytes -= nrPages * 4096;
      unchargeNow(objcg, nrPages);
    }
    this.releaseObjcg(objcg);
  }

  #releaseObjcg(objcg: ObjCgroup): void {
    if (objcg.nrPages > 0 || this.owners[objcg.id] !== objcg || objcg.memcg.objcg === objcg) return;
    if (this.objStock.some((stock) => stock.objcg === objcg)) return;
    this.owners[objcg.id] = undefined;
    objcg.memcg.objcgs.delete(objcg);
  }

  #takeSlot(memcg: MemCgroup): void {
    let slot = 0;
    while (this.slots[slot] !== undefined) slot++;
    if (slot >= NR_SLOTS) return;
    memcg.slot = slot;
    this.slots[slot] = memcg;
  }

  #allocId(): number {
    for (let tries = 0; ; tries++) {
      bugOn(tries > MEM_CGROUP_ID_MAX, 'memcg: more groups than ids');
      const id = this.#nextId;
      this.#nextId = id === MEM_CGROUP_ID_MAX ? 1 : id + 1;
      if (this.owners[id] === undefined) return id;
    }
  }

  #takeLruvecs(parent: MemCgroup): Lruvec[] {
    const { lru } = this.vm.pages;
    const lruvecs = this.vm.pages.nodes.map(({ nid }) => lru.create(nid, parent.lruvecs[nid]));
    for (const lruvec of lruvecs) this.vm.reclaim.policy.initLruvec(lruvec);
    return lruvecs;
  }
}

/** @linux mm/memcontrol.c:memcg_uncharge */
function unchargeNow(objcg: ObjCgroup, nrPages: number): void {
  objcg.nrPages -= nrPages;
  objcg.memcg.stat[MEMCG_STAT.KMEM] -= nrPages;
  if (objcg.memcg.parent !== null) pageCounterUncharge(objcg.memcg.memory, nrPages);
}

/** A group and all below it, parents first. @linux include/linux/cgroup.h:css_for_each_descendant_pre */
export function* descendants(memcg: MemCgroup): Generator<MemCgroup> {
  yield memcg;
  for (const child of memcg.children) yield* descendants(child);
}

/** Whether a group is `root` or below it. @linux include/linux/memcontrol.h:mem_cgroup_is_descendant */
export function isBelow(memcg: MemCgroup, root: MemCgroup): boolean {
  for (let each: MemCgroup | null = memcg; each !== null; each = each.parent) if (each === root) return true;
  return false;
}

/** What a group had counted stays in its parent's figures. @linux mm/memcontrol.c:mem_cgroup_css_rstat_flush */
function inheritStats(parent: MemCgroup, child: MemCgroup): void {
  for (const key of ['nodeStat', 'stat', 'slabBytes', 'vmEvents'] as const) {
    for (let i = 0; i < child[key].length; i++) parent[key][i] += child[key][i];
  }
}

/** Counts an event (MEMCG_EVENT) of a group, and for all above it. @linux include/linux/memcontrol.h:memcg_memory_event */
export function memcgEvent(memcg: MemCgroup, event: number): void {
  memcg.eventsLocal[event]++;
  for (let each = memcg; each.parent !== null; each = each.parent) each.events[event]++;
}

/** A counter (MEMCG_STAT) of a group and all below it. @linux mm/memcontrol.c:memcg_page_state */
export function memcgPageState(memcg: MemCgroup, item: number): number {
  let sum = 0;
  for (const { stat } of descendants(memcg)) sum += stat[item];
  return sum;
}

/** A counter (NODE_STAT) of a group and all below it, over all nodes or of one. @linux mm/memcontrol.c:lruvec_page_state */
export function memcgState(memcg: MemCgroup, item: number, nid = -1): number {
  let sum = 0;
  for (const { nodeStat, lruvecs } of descendants(memcg)) {
    for (let node = 0; node < lruvecs.length; node++) {
      if (nid >= 0 && node !== nid) continue;
      sum += item < NR_LRU_LISTS ? lruvecs[node].size(item) : nodeStat[node * NR_NODE_STATS + item];
    }
  }
  return sum;
}

/** Adds to a counter (NODE_STAT) of a group's own. */
export function modMemcgState(memcg: MemCgroup, nid: number, item: number, delta: number): void {
  memcg.nodeStat[nid * NR_NODE_STATS + item] += delta;
}
