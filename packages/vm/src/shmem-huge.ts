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
  /** Whether what is written may have folios of any size, and not huge pages alone: since 6.14. */
  allSizes: boolean;
  /** Whether anything of this, or of the mount of `/dev/shm`, allows more than single pages: see {@link updateShmemThp}. */
  active: boolean;
}

/** As a machine begins: no huge pages, and those of the largest size go by the mount. @linux mm/shmem.c:shmem_init */
export function newShmemThp(hugeOrder: number): ShmemThp {
  const sizes = new Array<ShmemSizeEnabled>(hugeOrder + 1).fill('never');
  sizes[hugeOrder] = 'inherit';
  return { enabled: 'never', mount: 'never', sizes, allSizes: true, active: false };
}

/** Notes whether shared memory can have folios of several pages at all, after one of the settings was changed. */
export function updateShmemThp({ shmemThp, tmpfs }: Vm): void {
  const { enabled, mount, sizes } = shmemThp;
  const bySize = sizes.some((said) => said !== 'never' && said !== 'inherit');
  shmemThp.active = enabled !== 'deny' && (enabled === 'force' || mount !== 'never' || tmpfs.huge !== 'never' || bySize);
}

/** All orders that a file's folios can have, single pages aside. @linux include/linux/huge_mm.h:THP_ORDERS_ALL_FILE_DEFAULT */
function allOrders({ tables }: Vm): number {
  return 2 ** (tables.hugeOrder + 1) - 2;
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

/**
 * What a mount allows. Who touches a mapping gets huge pages or single ones: what is written tells how much of it there is.
 *
 * @linux mm/shmem.c:shmem_huge_global_enabled
 */
function globalOrders(vm: Vm, inode: Inode, vma: VmArea | null, index: number, writeEnd: number, forced: boolean): number {
  const { allSizes, enabled } = vm.shmemThp;
  const { hugeOrder } = vm.tables;
  if (enabled === 'deny') return 0;
  if (forced || enabled === 'force') return 1 << hugeOrder;
  const huge = mountHuge(vm, inode);
  const orders = vma === null && allSizes ? allOrders(vm) : 1 << hugeOrder;
  if (huge === 'always') return orders;
  if (huge === 'within_size') {
    const within = ordersWithinSize(orders, inode, index, writeEnd);
    if (within !== 0) return within;
  }
  return huge !== 'never' && vma !== null && (vma.flags & VM_HUGEPAGE) !== 0 ? orders : 0;
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
  const global = globalOrders(vm, inode, vma, index, writeEnd, forced);
  if (vma === null || !isAnonShmem(vma)) return global;
  const { enabled } = vm.shmemThp;
  if (enabled === 'deny') return 0;
  if (enabled === 'force') return sizesThatSay(vm, 'inherit');
  let orders = sizesThatSay(vm, 'always') | ordersWithinSize(sizesThatSay(vm, 'within_size'), inode, index, 0);
  if ((vma.flags & VM_HUGEPAGE) !== 0) orders |= sizesThatSay(vm, 'advise');
  if (global !== 0) orders |= sizesThatSay(vm, 'inherit');
  return orders & allOrders(vm);
}

/** What a file of shared memory says is the best size of reads and writes, in bytes. @linux mm/shmem.c:shmem_getattr */
export function shmemBlockSize(vm: Vm, inode: Inode): number {
  return vm.shmemThp.active && globalOrders(vm, inode, null, 0, 0, false) !== 0 ? vm.tables.pmdSize : PAGE_SIZE;
}

/** Bytes that a step of a write to a file takes at most. @linux include/linux/pagemap.h:mapping_max_folio_size */
export function shmemMaxStep(vm: Vm, inode: Inode): number {
  return vm.shmemThp.active && mountHuge(vm, inode) !== 'never' ? vm.tables.pmdSize : PAGE_SIZE;
}

/**
 * The size that a mapping of shared memory should begin at a multiple of, in bytes; 0 for any.
 *
 * @param inode its file; `null` for memory shared without one, which is about to be made
 * @linux mm/shmem.c:shmem_get_unmapped_area
 */
export function shmemAlignment(vm: Vm, inode: Inode | null): number {
  const { enabled, mount, sizes } = vm.shmemThp;
  if (enabled === 'deny') return 0;
  const { hugeOrder, pmdSize } = vm.tables;
  if (enabled === 'force') return pmdSize;
  if (inode !== null) return mountHuge(vm, inode) === 'never' ? 0 : pmdSize;
  for (let order = hugeOrder; order > 0; order--) {
    const said = sizes[order];
    if (said === 'inherit' ? mount !== 'never' : said !== 'never') return PAGE_SIZE << order;
  }
  return mount === 'never' ? 0 : pmdSize;
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
