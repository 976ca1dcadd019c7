import { describe, expect, it } from 'vitest';
import { PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { TraceRing } from '@pagelab/lib';
import { GFP_KERNEL, PageAlloc } from './index.ts';

describe('boot', () => {
  it('smoke', () => {
    for (const mib of [64, 96, 1024, 4096, 1048576]) {
      const ram = new PhysicalMemory(firmwareMemoryMap('pc', mib * 1048576));
      const pages = new PageAlloc({ ram, smp: new Smp(ram, 1), clock: new VirtualClock(), trace: new TraceRing(16), kernel: '6.1' });
      pages.validate();
      const list = [];
      for (let i = 0; i < 2000; i++) list.push([pages.allocPages(GFP_KERNEL, i % 5), i % 5]);
      pages.validate();
      for (const [p, o] of list) if (p! >= 0) pages.freePages(p!, o!);
      pages.validate();
      pages.drainAllPages();
      pages.validate();
    }
    expect(1).toBe(1);
  });
});
