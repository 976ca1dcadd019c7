/**
 * Huge pages that may be better small: those of which parts are unmapped, and those that may hold mostly zeros. They wait
 * here, by node, in the order they came, until memory is short.
 *
 *     partly mapped huge pages  === entries that say so
 *     other entries             === huge pages since they were made, until they are looked at
 *
 * @linux mm/huge_memory.c
 */
import type { Pfn } from '@pagelab/hw';
import { PG_MLOCKED, VM_EVENT } from '@pagelab/mm-core';
import { SHRINKER_NUMA_AWARE, SHRINK_STOP } from '@pagelab/slab';
import type { ShrinkControl, ShrinkerSpec } from '@pagelab/slab';
import { splitHugePage } from './huge-memory.ts';
import type { Vm } from './vm.ts';

const PAGE_WORDS = 1024;

export class DeferredSplit {
  readonly #vm: Vm;
  /** By node: heads, and whether parts are unmapped. */
  readonly #queues: readonly Map<Pfn, boolean>[];
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

  #queueOf(head: Pfn): Map<Pfn, boolean> {
    return this.#queues[this.#vm.pages.nodeOf(head)];
  }

  /** A huge page is made. @linux mm/huge_memory.c:deferred_split_folio */
  addWhole(head: Pfn): void {
    if (this.splitsUnderused) this.#queueOf(head).set(head, false);
  }

  /** Parts of one are unmapped. */
  addPartial(head: Pfn): void {
    const queue = this.#queueOf(head);
    if (queue.get(head) === true) return;
    queue.set(head, true);
    this.#uncounted.add(head);
  }

  /** One is gone, or small. @linux mm/huge_memory.c:folio_unqueue_deferred_split */
  remove(head: Pfn): void {
    this.#queueOf(head).delete(head);
    this.#uncounted.delete(head);
  }

  /** One moves to another frame. */
  move(from: Pfn, to: Pfn): void {
    const partial = this.#queueOf(from).get(from);
    if (partial === undefined) return;
    this.remove(from);
    this.#queueOf(to).set(to, partial);
  }

  /** Counts the huge pages that were left with unmapped parts by what was just done. */
  count(): void {
    this.#vm.pages.events[VM_EVENT.THP_DEFERRED_SPLIT_PAGE] += this.#uncounted.size;
    this.#uncounted.clear();
  }

  /** Whether parts of a huge page are known to be unmapped; `undefined` where it does not wait here. */
  isPartial(head: Pfn): boolean | undefined {
    return this.#queueOf(head).get(head);
  }

  /** All that wait here. */
  *heads(): Iterable<Pfn> {
    for (const queue of this.#queues) yield* queue.keys();
  }

  /**
   * Looks at those that have waited longest: splits what is mapped in part, or holds mostly zeros, and forgets the others.
   *
   * @param nrToScan how many to look at
   * @returns huge pages split
   * @linux mm/huge_memory.c:deferred_split_scan
   */
  scan(nid: number, nrToScan: number): number {
    this.count();
    const queue = this.#queues[nid];
    let split = 0;
    for (const head of [...queue.keys()].slice(0, nrToScan)) {
      const underused = queue.get(head) === false;
      if (underused && !this.#isUnderused(head)) {
        queue.delete(head);
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
      flags: SHRINKER_NUMA_AWARE,
      countObjects: ({ nid }) => this.#queues[nid].size,
      scanObjects: (control: ShrinkControl) => {
        const split = this.scan(control.nid, control.nrToScan);
        return split === 0 && this.#queues[control.nid].size === 0 ? SHRINK_STOP : split;
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
