/**
 * Huge pages that may be better small: those of which parts are unmapped, and those that may hold mostly zeros. They wait
 * here, by memory cgroup and node, in the order they came, until memory is short.
 *
 *     partly mapped huge pages  === entries that say so
 *     other entries             === huge pages since they were made, until they are looked at
 *
 * @linux mm/huge_memory.c
 */
import type { Pfn } from '@pagelab/hw';
import { PG_MEMCG, PG_MLOCKED, VM_EVENT } from '@pagelab/mm-core';
import { SHRINKER_MEMCG_AWARE, SHRINKER_NUMA_AWARE, SHRINK_STOP } from '@pagelab/slab';
import type { ShrinkControl, ShrinkerSpec } from '@pagelab/slab';
import { splitHugePage } from './huge-memory.ts';
import type { MemCgroup } from './memcg.ts';
import type { Vm } from './vm.ts';

const PAGE_WORDS = 1024;

type SplitQueue = Map<Pfn, boolean>;

export class DeferredSplit {
  readonly #vm: Vm;
  /** Heads that wait: those that are charged to no group by node, those of groups by group and node; and whether parts are unmapped. */
  readonly #queues: readonly SplitQueue[];
  readonly #groupQueues = new Map<MemCgroup, readonly SplitQueue[]>();
  /** Where each head waits. */
  readonly #queued = new Map<Pfn, SplitQueue>();
  /** Those of which parts were unmapped just now, before it is clear that something stays. */
  readonly #uncounted = new Set<Pfn>();
  /** Whether whole pages wait, too, which may hold mostly zeros: since 6.12. `/sys/kernel/mm/transparent_hugepage/shrink_underused` */
  splitsUnderused = true;
  /** Whether a part of zeros goes back to the zero page when its huge page is split: since 6.12. */
  dropsZeros = true;

  constructor(vm: Vm) {
    this.#vm = vm;
    this.#queues = vm.pages.nodes.map(() => new Map());
    vm.slab.shrinkers.register(this.#shrinker());
  }

  /** Whether some have been put here of which parts were unmapped just now. */
  get hasUncounted(): boolean {
    return this.#uncounted.size > 0;
  }

  #queuesOf(memcg: MemCgroup | null): readonly SplitQueue[] {
    if (memcg === null) return this.#queues;
    let queues = this.#groupQueues.get(memcg);
    if (queues === undefined) this.#groupQueues.set(memcg, (queues = this.#queues.map(() => new Map<Pfn, boolean>())));
    return queues;
  }

  /** The queue that a head belongs on. @linux mm/huge_memory.c:get_deferred_split_queue */
  #queueFor(head: Pfn): SplitQueue {
    const { memcgs, frames, pages } = this.#vm;
    const memcg = memcgs === null || (frames.flags[head] & PG_MEMCG) === 0 ? null : memcgs.groupOf(head);
    return this.#queuesOf(memcg)[pages.nodeOf(head)];
  }

  #put(head: Pfn, queue: SplitQueue, partial: boolean): void {
    queue.set(head, partial);
    this.#queued.set(head, queue);
  }

  /** A huge page is made. @linux mm/huge_memory.c:deferred_split_folio */
  addWhole(head: Pfn): void {
    if (this.splitsUnderused) this.#put(head, this.#queueFor(head), false);
  }

  /** Parts of one are unmapped. */
  addPartial(head: Pfn): void {
    const queue = this.#queued.get(head) ?? this.#queueFor(head);
    if (queue.get(head) === true) return;
    this.#put(head, queue, true);
    this.#uncounted.add(head);
  }

  /** One is gone, or small. @linux mm/huge_memory.c:folio_unqueue_deferred_split */
  remove(head: Pfn): void {
    this.#queued.get(head)?.delete(head);
    this.#queued.delete(head);
    this.#uncounted.delete(head);
  }

  /** One moves to another frame, which is charged in its stead. */
  move(from: Pfn, to: Pfn): void {
    const partial = this.#queued.get(from)?.get(from);
    if (partial === undefined) return;
    this.remove(from);
    this.#put(to, this.#queueFor(to), partial);
  }

  /** A group is gone, and all its pages with it. */
  forgetGroup(memcg: MemCgroup): void {
    this.#groupQueues.delete(memcg);
  }

  /** Counts the huge pages that were left with unmapped parts by what was just done. */
  count(): void {
    this.#vm.pages.events[VM_EVENT.THP_DEFERRED_SPLIT_PAGE] += this.#uncounted.size;
    this.#uncounted.clear();
  }

  /** Whether parts of a huge page are known to be unmapped; `undefined` where it does not wait here. */
  isPartial(head: Pfn): boolean | undefined {
    return this.#queued.get(head)?.get(head);
  }

  /** All that wait here. */
  heads(): Iterable<Pfn> {
    return this.#queued.keys();
  }

  /**
   * Looks at those of a group (`null`: of none) that have waited longest: splits what is mapped in part, or holds mostly zeros,
   * and forgets the others.
   *
   * @param nrToScan how many to look at
   * @returns huge pages split
   * @linux mm/huge_memory.c:deferred_split_scan
   */
  scan(memcg: MemCgroup | null, nid: number, nrToScan: number): number {
    this.count();
    const queue = this.#queuesOf(memcg)[nid];
    let split = 0;
    for (const head of [...queue.keys()].slice(0, nrToScan)) {
      const underused = queue.get(head) === false;
      if (underused && !this.#isUnderused(head)) {
        this.remove(head);
        continue;
      }
      if (underused) this.#vm.pages.events[VM_EVENT.THP_UNDERUSED_SPLIT_PAGE]++;
      splitHugePage(this.#vm, head);
      split++;
    }
    return split;
  }

  /** Whether so many of a huge page's parts are zeros that khugepaged would not have made it. @linux mm/huge_memory.c:thp_underused */
  #isUnderused(head: Pfn): boolean {
    const { frames, khugepaged, tables } = this.#vm;
    const { ptrsPerPte } = tables;
    if (khugepaged.maxPtesNone === ptrsPerPte - 1 || (frames.flags[head] & PG_MLOCKED) !== 0) return false;
    let zeros = 0;
    for (let i = 0; i < ptrsPerPte; i++) {
      if (isZeroPage(this.#vm, head + i)) {
        if (++zeros > khugepaged.maxPtesNone) return true;
      } else if (i + 1 - zeros >= ptrsPerPte - khugepaged.maxPtesNone) {
        return false;
      }
    }
    return false;
  }

  #shrinker(): ShrinkerSpec {
    return {
      name: 'thp-deferred_split',
      flags: SHRINKER_NUMA_AWARE | SHRINKER_MEMCG_AWARE,
      countObjects: ({ memcg, nid }) => this.#queuesOf(memcg as MemCgroup | null)[nid].size,
      scanObjects: ({ memcg, nid, nrToScan }: ShrinkControl) => {
        const split = this.scan(memcg as MemCgroup | null, nid, nrToScan);
        return split === 0 && this.#queuesOf(memcg as MemCgroup | null)[nid].size === 0 ? SHRINK_STOP : split;
      },
    };
  }
}

/** Whether a frame holds nothing but zeros. @linux mm/util.c:pages_identical */
export function isZeroPage({ ram }: Vm, pfn: Pfn): boolean {
  const { i32 } = ram;
  const word = ram.frameWord(pfn);
  // The last word differs where the first does not, more often than not.
  if (i32[word] !== 0 || i32[word + PAGE_WORDS - 1] !== 0) return false;
  for (let i = 1; i < PAGE_WORDS; i++) if (i32[word + i] !== 0) return false;
  return true;
}
