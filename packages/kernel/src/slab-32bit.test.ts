import { describe, expect, test } from 'vitest';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import type { MachineConfigInput } from './config.ts';
import { createMachine } from './machine.ts';
import type { Kernel } from './kernel.ts';

function boot(config: Partial<MachineConfigInput>): Kernel {
  return bootKernel(parseMachineConfig({ memory: '256M', arch: 'x86-32', kernel: '6.1', ...config }));
}

describe('the slab of a kernel of 32 bits', () => {
  test('has objects of its own sizes, and addresses above 3 GiB', () => {
    const { caches, pages } = boot({});
    const sizes = { dentry: 128, vm_area_struct: 72, mm_struct: 576, task_struct: 5184, inode_cache: 416, filp: 192 };
    for (const [name, size] of Object.entries(sizes)) expect([name, caches[name as keyof typeof caches]?.size]).toEqual([name, size]);
    const object = caches.dentry.alloc(GFP_KERNEL);
    expect(object).toBeGreaterThan(0xc000_0000);
    expect(object).toBeLessThan(0xd000_0000);
    expect(pages.pageAddress(pages.virtToPfn(object))).toBe(object - (object % 4096));
  });

  test('keeps free pointers of 4 bytes, as addresses of its direct map', () => {
    const { slab, ram, caches } = boot({});
    const [a, b] = [caches.dentry.alloc(GFP_KERNEL), caches.dentry.alloc(GFP_KERNEL)];
    const physical = (address: number): number => address - 0xc000_0000;
    const pointer = a + 64; // in the middle of 128 bytes
    ram.store32(physical(pointer + 4), 0x1234_5678);
    caches.dentry.free(b);
    caches.dentry.free(a);
    expect(ram.load32(physical(pointer))).toBe(b);
    expect(ram.load32(physical(pointer + 4))).toBe(0x1234_5678);
    slab.validate();
  });

  test('has larger objects with PAE where they hold physical addresses', () => {
    const { caches } = boot({ arch: 'x86-pae' });
    expect([caches.vm_area_struct.size, caches.task_struct.size]).toEqual([80, 5248]);
  });

  test('reports misuse with addresses of eight digits', () => {
    const kernel = boot({ cmdline: 'slub_debug=FZPU' });
    const machine = createMachine(kernel);
    machine.module((k) => {
      const block = k.kmalloc(64);
      k.mem.store8(block + 64, 1);
      k.kfree(block);
    });
    const [{ text, corruption, allocated }] = machine.slabReports() as [ReturnType<typeof machine.slabReports>[number]];
    expect(corruption).toMatchObject({ what: 'Right Redzone', found: 1, expected: 0xcc });
    expect(allocated?.cpu).toBe(0);
    expect(text).toMatch(/^0xc[0-9a-f]{7}-0xc[0-9a-f]{7} @offset=\d+\. First byte 0x1 instead of 0xcc$/m);
    expect(text).toMatch(/^Slab 0xc[0-9a-f]{7} objects=/m);
  });
});
