import { describe, expect, test } from 'vitest';
import {
  BusError,
  FullyAssociativeTlb,
  PAGE_SIZE,
  PF_INSTR,
  PF_USER,
  PF_WRITE,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_GLOBAL,
  PTE_PRESENT,
  PTE_PS,
  PTE_RW,
  PTE_USER,
  PhysicalMemory,
  SetAssociativeTlb,
  Smp,
  TLB_SKYLAKE,
  firmwareMemoryMap,
  tlbModelFactory,
} from './index.ts';
import { PAGE_RW_DIRTY, TestMachine } from './testing/address-space.ts';

const VA = 0x7f1234000000;

function machine() {
  const made = new TestMachine();
  const model = new SetAssociativeTlb(TLB_SKYLAKE, { replacement: 'lru' });
  made.smp.current.setTlbModel(model);
  return { made, model, cpu: made.smp.current, mem: made.task().memory };
}

describe('a CPU with a modelled TLB', () => {
  test('counts every access of a task, and each page of a bulk one', () => {
    const { made, model, mem } = machine();
    for (let i = 0; i < 300; i++) made.map(VA + i * PAGE_SIZE, made.newFrame());
    for (let i = 0; i < 10; i++) mem.store32(VA + 4 * i, i);
    for (let i = 0; i < 10; i++) expect(mem.load32(VA + 4 * i)).toBe(i);
    expect(model.stats.data).toMatchObject({ accesses: 20, l1Hits: [19, 0, 0], misses: [1, 0, 0], faults: 0 });
    expect(model.stats.walkReferences).toBe(4);
    mem.fill(VA, 300 * PAGE_SIZE, 1);
    expect(model.stats.data).toMatchObject({ accesses: 320, misses: [300, 0, 0] });
    mem.fetch8(VA);
    // The first level is the side's own, the second is of both.
    expect(model.stats.instruction).toMatchObject({ accesses: 1, l2Hits: [1, 0, 0] });
    mem.load64(VA + PAGE_SIZE - 4);
    expect(model.stats.data.accesses).toBe(322);
    expect(model.stats.cycles).toBeGreaterThan(300 * 12);
  });

  test('gives what one without gives, whatever is done', () => {
    const plain = new TestMachine();
    const { made, mem } = machine();
    const other = plain.task().memory;
    for (const m of [made, plain]) {
      for (let i = 0; i < 64; i++) m.map(VA + i * PAGE_SIZE, 2000 + ((i * 7) % 64));
      m.setEntry(m.entry(VA + 2 ** 21, 2), 512 * 5, PAGE_RW_DIRTY | PTE_PS);
    }
    for (const m of [mem, other]) {
      for (let i = 0; i < 2000; i++) m.store32(VA + ((i * 2654435) % (64 * PAGE_SIZE)), i);
      for (let i = 0; i < 200; i++) m.store8(VA + 2 ** 21 + i * 9999, i);
      m.copy(VA + 100, VA + 5000, 150_000);
      m.storeAddress(VA + PAGE_SIZE - 3, -123456789);
    }
    expect(mem.read(VA, 64 * PAGE_SIZE).every((byte, i) => byte === other.load8(VA + i))).toBe(true);
    expect(mem.read(VA + 2 ** 21, 2 ** 21).filter((byte) => byte !== 0).length).toBe(
      other.read(VA + 2 ** 21, 2 ** 21).filter((byte) => byte !== 0).length,
    );
  });

  test('marks entries accessed where it misses, not where it hits; dirty always', () => {
    const { made, mem, cpu } = machine();
    made.map(VA, 1000, PTE_PRESENT | PTE_RW | PTE_USER);
    const at = made.entry(VA);
    const marks = (): number => made.ram.load32(at) & (PTE_ACCESSED | PTE_DIRTY);
    mem.load8(VA);
    expect(marks()).toBe(PTE_ACCESSED);
    made.ram.store32(at, made.ram.load32(at) & ~PTE_ACCESSED);
    mem.load8(VA);
    expect(marks()).toBe(0);
    cpu.invlpg(VA);
    mem.load8(VA);
    expect(marks()).toBe(PTE_ACCESSED);
    mem.store8(VA, 1);
    expect(marks()).toBe(PTE_ACCESSED | PTE_DIRTY);
    made.ram.store32(at, made.ram.load32(at) & ~(PTE_ACCESSED | PTE_DIRTY));
    mem.store8(VA, 1);
    expect(marks()).toBe(PTE_ACCESSED | PTE_DIRTY);
  });

  test('never returns a page that is gone, though the model may still hold it', () => {
    const { made, mem, model } = machine();
    made.map(VA, 1000);
    mem.load8(VA);
    made.setEntry(made.entry(VA), 0, 0);
    expect(() => mem.load8(VA)).toThrow(/code 4/);
    expect(model.stats.data).toMatchObject({ accesses: 2, l1Hits: [1, 0, 0] });
  });

  test('counts faults and bus errors as walks that found nothing', () => {
    const { made, cpu, model } = machine();
    cpu.translate(VA, PF_USER);
    made.map(VA, 0xa0);
    expect(() => cpu.translate(VA, PF_USER)).toThrow(BusError);
    made.map(VA + PAGE_SIZE, 1000, PTE_PRESENT | PTE_USER);
    cpu.translate(VA + PAGE_SIZE, PF_USER | PF_WRITE);
    cpu.translate(2 ** 50, PF_USER);
    expect(model.stats.data).toMatchObject({ accesses: 3, faults: 3, misses: [0, 0, 0] });
  });

  test('is asked by the kernel, too, and keeps global pages over a load of CR3', () => {
    const { made, cpu, model } = machine();
    const kernel = -0x778000000000;
    made.map(kernel, 1000, PTE_PRESENT | PTE_RW | PTE_GLOBAL);
    made.map(kernel + PAGE_SIZE, 1001, PTE_PRESENT | PTE_RW);
    for (let i = 0; i < 2; i++) {
      cpu.translate(kernel, 0);
      cpu.translate(kernel + PAGE_SIZE, PF_WRITE);
      cpu.translate(kernel, PF_INSTR);
      cpu.loadCr3(made.pgd);
    }
    expect(model.stats.data).toMatchObject({ accesses: 4, l1Hits: [1, 0, 0], misses: [3, 0, 0] });
    // Loads filled the second level, where the first fetch found it.
    expect(model.stats.instruction).toMatchObject({ l1Hits: [1, 0, 0], l2Hits: [1, 0, 0] });
    expect(model.stats.contextFlushes).toBe(2);
  });

  test('may be switched on and off', () => {
    const { made, cpu, mem } = machine();
    made.map(VA, 1000);
    mem.store32(VA, 7);
    cpu.setTlbModel(null);
    const { walks } = cpu.stats;
    for (let i = 0; i < 5; i++) expect(mem.load32(VA)).toBe(7);
    expect(cpu.stats.walks - walks).toBe(1);
    const model = new FullyAssociativeTlb();
    cpu.setTlbModel(model);
    for (let i = 0; i < 5; i++) mem.load32(VA);
    expect(model.stats.data.accesses).toBe(5);
    expect(cpu.tlbModel).toBe(model);
  });
});

test('a machine gives each CPU a model of its own', () => {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 16 * 2 ** 20));
  const smp = new Smp(ram, 3, { tlbModel: tlbModelFactory('modelled:zen3', 7) });
  expect(smp.cpus.map(({ tlbModel }) => tlbModel?.name)).toEqual(['zen3', 'zen3', 'zen3']);
  expect(new Set(smp.cpus.map(({ tlbModel }) => tlbModel)).size).toBe(3);
  expect(new Smp(ram, 1, { tlbModel: tlbModelFactory('functional') }).current.tlbModel).toBeNull();
});
