import { describe, expect, test } from 'vitest';
import { PAGE_SIZE, PF_USER, PhysicalMemory, Smp, TLB_SINGLE_PAGE_FLUSH_CEILING, firmwareMemoryMap } from './index.ts';
import { TestMachine } from './testing/address-space.ts';

const VA = 0x555500000000;

test('a machine has 1 to 64 CPUs', () => {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 16 * 2 ** 20));
  for (const nrCpus of [0, 65, 1.5, NaN]) expect(() => new Smp(ram, nrCpus)).toThrow(RangeError);
  const smp = new Smp(ram, 64);
  expect(smp.cpus.map(({ id }) => id)).toEqual(Array.from({ length: 64 }, (_, id) => id));
  smp.processorId = 63;
  expect(smp.current.id).toBe(63);
});

describe('a shootdown', () => {
  /** Four CPUs: 0, 1 and 3 run the same address space, 2 another. */
  function machine(): TestMachine {
    const made = new TestMachine(64 * 2 ** 20, 4);
    const other = made.newFrame() * PAGE_SIZE;
    for (const id of [1, 3]) made.smp.cpus[id].loadCr3(made.pgd);
    made.smp.cpus[2].loadCr3(other);
    for (let i = 0; i < 40; i++) made.map(VA + i * PAGE_SIZE, made.newFrame());
    for (const id of [0, 1, 3]) {
      for (let i = 0; i < 40; i++) made.smp.cpus[id].translate(VA + i * PAGE_SIZE, PF_USER);
    }
    return made;
  }
  const walksOf = ({ smp }: TestMachine): number[] => smp.cpus.map(({ stats }) => stats.walks);

  test('reaches the CPUs that have the address space loaded, page by page', () => {
    const made = machine();
    const { smp } = made;
    smp.flushTlbRange(made.pgd, VA, VA + 3 * PAGE_SIZE);
    expect(smp.stats).toEqual({ shootdowns: 1, ipis: 2, lazySpared: 0, batched: 0 });
    expect(smp.cpus.map(({ stats }) => stats.tlbPageFlushes)).toEqual([3, 3, 0, 3]);
    const before = walksOf(made);
    for (const id of [0, 1, 3]) for (let i = 0; i < 40; i++) smp.cpus[id].translate(VA + i * PAGE_SIZE, PF_USER);
    expect(walksOf(made).map((walks, id) => walks - before[id])).toEqual([3, 3, 0, 3]);
  });

  test('of more pages than the ceiling drops all of the TLB', () => {
    const made = machine();
    const { smp } = made;
    const flushes = smp.cpus.map(({ stats }) => stats.tlbFlushes);
    smp.flushTlbRange(made.pgd, VA, VA + TLB_SINGLE_PAGE_FLUSH_CEILING * PAGE_SIZE);
    expect(smp.cpus.map(({ stats }, id) => stats.tlbFlushes - flushes[id])).toEqual([0, 0, 0, 0]);
    smp.flushTlbRange(made.pgd, VA, VA + (TLB_SINGLE_PAGE_FLUSH_CEILING + 1) * PAGE_SIZE);
    expect(smp.cpus.map(({ stats }, id) => stats.tlbFlushes - flushes[id])).toEqual([1, 1, 0, 1]);
  });

  test('of a part of a page drops the page', () => {
    const made = machine();
    const { smp } = made;
    smp.processorId = 2;
    smp.flushTlbRange(made.pgd, VA + 0x800, VA + PAGE_SIZE + 1);
    expect(smp.stats.ipis).toBe(3);
    expect(smp.cpus[0].stats.tlbPageFlushes).toBe(2);
  });

  test('of an address space, or of all, leaves nothing', () => {
    const made = machine();
    const { smp } = made;
    smp.flushTlbMm(made.pgd);
    const before = walksOf(made);
    smp.cpus[3].translate(VA, PF_USER);
    expect(walksOf(made)[3]).toBe(before[3] + 1);
    smp.flushTlbAll();
    smp.cpus[3].translate(VA, PF_USER);
    expect(walksOf(made)[3]).toBe(before[3] + 2);
    expect(smp.stats).toEqual({ shootdowns: 2, ipis: 2 + 3, lazySpared: 0, batched: 0 });
  });

  test('finds nothing on a CPU that has loaded another address space since', () => {
    const made = machine();
    const { smp } = made;
    smp.cpus[1].loadCr3(smp.cpus[2].cr3);
    smp.flushTlbRange(made.pgd, VA, VA + PAGE_SIZE);
    expect(smp.stats.ipis).toBe(1);
    expect(smp.cpus[1].translate(VA, PF_USER)).toBe(-1);
  });
});
