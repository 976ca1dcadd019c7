/**
 * What reclaim keeps between its runs, and the policy that chooses pages.
 *
 * The mechanism is the same for every policy: who reclaims and when (`vmscan.ts`), taking pages off their list and putting
 * them back (`isolate-folios.ts`), looking who maps them, writing and unmapping them (`shrink-folio-list.ts`). A policy
 * says on which lists pages are, in what order, and which of them go.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { PG_LRU, PG_UNEVICTABLE } from '@pagelab/mm-core';
import type { LruPlacement, Lruvec } from '@pagelab/mm-core';
import type { KswapdRun } from './kswapd.ts';
import type { MemCgroup } from './memcg.ts';
import type { ScanControl } from './scan-control.ts';
import { lruAddDrainAll } from './swap.ts';
import { RmapWalk } from './try-to-unmap.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';
import { workingsetBucketOrder } from './workingset.ts';

/** What a policy says of an isolated page: it is used and goes to the active list, it stays as it is, … @linux mm/vmscan.c:folio_references */
export const FOLIOREF_ACTIVATE = 0;
export const FOLIOREF_KEEP = 1;
/** … it goes, it goes if that takes no writing. */
export const FOLIOREF_RECLAIM = 2;
export const FOLIOREF_RECLAIM_CLEAN = 3;

/** Which pages go when memory is short: one for each machine. What it remembers of pages it keeps for each lruvec. */
export interface ReclaimPolicy {
  /** `'classic'`, … */
  readonly name: string;
  /** Lists of its own; `null` where the active and inactive lists serve. */
  readonly placement: LruPlacement | null;
  /**
   * Whether a page that a fault brings in begins as one in use (PG_ACTIVE).
   *
   * @linux mm/swap.c:folio_add_lru
   */
  readonly activatesFaulted: boolean;
  /**
   * Whether it sees itself how many single pages compaction needs for a block of several, and goes on until then. Otherwise
   * a node is looked at again.
   *
   * @linux mm/vmscan.c:lru_gen_shrink_node
   */
  readonly countsForCompaction?: boolean;
  /** Makes what it keeps for a node's lists, which are empty: `lruvec.policyState`. */
  initLruvec(lruvec: Lruvec): void;
  /** Gives up what it keeps for a node's lists, which are empty. */
  exitLruvec?(lruvec: Lruvec): void;
  /** Notes a use of a page other than through page tables. @linux mm/swap.c:folio_mark_accessed */
  markAccessed(pfn: Pfn): void;
  /**
   * Reclaim found a page used through an entry of a page table, and has cleared its accessed bit.
   *
   * @param entry its host word
   * @linux mm/vmscan.c:lru_gen_look_around
   */
  lookAround?(vma: VmArea, address: VirtAddr, entry: number, pfn: Pfn): void;
  /**
   * Called by kswapd before each look at a node's lists: they may be brought into balance.
   *
   * @linux mm/vmscan.c:kswapd_age_node
   */
  age(lruvec: Lruvec, sc: ScanControl): void;
  /**
   * Takes pages: about `sc.nrToReclaim`, looking at a share of the lists that grows as `sc.priority` falls from 12 to 0.
   * Adds to `sc.nrScanned` and `sc.nrReclaimed`, as `evictFolios` does.
   *
   * @linux mm/vmscan.c:shrink_lruvec
   */
  shrink(lruvec: Lruvec, sc: ScanControl): void;
  /**
   * Whether a page that was isolated to be taken is in use after all: `FOLIOREF_…`. `vm.reclaim.rmap.referenced` tells of its uses.
   *
   * @linux mm/vmscan.c:folio_check_references
   */
  checkReferences(pfn: Pfn): number;
  /**
   * A page goes.
   *
   * @returns the shadow that stays in its place, a positive int32 that is odd; 0 for none
   * @linux mm/workingset.c:workingset_eviction
   */
  eviction(pfn: Pfn): number;
  /** A page is read in whose place a shadow was: it is on no list yet, and its flags may change. @linux mm/workingset.c:workingset_refault */
  refault(pfn: Pfn, shadow: number): void;
  /** Recomputes what it keeps. @throws KernelBug at the first that is wrong */
  validate?(lruvec: Lruvec): void;
}

/** How a machine gets its policy: by name in its configuration, or handed in. */
export interface ReclaimPolicyFactory {
  readonly name: string;
  readonly create: (vm: Vm) => ReclaimPolicy;
}

