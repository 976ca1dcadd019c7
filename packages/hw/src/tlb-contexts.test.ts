import { Prng } from '@pagelab/lib';
import { describe, expect, test } from 'vitest';
import {
  CPU_DEFAULT_CONTROLS,
  CPU_PCIDE,
  CPU_PGE,
  CR3_NOFLUSH,
  INVPCID_TYPE_ALL_INCL_GLOBAL,
  INVPCID_TYPE_ALL_NON_GLOBAL,
  INVPCID_TYPE_INDIV_ADDR,
  INVPCID_TYPE_SINGLE_CTXT,
  PAGE_SIZE,
  PF_USER,
  PTE_GLOBAL,
  SWITCH_MM_FLUSH,
  SWITCH_MM_NOFLUSH,
  SWITCH_MM_NOTHING,
  SetAssociativeTlb,
  TLB_FREED_TABLES,
  TLB_NR_DYN_ASIDS,
  TLB_SKYLAKE,
} from './index.ts';
import type { Cpu } from './index.ts';
import { PAGE_RW_DIRTY, TestMachine } from './testing/address-space.ts';

const VA = 0x555500000000;

/** Whether the CPU walks for a read of `va`. */
function walks(cpu: Cpu, va = VA): boolean {
  const before = cpu.stats.walks;
  cpu.translate(va, PF_USER);
  return cpu.stats.walks !== before;
}

/** Whether the CPU's modelled TLB misses at `va`. */
function misses(cpu: Cpu, va = VA): boolean {
  const { data } = cpu.tlbModel!.stats;
  const before = data.misses[0] + data.misses[1] + data.faults;
  cpu.translate(va, PF_USER);
  return data.misses[0] + data.misses[1] + data.faults !== before;
}

function modelled(nrCpus = 1): TestMachine {
  const made = new TestMachine(64 * 2 ** 20, nrCpus);
  for (const cpu of made.smp.cpus) cpu.setTlbModel(new SetAssociativeTlb(TLB_SKYLAKE));
  return made;
}

/** Another address space that maps the same pages. */
function clone(made: TestMachine, from = made.pgd): number {
  const pgd = made.newFrame();
  made.ram.copyFrame(pgd, from / PAGE_SIZE);
  return pgd * PAGE_SIZE;
}

