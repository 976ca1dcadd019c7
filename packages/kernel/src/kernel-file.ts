/**
 * Files as the kernel itself opens them: those it makes up, and all others.
 *
 * @linux fs/read_write.c:kernel_read, fs/read_write.c:kernel_write
 */
import { SyscallError } from '@pagelab/abi';
import { decodeUtf8, encodeUtf8 } from '@pagelab/syscalls';
import type { OpenFile, TaskContext } from '@pagelab/syscalls';
import type { Kernel } from './kernel.ts';
import { openPath } from './open.ts';

/** On behalf of no task. */
const NOBODY = null as unknown as TaskContext;

function open(kernel: Kernel, path: string, flags: number): OpenFile {
  const file = openPath(kernel, null, path, flags, 0);
  if (typeof file === 'number') throw new SyscallError('open', file, ` '${path}'`);
  return file;
}

/** Up to `length` bytes of a file from `offset` on. @throws SyscallError */
export function kernelReadBytes(kernel: Kernel, path: string, offset: number, length: number): Uint8Array {
  const file = open(kernel, path, 0);
  try {
    const bytes = file.read(NOBODY, offset, length);
    if (typeof bytes === 'number') throw new SyscallError('read', bytes, ` '${path}'`);
    return bytes;
  } finally {
    file.put();
  }
}

/** The text of a file. @throws SyscallError */
export function kernelRead(kernel: Kernel, path: string): string {
  return decodeUtf8(kernelReadBytes(kernel, path, 0, 2 ** 30));
}

/** Writes text at the beginning of a file. @throws SyscallError */
export function kernelWrite(kernel: Kernel, path: string, text: string): void {
  const file = open(kernel, path, 1);
  const result = file.write(NOBODY, 0, encodeUtf8(text));
  file.put();
  if (result < 0) throw new SyscallError('write', result, ` '${path}'`);
}
