/**
 * CLOCK as reclaim has it: pages stay where they are on a ring, and a hand goes round. A page that was used since the hand
 * last came by is left, one that was not goes. What is new comes in behind the hand, where that comes last.
 *
 * The hand is the head of the list: what lies before it is looked at next, and it moves by the page going behind it. Other
 * than second chance, which takes a page off its queue to look at it, nothing is isolated but what goes.
 *
 * Source: F. J. Corbató, A Paging Experiment with the Multics System, 1968.
 */
import type { Pfn } from '@pagelab/hw';
import type { Lruvec } from '@pagelab/mm-core';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { LOCKED, SingleList, SingleListReclaim, UNUSED, takeUse } from './single-list.ts';
import type { Vm } from './vm.ts';

class ClockReclaim extends SingleListReclaim {
  readonly name = 'clock';

  goes(lruvec: Lruvec, pfn: Pfn): boolean {
    const use = takeUse(this.vm, pfn);
    if (use === UNUSED) return true;
    if (use !== LOCKED) this.pass(lruvec, pfn);
    return false;
  }
}

/** The hand of a clock passes over pages that were used, and takes the others. */
export const clockReclaim: ReclaimPolicyFactory = Object.freeze({ name: 'clock', create: (vm: Vm) => new ClockReclaim(vm, new SingleList(vm)) });
