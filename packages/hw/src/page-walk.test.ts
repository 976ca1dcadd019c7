import { Prng } from '@pagelab/lib';
import { describe, expect, test } from 'vitest';
import {
  BusError,
  CPU_AC,
  CPU_NXE,
  CPU_SMAP,
  CPU_SMEP,
  CPU_WP,
  PAGE_SIZE,
  PF_INSTR,
  PF_USER,
  PF_WRITE,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_NX_HI,
  PTE_PRESENT,
  PTE_PS,
  PTE_RW,
  PTE_USER,
  TRANSLATE_FAULT,
} from './index.ts';
import { PAGE_RW_DIRTY, TestMachine } from './testing/address-space.ts';
import { modelWalk } from './testing/walk-model.ts';
import type { ModelControls } from './testing/walk-model.ts';

const VA = 0x7f0012345000;

function modelControls(controls: number): ModelControls {
  const has = (bit: number): boolean => (controls & bit) !== 0;
  return { wp: has(CPU_WP), smep: has(CPU_SMEP), smap: has(CPU_SMAP), ac: has(CPU_AC), nxe: has(CPU_NXE) };
}

/** Walks with the CPU and the model, and compares the result and every entry that changed. */
function compare(machine: TestMachine, va: number, access: number): void {
  const { ram } = machine;
  const cpu = machine.smp.current;
  const model = modelWalk(
    ram,
    cpu.cr3,
    BigInt.asUintN(64, BigInt(va)),
    { write: (access & PF_WRITE) !== 0, user: (access & PF_USER) !== 0, fetch: (access & PF_INSTR) !== 0 },
    modelControls(cpu.controls),
  );
  const where = `0x${va.toString(16)}, access ${access}, controls ${cpu.controls}`;
  if ('physical' in model && !ram.isRam(Number(model.physical >> 12n))) {
    expect(() => cpu.translate(va, access), where).toThrow(BusError);
  } else {
    const host = cpu.translate(va, access);
    if ('fault' in model) {
      expect([host, cpu.faultErrorCode, cpu.faultVector], where).toEqual([TRANSLATE_FAULT, model.fault, model.vector]);
      expect(cpu.faultAddress, where).toBe(va);
    } else {
      const physical = Number(model.physical);
      expect(host, where).toBe(ram.frameWord(Math.floor(physical / PAGE_SIZE)) * 4 + (physical % PAGE_SIZE));
    }
  }
  for (const [at, entry] of model.marks) {
    const now = (BigInt(ram.load32(at + 4)) << 32n) | BigInt(ram.load32(at));
    expect(now, `${where}: entry at 0x${at.toString(16)}`).toBe(entry);
  }
}

const ACCESSES = [0, PF_WRITE, PF_INSTR, PF_USER, PF_USER | PF_WRITE, PF_USER | PF_INSTR];

test('every combination of rights, level, access and control is as the model says', () => {
  const machine = new TestMachine(16 * 2 ** 20);
  const cpu = machine.smp.current;
  machine.map(VA, 1000);
  const entries = [4, 3, 2, 1].map((level) => machine.entry(VA, level));
  const before = entries.map((at) => [machine.ram.load32(at), machine.ram.load32(at + 4)]);
  for (let controls = 0; controls < 32; controls++) {
    cpu.setControls(controls);
    for (const [level, at] of entries.entries()) {
      for (const removed of [0, PTE_PRESENT, PTE_RW, PTE_USER]) {
        for (const nx of [0, PTE_NX_HI]) {
          for (const access of ACCESSES) {
            entries.forEach((entry, i) => {
              machine.ram.store32(entry, before[i][0] & ~(PTE_ACCESSED | PTE_DIRTY));
              machine.ram.store32(entry + 4, before[i][1]);
            });
            machine.ram.store32(at, machine.ram.load32(at) & ~removed);
            machine.ram.store32(at + 4, before[level][1] | nx);
            cpu.flushTlb();
            compare(machine, VA + 0x123, access);
          }
        }
      }
    }
  }
});