describe('a load of CR3', () => {
  test('drops everything but global pages', () => {
    const made = new TestMachine();
    const cpu = made.smp.current;
    made.map(VA, 1000);
    made.map(VA + PAGE_SIZE, 1001, PAGE_RW_DIRTY | PTE_GLOBAL);
    for (const va of [VA, VA + PAGE_SIZE]) expect([walks(cpu, va), walks(cpu, va)]).toEqual([true, false]);
    cpu.loadCr3(made.pgd);
    expect(walks(cpu)).toBe(true);
    expect(walks(cpu, VA + PAGE_SIZE)).toBe(false);
    // What it kept it still drops when told to.
    cpu.invlpg(VA + PAGE_SIZE);
    expect(walks(cpu, VA + PAGE_SIZE)).toBe(true);
    cpu.loadCr3(made.pgd);
    cpu.flushTlb();
    expect(walks(cpu, VA + PAGE_SIZE)).toBe(true);
    cpu.setControls(CPU_DEFAULT_CONTROLS & ~CPU_PGE);
    expect(walks(cpu, VA + PAGE_SIZE)).toBe(true);
    cpu.loadCr3(made.pgd);
    expect(walks(cpu, VA + PAGE_SIZE)).toBe(true);
  });

  test('keeps many global pages, and what took the place of one is not global', () => {
    const made = new TestMachine();
    const cpu = made.smp.current;
    for (let i = 0; i < 100; i++) made.map(VA + i * PAGE_SIZE, 1000 + i, PAGE_RW_DIRTY | PTE_GLOBAL);
    made.map(VA + 2048 * PAGE_SIZE, 3000);
    for (let i = 0; i < 100; i++) walks(cpu, VA + i * PAGE_SIZE);
    expect(walks(cpu, VA + 2048 * PAGE_SIZE)).toBe(true);
    cpu.loadCr3(made.pgd);
    expect(walks(cpu, VA + 2048 * PAGE_SIZE)).toBe(true);
    const kept = Array.from({ length: 100 }, (_, i) => !walks(cpu, VA + i * PAGE_SIZE)).filter(Boolean).length;
    expect(kept).toBe(63);
  });

  test('names a context, whose translations stay where bit 63 says so', () => {
    const made = modelled();
    const cpu = made.smp.current;
    made.map(VA, 1000);
    const other = clone(made);
    cpu.loadCr3(made.pgd, 1);
    expect(cpu.pcid).toBe(1);
    expect([misses(cpu), misses(cpu)]).toEqual([true, false]);
    cpu.loadCr3(other, 2 | CR3_NOFLUSH);
    expect(misses(cpu)).toBe(true);
    cpu.loadCr3(made.pgd, 1 | CR3_NOFLUSH);
    expect(misses(cpu)).toBe(false);
    cpu.loadCr3(other, 2);
    expect(misses(cpu)).toBe(true);
    cpu.loadCr3(made.pgd, 1 | CR3_NOFLUSH);
    expect(misses(cpu)).toBe(false);
  });

  test('that is answered with #GP changes nothing', () => {
    const made = new TestMachine();
    const cpu = made.smp.current;
    const other = clone(made);
    expect(() => cpu.loadCr3(other, 0x2000)).toThrow(RangeError);
    cpu.setControls(CPU_DEFAULT_CONTROLS & ~CPU_PCIDE);
    expect(() => cpu.loadCr3(other, 1)).toThrow(RangeError);
    expect(() => cpu.loadCr3(other, CR3_NOFLUSH)).toThrow(RangeError);
    expect(cpu.cr3).toBe(made.pgd);
  });
});

test('each kind of INVPCID drops what it names from both TLBs', () => {
  for (const model of [false, true]) {
    const made = model ? modelled() : new TestMachine();
    const cpu = made.smp.current;
    const looks = model ? misses : walks;
    made.map(VA, 1000);
    made.map(VA + PAGE_SIZE, 1001);
    made.map(VA + 2 * PAGE_SIZE, 1002, PAGE_RW_DIRTY | PTE_GLOBAL);
    const missed = (kind: number, pcid: number): boolean[] => {
      cpu.flushTlb();
      for (let i = 0; i < 3; i++) cpu.translate(VA + i * PAGE_SIZE, PF_USER);
      cpu.invpcid(kind, pcid, VA);
      return [0, 1, 2].map((i) => looks(cpu, VA + i * PAGE_SIZE));
    };
    cpu.loadCr3(made.pgd, 5);
    expect(missed(INVPCID_TYPE_INDIV_ADDR, 5)).toEqual([true, false, false]);
    expect(missed(INVPCID_TYPE_INDIV_ADDR, 6)).toEqual([false, false, false]);
    expect(missed(INVPCID_TYPE_SINGLE_CTXT, 5)).toEqual([true, true, false]);
    expect(missed(INVPCID_TYPE_SINGLE_CTXT, 6)).toEqual([false, false, false]);
    expect(missed(INVPCID_TYPE_ALL_INCL_GLOBAL, 0)).toEqual([true, true, true]);
    expect(missed(INVPCID_TYPE_ALL_NON_GLOBAL, 0)).toEqual([true, true, false]);
    expect(() => cpu.invpcid(4)).toThrow(RangeError);
    expect(() => cpu.invpcid(1, 4096)).toThrow(RangeError);
  }
});

