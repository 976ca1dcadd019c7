/**
 * Memory tiers: nodes by how far away their memory is, as its abstract distance says. What is not used on a node goes to
 * one of the next slower tier rather than to swap, where that is switched on.
 *
 * @linux mm/memory-tiers.c
 */
import { NodeMask } from '@pagelab/mm-core';
import type { Vm } from './vm.ts';

/** Nodes whose abstract distances have the same quotient by this are of one tier. @linux include/linux/memory-tiers.h:MEMTIER_CHUNK_SIZE */
const MEMTIER_CHUNK_SIZE = 128;
/** Of ordinary memory. @linux include/linux/memory-tiers.h:MEMTIER_ADISTANCE_DRAM */
export const MEMTIER_ADISTANCE_DRAM = 4 * MEMTIER_CHUNK_SIZE + MEMTIER_CHUNK_SIZE / 2;

export class MemoryTiers {
  /** The tier of each node; −1 of one without memory. */
  readonly tierOf: Int32Array;
  /** Where pages of a node are demoted to; −1 for nowhere. */
  readonly #targets: Int32Array;
  /** The slowest tier that has a CPU: nodes up to it are no candidates for promotion. */
  readonly #topTier: number;
  /** `/sys/kernel/mm/numa/demotion_enabled` */
  demotionEnabled = false;

  /** @param adistances the abstract distance of each node; ordinary memory's where it does not say */
  constructor({ pages }: Vm, adistances: readonly number[]) {
    const { nodes } = pages;
    this.tierOf = Int32Array.from(nodes, ({ nid, present }) =>
      present > 0 ? Math.floor((adistances[nid] ?? MEMTIER_ADISTANCE_DRAM) / MEMTIER_CHUNK_SIZE) : -1,
    );
    const { tierOf } = this;
    const tiers = this.tiers();
    this.#topTier = Math.max(...tiers.filter((tier) => nodes.some(({ nid, cpus }) => tierOf[nid] === tier && cpus.length > 0)), tiers[0] ?? -1);
    this.#targets = Int32Array.from(nodes, ({ nid, distances }) => {
      const next = tiers.find((tier) => tier > tierOf[nid]);
      let best = -1;
      for (const other of nodes) {
        if (tierOf[nid] < 0 || next === undefined || tierOf[other.nid] !== next) continue;
        if (best < 0 || distances[other.nid] < distances[best]) best = other.nid;
      }
      return best;
    });
  }

  /** Tiers that have a node, the fastest first. */
  tiers(): number[] {
    return [...new Set(this.tierOf)].filter((tier) => tier >= 0).sort((one, other) => one - other);
  }

  /** The node that pages are demoted to; −1 for none. @linux mm/memory-tiers.c:next_demotion_node */
  nextDemotionNode(nid: number): number {
    return this.demotionEnabled ? this.#targets[nid] : -1;
  }

  /** All nodes of slower tiers. @linux mm/memory-tiers.c:node_get_allowed_targets */
  slowerThan(nid: number): NodeMask {
    return new NodeMask([...this.tierOf.keys()].filter((other) => this.tierOf[other] > this.tierOf[nid]));
  }

  /** Whether a node's memory is as fast as memory beside a CPU. @linux mm/memory-tiers.c:node_is_toptier */
  isToptier(nid: number): boolean {
    return this.tierOf[nid] <= this.#topTier;
  }
}
