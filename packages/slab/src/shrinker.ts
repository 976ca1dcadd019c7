/**
 * Shrinkers: how the owner of a cache of objects that can be made again is asked for some of their memory.
 *
 *     total scan = deferred >> priority + (4 × (freeable >> priority)) / seeks, at most 2 × freeable
 *
 * Reclaim calls {@link ShrinkerRegistry.shrinkSlab} for a node with its priority, 12 when it begins and 0 when it is
 * desperate. What a shrinker was asked for and did not do is deferred to its next call.
 */
import { bugOn } from '@pagelab/lib';

/** What recreating an object costs, as a shrinker says; twice as many seeks, half as many objects scanned. @linux include/linux/shrinker.h:DEFAULT_SEEKS */
export const DEFAULT_SEEKS = 2;
/** Objects a shrinker is asked to scan at a time where it does not say. @linux mm/shrinker.c:SHRINK_BATCH */
export const SHRINK_BATCH = 128;
/** What `countObjects` returns where there is nothing at all, rather than nothing that can be freed. */
export const SHRINK_EMPTY = -2;
/** What `scanObjects` returns where it cannot go on now. */
export const SHRINK_STOP = -1;
/** The shrinker keeps its objects by node. */
export const SHRINKER_NUMA_AWARE = 1 << 0;
/** The shrinker keeps its objects by memory cgroup: it is asked for those of a group that is reclaimed, too. */
export const SHRINKER_MEMCG_AWARE = 1 << 1;
/** The priority reclaim begins with. @linux include/linux/mmzone.h:DEF_PRIORITY */
const DEF_PRIORITY = 12;

/** A memory cgroup, of which nothing is known here but which one it is. */
export type ShrinkerGroup = object;

/** What a shrinker is told. @linux include/linux/shrinker.h:shrink_control */
export interface ShrinkControl {
  /** GFP flags of the allocation that reclaim works for: what the shrinker may do. */
  readonly gfp: number;
  /** 0 where the shrinker is not SHRINKER_NUMA_AWARE. */
  readonly nid: number;
  /** The memory cgroup whose objects are wanted; `null` for those of the root, and for all where the shrinker is not SHRINKER_MEMCG_AWARE. */
  readonly memcg: ShrinkerGroup | null;
  /** Objects to look at. */
  nrToScan: number;
  /** Objects looked at; the shrinker sets it where it is not `nrToScan`. */
  nrScanned: number;
}

/** A cache's owner that can free some of it. @linux include/linux/shrinker.h:shrinker */
export interface ShrinkerSpec {
  /** As `/sys/kernel/debug/shrinker` names it. */
  readonly name: string;
  /** Objects that could be freed on a node; 0 or SHRINK_EMPTY for none. Cost: it is called at each turn of reclaim. */
  countObjects(control: ShrinkControl): number;
  /** Looks at `nrToScan` objects. Returns how many it freed, or SHRINK_STOP. */
  scanObjects(control: ShrinkControl): number;
  /** DEFAULT_SEEKS where it does not say; 0 for objects that cost nothing to make again. */
  readonly seeks?: number;
  /** SHRINK_BATCH where it does not say. */
  readonly batch?: number;
  /** SHRINKER_* */
  readonly flags?: number;
}

/** A registered shrinker. */
interface Shrinker {
  readonly spec: ShrinkerSpec;
  readonly seeks: number;
  readonly batch: number;
  readonly numaAware: boolean;
  readonly memcgAware: boolean;
  /** Scans put off, by node: of the root's objects, and of groups'. */
  readonly nrDeferred: Float64Array;
  readonly groupDeferred: Map<ShrinkerGroup, Float64Array>;
}

/** What a shrinker comes to now. */
export interface ShrinkerInfo {
  readonly name: string;
  /** By node; one entry where it is not SHRINKER_NUMA_AWARE. */
  readonly freeable: readonly number[];
  readonly nrDeferred: readonly number[];
}

/** Every shrinker, in the order they were registered. @linux mm/shrinker.c:shrinker_list */
export class ShrinkerRegistry {
  private readonly nrNodes: number;
  private readonly onScanned: (objects: number) => void;
  private shrinkers: Shrinker[] = [];

  /**
   * @param nrNodes nodes of the machine
   * @param onScanned is told how many objects were looked at, for `slabs_scanned`
   */
  constructor(nrNodes: number, onScanned: (objects: number) => void = () => {}) {
    this.nrNodes = nrNodes;
    this.onScanned = onScanned;
  }

  /** Adds a shrinker. @linux mm/shrinker.c:shrinker_register */
  register(spec: ShrinkerSpec): void {
    const numaAware = ((spec.flags ?? 0) & SHRINKER_NUMA_AWARE) !== 0;
    this.shrinkers.push({
      spec,
      seeks: spec.seeks ?? DEFAULT_SEEKS,
      batch: spec.batch ?? SHRINK_BATCH,
      numaAware,
      memcgAware: ((spec.flags ?? 0) & SHRINKER_MEMCG_AWARE) !== 0,
      nrDeferred: new Float64Array(numaAware ? this.nrNodes : 1),
      groupDeferred: new Map(),
    });
  }

