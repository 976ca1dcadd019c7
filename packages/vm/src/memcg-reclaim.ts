/**
 * Reclaim of memory cgroups: which groups of those below a target are looked at, in what order, and how much of each is left
 * alone.
 *
 * A group within its `min` is passed over, and one within its `low` as long as others have something; of a group beyond, the
 * lists are looked at in proportion to what is not protected.
 *
 * @linux mm/vmscan.c:shrink_node_memcgs, mm/memcontrol.c:mem_cgroup_iter
 */
import { MEMCG_EVENT, memcgEvent } from './memcg.ts';
import type { MemCgroup } from './memcg.ts';
import { calculateProtection } from './page-counter.ts';
import { RECLAIMER_DIRECT, RECLAIMER_PROACTIVE, SWAP_CLUSTER_MAX, ScanControl } from './scan-control.ts';
import type { Vm } from './vm.ts';
import { reclaimGroup } from './vmscan.ts';

/** What reclaim of a group may do beside dropping pages of files. */
export interface MemcgReclaimOptions {
  readonly maySwap: boolean;
  /** Somebody has asked for it: `memory.reclaim`. */
  readonly proactive?: boolean;
  /** In place of `vm.swappiness`; 201 is nothing but anonymous memory. */
  readonly swappiness?: number;
}

/**
 * Takes memory from a group and those below it.
 *
 * @param nrPages wanted
 * @returns pages freed
 * @linux mm/vmscan.c:try_to_free_mem_cgroup_pages
 */
export function tryToFreeMemCgroupPages(vm: Vm, memcg: MemCgroup, nrPages: number, gfp: number, options: MemcgReclaimOptions): number {
  const sc = new ScanControl(
    Math.max(nrPages, SWAP_CLUSTER_MAX),
    gfp,
    0,
    Infinity,
    options.proactive === true ? RECLAIMER_PROACTIVE : RECLAIMER_DIRECT,
  );
  sc.target = memcg;
  sc.maySwap = options.maySwap;
  sc.swappiness = options.swappiness ?? -1;
  return reclaimGroup(vm, sc);
}

/** The group after `pos` in the tree below `root`, parents first; `null` at its end. @linux kernel/cgroup/cgroup.c:css_next_descendant_pre */
function nextDescendant(pos: MemCgroup | null, root: MemCgroup): MemCgroup | null {
  if (pos === null) return root;
  for (const child of pos.children) return child;
  for (let each = pos; each !== root; each = each.parent!) {
    let found = false;
    for (const sibling of each.parent!.children) {
      if (found) return sibling;
      found = sibling === each;
    }
  }
  return null;
}

/**
 * Looks at the lists of a node, and the objects of caches, that belong to the target's groups. Whoever only wants some pages stops when there are enough,
 * and the next goes on with the group after that.
 */
export function shrinkNodeMemcgs(vm: Vm, nid: number, sc: ScanControl, shrink: (memcg: MemCgroup) => void): void {
  const target = sc.target ?? vm.memcgs!.root;
  const partial = !sc.isKswapd && !sc.memcgFullWalk;
  let memcg = nextDescendant(partial ? target.iterators[nid] : null, target) ?? target;
  for (;;) {
    if (partial) target.iterators[nid] = memcg;
    if (!isSpared(memcg, target, sc)) {
      sc.memcg = memcg;
      shrink(memcg);
      if (partial && sc.nrReclaimed >= sc.nrToReclaim) return;
    }
    const next = nextDescendant(memcg, target);
    if (next === null) break;
    memcg = next;
  }
  if (partial) target.iterators[nid] = null;
}

/** Whether a group is within its protection. @linux mm/vmscan.c:shrink_node_memcgs, include/linux/memcontrol.h:mem_cgroup_below_low */
function isSpared(memcg: MemCgroup, target: MemCgroup, sc: ScanControl): boolean {
  if (memcg.parent === null || memcg === target) return false;
  calculateProtection(target.memory, memcg.memory);
  const { usage, emin, elow } = memcg.memory;
  if (emin >= usage) return true;
  if (elow < usage) return false;
  if (!sc.memcgLowReclaim) {
    sc.memcgLowSkipped = true;
    return true;
  }
  memcgEvent(memcg, MEMCG_EVENT.LOW);
  return false;
}

/**
 * Pages of a list that reclaim looks at, of `size` that are on it: all but what is protected.
 *
 * @linux mm/vmscan.c:get_scan_count
 */
export function unprotectedSize(sc: ScanControl, size: number): number {
  const { memcg, target } = sc;
  if (memcg === null || memcg.parent === null || memcg === target) return size;
  const { usage, emin, elow } = memcg.memory;
  if (emin === 0 && elow === 0) return size;
  let protection = emin;
  if (!sc.memcgLowReclaim && elow > emin) {
    protection = elow;
    sc.memcgLowSkipped = true;
  }
  const scan = size - Math.floor((size * protection) / (Math.max(usage, protection) + 1));
  return Math.max(scan, SWAP_CLUSTER_MAX);
}

/** Where nothing was to be had, what reclaim has held back so far goes as well. @returns whether to try again @linux mm/vmscan.c:do_try_to_free_pages */
export function relaxScan(sc: ScanControl, hasGroups: boolean): boolean {
  if (hasGroups && !sc.memcgFullWalk) {
    sc.memcgFullWalk = true;
    return true;
  }
  if (sc.skippedDeactivate) {
    // The active lists were spared: not this time.
    sc.forceDeactivate = true;
    sc.skippedDeactivate = false;
    return true;
  }
  if (!sc.memcgLowSkipped) return false;
  sc.forceDeactivate = false;
  sc.memcgLowReclaim = true;
  sc.memcgLowSkipped = false;
  return true;
}

