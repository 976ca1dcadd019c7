/**
 * Where a process family's anonymous pages are found again.
 *
 * @linux include/linux/rmap.h:anon_vma
 */
import type { VirtAddr } from '@pagelab/abi';
import type { IntervalTree } from '@pagelab/lib';
import type { VmArea } from './vma.ts';

/** The set of VMAs in which a page that names this anon_vma may be mapped. */
export interface AnonVma {
  /** Its number in `Vm.anonVmas`, which `PageFrames.mapping` of its pages holds. At least 1. */
  readonly id: number;
  /** The top of its family; itself for the first. */
  readonly root: AnonVma;
  parent: AnonVma;
  /** Chains and children that hold it. */
  refcount: number;
  /** anon_vmas whose parent this is (itself included for a root). */
  numChildren: number;
  /** VMAs whose own anon_vma this is. */
  numActiveVmas: number;
  /** The VMAs, by the page offsets they show. */
  readonly chains: IntervalTree<AnonVmaChain>;
  object: VirtAddr;
}

/** One VMA's place in one anon_vma. */
export interface AnonVmaChain {
  readonly vma: VmArea;
  readonly anonVma: AnonVma;
  object: VirtAddr;
}
