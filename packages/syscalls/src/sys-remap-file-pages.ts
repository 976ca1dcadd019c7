import { Errno, MAP_NONBLOCK, PAGE_SIZE } from '@pagelab/abi';
import { doRemapFilePages } from '@pagelab/vm';
import { flagTable } from './flag-table.ts';
import { int32, unsigned } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const REMAP_FILE_PAGES_FLAGS = flagTable('remap_file_pages', 'flags', 'bits', {}, { MAP_NONBLOCK }, {
  unknown: 'Other bits are ignored. `prot` must be 0.',
});

/**
 * Shows other pages of a shared file mapping's file in [start, start + size).
 *
 * @returns 0, or -errno: EINVAL, and those of `mmap`
 * @linux mm/mmap.c:remap_file_pages
 */
export function sysRemapFilePages(task: TaskContext, start: number, size: number, prot: number, pgoff: number, flags: number): number {
  const { registerRange } = task.mm;
  const first = unsigned(pgoff, registerRange);
  if (first + unsigned(size, registerRange) / PAGE_SIZE >= registerRange) return -Errno.EINVAL;
  return doRemapFilePages(task.mm, start, size, prot, first, int32(flags), task.personality);
}
