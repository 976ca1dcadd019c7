/**
 * A kernel function that calls itself too deeply. With VMAP_STACK the stack ends at a guard page, and the kernel says so.
 * Without, as kernels were until 2016, it goes on into whatever lies below: first the thread's own `thread_info`, then memory of
 * somebody else.
 */
import { KernelOops, boot } from '@pagelab/kernel';
import type { KernelModule } from '@pagelab/kernel';

const FRAME = 2048;

function recurse(kernel: KernelModule, depth: number): void {
  kernel.call('recurse', () => {
    if (depth > 1) recurse(kernel, depth - 1);
  }, FRAME);
}

function onOldKernel(kernel: KernelModule, print: (line: string) => void): void {
  const { begin, end } = kernel.stack;
  const task = kernel.mem.load64(begin);
  const show = (when: string): void => {
    const limit = `0x${kernel.mem.load64(begin + 24).toString(16)}`;
    print(`  ${when}: thread_info says task ${kernel.mem.load64(begin) === task ? 'is who it was' : 'is another'}, address limit ${limit}`);
  };
  show('at first');
  recurse(kernel, 3);
  show(`${3 * FRAME} bytes deep`);
  const below = kernel.mem.bytes(begin - 4096, 4096);
  recurse(kernel, 5);
  show(`${5 * FRAME} bytes deep`);
  const changed = kernel.mem.bytes(begin - 4096, 4096).findIndex((byte, i) => byte !== below[i]);
  print(`  ${begin - kernel.stack.lowest} bytes below the stack's ${end - begin} were overwritten, from ${4096 - changed} bytes below on`);
  kernel.mem.set(begin - 4096, below);
}

export default function stackOverflow(kernel: KernelModule): void {
  kernel.printk('16 KiB of stack with a guard page, 10 calls of 2 KiB:');
  try {
    recurse(kernel, 10);
  } catch (error) {
    if (!(error instanceof KernelOops)) throw error;
    const depth = error.callTrace.filter((name) => name.startsWith('recurse')).length;
    kernel.printk(`an oops of kind ${error.kind}, ${depth} calls deep`);
  }
  kernel.printk('8 KiB without one, thread_info at its low end:');
  const old = boot({ memory: '64M', kernelStack: { size: '8K', vmap: false, threadInfo: 'stack' } });
  old.module((each) => {
    onOldKernel(each, (line) => kernel.printk(line));
  });
  kernel.printk(`  its log says ${old.dmesg().includes('BUG') ? 'so' : 'nothing of it'}`);
}
