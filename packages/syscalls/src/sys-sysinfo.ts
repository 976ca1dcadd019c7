import { PAGE_SIZE } from '@pagelab/abi';
import type { TaskContext } from './task-context.ts';
import { putUser } from './user-access.ts';

/** Bytes of a `struct sysinfo`. */
const SYSINFO_BYTES = 112;

/** Memory and uptime of the whole machine, in pages. @returns 0 or -EFAULT @linux kernel/sys.c:sysinfo */
export function sysSysinfo(task: TaskContext, info: number): number {
  const { pages, clock } = task.vm;
  const bytes = new Uint8Array(SYSINFO_BYTES);
  const view = new DataView(bytes.buffer);
  const word = (offset: number, value: number): void => view.setBigUint64(offset, BigInt(value), true);
  word(0, Math.floor(clock.now / 1e9));
  word(32, pages.totalramPages * PAGE_SIZE);
  word(40, pages.nrFreePages() * PAGE_SIZE);
  word(64, task.vm.totalSwapPages * PAGE_SIZE);
  word(72, task.vm.swap.nrFree * PAGE_SIZE);
  view.setUint16(80, task.nrTasks, true);
  view.setUint32(104, 1, true);
  return putUser(task, info, bytes);
}
