/**
 * A driver gets a pointer from a program. Reading what it points to like its own memory is an oops: SMAP keeps the kernel's loads
 * out of user pages, and SMEP its jumps. `copy_from_user` suspends SMAP while it copies, faults pages in, and says how much it
 * could not read; a pointer into the kernel it refuses, which a plain load would have followed.
 */
import { KernelOops } from '@pagelab/kernel';
import type { KernelModule } from '@pagelab/kernel';

const PAGE = 4096;
const PROT_ALL = 7;

function attempt(kernel: KernelModule, what: string, body: () => unknown): void {
  try {
    kernel.call(what, body);
    kernel.printk(`${what}: nothing kept it`);
  } catch (error) {
    if (!(error instanceof KernelOops)) throw error;
    kernel.printk(`${what}: an oops`);
  }
}

export default function userMemory(kernel: KernelModule): void {
  const buffer = kernel.kzalloc(64);
  kernel.attachMm(() => {
    const request = kernel.vmMmap(2 * PAGE, PROT_ALL);
    kernel.mem.set(buffer, new TextEncoder().encode('read 512 bytes'));
    kernel.printk(`the program writes its request: ${kernel.copyToUser(request, buffer, 14)} bytes missing`);

    attempt(kernel, 'plain_load', () => kernel.mem.load8(request));
    attempt(kernel, 'jump_there', () => kernel.mem.fetch8(request));

    const missing = kernel.copyFromUser(buffer, request, 14);
    kernel.printk(`copy_from_user: ${missing} bytes missing, "${new TextDecoder().decode(kernel.mem.bytes(buffer, 14))}"`);
    kernel.printk(`a page never touched: ${kernel.copyFromUser(buffer, request + PAGE, 64)} bytes missing, the first is ${kernel.mem.load8(buffer)}`);
    kernel.printk(`where nothing is mapped: ${kernel.copyFromUser(buffer, 0x1000, 64)} bytes missing`);
    kernel.printk(`a pointer into the kernel: ${kernel.copyFromUser(buffer, buffer, 64)} bytes missing`);

    kernel.stac();
    attempt(kernel, 'plain_load_after_stac', () => kernel.mem.load8(request));
    attempt(kernel, 'jump_after_stac', () => kernel.mem.fetch8(request));
    kernel.clac();
  });
  kernel.kfree(buffer);
}
