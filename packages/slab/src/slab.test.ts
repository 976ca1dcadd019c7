import { describe, expect, test } from 'vitest';
import { Errno } from '@pagelab/abi';
import { KernelBug } from '@pagelab/lib';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { Slab } from './slab.ts';
import { FakePages } from './testing/fake-pages.ts';

function machine(cpus = 2) {
  const pages = new FakePages(64 * 2 ** 20);
  const smp = { cpus: { length: cpus }, processorId: 0 };
  const slab = new Slab({ pages: pages.asPageAlloc(), ram: pages.ram, smp });
  return { pages, smp, slab };
}

describe('caches', () => {
  test('alloc and free', () => {
    const { slab } = machine();
    const a = slab.kmalloc(64, GFP_KERNEL);
    expect(a).toBeLessThan(0);
    slab.validate();
    slab.kfree(a);
    slab.validate();
    const list: number[] = [];
    for (let i = 0; i < 1000; i++) list.push(slab.kmalloc(i * 9 + 1, GFP_KERNEL));
    slab.validate();
    expect(new Set(list).size).toBe(1000);
    for (const x of list) slab.kfree(x);
    slab.validate();
  });
  test('double free', () => {
    const { slab } = machine();
    const a = slab.kmalloc(64, GFP_KERNEL);
    slab.kfree(a);
    expect(() => slab.kfree(a)).toThrow(KernelBug);
    expect(slab.kmemCacheCreate({ name: 'x', size: 0 })).toBe(-Errno.EINVAL);
  });
});
