/**
 * Clusters of a swap area: 512 slots in a row, each on the list that tells how much of it is free.
 *
 *     free[cluster] === slots of it that are free; slots beyond the end of the area are not
 *     free list     → all of its slots are free
 *     nonfull list  → some are, and some came free since somebody took slots of it last
 *     frag list     → some are, and somebody took slots of it last: a CPU that is at it, or that went away
 *     no list       → none is
 *
 * A CPU's cluster is on a list like any other: when nothing else is left, the others take from it.
 *
 * @linux mm/swapfile.c:swap_cluster_info
 */
import { ColumnList, bugOn } from '@pagelab/lib';

/** Slots of a cluster. @linux mm/swap.h:SWAPFILE_CLUSTER */
export const SWAPFILE_CLUSTER = 512;

/** What list a cluster is on. @linux include/linux/swap.h:swap_cluster_flags */
export const CLUSTER_NONE = 0;
export const CLUSTER_FREE = 1;
export const CLUSTER_NONFULL = 2;
export const CLUSTER_FRAG = 3;

export class SwapClusters {
  /** Free slots of each. */
  readonly free: Int16Array;
  /** `CLUSTER_…` of each. */
  readonly #states: Uint8Array;
  /** Row 1 + the number of a cluster. The first of a list is taken next. */
  readonly #lists: ColumnList;

  /** @param map of slots; 0 for a free one */
  constructor(map: Int32Array) {
    const nrClusters = Math.ceil(map.length / SWAPFILE_CLUSTER);
    this.free = new Int16Array(nrClusters);
    this.#states = new Uint8Array(nrClusters);
    this.#lists = ColumnList.create(nrClusters + 1, 3);
    for (let slot = 0; slot < map.length; slot++) if (map[slot] === 0) this.free[Math.floor(slot / SWAPFILE_CLUSTER)]++;
    for (let cluster = 0; cluster < nrClusters; cluster++) {
      if (this.free[cluster] > 0) this.#move(cluster, this.free[cluster] === SWAPFILE_CLUSTER ? CLUSTER_FREE : CLUSTER_NONFULL);
    }
  }

  /** The first cluster of a list: `CLUSTER_…`; −1 where there is none. */
  first(state: number): number {
    return this.#lists.first(this.#lists.head(state - 1)) - 1;
  }

  /** A slot of a cluster was taken. @linux mm/swapfile.c:relocate_cluster */
  taken(cluster: number): void {
    this.#move(cluster, --this.free[cluster] === 0 ? CLUSTER_NONE : CLUSTER_FRAG);
  }

  /**
   * A slot of a cluster came free.
   *
   * @returns whether all of them are free now
   * @linux mm/swapfile.c:free_cluster, partial_free_cluster
   */
  freed(cluster: number): boolean {
    const isFree = ++this.free[cluster] === SWAPFILE_CLUSTER;
    this.#move(cluster, isFree ? CLUSTER_FREE : CLUSTER_NONFULL);
    return isFree;
  }

  /** To the end of a list, unless it is there. */
  #move(cluster: number, state: number): void {
    const before = this.#states[cluster];
    if (before === state) return;
    if (before !== CLUSTER_NONE) this.#lists.remove(cluster + 1);
    if (state !== CLUSTER_NONE) this.#lists.pushBack(this.#lists.head(state - 1), cluster + 1);
    this.#states[cluster] = state;
  }

  /** Recounts, and looks whether each is where it belongs. @throws KernelBug at the first that is not */
  validate(map: Int32Array): void {
    for (let cluster = 0; cluster < this.free.length; cluster++) {
      let there = 0;
      const end = Math.min(map.length, (cluster + 1) * SWAPFILE_CLUSTER);
      for (let slot = cluster * SWAPFILE_CLUSTER; slot < end; slot++) if (map[slot] === 0) there++;
      const state = this.#states[cluster];
      bugOn(there !== this.free[cluster], `swap: cluster ${cluster} is miscounted`);
      bugOn((there === 0) !== (state === CLUSTER_NONE) || (there === SWAPFILE_CLUSTER) !== (state === CLUSTER_FREE), `swap: cluster ${cluster} is on the wrong list`);
    }
    for (const state of [CLUSTER_FREE, CLUSTER_NONFULL, CLUSTER_FRAG]) {
      const head = this.#lists.head(state - 1);
      this.#lists.validate(head);
      for (const row of this.#lists.iterate(head)) bugOn(this.#states[row - 1] !== state, `swap: cluster ${row - 1} does not know its list`);
    }
  }
}
