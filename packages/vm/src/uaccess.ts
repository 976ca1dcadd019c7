/**
 * The kernel's own loads and stores of user memory: as a program's, they fault pages in, and respect what its mappings
 * allow.
 *
 * @linux lib/usercopy.c, arch/x86/lib/copy_user_64.S
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PF_WRITE, PTE_ACCESSED, PTE_DIRTY, PTE_PRESENT, PTE_RW } from '@pagelab/hw';
import type { MmStruct } from './mm-struct.ts';
import { FAULT_OK } from './fault-flags.ts';
import { handlePageFault } from './page-fault.ts';
import { entryHi } from './pgtable-shape.ts';
import { findLeaf, leafLo } from './pgtable.ts';
import { pfnOf } from './pte.ts';

/** Whether all of [addr, addr + length) is user address space: the kernel's idea of it, also for a program of 32 bits. @linux arch/x86/include/asm/uaccess_64.h:access_ok */
export function accessOk(mm: MmStruct, addr: VirtAddr, length: number): boolean {
  return addr >= 0 && addr + length <= mm.vm.tables.taskSize;
}

/**
 * Copies bytes to user memory.
 *
 * @returns 0, or −EFAULT; what lies before the first address that failed may have been written
 * @linux include/linux/uaccess.h:copy_to_user
 */
export function copyToUser(mm: MmStruct, addr: VirtAddr, bytes: Uint8Array): number {
  if (!accessOk(mm, addr, bytes.length)) return -Errno.EFAULT;
  return copyToUserPartial(mm, addr, bytes) === bytes.length ? 0 : -Errno.EFAULT;
}

/** Makes the page at `addr` one that can be stored to. @returns whether it is @linux mm/gup.c:fault_in_safe_writeable */
export function faultInWriteable(mm: MmStruct, addr: VirtAddr): boolean {
  return userByte(mm, addr, PF_WRITE) >= 0;
}

/** As {@link copyToUser}, but returns how many bytes could be copied before the first address that failed. */
export function copyToUserPartial(mm: MmStruct, addr: VirtAddr, bytes: Uint8Array): number {
  const { u8 } = mm.vm.ram;
  const { length } = bytes;
  let done = 0;
  while (done < length) {
    const at = addr + done;
    const run = Math.min(PAGE_SIZE - (at & (PAGE_SIZE - 1)), length - done);
    const host = userByte(mm, at, PF_WRITE);
    if (host < 0) break;
    u8.set(bytes.subarray(done, done + run), host);
    done += run;
  }
  return done;
}

/**
 * Copies bytes from user memory.
 *
 * @returns the bytes, or −EFAULT
 * @linux include/linux/uaccess.h:copy_from_user
 */
export function copyFromUser(mm: MmStruct, addr: VirtAddr, length: number): Uint8Array | number {
  if (!accessOk(mm, addr, length)) return -Errno.EFAULT;
  const bytes = new Uint8Array(length);
  return copyFromUserPartial(mm, addr, bytes) === length ? bytes : -Errno.EFAULT;
}

/** Fills `bytes` from user memory and returns how many could be read before the first address that failed. */
export function copyFromUserPartial(mm: MmStruct, addr: VirtAddr, bytes: Uint8Array): number {
  const { u8 } = mm.vm.ram;
  const { length } = bytes;
  let done = 0;
  while (done < length) {
    const at = addr + done;
    const run = Math.min(PAGE_SIZE - (at & (PAGE_SIZE - 1)), length - done);
    const host = userByte(mm, at, 0);
    if (host < 0) break;
    bytes.set(u8.subarray(host, host + run), done);
    done += run;
  }
  return done;
}

/**
 * Host byte of a user address, its page faulted in for reading or, with PF_WRITE, for writing.
 *
 * @returns an index into `ram.u8`, or −1 where the access is not allowed or there is no page
 */
export function userByte(mm: MmStruct, addr: VirtAddr, access: number): number {
  const { ram, tables } = mm.vm;
  const { i32 } = ram;
  if (!(addr >= 0 && addr < mm.taskSize)) return -1;
  const wanted = (access & PF_WRITE) !== 0 ? PTE_PRESENT | PTE_RW : PTE_PRESENT;
  const used = (access & PF_WRITE) !== 0 ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED;
  for (;;) {
    const entry = findLeaf(mm, addr);
    const lo = entry < 0 ? 0 : i32[entry];
    if ((lo & wanted) === wanted) {
      i32[entry] = lo | used;
      const pfn = pfnOf(leafLo(tables, lo, addr), entryHi(i32, entry, tables.entryWords));
      return ram.frameWord(pfn) * 4 + (addr & (PAGE_SIZE - 1));
    }
    // As the CPU at kernel privilege pushes it: a page that is there was protected against the write.
    const errorCode = access | ((lo & PTE_PRESENT) !== 0 ? 1 : 0);
    if (handlePageFault(mm, addr, errorCode) !== FAULT_OK) return -1;
  }
}
