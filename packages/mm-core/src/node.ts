/**
 * NUMA nodes, and the order in which an allocation tries their zones.
 */
import type { NodeShape } from './mm-init.ts';
import type { NodeMask } from './nodemask.ts';
import { NODE_STAT_NAMES } from './vmstat.ts';
import type { Zone } from './zone.ts';

/** Distance of a node to itself, and to another where none is configured. @linux include/linux/topology.h:LOCAL_DISTANCE */
export const LOCAL_DISTANCE = 10;
export const REMOTE_DISTANCE = 20;

/** @linux include/linux/mmzone.h:pglist_data */
export class MemoryNode {
  readonly nid: number;
  /** One for each kind the architecture has, empty ones included. */
  readonly zones: readonly Zone[];
  /** Numbers of its CPUs. */
  readonly cpus: readonly number[];
  /** Distances to each node. */
  readonly distances: readonly number[];
  /** Counters by NODE_STAT. */
  readonly vmStat = new Float64Array(NODE_STAT_NAMES.length);
  /** Nodes in the order an allocation from this one tries them. */
  readonly fallbackOrder: readonly number[];
  /** By index of the highest zone allowed: the zones to try. */
  readonly zonelists: readonly (readonly Zone[])[];
  /** The same without other nodes' zones: for `__GFP_THISNODE`. */
  readonly localZonelists: readonly (readonly Zone[])[];
  /** Zonelists without the zones of nodes that are not allowed, as they were asked for. */
  readonly #restricted = new Map<string, readonly Zone[]>();

  /** @param zonesOf all zones of a node, ascending */
  constructor(
    shape: NodeShape,
    distances: readonly number[],
    fallbackOrder: readonly number[],
    zonesOf: (nid: number) => readonly Zone[],
  ) {
    this.nid = shape.nid;
    this.zones = zonesOf(shape.nid);
    this.cpus = shape.cpus;
    this.distances = distances;
    this.fallbackOrder = fallbackOrder;
    this.zonelists = this.zones.map((_, highest) => fallbackOrder.flatMap((nid) => zonesDownFrom(zonesOf(nid), highest)));
    this.localZonelists = this.zones.map((_, highest) => zonesDownFrom(this.zones, highest));
  }

  /** The zones to try of those on the nodes that are allowed. */
  zonelistWithin(highestIndex: number, allowed: NodeMask): readonly Zone[] {
    const key = `${highestIndex}:${allowed.key}`;
    let zones = this.#restricted.get(key);
    if (zones === undefined) {
      zones = this.zonelists[highestIndex].filter(({ nid }) => allowed.has(nid));
      this.#restricted.set(key, zones);
    }
    return zones;
  }

  /** Pages of RAM. */
  get present(): number {
    return this.zones.reduce((pages, zone) => pages + zone.present, 0);
  }
}

/** The populated zones of a node from the highest allowed down. @linux mm/page_alloc.c:build_zonerefs_node */
function zonesDownFrom(zones: readonly Zone[], highest: number): Zone[] {
  return zones.filter((zone) => zone.index <= highest && zone.present > 0).reverse();
}

/**
 * The fallback order of each node: again and again the node not used yet that is nearest, where a node with a lower number
 * or with CPUs counts as a little farther; among equals the one fewer others prefer.
 *
 * @param memory whether each node has memory
 * @param memorylessFirst whether a node without memory still lists itself first (before 6.7)
 * @linux mm/page_alloc.c:find_next_best_node
 */
export function fallbackOrders(
  distances: readonly (readonly number[])[],
  memory: readonly boolean[],
  cpus: readonly boolean[],
  memorylessFirst: boolean,
): number[][] {
  const nrNodes = distances.length;
  const load = new Array<number>(nrNodes).fill(0);
  return distances.map((row, node) => {
    const order: number[] = [];
    let previous = node;
    for (;;) {
      let best = -1;
      if (!order.includes(node) && (memory[node] || memorylessFirst)) best = node;
      else {
        let least = Infinity;
        for (let other = 0; other < nrNodes; other++) {
          if (!memory[other] || order.includes(other)) continue;
          const value = (row[other] + (other < node ? 1 : 0) + (cpus[other] ? 1 : 0)) * 1024 + load[other];
          if (value < least) {
            least = value;
            best = other;
          }
        }
      }
      if (best < 0) return order;
      if (row[best] !== row[previous]) load[best]++;
      order.push(best);
      previous = best;
    }
  });
}