describe('switching address spaces', () => {
  test('comes back to one without a flush, as long as none was asked for', () => {
    const made = modelled(2);
    const { smp } = made;
    made.map(VA, 1000);
    const other = clone(made);
    expect(smp.switchMm(0, made.pgd)).toBe(SWITCH_MM_FLUSH);
    expect(smp.switchMm(0, made.pgd)).toBe(SWITCH_MM_NOTHING);
    misses(smp.cpus[0]);
    expect(smp.switchMm(0, other)).toBe(SWITCH_MM_FLUSH);
    expect(misses(smp.cpus[0])).toBe(true);
    expect(smp.switchMm(0, made.pgd)).toBe(SWITCH_MM_NOFLUSH);
    expect(misses(smp.cpus[0])).toBe(false);
    smp.switchMm(0, other);
    smp.flushTlbRange(made.pgd, VA, VA + PAGE_SIZE);
    expect(smp.stats.ipis).toBe(0);
    expect(smp.switchMm(0, made.pgd)).toBe(SWITCH_MM_FLUSH);
    expect(misses(smp.cpus[0])).toBe(true);
    // The frame of a page table that is freed and used anew.
    smp.switchMm(0, other);
    smp.forgetMm(made.pgd);
    expect(smp.switchMm(0, made.pgd)).toBe(SWITCH_MM_FLUSH);
  });

  test('keeps six apart', () => {
    const made = modelled();
    const pgds = Array.from({ length: TLB_NR_DYN_ASIDS + 1 }, () => clone(made));
    for (const pgd of pgds) expect(made.smp.switchMm(0, pgd)).toBe(SWITCH_MM_FLUSH);
    expect(made.smp.switchMm(0, pgds[1])).toBe(SWITCH_MM_NOFLUSH);
    expect(made.smp.switchMm(0, pgds[0])).toBe(SWITCH_MM_FLUSH);
  });

  test('flushes each time without CR4.PCIDE', () => {
    const made = new TestMachine();
    const other = clone(made);
    made.smp.current.setControls(CPU_DEFAULT_CONTROLS & ~CPU_PCIDE);
    for (const pgd of [other, made.pgd, other]) expect(made.smp.switchMm(0, pgd)).toBe(SWITCH_MM_FLUSH);
    expect(made.smp.switchMm(0, other)).toBe(SWITCH_MM_NOTHING);
  });
});

describe('a lazy CPU', () => {
  test.each([CPU_DEFAULT_CONTROLS, CPU_DEFAULT_CONTROLS & ~CPU_PCIDE])('is spared the interrupt, and catches up (%i)', (controls) => {
    const made = new TestMachine(64 * 2 ** 20, 3);
    const { smp } = made;
    made.map(VA, 1000);
    for (const cpu of smp.cpus) {
      cpu.setControls(controls);
      smp.switchMm(cpu.id, made.pgd);
      walks(cpu);
    }
    smp.enterLazyTlb(1);
    smp.flushTlbRange(made.pgd, VA, VA + PAGE_SIZE);
    expect(smp.stats).toMatchObject({ ipis: 1, lazySpared: 1 });
    expect([walks(smp.cpus[0]), walks(smp.cpus[1]), walks(smp.cpus[2])]).toEqual([true, false, true]);
    expect(smp.switchMm(1, made.pgd)).toBe(SWITCH_MM_FLUSH);
    expect(walks(smp.cpus[1])).toBe(true);
    // Nothing missed: nothing to do.
    smp.enterLazyTlb(1);
    expect(smp.switchMm(1, made.pgd)).toBe(SWITCH_MM_NOTHING);
  });

  test('is interrupted where page tables are freed', () => {
    const made = new TestMachine(64 * 2 ** 20, 2);
    const { smp } = made;
    made.map(VA, 1000);
    smp.switchMm(1, made.pgd);
    walks(smp.cpus[1]);
    smp.enterLazyTlb(1);
    smp.flushTlbRange(made.pgd, VA, VA + PAGE_SIZE, 12, TLB_FREED_TABLES);
    expect(smp.stats).toMatchObject({ ipis: 1, lazySpared: 0 });
    expect(walks(smp.cpus[1])).toBe(true);
  });
});