/** What kswapd keeps for a node. @linux include/linux/mmzone.h:pglist_data */
export class ReclaimNode {
  readonly nid: number;
  /** Whether it was woken, for blocks of what order, up to what zone; and its runs without a page in a row. */
  kswapdPending = false;
  kswapdOrder = 0;
  kswapdHighestZone = 0;
  kswapdFailures = 0;
  /** Its run under way, which waits for a device, and until when. */
  kswapdRun: KswapdRun | null = null;
  kswapdDueNs = 0;

  constructor(nid: number) {
    this.nid = nid;
  }
}

/** `/sys/kernel/mm/lru_gen`. @linux mm/vmscan.c:lru_gen_caps, lru_gen_min_ttl */
export interface LruGenSettings {
  /** Page tables are walked when a generation is made, and the accessed bits of third-level entries used. */
  walksMmu: boolean;
  clearsNonleaf: boolean;
  /** Pages used within so many milliseconds are not taken: rather somebody is killed. 0 for none. */
  minTtlMs: number;
}

export class Reclaim {
  readonly nodes: readonly ReclaimNode[];
  readonly rmap: RmapWalk;
  /** See `workingset.ts`. */
  readonly bucketOrder: number;
  /** Change it by {@link setReclaimPolicy}. */
  policy: ReclaimPolicy;
  readonly lruGen: LruGenSettings = { walksMmu: true, clearsNonleaf: true, minTtlMs: 0 };
  /** Is told that kswapd waits for so many nanoseconds, for whoever lets time pass. */
  kswapdWaits: ((ns: number) => void) | null = null;
  /** Tells how long each address space has run, by id, in nanoseconds, and at 0 all together; `null` where there are no programs, only a clock. */
  cpuTimes: ((times: number[]) => void) | null = null;
  /** Has somebody killed. */
  outOfMemory: ((gfp: number) => void) | null = null;
  /** Some node's kswapd was woken and has not run, or waits: see `runKswapds`. */
  kswapdPending = false;
  /** The group for whose limit memory is taken; `null` where it is for the machine's sake. */
  target: MemCgroup | null = null;
  /** Reclaim is under way: what it allocates does not come back here. */
  active = false;
  /** The policy's, and whether a page fault of a mapping whose uses tell something is under way. @linux include/linux/sched.h:task_struct.in_lru_fault */
  activatesFaulted = false;
  inFault = false;
  /** Writes dirty pages of files back; without it reclaim has each file's system do that. @linux fs/fs-writeback.c:wakeup_flusher_threads */
  wakeFlushers: (() => void) | null = null;

  constructor(vm: Vm, factory: ReclaimPolicyFactory) {
    this.nodes = vm.pages.nodes.map(({ nid }) => new ReclaimNode(nid));
    this.rmap = new RmapWalk(vm);
    this.bucketOrder = workingsetBucketOrder(vm.pages.totalramPages);
    this.policy = factory.create(vm);
    this.install(vm);
  }

  /** Has the lists follow {@link policy}: there must be no page on them. */
  install(vm: Vm): void {
    const { lru } = vm.pages;
    lru.placement = this.policy.placement;
    this.activatesFaulted = this.policy.activatesFaulted;
    for (const lruvec of lru.all()) this.policy.initLruvec(lruvec);
  }
}

/**
 * Changes the policy of a machine that runs: every page goes from the lists of the old one to those of the new one. Costs a
 * step a page.
 *
 * @linux mm/vmscan.c:lru_gen_change_state
 */
export function setReclaimPolicy(vm: Vm, factory: ReclaimPolicyFactory): void {
  const { lru } = vm.pages;
  const { flags, lists } = vm.frames;
  lruAddDrainAll(vm);
  const moved: Pfn[] = [];
  const { policy } = vm.reclaim;
  for (const lruvec of lru.all()) {
    for (const row of lru.rows(lruvec)) {
      for (let pfn = lists.last(row); pfn !== 0 && (flags[pfn] & PG_UNEVICTABLE) === 0; pfn = lists.last(row)) {
        lru.del(pfn);
        moved.push(pfn);
      }
    }
    policy.exitLruvec?.(lruvec);
  }
  vm.reclaim.policy = factory.create(vm);
  vm.reclaim.install(vm);
  for (const pfn of moved) if ((flags[pfn] & PG_LRU) !== 0) lru.add(pfn);
}
