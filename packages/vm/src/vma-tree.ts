/**
 * The mappings of an address space as a set: finding them, and VMA objects coming and going.
 *
 *     mm.vmas holds [vma.start, vma.end) → vma for each VMA of mm, and mm.mapCount of them
 *
 * Each VMA is an object of the `vm_area_struct` cache, and the tree's nodes are objects of `maple_node`.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { unlinkAnonVmas, vmaIntervalInsert, vmaIntervalRemove } from './anon-vma.ts';
import { splitHugePmdAt } from './huge-memory.ts';
import { closeReservation } from './hugetlb-reserve.ts';
import { mpolDup, mpolFree } from './mempolicy.ts';
import type { MmStruct } from './mm-struct.ts';
import { freeNumabState } from './numa-balancing.ts';
import { filePut } from './open-file.ts';
import { VM_GROWSDOWN, VM_MAYWRITE, VM_SHARED, VmArea } from './vma.ts';

/** Mappings a maple node has room for: 16 slots, of which a mapping and the hole beside it take two. */
const VMAS_PER_MAPLE_NODE = 8;
/** What a fork of a large program may take, and its end give back. */
const MAX_SPARE_VM_AREAS = 1024;

/** Returns the first mapping that ends above `addr`, whether it holds `addr` or lies above. @linux mm/mmap.c:find_vma */
export function findVma(mm: MmStruct, addr: VirtAddr): VmArea | undefined {
  return mm.vmas.find(addr);
}

/** Returns the mapping that holds `addr`. @linux include/linux/mm.h:vma_lookup */
export function vmaLookup(mm: MmStruct, addr: VirtAddr): VmArea | undefined {
  return mm.vmas.get(addr);
}

/** Returns the first mapping with an address in [start, end). @linux include/linux/mm.h:find_vma_intersection */
export function findVmaIntersection(mm: MmStruct, start: VirtAddr, end: VirtAddr): VmArea | undefined {
  const vma = mm.vmas.find(start);
  return vma !== undefined && vma.start < end ? vma : undefined;
}

/** Returns the next mapping upwards. */
export function vmaNext(vma: VmArea): VmArea | undefined {
  return vma.mm.vmas.next(vma.start);
}

/** Returns the next mapping downwards. */
export function vmaPrev(vma: VmArea): VmArea | undefined {
  return vma.mm.vmas.prev(vma.start);
}

/** Returns where the space that a mapping claims begins: a growing one keeps a gap below it. @linux include/linux/mm.h:vm_start_gap */
export function vmStartGap(vma: VmArea): VirtAddr {
  if ((vma.flags & VM_GROWSDOWN) === 0) return vma.start;
  return Math.max(0, vma.start - vma.mm.vm.sysctl.stackGuardGap * PAGE_SIZE);
}

/** Number of pages in a mapping. */
export function vmaPages(vma: VmArea): number {
  return (vma.end - vma.start) / PAGE_SIZE;
}

/** Whether a mapping may write to its file: it counts in the file's `mmapWritable`. @linux include/linux/mm.h:is_shared_maywrite */
export function isSharedMaywrite(flags: number): boolean {
  return (flags & (VM_SHARED | VM_MAYWRITE)) === (VM_SHARED | VM_MAYWRITE);
}

/**
 * Makes a VMA that is in no tree yet.
 *
 * @returns `null` where the kernel has no memory for it
 * @linux mm/vma_init.c:vm_area_alloc
 */
export function vmAreaAlloc(mm: MmStruct, start: VirtAddr, end: VirtAddr, flags: number, pgoff: number): VmArea | null {
  const { vm } = mm;
  const object = vm.caches.vmArea.alloc(GFP_KERNEL);
  if (object === 0) return null;
  let vma = vm.spareVmAreas.pop();
  if (vma === undefined) {
    vma = new VmArea(mm, start, end, flags, pgoff);
  } else {
    vma.mm = mm;
    vma.start = start;
    vma.end = end;
    vma.flags = flags;
    vma.pgoff = pgoff;
    vma.droppable = false;
    vma.policy = null;
    vma.uffd = null;
    vma.uffdMinor = false;
    vma.resv = null;
    vma.resvUnmapped = false;
    vma.name = '';
  }
  vma.object = object;
  return vma;
}

