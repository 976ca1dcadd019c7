/**
 * Lists of a cache's objects that could go, the least recently used in front: one for each memory cgroup and node, so that a
 * group under its limit gives up its own.
 *
 *     size === items of all lists; an item is on one list at most, by the group and the node that its owner gives
 *
 * @linux mm/list_lru.c
 */
import type { MemCgroup } from './memcg.ts';
import type { Vm } from './vm.ts';

export class ListLru<T> {
  readonly #nrNodes: number;
  /** By group, `null` for the root, and node. A set keeps the order in which its items came. */
  readonly #lists = new Map<MemCgroup | null, readonly Set<T>[]>();
  /** Items on all lists. */
  size = 0;

  constructor(vm: Vm) {
    this.#nrNodes = vm.pages.nodes.length;
    vm.listLrus.push(this);
  }

  /** The items of a group (`null`: the root) that lie on a node. */
  list(memcg: MemCgroup | null, nid: number): ReadonlySet<T> {
    return this.#lists.get(memcg)?.[nid] ?? NOTHING;
  }

  /** Puts an item at the end of its list. @linux mm/list_lru.c:list_lru_add */
  add(item: T, memcg: MemCgroup | null, nid: number): void {
    let lists = this.#lists.get(memcg);
    if (lists === undefined) {
      lists = Array.from({ length: this.#nrNodes }, () => new Set<T>());
      this.#lists.set(memcg, lists);
    }
    const list = lists[nid];
    if (!list.has(item)) this.size++;
    list.add(item);
  }

  /** Takes an item off its list. @returns whether it was there @linux mm/list_lru.c:list_lru_del */
  delete(item: T, memcg: MemCgroup | null, nid: number): boolean {
    const there = this.#lists.get(memcg)?.[nid].delete(item) === true;
    if (there) this.size--;
    return there;
  }

  /** A group is removed: its items come in front of its parent's (`null`: the root's). @linux mm/list_lru.c:memcg_reparent_list_lrus */
  reparent(memcg: MemCgroup, parent: MemCgroup | null): void {
    const lists = this.#lists.get(memcg);
    if (lists === undefined) return;
    this.#lists.delete(memcg);
    const above = this.#lists.get(parent);
    this.#lists.set(parent, above === undefined ? lists : lists.map((list, nid) => new Set([...list, ...above[nid]])));
  }

  /** All items, and where they are. */
  *entries(): Generator<[item: T, memcg: MemCgroup | null, nid: number]> {
    for (const [memcg, lists] of this.#lists) for (const [nid, list] of lists.entries()) for (const item of list) yield [item, memcg, nid];
  }
}

const NOTHING: ReadonlySet<never> = new Set<never>();
