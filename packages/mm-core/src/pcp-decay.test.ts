/** Per-CPU lists that nobody uses give back what they hold, a look at a time. */
import { describe, expect, it } from 'vitest';
import { GFP_KERNEL } from './gfp.ts';
import { testMachine } from './testing/machine.ts';

const MIB = 2 ** 20;

describe('the bound of a list that has grown', () => {
  it('falls by an eighth at each look, down to the least', () => {
    const { pages } = testMachine({ memoryMib: 1024 });
    const zone = pages.zones[1];
    const [pcp] = zone.pcp;
    const held = Array.from({ length: 30_000 }, () => pages.allocPage(GFP_KERNEL));
    for (const pfn of held) pages.freePage(pfn);
    expect(pcp.high).toBeGreaterThan(pcp.highMin * 2);
    const free = zone.nrFree + pcp.count;
    let looks = 0;
    for (let before = pcp.high; before > pcp.highMin; before = pcp.high, looks++) {
      const { count } = pcp;
      pages.refreshVmStats();
      // By no more than 32 batches under what is on the lists.
      expect(pcp.high).toBe(Math.max(pcp.highMin, before - (before >> 3), count - 32 * pcp.batch));
      expect(pcp.count).toBeLessThanOrEqual(pcp.high);
      expect(zone.nrFree + pcp.count).toBe(free);
    }
    expect(looks).toBeGreaterThan(4);
    pages.refreshVmStats();
    expect(pcp.high).toBe(pcp.highMin);
    pages.validate();
  });

  it('is what it is where kernels do not let it grow', () => {
    const { pages } = testMachine({ memoryMib: 256, kernel: '6.1' });
    const [pcp] = pages.zones[1].pcp;
    const held = Array.from({ length: 2000 }, () => pages.allocPage(GFP_KERNEL));
    for (const pfn of held) pages.freePage(pfn);
    const { count, high } = pcp;
    for (let i = 0; i < 8; i++) pages.refreshVmStats();
    expect([pcp.count, pcp.high]).toEqual([count, high]);
  });
});

it('lists of another node give a batch back at each look once they are idle', () => {
  const nodes = [{ memoryBytes: 256 * MIB, cpus: [0] }, { memoryBytes: 256 * MIB, cpus: [1] }];
  const { pages } = testMachine({ memoryMib: 512, cpus: 2, nodes, kernel: '6.1' });
  const far = pages.nodes[1].zones[1].pcp[0];
  const near = pages.nodes[0].zones[1].pcp[0];
  for (const nid of [0, 1]) {
    const held = Array.from({ length: 300 }, () => pages.allocPagesNode(nid, GFP_KERNEL, 0));
    for (const pfn of held) pages.freePage(pfn);
  }
  const [atFirst, own] = [far.count, near.count];
  expect(atFirst).toBeGreaterThan(far.batch * 2);
  const counts = Array.from({ length: 6 }, () => {
    pages.refreshVmStats();
    return far.count;
  });
  // Three looks without anything new, and then a batch each time.
  expect(counts.slice(0, 3)).toEqual([atFirst, atFirst, atFirst]);
  expect(counts[3]).toBe(atFirst - far.batch);
  expect(near.count).toBe(own);
  pages.validate();
});