/**
 * Makes a copy of a VMA, for `mm`, that is in no tree, does not have its file yet and is on no anon_vma chain.
 *
 * @linux mm/vma_init.c:vm_area_dup
 */
export function vmAreaDup(vma: VmArea, mm: MmStruct): VmArea | null {
  const copy = vmAreaAlloc(mm, vma.start, vma.end, vma.flags, vma.pgoff);
  if (copy === null) return null;
  copy.droppable = vma.droppable;
  copy.name = vma.name;
  copy.resv = vma.resv;
  copy.uffd = vma.uffd;
  copy.uffdMinor = vma.uffdMinor;
  copy.resvUnmapped = vma.resvUnmapped;
  if (vma.policy !== null) {
    const policy = mpolDup(mm.vm, vma.policy);
    if (typeof policy === 'number') {
      vmAreaFree(copy);
      return null;
    }
    copy.policy = policy;
  }
  if (vma.zeroFile !== null) copy.zeroFile = vma.zeroFile.get();
  return copy;
}

/** Frees a VMA that is in no tree, has no file and is on no chain. @linux mm/vma_init.c:vm_area_free */
export function vmAreaFree(vma: VmArea): void {
  const { vm } = vma.mm;
  if (vma.zeroFile !== null) {
    vma.zeroFile.put();
    vma.zeroFile = null;
  }
  if (vma.policy !== null) {
    mpolFree(vm, vma.policy);
    vma.policy = null;
  }
  if (vma.numab !== null) freeNumabState(vma);
  vm.caches.vmArea.free(vma.object);
  vma.object = 0;
  if (vm.spareVmAreas.length < MAX_SPARE_VM_AREAS) vm.spareVmAreas.push(vma);
}

/** Lets go of all that a VMA out of the tree holds, and frees it. Its pages must be gone. @linux mm/vma.c:remove_vma */
export function removeVma(vma: VmArea): void {
  if (vma.resv !== null) closeReservation(vma);
  if (vma.anonVmaChain.length !== 0) unlinkAnonVmas(vma);
  if (vma.file !== null) unlinkFileVma(vma);
  vmAreaFree(vma);
}

/** Gives a VMA that is on no chain yet a file, whose reference passes to it, and its place among the file's mappings. @linux mm/vma.c:vma_link_file */
export function linkFileVma(vma: VmArea, file: NonNullable<VmArea['file']>): void {
  vma.file = file;
  if (isSharedMaywrite(vma.flags)) file.inode.mapping.mmapWritable++;
  vmaIntervalInsert(vma);
  if (file.vmOps !== null) file.vmOps.open(vma);
}

/** Undoes {@link linkFileVma} on a VMA that is on no chain any more. @linux mm/vma.c:unlink_file_vma */
export function unlinkFileVma(vma: VmArea): void {
  const file = vma.file!;
  vmaIntervalRemove(vma);
  if (isSharedMaywrite(vma.flags)) file.inode.mapping.mmapWritable--;
  if (file.vmOps !== null) file.vmOps.close(vma);
  vma.file = null;
  filePut(vma.mm.vm, file);
}

/**
 * Makes sure that the tree has room for `nrVmas` mappings more.
 *
 * @returns 0 or -ENOMEM
 * @linux mm/vma.h:vma_iter_prealloc
 */
export function vmaReserve(mm: MmStruct, nrVmas: number): number {
  const wanted = mm.mapCount + nrVmas;
  while (wanted > mm.mapleNodes.length * VMAS_PER_MAPLE_NODE) {
    if (!addMapleNode(mm)) return -Errno.ENOMEM;
  }
  return 0;
}

/** Puts a VMA into the tree, after {@link vmaReserve}. @linux mm/vma.c:vma_link */
export function vmaLink(vma: VmArea): void {
  const { mm } = vma;
  mm.vmas.insert(vma.start, vma.end, vma);
  mm.mapCount++;
}

