import { Errno, PAGE_SIZE } from '@pagelab/abi';
import { copyToUser, doMincore, findVma } from '@pagelab/vm';
import type { TaskContext } from './task-context.ts';
import { accessOk } from './user-access.ts';

/** Pages that one round asks for: what fits the page the kernel collects the answer in. */
const PAGES_A_ROUND = PAGE_SIZE;

/**
 * Tells which pages of a range are resident: bit 0 of a byte a page, stored at `vec` as far as the range is mapped.
 *
 * @returns 0, or -errno: EINVAL, ENOMEM, EFAULT
 * @linux mm/mincore.c:mincore
 */
export function sysMincore(task: TaskContext, start: number, length: number, vec: number): number {
  if (start % PAGE_SIZE !== 0) return -Errno.EINVAL;
  if (!accessOk(task, start, length)) return -Errno.ENOMEM;
  const pages = Math.ceil(length / PAGE_SIZE);
  if (!accessOk(task, vec, pages)) return -Errno.EFAULT;
  let done = 0;
  while (done < pages) {
    const residence = residenceFrom(task, start + done * PAGE_SIZE, Math.min(pages - done, PAGES_A_ROUND));
    if (typeof residence === 'number') return residence;
    if (copyToUser(task.mm, vec + done, residence) < 0) return -Errno.EFAULT;
    done += residence.length;
  }
  return 0;
}

/** The whole answer of `mincore` at once, or -errno: what the typed client returns. */
export function mincorePages(task: TaskContext, start: number, length: number): Uint8Array | number {
  if (start % PAGE_SIZE !== 0) return -Errno.EINVAL;
  if (!accessOk(task, start, length)) return -Errno.ENOMEM;
  const pages = Math.ceil(length / PAGE_SIZE);
  if (pages > task.mm.taskSize / PAGE_SIZE) return -Errno.ENOMEM;
  const all: Uint8Array[] = [];
  for (let done = 0; done < pages; ) {
    const residence = residenceFrom(task, start + done * PAGE_SIZE, Math.min(pages - done, PAGES_A_ROUND));
    if (typeof residence === 'number') return residence;
    all.push(residence);
    done += residence.length;
  }
  const whole = new Uint8Array(pages);
  let at = 0;
  for (const part of all) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Residence of up to `pages` pages, as far as one mapping goes; -ENOMEM where nothing is mapped at `addr`. */
function residenceFrom(task: TaskContext, addr: number, pages: number): Uint8Array | number {
  const vma = findVma(task.mm, addr);
  if (vma === undefined || vma.start > addr) return -Errno.ENOMEM;
  const end = Math.min(addr + pages * PAGE_SIZE, vma.end);
  return doMincore(task.mm, addr, end - addr);
}
