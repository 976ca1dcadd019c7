/**
 * What reclaim keeps between its runs, what it reports, and the policy that chooses pages.
 */
import type { ScanControl } from './scan-control.ts';
import { RmapWalk } from './try-to-unmap.ts';
import type { Vm } from './vm.ts';
import { ReclaimNode, workingsetBucketOrder } from './workingset.ts';

/**
 * Which pages of a node go when memory is short. The mechanism isolates pages, unmaps and writes them and takes them back
 * (`shrinkFolioList`); a policy says from which lists, how many, and in what order.
 */
export interface ReclaimPolicy {
  /** `'classic'`, … */
  readonly name: string;
  /**
   * Takes pages of a node: about `sc.nrToReclaim`, looking at a share of the lists that grows as `sc.priority` falls from 12
   * to 0. Adds to `sc.nrScanned` and `sc.nrReclaimed`.
   */
  shrinkLruvec(vm: Vm, node: ReclaimNode, sc: ScanControl): void;
  /** Called by kswapd before each look at a node: lists may be brought into balance. */
  ageNode(vm: Vm, node: ReclaimNode, sc: ScanControl): void;
}

export class Reclaim {
  readonly nodes: readonly ReclaimNode[];
  readonly rmap: RmapWalk;
  /** See `workingset.ts`. */
  readonly bucketOrder: number;
  policy: ReclaimPolicy;
  /** Some node's kswapd was woken and has not run: see `runKswapds`. */
  kswapdPending = false;
  /** Reclaim is under way: what it allocates does not come back here. */
  active = false;
  /** Writes dirty pages of files back; without it reclaim has each file's system do that. @linux fs/fs-writeback.c:wakeup_flusher_threads */
  wakeFlushers: (() => void) | null = null;

  constructor(vm: Vm, policy: ReclaimPolicy) {
    this.nodes = vm.pages.nodes.map(({ nid }) => new ReclaimNode(nid));
    this.rmap = new RmapWalk(vm);
    this.bucketOrder = workingsetBucketOrder(vm.pages.totalramPages);
    this.policy = policy;
  }
}
