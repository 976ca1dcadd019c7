/**
 * Sets of nodes.
 *
 * @linux include/linux/nodemask.h
 */

/** Numbers of nodes, ascending. Made once and never changed. @linux include/linux/nodemask_types.h:nodemask_t */
export class NodeMask {
  readonly nodes: readonly number[];
  /** The same for equal sets. */
  readonly key: string;
  readonly #has: Uint8Array;

  /** @param nodes in any order, each once */
  constructor(nodes: Iterable<number>) {
    this.nodes = Object.freeze([...nodes].sort((a, b) => a - b));
    this.key = this.nodes.join();
    this.#has = new Uint8Array((this.nodes.at(-1) ?? 0) + 1);
    for (const nid of this.nodes) this.#has[nid] = 1;
  }

  has(nid: number): boolean {
    return this.#has[nid] === 1;
  }

  /** The next member after `nid`, round and round. Of a set that is not empty. @linux include/linux/nodemask.h:next_node_in */
  nextIn(nid: number): number {
    return this.nodes.find((each) => each > nid) ?? this.nodes[0];
  }
}

/** Where the current task's allocations go, where it has a say. Implemented by the layer that knows tasks and mappings. */
export interface AllocPolicy {
  /** Allocates as `PageAlloc.allocPages`. */
  allocate(gfp: number, order: number): number;
}
