/**
 * Files of huge pages: what MAP_HUGETLB, MFD_HUGETLB and SHM_HUGETLB have behind them.
 *
 * @linux fs/hugetlbfs/inode.c
 */
import { Errno, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE, PAGE_SIZE, S_IFREG } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import type { AddressSpace, AddressSpaceOps, Inode, VmFile } from './file.ts';
import { putHugetlbPage } from './hugetlb.ts';
import { hugetlbReservePages, hugetlbUnreservePages } from './hugetlb-reserve.ts';
import { allocPseudoFile, inodePut } from './open-file.ts';
import { makeInode } from './page-cache.ts';
import type { Vm } from './vm.ts';
import { VM_MAYSHARE } from './vma.ts';
import { unmapMappingPages } from './zap.ts';

const SECTORS_PER_PAGE = 8;
const ANONYMOUS_MODE = S_IFREG | 0o777;

export class HugetlbfsOps implements AddressSpaceOps {
  readonly name = 'hugetlbfs';
  readonly swapBacked = false;
  readonly writeNotify = false;
  readonly maxBytes = 2 ** 63;
  readonly dev = '00:0f';
  readonly #vm: Vm;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** Faults of its mappings are served elsewhere: nothing else may ask for a page. */
  getPage(): number {
    return -Errno.EFAULT;
  }

  maxStep(): number {
    return PAGE_SIZE;
  }

  pageMkwrite(): number {
    return 0;
  }

  readPage(): number {
    return -Errno.EINVAL;
  }

  /** @linux fs/hugetlbfs/inode.c:hugetlbfs_write_begin */
  writeBegin(): number {
    return -Errno.EINVAL;
  }

  writeEnd(): number {
    return -Errno.EINVAL;
  }

  /** @linux fs/hugetlbfs/inode.c:hugetlbfs_setattr */
  truncate(inode: Inode, newSize: number): number {
    if (newSize % this.#vm.tables.pmdSize !== 0) return -Errno.EINVAL;
    if (newSize < inode.size && (inode.seals & F_SEAL_SHRINK) !== 0) return -Errno.EPERM;
    if (newSize > inode.size && (inode.seals & F_SEAL_GROW) !== 0) return -Errno.EPERM;
    const old = inode.size;
    inode.size = newSize;
    if (newSize < old) this.#removePages(inode, newSize / PAGE_SIZE, Infinity);
    return 0;
  }

  /** Only whole huge pages are punched out. @linux fs/hugetlbfs/inode.c:hugetlbfs_fallocate */
  fallocate(inode: Inode, mode: number, offset: number, length: number): number {
    if (mode !== (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) return -Errno.EOPNOTSUPP;
    if ((inode.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0) return -Errno.EPERM;
    const { pmdSize } = this.#vm.tables;
    const first = Math.ceil(offset / pmdSize) * pmdSize;
    const last = Math.floor((offset + length) / pmdSize) * pmdSize;
    if (last > first) this.#removePages(inode, first / PAGE_SIZE, last / PAGE_SIZE);
    return 0;
  }

  writeBack(): number {
    return 0;
  }

  sync(): number {
    return 0;
  }

  willNeed(): void {
    // Its pages come from nowhere.
  }

  /** All of it is data. */
  nextData(_inode: Inode, pgoff: number): number {
    return pgoff;
  }

  blocks(inode: Inode): number {
    return inode.mapping.pages.size * this.#vm.tables.ptrsPerPte * SECTORS_PER_PAGE;
  }

  /** @linux fs/hugetlbfs/inode.c:hugetlbfs_evict_inode */
  evict(inode: Inode): void {
    const vm = this.#vm;
    this.#removePages(inode, 0, Infinity);
    vm.mappings.free(inode.mapping.id);
    vm.caches.hugetlbfsInode.free(inode.object);
  }

  /** Takes pages [first, end) out of a file and all its mappings. @linux fs/hugetlbfs/inode.c:remove_inode_hugepages */
  #removePages(inode: Inode, first: number, end: number): void {
    const vm = this.#vm;
    const { mapping } = inode;
    unmapMappingPages(vm, mapping, first, end - 1, 'all');
    const found: number[] = [];
    mapping.pages.forEachIn(first, end - 1, (_, pgoff) => {
      found.push(pgoff);
    });
    for (const pgoff of found) {
      const head = mapping.pages.get(pgoff);
      mapping.pages.delete(pgoff);
      vm.frames.mapping[head] = 0;
      putHugetlbPage(vm, head);
    }
    const { ptrsPerPte } = vm.tables;
    hugetlbUnreservePages(vm, inode, first / ptrsPerPte, end / ptrsPerPte, found.length);
  }
}

/** Whether a file is one of huge pages. @linux include/linux/hugetlb.h:is_file_hugepages */
export function isHugetlbFile(vm: Vm, file: { readonly inode: Inode } | null): boolean {
  return file !== null && file.inode.mapping.ops === vm.hugetlbOps;
}

/** Whether a page cache is one of huge pages. */
export function isHugetlbMapping(vm: Vm, mapping: AddressSpace): boolean {
  return mapping.ops === vm.hugetlbOps;
}

/**
 * Makes a file of huge pages without a name.
 *
 * @param sizeBytes whole huge pages
 * @param reserve whether all its pages are promised now, and not to each mapping as it is made
 * @returns it with one reference; −ENOMEM
 * @linux fs/hugetlbfs/inode.c:hugetlb_file_setup
 */
export function hugetlbFileSetup(vm: Vm, path: string, sizeBytes: number, reserve: boolean): VmFile | number {
  const object = vm.caches.hugetlbfsInode.alloc(GFP_KERNEL);
  if (object === 0) return -Errno.ENOMEM;
  const inode = makeInode(vm, { ops: vm.hugetlbOps, size: sizeBytes, nlink: 0, mode: ANONYMOUS_MODE, accounted: reserve, object });
  const reserved = reserve ? hugetlbReservePages(vm, inode, 0, sizeBytes / vm.tables.pmdSize, VM_MAYSHARE) : null;
  const file = typeof reserved === 'number' ? null : allocPseudoFile(vm, inode, path, { readable: true, writable: true });
  inodePut(inode);
  return file ?? -Errno.ENOMEM;
}