test('random tables, with large pages, reserved bits and holes, are walked as the model walks them', () => {
  const prng = new Prng(0x5eed);
  const machine = new TestMachine(16 * 2 ** 20);
  const cpu = machine.smp.current;
  // A handful of tables whose entries point at each other and at data, with random bits now and then.
  const tables = Array.from({ length: 12 }, () => machine.newFrame());
  const chance = (percent: number): boolean => prng.below(100) < percent;
  const randomEntry = (at: number): void => {
    let pfn = chance(70) ? tables[prng.below(tables.length)] : 512 + prng.below(3500);
    if (chance(4)) pfn = 0xa0 + prng.below(64);
    let lo = chance(90) ? PTE_PRESENT : 0;
    if (chance(80)) lo |= PTE_RW;
    if (chance(80)) lo |= PTE_USER;
    if (chance(15)) {
      lo |= PTE_PS;
      if (chance(70)) pfn = chance(50) ? 0 : 512 * (1 + prng.below(6));
    }
    if (chance(50)) lo |= PTE_ACCESSED;
    if (chance(30)) lo |= PTE_DIRTY;
    if (chance(10)) lo |= prng.below(8) << 9;
    let hi = chance(15) ? PTE_NX_HI : 0;
    if (chance(10)) hi |= prng.below(2048) << 20;
    if (chance(3)) hi |= 1 << (14 + prng.below(6));
    if (chance(2)) hi |= 1 << prng.below(14);
    machine.setEntry(at, pfn, lo, hi);
  };
  const indices = [0, 1, 255, 256, 511];
  const address = (): number => {
    const [a, b, c, d] = [0, 0, 0, 0].map(() => indices[prng.below(indices.length)]);
    const page = (BigInt(a) << 27n) | (BigInt(b) << 18n) | (BigInt(c) << 9n) | BigInt(d);
    const wide = (page << 12n) | BigInt(prng.below(4096));
    if (chance(3)) return Number(BigInt.asIntN(53, wide | (1n << BigInt(47 + prng.below(5)))));
    return Number(BigInt.asIntN(48, wide));
  };
  for (let round = 0; round < 60; round++) {
    for (const table of [machine.pgd / PAGE_SIZE, ...tables]) {
      for (const index of indices) randomEntry(table * PAGE_SIZE + index * 8);
    }
    cpu.setControls(chance(50) ? CPU_WP | CPU_SMEP | CPU_SMAP | CPU_NXE : prng.below(32));
    cpu.loadCr3(machine.pgd);
    for (let i = 0; i < 60; i++) {
      // Walks only: what the TLB may hold while entries change is another test's matter.
      cpu.flushTlb();
      compare(machine, address(), ACCESSES[prng.below(ACCESSES.length)]);
    }
  }
});

describe('large pages', () => {
  test.each([
    [2, 2 * 2 ** 20, 512 * 4],
    [3, 2 ** 30, 0],
  ])('of level %i cover %i bytes, and invlpg drops all of one', (level, bytes, pfn) => {
    const machine = new TestMachine(64 * 2 ** 20);
    const cpu = machine.smp.current;
    const base = 0x7f0040000000;
    machine.setEntry(machine.entry(base, level), pfn, PAGE_RW_DIRTY | PTE_PS);
    const task = machine.task();
    machine.ram.store32(pfn * PAGE_SIZE + 0x345678 - (level === 2 ? 0x200000 : 0), 0xabcd);
    expect(task.memory.load32(base + 0x345678 - (level === 2 ? 0x200000 : 0))).toBe(0xabcd);
    task.memory.store8(base + 0x1ffffd, 1);
    expect(machine.ram.load8(pfn * PAGE_SIZE + 0x1ffffd)).toBe(1);
    expect(bytes).toBe(level === 2 ? 0x200000 : 0x40000000);
    machine.setEntry(machine.entry(base, level), 0, 0);
    cpu.invlpg(base + bytes - 1);
    expect(() => task.memory.load32(base + 0x345678 - (level === 2 ? 0x200000 : 0))).toThrow(/code 4/);
  });
});

describe('accessed and dirty', () => {
  test('a read sets accessed in every level, a write dirty in the last alone', () => {
    const machine = new TestMachine();
    const { ram } = machine;
    machine.map(VA, 2000, PTE_PRESENT | PTE_RW | PTE_USER);
    const entries = [4, 3, 2, 1].map((level) => machine.entry(VA, level));
    const { memory } = machine.task();
    memory.load8(VA);
    expect(entries.map((at) => ram.load32(at) & (PTE_ACCESSED | PTE_DIRTY))).toEqual(Array(4).fill(PTE_ACCESSED));
    memory.store8(VA, 1);
    expect(entries.map((at) => ram.load32(at) & PTE_DIRTY)).toEqual([0, 0, 0, PTE_DIRTY]);
  });

  test('a first write after reads sets dirty though the page is in the TLB', () => {
    const machine = new TestMachine();
    machine.map(VA, 2000, PTE_PRESENT | PTE_RW | PTE_USER);
    const at = machine.entry(VA);
    const { memory } = machine.task();
    for (let i = 0; i < 5; i++) memory.load32(VA);
    expect(machine.ram.load32(at) & PTE_DIRTY).toBe(0);
    memory.store32(VA, 1);
    expect(machine.ram.load32(at) & PTE_DIRTY).toBe(PTE_DIRTY);
  });

  test('a refused access marks no page', () => {
    const machine = new TestMachine();
    machine.map(VA, 2000, PTE_PRESENT | PTE_USER);
    expect(() => machine.task().memory.store8(VA, 1)).toThrow(/code 7/);
    expect(machine.ram.load32(machine.entry(VA)) & (PTE_ACCESSED | PTE_DIRTY)).toBe(0);
  });
});

test('an address of the upper half may be given unsigned', () => {
  const machine = new TestMachine();
  const va = -0x778000000000;
  machine.map(va, 2000);
  const cpu = machine.smp.current;
  const host = cpu.translate(va, PF_USER);
  expect(cpu.translate(2 ** 64 + va, PF_USER)).toBe(host);
  expect(host).toBe(machine.ram.frameWord(2000) * 4);
});

test('before CR3 is loaded, and where it names no RAM, there is a bus error', () => {
  const machine = new TestMachine(16 * 2 ** 20, 2);
  expect(() => machine.smp.cpus[1].translate(0, 0)).toThrow(BusError);
  expect(() => machine.smp.cpus[1].loadCr3(0xa0000)).toThrow(BusError);
});
