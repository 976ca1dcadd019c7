/**
 * A kernel function that calls itself too deeply. With VMAP_STACK the stack ends at a guard page, and the kernel says so.
 * Without, as kernels were until 2016, it goes on into whatever lies below: first the thread's own `thread_info`, then the
 * stack of somebody else.
 */
import { KernelOops, boot } from '@pagelab/kernel';
import type { KernelModule, Machine } from '@pagelab/kernel';

const FRAME = 512;

function recurse(k: KernelModule, depth: number): void {
  k.call('recurse', () => {
    if (depth > 1) recurse(k, depth - 1);
  }, FRAME);
}

export default function stackOverflow(machine: Machine, print: (line: string) => void): void {
  print('16 KiB of stack with a guard page, 40 calls of 512 bytes:');
  try {
    machine.module((k) => {
      recurse(k, 40);
    }, { name: 'deep' });
  } catch (error) {
    if (!(error instanceof KernelOops)) throw error;
    const [first] = error.text.split('\n');
    print(`  ${first}`);
    print(`  ${error.callTrace.filter((name) => name === 'recurse [deep]').length} calls deep; the machine goes on`);
  }

  print('8 KiB without one, thread_info at its low end:');
  const old = boot({ memory: '64M', kernelStack: { size: '8K', vmap: false, threadInfo: 'stack' } });
  old.module((k) => {
    const { begin, end } = k.stack;
    const show = (when: string): void => {
      const task = k.mem.load64(begin);
      const limit = k.mem.load64(begin + 24);
      const hex = (value: bigint): string => `0x${value.toString(16)}`;
      print(`  ${when}: thread_info says task ${task === first ? 'is who it was' : hex(task)}, address limit ${hex(limit)}`);
    };
    const first = k.mem.load64(begin);
    show('at first');
    recurse(k, 15);
    show(`${15 * FRAME} bytes deep`);
    const below = k.mem.bytes(begin - 4096, 4096);
    recurse(k, 17);
    show(`${17 * FRAME} bytes deep`);
    const after = k.mem.bytes(begin - 4096, 4096);
    const written = after.filter((byte, i) => byte !== below[i]).length;
    print(`  ${begin - k.stack.lowest} bytes below the stack's ${end - begin} were overwritten; ${written} of them are others now; no report`);
    k.mem.set(begin - 4096, below);
  });
  print(`  its log says nothing of it: ${!old.dmesg().includes('BUG')}`);
}