  /** Takes a shrinker away. @throws KernelBug where it is not registered @linux mm/shrinker.c:shrinker_free */
  unregister(spec: ShrinkerSpec): void {
    const rest = this.shrinkers.filter((shrinker) => shrinker.spec !== spec);
    bugOn(rest.length === this.shrinkers.length, `shrinker ${spec.name}: not registered`);
    this.shrinkers = rest;
  }

  /**
   * Asks each shrinker for some of what it has on node `nid`.
   *
   * @param gfp of the allocation that reclaim works for
   * @param priority 12 (little) to 0 (all there is)
   * @param memcg the memory cgroup whose objects are wanted: only shrinkers that know groups are asked; `null` for the root
   * @returns objects freed
   * @linux mm/shrinker.c:shrink_slab, shrink_slab_memcg
   */
  shrinkSlab(gfp: number, nid: number, priority: number, memcg: ShrinkerGroup | null = null): number {
    let freed = 0;
    for (const shrinker of this.shrinkers) {
      if (memcg !== null && !shrinker.memcgAware) continue;
      const got = this.shrinkOne(shrinker, { gfp, nid: shrinker.numaAware ? nid : 0, memcg, nrToScan: 0, nrScanned: 0 }, priority);
      if (got > 0) freed += got;
    }
    return freed;
  }

  /** A group is removed: what was put off of its objects is its parent's (`null`: the root's). @linux mm/shrinker.c:reparent_shrinker_deferred */
  reparent(memcg: ShrinkerGroup, parent: ShrinkerGroup | null): void {
    for (const shrinker of this.shrinkers) {
      const from = shrinker.groupDeferred.get(memcg);
      if (from === undefined) continue;
      shrinker.groupDeferred.delete(memcg);
      const to = this.deferredOf(shrinker, parent);
      for (let nid = 0; nid < from.length; nid++) to[nid] += from[nid];
    }
  }

  private deferredOf({ nrDeferred, groupDeferred }: Shrinker, memcg: ShrinkerGroup | null): Float64Array {
    if (memcg === null) return nrDeferred;
    let deferred = groupDeferred.get(memcg);
    if (deferred === undefined) groupDeferred.set(memcg, (deferred = new Float64Array(nrDeferred.length)));
    return deferred;
  }

  /** @linux mm/shrinker.c:do_shrink_slab */
  private shrinkOne(shrinker: Shrinker, control: ShrinkControl, priority: number): number {
    const { spec, seeks, batch } = shrinker;
    const freeable = spec.countObjects(control);
    if (freeable <= 0) return 0;
    const { nid } = control;
    const nrDeferred = this.deferredOf(shrinker, control.memcg);
    const deferred = nrDeferred[nid];
    nrDeferred[nid] = 0;
    const shift = 2 ** priority;
    // Objects that cost nothing to make again are taken by halves.
    const delta = seeks === 0 ? Math.floor(freeable / 2) : Math.floor((Math.floor(freeable / shift) * 4) / seeks);
    let total = Math.min(Math.floor(deferred / shift) + delta, 2 * freeable);
    let scanned = 0;
    let freed = 0;
    while (total >= batch || total >= freeable) {
      control.nrToScan = control.nrScanned = Math.min(batch, total);
      const got = spec.scanObjects(control);
      if (got === SHRINK_STOP) break;
      freed += got;
      this.onScanned(control.nrScanned);
      total -= control.nrScanned;
      scanned += control.nrScanned;
      // A shrinker that looked at nothing would be asked for ever.
      if (control.nrScanned <= 0 || total <= 0) break;
    }
    nrDeferred[nid] += Math.min(Math.max(deferred + delta - scanned, 0), 2 * freeable);
    return freed;
  }

  /**
   * Frees all that shrinkers let go of: `2` written to `/proc/sys/vm/drop_caches`.
   *
   * @returns objects freed
   * @linux mm/vmscan.c:drop_slab
   */
  dropSlab(gfp: number): number {
    let total = 0;
    // Each round must be worth twice as much as the one before.
    for (let shift = 0; shift <= DEF_PRIORITY; shift++) {
      let freed = 0;
      for (let nid = 0; nid < this.nrNodes; nid++) freed += this.shrinkSlab(gfp, nid, 0);
      total += freed;
      if (Math.floor(freed / 2 ** shift) <= 1) break;
    }
    return total;
  }

  /** What each shrinker could free, and what it has put off. @linux mm/shrinker_debug.c:shrinker_debugfs_count_show */
  info(): ShrinkerInfo[] {
    return this.shrinkers.map(({ spec, nrDeferred }) => ({
      name: spec.name,
      freeable: [...nrDeferred.keys()].map((nid) => Math.max(0, spec.countObjects({ gfp: 0, nid, memcg: null, nrToScan: 0, nrScanned: 0 }))),
      nrDeferred: [...nrDeferred],
    }));
  }
}
