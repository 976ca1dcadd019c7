import { Prng } from '@pagelab/lib';
import { describe, expect, test } from 'vitest';
import {
  BusError,
  CPU_AC,
  CPU_DEFAULT_CONTROLS,
  CPU_NXE,
  CPU_PCIDE,
  CPU_PSE,
  CPU_SMAP,
  CPU_SMEP,
  CPU_WP,
  FullyAssociativeTlb,
  PAGE_SIZE,
  PAGE_TABLE_FORMATS,
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
  PhysicalMemory,
  Smp,
  TRANSLATE_FAULT,
  X86_32,
  X86_64,
  X86_PAE,
  createUserMemory,
  firmwareMemoryMap,
  largePfn,
  pgdIndex,
  pmdIndex,
  pteIndex,
  pudIndex,
  tableIndex,
} from './index.ts';
import type { Cpu, PageTableFormat } from './index.ts';
import { modelPdptes, modelWalk32 } from './testing/walk-model-32.ts';

const TABLE = PTE_PRESENT | PTE_RW | PTE_USER;
const DATA = TABLE | PTE_ACCESSED | PTE_DIRTY;
const MIB = 2 ** 20;

class Machine32 {
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly cpu: Cpu;
  readonly format: PageTableFormat;
  readonly pgd: number;
  /** What the model read of PAE's top level when CR3 was loaded. */
  pdptes: bigint[] | null = null;
  #nextPfn = 512;

  constructor(format: PageTableFormat, bytes = 64 * MIB) {
    this.ram = new PhysicalMemory(firmwareMemoryMap('pc', bytes));
    this.smp = new Smp(this.ram, 1, { format });
    this.cpu = this.smp.current;
    this.format = format;
    this.pgd = this.newFrame() * PAGE_SIZE;
    this.cpu.loadCr3(this.pgd);
  }

  newFrame(): number {
    return this.#nextPfn++;
  }

  set(at: number, pfn: number, lo: number, hi = 0): void {
    this.ram.store32(at, (pfn << 12) | lo);
    if (this.format.entryBytes === 8) this.ram.store32(at + 4, Math.floor(pfn / 0x100000) | hi);
  }

  /** Address of the entry for `va` at a depth, the tables above made as needed; the top level of PAE is loaded anew. */
  entry(va: number, depth = this.format.levels.length - 1): number {
    let table = this.pgd;
    for (let d = 0; d < depth; d++) {
      const at = table + tableIndex(this.format.levels[d], va) * this.format.entryBytes;
      if ((this.ram.load32(at) & PTE_PRESENT) === 0) {
        this.set(at, this.newFrame(), d === 0 && this.format.rootInRegisters ? PTE_PRESENT : TABLE);
        this.cpu.loadCr3(this.pgd);
      }
      table = Math.floor(this.ram.load32(at) / PAGE_SIZE) * PAGE_SIZE;
    }
    return table + tableIndex(this.format.levels[depth], va) * this.format.entryBytes;
  }

  load(at: number): bigint {
    const lo = BigInt(this.ram.load32(at));
    return this.format.entryBytes === 8 ? (BigInt(this.ram.load32(at + 4)) << 32n) | lo : lo;
  }

  compare(va: number, access: number): void {
    const { cpu, ram } = this;
    const has = (bit: number): boolean => (cpu.controls & bit) !== 0;
    const root = this.format.rootInRegisters ? (this.pdptes ?? []) : BigInt(this.pgd);
    const model = modelWalk32(
      ram,
      root,
      BigInt.asUintN(32, BigInt(va)),
      { write: (access & PF_WRITE) !== 0, user: (access & PF_USER) !== 0, fetch: (access & PF_INSTR) !== 0 },
      { wp: has(CPU_WP), smep: has(CPU_SMEP), smap: has(CPU_SMAP), ac: has(CPU_AC), nxe: has(CPU_NXE), pse: has(CPU_PSE) },
    );
    const where = `${this.format.name} 0x${va.toString(16)}, access ${access}, controls ${cpu.controls}`;
    if ('physical' in model && !ram.isRam(Number(model.physical >> 12n))) {
      expect(() => cpu.translate(va, access), where).toThrow(BusError);
    } else {
      const host = cpu.translate(va, access);
      if ('fault' in model) {
        expect([host, cpu.faultErrorCode, cpu.faultVector], where).toEqual([TRANSLATE_FAULT, model.fault, model.vector]);
        expect(cpu.faultAddress, where).toBe(Number(BigInt.asUintN(32, BigInt(va))));
      } else {
        const physical = Number(model.physical);
        expect(host, where).toBe(ram.frameWord(Math.floor(physical / PAGE_SIZE)) * 4 + (physical % PAGE_SIZE));
      }
    }
    for (const [at, entry] of model.marks) {
      // Of a table that lies in a hole all bits read as one, and nothing can be marked.
      if (!ram.isRam(Math.floor(at / PAGE_SIZE))) continue;
      expect(this.load(at), `${where}: entry at 0x${at.toString(16)}`).toBe(entry);
    }
  }
}

