/**
 * Cutting a mapping in two.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { anonVmaClone } from './anon-vma.ts';
import { fileGet } from './open-file.ts';
import { linkFileVma, unlinkFileVma, vmAreaDup, vmAreaFree, vmaLink, vmaReserve, vmaResize } from './vma-tree.ts';
import type { VmArea } from './vma.ts';

/**
 * Cuts `vma` at `addr`, which lies inside it. `vma` stays the part above where `newBelow`, else the part below; the
 * other becomes a mapping of its own.
 *
 * @returns 0; -ENOMEM with nothing changed
 * @linux mm/vma.c:__split_vma
 */
export function splitVmaUnlimited(vma: VmArea, addr: VirtAddr, newBelow: boolean): number {
  const { mm } = vma;
  if (vmaReserve(mm) !== 0) return -Errno.ENOMEM;
  const fresh = vmAreaDup(vma, mm);
  if (fresh === null) return -Errno.ENOMEM;
  const pgoff = vma.pgoff + (addr - vma.start) / PAGE_SIZE;
  if (newBelow) {
    fresh.end = addr;
  } else {
    fresh.start = addr;
    fresh.pgoff = pgoff;
  }
  if (vma.file !== null) linkFileVma(fresh, fileGet(vma.file));
  if (vma.anonVmaChain.length !== 0) {
    fresh.anonVma = vma.anonVma;
    if (anonVmaClone(fresh, vma) !== 0) {
      if (fresh.file !== null) unlinkFileVma(fresh);
      vmAreaFree(fresh);
      return -Errno.ENOMEM;
    }
  }
  if (newBelow) vmaResize(vma, addr, vma.end, pgoff);
  else vmaResize(vma, vma.start, addr, vma.pgoff);
  vmaLink(fresh);
  return 0;
}

/** As {@link splitVmaUnlimited}, but -ENOMEM too when the address space has `max_map_count` mappings. @linux mm/vma.c:split_vma */
export function splitVma(vma: VmArea, addr: VirtAddr, newBelow: boolean): number {
  const { mm } = vma;
  if (mm.mapCount >= mm.vm.sysctl.maxMapCount) return -Errno.ENOMEM;
  return splitVmaUnlimited(vma, addr, newBelow);
}
