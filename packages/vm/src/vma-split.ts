/**
 * Cutting a mapping in two.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { anonVmaClone } from './anon-vma.ts';
import { fileGet } from './open-file.ts';
import { isAligned } from './page-align.ts';
import { linkFileVma, removeVma, vmAreaDup, vmaCut, vmaCutMiddle, vmaReserve } from './vma-tree.ts';
import { VM_HUGETLB } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * Cuts `vma` at `addr`, which lies inside it. `vma` stays the part above where `newBelow`, else the part below; the
 * other becomes a mapping of its own.
 *
 * @returns 0; -EINVAL in the middle of a huge page or of a mapping of the kernel's own; -ENOMEM; with nothing changed
 * @linux mm/vma.c:__split_vma
 */
export function splitVmaUnlimited(vma: VmArea, addr: VirtAddr, newBelow: boolean): number {
  const { mm } = vma;
  if (!maySplit(vma, addr)) return -Errno.EINVAL;
  if (vmaReserve(mm, 1) !== 0) return -Errno.ENOMEM;
  const fresh = newBelow ? splitOff(vma, vma.start, addr) : splitOff(vma, addr, vma.end);
  if (fresh === null) return -Errno.ENOMEM;
  vmaCut(vma, addr, fresh);
  return 0;
}

/**
 * Whether a mapping can be cut at an address: one of huge pages only between them, one of the kernel's own, such as `[vdso]`,
 * nowhere.
 *
 * @linux mm/hugetlb.c:hugetlb_vm_op_split, mm/mmap.c:special_mapping_split
 */
function maySplit({ flags, mm, name }: VmArea, addr: VirtAddr): boolean {
  if (name !== '') return false;
  return (flags & VM_HUGETLB) === 0 || isAligned(addr, mm.vm.tables.pmdSize);
}

/** Makes a mapping for the part [start, end) of `vma`, which is not in the tree yet; `null` without memory. */
function splitOff(vma: VmArea, start: VirtAddr, end: VirtAddr): VmArea | null {
  const fresh = vmAreaDup(vma, vma.mm);
  if (fresh === null) return null;
  fresh.start = start;
  fresh.end = end;
  fresh.pgoff = vma.pgoff + (start - vma.start) / PAGE_SIZE;
  if (vma.file !== null) linkFileVma(fresh, fileGet(vma.file));
  if (vma.anonVmaChain.length !== 0) {
    fresh.anonVma = vma.anonVma;
    if (anonVmaClone(fresh, vma) !== 0) {
      removeVma(fresh);
      return null;
    }
  }
  return fresh;
}

/** As {@link splitVmaUnlimited}, but -ENOMEM too when the address space has `max_map_count` mappings. @linux mm/vma.c:split_vma */
export function splitVma(vma: VmArea, addr: VirtAddr, newBelow: boolean): number {
  const { mm } = vma;
  if (mm.mapCount >= mm.vm.sysctl.maxMapCount) return -Errno.ENOMEM;
  return splitVmaUnlimited(vma, addr, newBelow);
}

/**
 * Cuts [start, end) out of `vma`, which reaches beyond it on both sides: `vma` stays the middle part.
 *
 * @returns 0; -ENOMEM with nothing changed, for lack of memory or where there would be more than `max_map_count` mappings
 */
export function splitMiddle(vma: VmArea, start: VirtAddr, end: VirtAddr): number {
  const { mm } = vma;
  if (!maySplit(vma, start) || !maySplit(vma, end)) return -Errno.EINVAL;
  if (mm.mapCount + 1 >= mm.vm.sysctl.maxMapCount || vmaReserve(mm, 2) !== 0) return -Errno.ENOMEM;
  const below = splitOff(vma, vma.start, start);
  if (below === null) return -Errno.ENOMEM;
  const above = splitOff(vma, end, vma.end);
  if (above === null) {
    removeVma(below);
    return -Errno.ENOMEM;
  }
  vmaCutMiddle(vma, start, end, below, above);
  return 0;
}
