/**
 * Huge pages of the pool where a program serves the faults.
 *
 * @linux mm/hugetlb.c:hugetlb_mfill_atomic_pte
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { UffdFill } from './userfault-fill.ts';
import type { VmArea } from './vma.ts';

export function uffdFillHugetlb(_vma: VmArea, _start: VirtAddr, _length: number, _fill: UffdFill): number {
  return -Errno.EINVAL;
}