/** Takes a VMA out of the tree. */
export function vmaUnlink(vma: VmArea): void {
  const { mm } = vma;
  mm.vmas.remove(vma.start);
  unlinked(mm, 1);
}

/**
 * Cuts a VMA in two at `addr`, after {@link vmaReserve}: `fresh`, which is in no tree yet, is the part that its bounds name.
 * Cannot fail.
 *
 * @linux mm/vma.c:__split_vma
 */
export function vmaCut(vma: VmArea, addr: VirtAddr, fresh: VmArea): void {
  const { mm, start } = vma;
  if (fresh.start === start) {
    setRange(vma, addr, vma.end, vma.pgoff + (addr - start) / PAGE_SIZE);
    mm.vmas.cut(start, addr, fresh, vma);
  } else {
    setRange(vma, start, addr, vma.pgoff);
    mm.vmas.cut(start, addr, vma, fresh);
  }
  mm.mapCount++;
}

/** Cuts what lies below `start` and from `end` on off a VMA, as {@link vmaCut} does: `below` and `above` are those parts. */
export function vmaCutMiddle(vma: VmArea, start: VirtAddr, end: VirtAddr, below: VmArea, above: VmArea): void {
  const { mm } = vma;
  const oldStart = vma.start;
  setRange(vma, start, end, vma.pgoff + (start - oldStart) / PAGE_SIZE);
  mm.vmas.cutMiddle(oldStart, start, end, below, above);
  mm.mapCount += 2;
}

/** Lets a VMA take in the `nrVmas` right behind it, up to `end`: they are out of the tree then. */
export function vmaJoin(vma: VmArea, nrVmas: number, end: VirtAddr): void {
  const { mm } = vma;
  setRange(vma, vma.start, end, vma.pgoff);
  mm.vmas.join(vma.start, nrVmas);
  unlinked(mm, nrVmas);
}

function unlinked(mm: MmStruct, nrVmas: number): void {
  mm.mapCount -= nrVmas;
  // One node more than needed stays, so that a mapping that comes and goes does not take one with it each time.
  if (mm.mapCount < (mm.mapleNodes.length - 2) * VMAS_PER_MAPLE_NODE) dropMapleNode(mm);
}

/**
 * Gives a VMA in the tree other bounds that touch no other mapping, and moves it in the trees of its file and its
 * anon_vmas. A huge page that reaches across a bound is mapped by small entries from then on. Cannot fail.
 *
 * @linux mm/vma.c:vma_set_range
 */
export function vmaResize(vma: VmArea, start: VirtAddr, end: VirtAddr, pgoff: number): void {
  const oldStart = vma.start;
  setRange(vma, start, end, pgoff);
  vma.mm.vmas.resize(oldStart, start, end);
}

/** What {@link vmaResize} does but for the tree of mappings. */
function setRange(vma: VmArea, start: VirtAddr, end: VirtAddr, pgoff: number): void {
  if ((vma.mm.depositedTables.length | vma.mm.filePmds) !== 0) {
    splitHugePmdAt(vma.mm, start);
    splitHugePmdAt(vma.mm, end);
  }
  const linked = vma.file !== null || vma.anonVmaChain.length !== 0;
  if (linked) vmaIntervalRemove(vma);
  vma.start = start;
  vma.end = end;
  vma.pgoff = pgoff;
  if (linked) vmaIntervalInsert(vma);
}

/** Frees the tree's nodes, when the last mapping is gone. */
export function freeMapleNodes(mm: MmStruct): void {
  while (mm.mapleNodes.length > 0) dropMapleNode(mm);
}

function addMapleNode(mm: MmStruct): boolean {
  const object = mm.vm.caches.mapleNode.alloc(GFP_KERNEL);
  if (object === 0) return false;
  mm.mapleNodes.push(object);
  return true;
}

function dropMapleNode(mm: MmStruct): void {
  mm.vm.caches.mapleNode.free(mm.mapleNodes.pop()!);
}
