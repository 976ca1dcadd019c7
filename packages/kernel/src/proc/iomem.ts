import { CAP_SYS_ADMIN } from '@pagelab/abi';
import { OWNER_KERNEL_CODE, OWNER_KERNEL_DATA } from '@pagelab/mm-core';
import type { Kernel } from '../kernel.ts';
import type { Task } from '../task.ts';

/**
 * `/proc/iomem`: the memory map, and where in it the kernel lies. Addresses read as zero without CAP_SYS_ADMIN.
 *
 * @linux kernel/resource.c:iomem_fops
 */
export function iomem(kernel: Kernel, task: Task | null): string {
  const shown = task === null || task.capable(CAP_SYS_ADMIN);
  const hex = (value: number): string => (shown ? value : 0).toString(16).padStart(8, '0');
  const line = (indent: string, start: number, end: number, name: string): string =>
    `${indent}${hex(start)}-${hex(end - 1)} : ${name}\n`;
  const image = kernel.pages.frames.bootRanges.filter(({ owner }) => owner === OWNER_KERNEL_CODE || owner === OWNER_KERNEL_DATA);
  let text = '';
  for (const { start, end, type } of kernel.ram.map) {
    const from = start === 0 ? 0x1000 : start;
    if (start === 0) text += line('', 0, 0x1000, 'Reserved');
    text += line('', from, end, type === 'usable' ? 'System RAM' : 'Reserved');
    const codeAt = image.findIndex(({ owner }) => owner === OWNER_KERNEL_CODE);
    const code = image[codeAt];
    if (code === undefined || code.start * 4096 < start || code.start * 4096 >= end) continue;
    text += line('  ', code.start * 4096, code.end * 4096, 'Kernel code');
    const data = image.find((range) => range.start === code.end);
    if (data !== undefined) text += line('  ', data.start * 4096, data.end * 4096, 'Kernel data');
  }
  return text;
}