const ACCESSES = [0, PF_WRITE, PF_INSTR, PF_USER, PF_USER | PF_WRITE, PF_USER | PF_INSTR];
const CONTROLS = [CPU_WP, CPU_SMEP, CPU_SMAP, CPU_AC, CPU_NXE, CPU_PSE];

function someControls(n: number): number {
  return CONTROLS.reduce((sum, bit, i) => sum | (((n >> i) & 1) === 1 ? bit : 0), 0);
}

describe.each([X86_PAE, X86_32])('$name', (format) => {
  test('every combination of rights, level, access and control is as the model says', () => {
    const machine = new Machine32(format, 16 * MIB);
    const { cpu, ram } = machine;
    const va = 0xb0012345;
    machine.set(machine.entry(va), 1000, DATA);
    if (format.rootInRegisters) machine.pdptes = modelPdptes(ram, BigInt(machine.pgd));
    const entries = format.levels.map((_, depth) => machine.entry(va, depth)).slice(format.rootInRegisters ? 1 : 0);
    const before = entries.map((at) => [ram.load32(at), ram.load32(at + 4)]);
    for (let n = 0; n < 64; n++) {
      cpu.setControls(someControls(n));
      for (const [level, at] of entries.entries()) {
        for (const removed of [0, PTE_PRESENT, PTE_RW, PTE_USER]) {
          for (const nx of format.noExecute ? [0, PTE_NX_HI] : [0]) {
            for (const access of ACCESSES) {
              entries.forEach((entry, i) => {
                ram.store32(entry, before[i][0] & ~(PTE_ACCESSED | PTE_DIRTY));
                if (format.entryBytes === 8) ram.store32(entry + 4, before[i][1]);
              });
              ram.store32(at, ram.load32(at) & ~removed);
              if (nx !== 0) ram.store32(at + 4, before[level][1] | nx);
              cpu.flushTlb();
              machine.compare(va, access);
            }
          }
        }
      }
    }
  });

  test('random tables, with large pages, reserved bits and holes, are walked as the model walks them', () => {
    const prng = new Prng(0x32b17);
    const machine = new Machine32(format, 16 * MIB);
    const { cpu, ram } = machine;
    const chance = (percent: number): boolean => prng.below(100) < percent;
    const tables = Array.from({ length: 10 }, () => machine.newFrame());
    const last = 4096 / format.entryBytes - 1;
    const indices = [0, 1, last >> 1, last];
    const randomEntry = (at: number): void => {
      let pfn = chance(70) ? tables[prng.below(tables.length)] : 512 + prng.below(3500);
      if (chance(4)) pfn = 0xa0 + prng.below(64);
      let lo = (chance(90) ? PTE_PRESENT : 0) | (chance(80) ? PTE_RW : 0) | (chance(80) ? PTE_USER : 0);
      if (chance(20)) {
        lo |= PTE_PS;
        if (chance(80)) pfn = 512 * prng.below(6);
        if (chance(20)) pfn |= 1 << prng.below(10);
      }
      lo |= (chance(50) ? PTE_ACCESSED : 0) | (chance(30) ? PTE_DIRTY : 0) | (chance(10) ? prng.below(8) << 9 : 0);
      const hi = (chance(15) ? PTE_NX_HI : 0) | (chance(4) ? 1 << prng.below(31) : 0);
      machine.set(at, pfn, lo, hi);
    };
    let refused = 0;
    for (let round = 0; round < 120; round++) {
      for (const table of tables) for (const index of indices) randomEntry(table * PAGE_SIZE + index * format.entryBytes);
      if (format.rootInRegisters) {
        for (let i = 0; i < 4; i++) {
          const lo = (chance(85) ? PTE_PRESENT : 0) | (chance(10) ? prng.below(4096) & ~1 : 0);
          machine.set(machine.pgd + i * 8, tables[prng.below(tables.length)], lo, chance(2) ? 1 << (14 + prng.below(18)) : 0);
        }
        machine.pdptes = modelPdptes(ram, BigInt(machine.pgd));
        if (machine.pdptes === null) {
          expect(() => cpu.loadCr3(machine.pgd)).toThrow(RangeError);
          refused += 1;
          continue;
        }
        cpu.loadCr3(machine.pgd);
        // What is written to the top level later is not seen.
        machine.set(machine.pgd, 0, 0);
      } else {
        for (const index of indices) randomEntry(machine.pgd + index * 4);
        cpu.loadCr3(machine.pgd);
      }
      cpu.setControls(chance(50) ? CPU_DEFAULT_CONTROLS & ~CPU_PCIDE : someControls(prng.below(64)));
      for (let i = 0; i < 60; i++) {
        let va = 0;
        for (const { shift, entries } of format.levels) {
          const index = entries === 4 ? prng.below(4) : indices[prng.below(indices.length)];
          va += index * 2 ** shift;
        }
        va += prng.below(4096);
        cpu.flushTlb();
        // The same address, sign-extended.
        machine.compare(chance(10) && va >= 2 ** 31 ? va - 2 ** 32 : va, ACCESSES[prng.below(ACCESSES.length)]);
      }
    }
    expect(refused > 5).toBe(format.rootInRegisters);
  });

  test('a task loads and stores through it, below and above 2 GiB, and meets large pages', () => {
    const machine = new Machine32(format);
    const large = format.levels[format.levels.length - 2];
    const bytes = 2 ** large.shift;
    machine.set(machine.entry(0x1000), 900, DATA);
    machine.set(machine.entry(0xbfff_f000), 901, DATA);
    machine.set(machine.entry(0x4000_0000, format.levels.length - 2), 2 * (bytes / PAGE_SIZE), DATA | PTE_PS);
    const port = createUserMemory(machine.ram, {
      onDetached: () => port.attach(machine.cpu),
      onFault: (address, code, vector) => {
        throw new Error(`fault at ${address.toString(16)}, code ${code}, vector ${vector}`);
      },
    });
    const { memory } = port;
    for (const [va, physical] of [
      [0x1010, 900 * PAGE_SIZE + 16],
      [0xbffffffc, 901 * PAGE_SIZE + 4092],
      [0x4000_0000 + bytes - 4, 3 * bytes - 4],
    ]) {
      memory.store32(va, 0xfeed);
      memory.store32(va, memory.load32(va) + 1);
      expect(machine.ram.load32(physical)).toBe(0xfeee);
    }
    const walks = machine.cpu.stats.walks;
    for (let i = 0; i < 10; i++) memory.load32(0xbffffff0);
    expect(machine.cpu.stats.walks).toBe(walks);
    expect(() => memory.load8(0xc0000000)).toThrow('fault at c0000000, code 4, vector 14');
    machine.set(machine.entry(0x4000_0000, format.levels.length - 2), 0, 0);
    machine.cpu.invlpg(0x4000_0000 + bytes - 1);
    expect(() => memory.load8(0x4000_0000)).toThrow(/code 4/);
  });

  test('has no contexts', () => {
    const machine = new Machine32(format, 16 * MIB);
    expect(() => machine.cpu.setControls(CPU_PCIDE)).toThrow(RangeError);
    expect(() => machine.cpu.loadCr3(machine.pgd, 1)).toThrow(RangeError);
    const model = new FullyAssociativeTlb();
    machine.cpu.setTlbModel(model);
    machine.set(machine.entry(0x5000), 900, DATA);
    machine.cpu.translate(0x5000, PF_USER);
    machine.cpu.translate(0x5004, PF_USER);
    expect(model.stats.data).toMatchObject({ accesses: 2, misses: [1, 0, 0] });
    expect(model.stats.walkReferences).toBe(2);
    machine.cpu.translate(0xf0000000, PF_USER);
    expect(model.stats.walkReferences).toBe(format === X86_PAE ? 2 : 3);
  });
});

