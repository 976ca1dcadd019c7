import { vmMunmap } from '@pagelab/vm';
import type { TaskContext } from './task-context.ts';

/**
 * Unmaps the pages of a range; what is not mapped is passed over.
 *
 * @returns 0, or -errno: EINVAL, ENOMEM
 * @linux mm/mmap.c:munmap
 */
export function sysMunmap(task: TaskContext, addr: number, length: number): number {
  return vmMunmap(task.mm, addr, length);
}
