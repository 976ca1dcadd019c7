/**
 * Which sizes of folios shared memory may have: as its mount says, or for what has no mount of its own (`memfd_create`,
 * MAP_SHARED | MAP_ANONYMOUS), as each size says. System V segments go by the internal mount.
 *
 * A set of orders is a mask: bit n for folios of 2^n pages.
 *
 * @linux mm/shmem.c
 */
import { PAGE_SIZE } from '@pagelab/hw';
import type { Inode } from './file.ts';
import { thpDisabled } from './huge-memory.ts';
import type { Vm } from './vm.ts';
import { VM_HUGEPAGE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** What `huge=` of a mount may be. @linux mm/shmem.c:shmem_parse_huge */
export type TmpfsHuge = 'never' | 'always' | 'within_size' | 'advise';
/** What `/sys/kernel/mm/transparent_hugepage/shmem_enabled` may be: of the internal mount, or for every mount. */
export type ShmemEnabled = TmpfsHuge | 'deny' | 'force';
/** What `hugepages-…kB/shmem_enabled` may be. */
export type ShmemSizeEnabled = 'always' | 'inherit' | 'within_size' | 'advise' | 'never';

/** What is set for shared memory without a name. */
export interface ShmemThp {
  /** The word last written to `shmem_enabled`. */
  enabled: ShmemEnabled;
  /** `huge=` of the internal mount: the last such word but `deny` and `force`. */
  mount: TmpfsHuge;
  /** By order, what each size says. */
  readonly sizes: ShmemSizeEnabled[];
}

/** As a machine begins: no huge pages, and those of the largest size go by the mount. @linux mm/shmem.c:shmem_init */
export function newShmemThp(hugeOrder: number): ShmemThp {
  const sizes = new Array<ShmemSizeEnabled>(hugeOrder + 1).fill('never');
  sizes[hugeOrder] = 'inherit';
  return { enabled: 'never', mount: 'never', sizes };
}

/** All orders that a file's folios can have, single pages aside. @linux include/linux/huge_mm.h:THP_ORDERS_ALL_FILE_DEFAULT */
function allOrders(vm: Vm): number {
  return 2 ** (vm.tables.hugeOrder + 1) - 2;
}

/** `huge=` of the mount that a file is in. */
function mountHuge(vm: Vm, { superBlock }: Inode): TmpfsHuge {
  return superBlock === null ? vm.shmemThp.mount : superBlock.huge;
}

/** Whether a mapping is one of shared memory without a mount and without operations of its own. @linux mm/shmem.c:vma_is_anon_shmem */
function isAnonShmem({ file }: VmArea): boolean {
  return file !== null && file.vmOps === null && file.inode.nlink === 0;
}

/**
 * The orders up to which a folio around page `index` would lie in the file, whose end is `writeEnd` if that is larger: all
 * of `orders` up to the highest that does.
 *
 * @linux mm/shmem.c:shmem_get_orders_within_size
 */
function ordersWithinSize(orders: number, { size }: Inode, index: number, writeEnd: number): number {
  const pages = Math.ceil(Math.max(writeEnd, size) / PAGE_SIZE);
  let fits = orders;
  for (let order = 31 - Math.clz32(fits); fits !== 0; order = 31 - Math.clz32(fits)) {
    if (pages >= Math.ceil((index + 1) / 2 ** order) * 2 ** order) return fits;
    fits &= ~(1 << order);
  }
  return 0;
}

/** @linux mm/shmem.c:shmem_huge_global_enabled */
function globalOrders(vm: Vm, inode: Inode, index: number, writeEnd: number, forced: boolean, vmFlags: number): number {
  const { enabled } = vm.shmemThp;
  const { hugeOrder } = vm.tables;
  if (enabled === 'deny') return 0;
  if (forced || enabled === 'force') return 1 << hugeOrder;
  const huge = mountHuge(vm, inode);
  if (huge === 'always') return allOrders(vm);
  if (huge === 'within_size') {
    const within = ordersWithinSize(allOrders(vm), inode, index, writeEnd);
    if (within !== 0) return within;
  }
  return huge !== 'never' && (vmFlags & VM_HUGEPAGE) !== 0 ? allOrders(vm) : 0;
}

/**
 * The orders that a folio of shared memory may have.
 *
 * @param vma the mapping that is touched; `null` for `write`, `fallocate` and their like
 * @param index the page
 * @param writeEnd where what is written will end, in bytes; 0 for none
 * @param forced it is asked for by MADV_COLLAPSE: only `deny` forbids it
 * @returns a mask of orders; 0 for single pages only
 * @linux mm/shmem.c:shmem_allowable_huge_orders
 */
export function shmemHugeOrders(vm: Vm, inode: Inode, vma: VmArea | null, index: number, writeEnd: number, forced: boolean): number {
  if (vma !== null && thpDisabled(vma, forced)) return 0;
  const vmFlags = vma === null ? 0 : vma.flags;
  const global = globalOrders(vm, inode, index, writeEnd, forced, vmFlags);
  if (vma === null || !isAnonShmem(vma)) return global;
  const { enabled } = vm.shmemThp;
  if (enabled === 'deny') return 0;
  if (enabled === 'force') return sizesThatSay(vm, 'inherit');
  let orders = sizesThatSay(vm, 'always') | ordersWithinSize(sizesThatSay(vm, 'within_size'), inode, index, 0);
  if ((vmFlags & VM_HUGEPAGE) !== 0) orders |= sizesThatSay(vm, 'advise');
  if (global !== 0) orders |= sizesThatSay(vm, 'inherit');
  return orders & allOrders(vm);
}

function sizesThatSay({ shmemThp }: Vm, word: ShmemSizeEnabled): number {
  let orders = 0;
  for (const [order, said] of shmemThp.sizes.entries()) if (said === word) orders |= 1 << order;
  return orders;
}

/** Whether shared memory may have huge pages for khugepaged to make. @linux mm/shmem.c:shmem_hpage_pmd_enabled */
export function shmemHugeEnabled(vm: Vm): boolean {
  const { enabled, mount, sizes } = vm.shmemThp;
  if (enabled === 'deny') return false;
  const said = sizes[vm.tables.hugeOrder];
  return said === 'inherit' ? mount !== 'never' || enabled === 'force' : said !== 'never';
}
