import { GFP_KERNEL } from '@pagelab/mm-core';
import { SLAB_NO_MERGE, SLAB_TYPESAFE_BY_RCU } from '@pagelab/slab';
import type { KmemCache } from '@pagelab/slab';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { createMachine } from './machine.ts';

/** A machine in which pages of slabs wait for readers. */
function waiting(cpus: number) {
  const kernel = bootKernel(parseMachineConfig({ memory: '64M', cpus }));
  const machine = createMachine(kernel);
  const cache = kernel.slab.kmemCacheCreate({ name: 'typesafe', size: 1024, flags: SLAB_NO_MERGE | SLAB_TYPESAFE_BY_RCU }) as KmemCache;
  for (const object of Array.from({ length: 100 }, () => cache.alloc(GFP_KERNEL))) cache.free(object);
  cache.shrink();
  expect(kernel.rcu.nrPending).toBeGreaterThan(0);
  return { kernel, machine, cache };
}

test('a grace period ends when every CPU has switched tasks', () => {
  const { kernel, machine, cache } = waiting(1);
  machine.run((os) => {
    os.waitpid(os.fork(() => 0));
  });
  expect([kernel.rcu.nrPending, cache.nrPages]).toEqual([0, 0]);
  machine.validate();
});

test('CPUs that nothing runs on are seen after three jiffies', () => {
  const { kernel, machine, cache } = waiting(8);
  const { nrPages } = cache;
  const turn = (): void => {
    machine.run((os) => os.getpid());
  };
  turn();
  expect(cache.nrPages).toBe(nrPages);
  kernel.clock.advance(12e6);
  turn();
  expect(cache.nrPages).toBeLessThan(nrPages);
  kernel.clock.advance(12e6);
  turn();
  expect([kernel.rcu.nrPending, cache.nrPages]).toEqual([0, 0]);
  machine.validate();
});

test('a reader in kernel code holds it up, on whichever CPU', () => {
  const { kernel, machine, cache } = waiting(2);
  machine.module((k) => {
    k.onCpu(1, () => k.rcuReadLock());
  });
  for (let i = 0; i < 5; i++) {
    kernel.clock.advance(50e6);
    machine.run((os) => os.getpid());
  }
  expect(cache.nrPages).toBeGreaterThan(0);
  expect(kernel.slab.nrPages).toBeGreaterThan(cache.nrPages);
  machine.validate();
  machine.module((k) => {
    k.onCpu(1, () => k.rcuReadUnlock());
    k.rcuBarrier();
  });
  expect(cache.nrPages).toBe(0);
});

test('who reclaims memory gets what waits', () => {
  const { kernel, machine, cache } = waiting(2);
  const taken: number[] = [];
  for (;;) {
    const pfn = kernel.pages.allocPage(GFP_KERNEL | 0x2000 /* __GFP_NOWARN */ | 0x1_0000 /* __GFP_NORETRY */);
    if (pfn < 0) break;
    taken.push(pfn);
  }
  expect([kernel.rcu.nrPending, cache.nrPages]).toEqual([0, 0]);
  for (const pfn of taken) kernel.pages.freePage(pfn);
  machine.validate();
});

test('destroying a cache waits for it', () => {
  const { kernel, machine, cache } = waiting(4);
  expect(kernel.slab.kmemCacheDestroy(cache)).toBe(0);
  expect(kernel.rcu.nrPending).toBe(0);
  machine.validate();
});