test('a batch sends each CPU one interrupt, however many pages and address spaces it concerns', () => {
  const made = new TestMachine(64 * 2 ** 20, 4);
  const { smp } = made;
  for (let i = 0; i < 3; i++) made.map(VA + i * PAGE_SIZE, 1000 + i);
  const other = clone(made);
  for (const [id, pgd] of [made.pgd, made.pgd, other, clone(made)].entries()) {
    smp.switchMm(id, pgd);
    for (let i = 0; i < 3; i++) walks(smp.cpus[id], VA + i * PAGE_SIZE);
  }
  smp.flushBatch();
  expect(smp.stats.shootdowns).toBe(0);
  for (let i = 0; i < 20; i++) smp.addToBatch(i % 2 === 0 ? made.pgd : other);
  expect(smp.stats).toMatchObject({ ipis: 0, batched: 20 });
  expect(walks(smp.cpus[1])).toBe(false);
  smp.flushBatch();
  expect(smp.stats).toMatchObject({ ipis: 2, shootdowns: 1 });
  expect(smp.cpus.map((cpu) => walks(cpu))).toEqual([true, true, true, false]);
  // The address space that was elsewhere at the time is flushed when it comes back.
  smp.addToBatch(made.pgd);
  smp.switchMm(0, other);
  smp.flushBatch();
  expect(smp.switchMm(0, made.pgd)).toBe(SWITCH_MM_FLUSH);
});

test('kernel addresses are flushed everywhere; large pages by their stride', () => {
  const made = new TestMachine(64 * 2 ** 20, 3);
  const { smp } = made;
  smp.flushTlbKernelRange(-4096 * 10, -4096 * 8);
  expect(smp.cpus.map(({ stats }) => stats.tlbPageFlushes)).toEqual([2, 2, 2]);
  smp.flushTlbKernelRange(-4096 * 100, -4096);
  expect(smp.stats.ipis).toBe(4);
  const before = smp.current.stats.tlbPageFlushes;
  smp.flushTlbRange(made.pgd, VA, VA + 4 * 2 ** 21, 21);
  expect(smp.current.stats.tlbPageFlushes - before).toBe(4);
});

test('whatever is switched, flushed, batched and made lazy, no CPU that runs an address space finds a stale page', () => {
  const prng = new Prng(0xbee);
  const nrCpus = 3;
  const made = new TestMachine(64 * 2 ** 20, nrCpus);
  const { smp, ram } = made;
  const pgds = Array.from({ length: 9 }, () => made.newFrame() * PAGE_SIZE);
  const lazy = Array.from({ length: nrCpus }, () => false);
  const data = Array.from({ length: 40 }, () => made.newFrame());
  /** Address spaces with a change that is in the batch and not flushed yet. */
  const pending = new Set<number>();
  const running = Array.from({ length: nrCpus }, () => -1);
  for (let step = 0; step < 6000; step++) {
    const id = prng.below(nrCpus);
    smp.processorId = id;
    const cpu = smp.cpus[id];
    const pgd = pgds[prng.below(pgds.length)];
    const va = VA + prng.below(4) * PAGE_SIZE;
    switch (prng.below(8)) {
      case 0:
      case 1:
        smp.switchMm(id, pgd);
        lazy[id] = false;
        running[id] = pgd;
        break;
      case 2:
        if (running[id] >= 0) {
          smp.enterLazyTlb(id);
          lazy[id] = true;
        }
        break;
      case 3:
        made.setEntry(made.entry(va, 1, pgd), data[prng.below(data.length)], PAGE_RW_DIRTY);
        if (prng.below(2) === 0) {
          smp.flushTlbRange(pgd, va, va + PAGE_SIZE);
        } else {
          smp.addToBatch(pgd);
          pending.add(pgd);
        }
        break;
      case 4:
        smp.flushBatch();
        pending.clear();
        break;
      default: {
        if (lazy[id] || running[id] < 0 || pending.has(running[id])) break;
        const at = made.entry(va, 1, running[id]);
        const present = (ram.load32(at) & 1) !== 0;
        const expected = present ? ram.frameWord(Math.floor(ram.load32(at) / PAGE_SIZE)) * 4 : -1;
        expect(cpu.translate(va, PF_USER), `step ${step}`).toBe(expected);
      }
    }
  }
  expect(smp.stats.lazySpared).toBeGreaterThan(20);
});