test('PAE takes its top level from any 32 bytes of a frame', () => {
  const machine = new Machine32(X86_PAE);
  const at = machine.entry(0x40001000, 1);
  machine.set(machine.entry(0x40001000), 77, DATA);
  machine.set(machine.pgd + 0x220 + 8, Math.floor(at / PAGE_SIZE), PTE_PRESENT);
  machine.cpu.loadCr3(machine.pgd + 0x225);
  expect(machine.cpu.cr3).toBe(machine.pgd + 0x220);
  expect(machine.cpu.translate(0x40001000, PF_USER)).toBe(machine.ram.frameWord(77) * 4);
});

test('4 MiB pages lie above 4 GiB by bits 13 to 20 of their entry', () => {
  const machine = new Machine32(X86_32, 8 * 2 ** 30);
  machine.ram.store32(machine.pgd, DATA | PTE_PS | (1 << 13) | (3 << 22));
  expect(largePfn(X86_32, X86_32.levels[0], machine.ram.load32(machine.pgd), 0)).toBe((4 * 2 ** 30 + 12 * MIB) / PAGE_SIZE);
  machine.ram.store32(4 * 2 ** 30 + 12 * MIB + 0x123454, 42);
  const host = machine.cpu.translate(0x123454, PF_USER);
  expect(machine.ram.u32[host / 4]).toBe(42);
});

test('indices are those of the functions of x86-64, and cover every bit once', () => {
  const [pgd, pud, pmd, pte] = X86_64.levels;
  const prng = new Prng(4);
  for (let i = 0; i < 1000; i++) {
    const va = prng.below(2 ** 48) - 2 ** 47;
    const indices = [pgd, pud, pmd, pte].map((level) => tableIndex(level, va));
    expect(indices).toEqual([pgdIndex(va), pudIndex(va), pmdIndex(va), pteIndex(va)]);
  }
  for (const { levels, addressBits, entryBytes, rootInRegisters } of PAGE_TABLE_FORMATS) {
    let bits = 12;
    for (const { shift, entries, mask } of [...levels].reverse()) {
      expect([shift, mask]).toEqual([bits, entries - 1]);
      bits += Math.log2(entries);
    }
    expect(bits).toBe(addressBits);
    const full = levels.slice(rootInRegisters ? 1 : 0);
    expect(full.every(({ entries }) => entries * entryBytes === PAGE_SIZE)).toBe(true);
  }
});
