/**
 * `/sys/kernel/debug/hwpoison`: memory errors by the frame's number, and taking one back.
 *
 * @linux mm/hwpoison-inject.c
 */
import { CAP_SYS_ADMIN, Errno } from '@pagelab/abi';
import { memoryFailure, unpoisonMemory } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';

const DIRECTORY = '/sys/kernel/debug/hwpoison/';

/** The files, by path. */
export function hwpoisonFiles(kernel: Kernel): Map<string, ProcFile> {
  const { vm } = kernel;
  const file = (act: (pfn: number) => number): ProcFile => ({
    mode: 0o200,
    write: (text, task) => {
      if (task !== null && !task.capable(CAP_SYS_ADMIN)) return -Errno.EPERM;
      const match = /^\s*(0[xX][0-9a-fA-F]+|\d+)\s*$/.exec(text);
      if (match === null) return -Errno.EINVAL;
      const error = act(Number(match[1]));
      return error === 0 ? text.length : error;
    },
  });
  return new Map([
    [`${DIRECTORY}corrupt-pfn`, file((pfn) => {
      if (!(pfn < kernel.pages.frames.nrFrames)) return -Errno.ENXIO;
      vm.log(`Injecting memory failure at pfn 0x${pfn.toString(16)}`);
      return memoryFailure(vm, pfn, null);
    })],
    [`${DIRECTORY}unpoison-pfn`, file((pfn) => unpoisonMemory(vm, pfn))],
  ]);
}
