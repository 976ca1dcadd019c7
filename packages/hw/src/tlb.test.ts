import { Prng } from '@pagelab/lib';
import { describe, expect, test } from 'vitest';
import {
  PAGE_SIZE,
  PF_INSTR,
  PF_USER,
  PF_WRITE,
  PTE_NX_HI,
  PTE_PRESENT,
  PTE_RW,
  PTE_USER,
  TLB_ENTRIES,
  Tlb,
} from './index.ts';
import { PAGE_RW_DIRTY, TestMachine } from './testing/address-space.ts';

const BASE = 0x7f1234567000;

interface Page {
  readonly pfn: number;
  readonly writable: boolean;
  readonly executable: boolean;
}

test('after each change and its flush, every access goes where the tables say', () => {
  const prng = new Prng(20240607);
  const machine = new TestMachine(64 * 2 ** 20, 2);
  const { ram, smp } = machine;
  const frames = Array.from({ length: 64 }, () => machine.newFrame());
  // Pages that share slots of the TLB, and some that do not.
  const numbers = [0, 1, 2, 3, TLB_ENTRIES, TLB_ENTRIES + 1, 2 * TLB_ENTRIES, 9 * TLB_ENTRIES + 3];
  const pages = numbers.map((n) => BASE + n * PAGE_SIZE);
  const other = machine.newFrame() * PAGE_SIZE;
  const spaces = [machine.pgd, other].map((pgd) => ({ pgd, model: new Map<number, Page>() }));
  let onCpu = [spaces[0], spaces[1]];
  smp.cpus[1].loadCr3(other);
  for (let step = 0; step < 30_000; step++) {
    const space = spaces[prng.below(2)];
    const va = pages[prng.below(pages.length)];
    smp.processorId = prng.below(2);
    switch (prng.below(8)) {
      case 0: {
        const coin = (): boolean => prng.below(2) === 0;
        const page = { pfn: frames[prng.below(frames.length)], writable: coin(), executable: coin() };
        machine.setEntry(
          machine.entry(va, 1, space.pgd),
          page.pfn,
          PTE_PRESENT | PTE_USER | (page.writable ? PTE_RW : 0),
          page.executable ? 0 : PTE_NX_HI,
        );
        space.model.set(va, page);
        smp.flushTlbRange(space.pgd, va, va + PAGE_SIZE);
        break;
      }
      case 1:
        machine.setEntry(machine.entry(va, 1, space.pgd), 0, 0);
        space.model.delete(va);
        if (prng.below(4) === 0) smp.flushTlbMm(space.pgd);
        else smp.flushTlbRange(space.pgd, va + prng.below(PAGE_SIZE), va + PAGE_SIZE);
        break;
      case 2:
        if (prng.below(10) === 0) {
          onCpu = onCpu.map((_, id) => {
            const next = spaces[prng.below(2)];
            smp.cpus[id].loadCr3(next.pgd);
            return next;
          });
        }
        break;
      default: {
        const access = [PF_USER, PF_USER | PF_WRITE, PF_USER | PF_INSTR][prng.below(3)];
        const page = onCpu[smp.processorId].model.get(va);
        const allowed =
          page !== undefined &&
          ((access & PF_WRITE) === 0 || page.writable) &&
          ((access & PF_INSTR) === 0 || page.executable);
        const expected = allowed ? ram.frameWord(page.pfn) * 4 + 5 : -1;
        expect(smp.current.translate(va + 5, access), `step ${step}`).toBe(expected);
      }
    }
  }
});

describe('flushes', () => {
  test('a kernel that forgets one sees the old page', () => {
    const machine = new TestMachine();
    const [first, second] = [machine.newFrame(), machine.newFrame()];
    machine.ram.store32(first * PAGE_SIZE, 1);
    machine.ram.store32(second * PAGE_SIZE, 2);
    machine.map(BASE, first);
    const { memory } = machine.task();
    expect(memory.load32(BASE)).toBe(1);
    machine.map(BASE, second);
    expect(memory.load32(BASE)).toBe(1);
    machine.smp.current.invlpg(BASE + 0xfff);
    expect(memory.load32(BASE)).toBe(2);
  });

  test('of many pages or few, all are dropped', () => {
    for (const nrPages of [1, 10, 64, 65, 500, TLB_ENTRIES, 2 * TLB_ENTRIES]) {
      const machine = new TestMachine(64 * 2 ** 20);
      const tlb = new Tlb(machine.ram);
      const page = (i: number): number => BASE + i * PAGE_SIZE;
      for (let i = 0; i < nrPages; i++) {
        tlb.enterData(Math.floor(page(i) / 2 ** 32), page(i) | 0, 100 * 1024 + i, true, false);
        tlb.enterFetch(Math.floor(page(i) / 2 ** 32), page(i) | 0, 100 * 1024 + i, false);
      }
      const last = nrPages - 1;
      expect([tlb.lookupRead(page(last)), tlb.lookupWrite(page(last)), tlb.lookupFetch(page(last))]).toEqual(
        Array(3).fill(100 * 1024 + last),
      );
      tlb.invalidateAll();
      for (let i = 0; i < nrPages; i++) {
        expect([tlb.lookupRead(page(i)), tlb.lookupWrite(page(i)), tlb.lookupFetch(page(i))]).toEqual([-1, -1, -1]);
      }
    }
  });

  test('setting a control drops translations made under the old ones', () => {
    const machine = new TestMachine();
    machine.map(BASE, machine.newFrame(), PAGE_RW_DIRTY);
    const cpu = machine.smp.current;
    const before = cpu.stats.walks;
    cpu.translate(BASE, PF_USER);
    cpu.translate(BASE, PF_USER);
    expect(cpu.stats.walks).toBe(before + 1);
    cpu.setControls(0);
    cpu.translate(BASE, PF_USER);
    expect(cpu.stats.walks).toBe(before + 2);
  });
});
