import {
  Errno,
  MAP_FIXED,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_POPULATE,
  MAP_SHARED,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { VM_EXEC, VM_LOCKED, VM_READ, VM_SHARED, VM_WRITE, doMmap, findVma, vmaNext } from '@pagelab/vm';
import type { MmStruct, VmArea } from '@pagelab/vm';
import { flagTable } from './flag-table.ts';
import { int32, unsigned } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const REMAP_FILE_PAGES_FLAGS = flagTable('remap_file_pages', 'flags', 'bits', {}, { MAP_NONBLOCK }, {
  unknown: 'Other bits are ignored. `prot` must be 0.',
});

const TWO_64 = 2 ** 64;

/**
 * Shows other pages of a shared file mapping's file in [start, start + size). Linux has emulated it with a new mapping
 * since 4.0.
 *
 * @returns 0, or -errno: EINVAL, and those of `mmap`
 * @linux mm/mmap.c:remap_file_pages
 */
export function sysRemapFilePages(task: TaskContext, start: number, size: number, prot: number, pgoff: number, flags: number): number {
  if (prot !== 0) return -Errno.EINVAL;
  const from = Math.floor(start / PAGE_SIZE) * PAGE_SIZE;
  const length = Math.floor(unsigned(size) / PAGE_SIZE) * PAGE_SIZE;
  if (length === 0 || unsigned(from) + length >= TWO_64) return -Errno.EINVAL;
  if (unsigned(pgoff) + length / PAGE_SIZE >= TWO_64) return -Errno.EINVAL;
  const vma = from < 0 ? undefined : findVma(task.mm, from);
  if (vma === undefined || vma.start > from || (vma.flags & VM_SHARED) === 0) return -Errno.EINVAL;
  if (!isAlike(task.mm, vma, from + length)) return -Errno.EINVAL;
  const rights =
    (vma.flags & VM_READ ? PROT_READ : 0) | (vma.flags & VM_WRITE ? PROT_WRITE : 0) | (vma.flags & VM_EXEC ? PROT_EXEC : 0);
  const type = MAP_SHARED | MAP_FIXED | MAP_POPULATE | (int32(flags) & MAP_NONBLOCK) | (vma.flags & VM_LOCKED ? MAP_LOCKED : 0);
  const result = doMmap(task.mm, { file: vma.file, addr: from, length, prot: rights, flags: type, pgoff: unsigned(pgoff) });
  return result < 0 ? result : 0;
}

/** Whether all up to `end` is mapped, shows the same file, and has the same flags. */
function isAlike(mm: MmStruct, first: VmArea, end: number): boolean {
  let last = first;
  while (last.end < end) {
    const next = vmaNext(last);
    if (next === undefined || next.start !== last.end || next.file !== first.file || next.flags !== first.flags) return false;
    last = next;
  }
  return true;
}
