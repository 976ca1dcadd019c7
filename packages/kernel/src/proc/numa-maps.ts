import { VM_HUGETLB, mpolText, numaPagesOf, vmaName, vmaPolicyAt } from '@pagelab/vm';
import type { VmArea } from '@pagelab/vm';
import type { Task } from '../task.ts';
import { hexAddress } from './proc-file.ts';

/** `/proc/PID/numa_maps`: each mapping's policy, and on which nodes its pages lie. @linux fs/proc/task_mmu.c:show_numa_map */
export function numaMaps(task: Task): string {
  let text = '';
  for (const vma of task.process.mm!.vmas) text += line(task, vma);
  return text;
}

function line(task: Task, vma: VmArea): string {
  let text = `${hexAddress(vma.start).padStart(8, '0')} ${mpolText(vmaPolicyAt(vma, vma.start) ?? task.memPolicy.policy)}`;
  const name = vmaName(vma);
  if (vma.file !== null) text += ` file=${name.replaceAll(/[\n\t= ]/g, (letter) => `\\${letter.charCodeAt(0).toString(8).padStart(3, '0')}`)}`;
  else if (name === '[heap]') text += ' heap';
  else if (name === '[stack]') text += ' stack';
  const isHugetlb = (vma.flags & VM_HUGETLB) !== 0;
  if (isHugetlb) text += ' huge';
  const found = numaPagesOf(vma);
  if (found.pages === 0) return `${text}\n`;
  if (found.anon > 0) text += ` anon=${found.anon}`;
  if (found.dirty > 0) text += ` dirty=${found.dirty}`;
  if (found.pages !== found.anon && found.pages !== found.dirty) text += ` mapped=${found.pages}`;
  if (found.mapcountMax > 1) text += ` mapmax=${found.mapcountMax}`;
  if (found.active < found.pages && !isHugetlb) text += ` active=${found.active}`;
  if (found.writeback > 0) text += ` writeback=${found.writeback}`;
  found.byNode.forEach((pages, nid) => {
    if (pages > 0) text += ` N${nid}=${pages}`;
  });
  return `${text} kernelpagesize_kB=${isHugetlb ? 2048 : 4}\n`;
}
