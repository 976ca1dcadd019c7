import { Prng } from '@pagelab/lib';
import { describe, expect, test } from 'vitest';
import type { UserMemory } from '@pagelab/abi';
import { PAGE_SIZE, structLayout } from './index.ts';
import { TestMachine } from './testing/address-space.ts';

const BASE = 0x7f1234567000;
const PAGES = 16;
const SIZE = PAGES * PAGE_SIZE;

/** Sixteen pages whose frames lie partly in a row, partly not. */
function task(): { machine: TestMachine; mem: UserMemory } {
  const machine = new TestMachine();
  const frames = Array.from({ length: PAGES }, () => machine.newFrame());
  const order = [0, 1, 2, 3, 9, 8, 7, 6, 10, 12, 13, 11, 5, 4, 14, 15];
  order.forEach((frame, i) => machine.map(BASE + i * PAGE_SIZE, frames[frame]));
  return { machine, mem: machine.task().memory };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

test('bulk operations do what the same on a byte array does', () => {
  const prng = new Prng(77);
  const { mem } = task();
  const model = new Uint8Array(SIZE);
  for (let step = 0; step < 1500; step++) {
    const length = prng.below(3) === 0 ? prng.below(40) : prng.below(5 * PAGE_SIZE);
    const at = prng.below(SIZE - length + 1);
    const from = prng.below(SIZE - length + 1);
    switch (prng.below(5)) {
      case 0: {
        const bytes = Uint8Array.from({ length }, () => prng.below(256));
        mem.write(BASE + at, bytes);
        model.set(bytes, at);
        break;
      }
      case 1: {
        const byte = prng.below(512) - 128;
        mem.fill(BASE + at, length, byte);
        model.fill(byte, at, at + length);
        break;
      }
      case 2:
        mem.copy(BASE + at, BASE + from, length);
        model.copyWithin(at, from, from + length);
        break;
      case 3: {
        const near = Math.max(0, Math.min(SIZE - length, at + prng.below(200) - 100));
        mem.copy(BASE + near, BASE + at, length);
        model.copyWithin(near, at, at + length);
        break;
      }
      default: {
        expect(sameBytes(mem.read(BASE + at, length), model.subarray(at, at + length)), `step ${step}`).toBe(true);
        const byte = model[at] ?? 0;
        const found = model.subarray(at, at + length).findIndex((value) => value !== byte);
        expect(mem.findNot(BASE + at, length, byte), `step ${step}`).toBe(found);
      }
    }
  }
  expect(sameBytes(mem.read(BASE, SIZE), model)).toBe(true);
});

test('findNot finds the one byte, wherever it is', () => {
  const { mem } = task();
  mem.fill(BASE, SIZE, 0xee);
  for (const at of [0, 1, 3, 4, 4093, 4095, 4096, 4097, 20000, SIZE - 1]) {
    mem.store8(BASE + at, 0);
    expect(mem.findNot(BASE, SIZE, 0x1ee)).toBe(at);
    expect(mem.findNot(BASE + at, SIZE - at, 0xee)).toBe(0);
    if (at > 0) expect(mem.findNot(BASE + 1, at - 1, 0xee)).toBe(-1);
    mem.store8(BASE + at, 0xee);
  }
  expect(mem.findNot(BASE, SIZE, 0xee)).toBe(-1);
  expect(mem.findNot(BASE, 0, 0)).toBe(-1);
});

describe('a fault in the middle', () => {
  const gap = BASE + 5 * PAGE_SIZE;

  function withGap(): { machine: TestMachine; mem: UserMemory; faults: number[] } {
    const { machine } = task();
    machine.setEntry(machine.entry(gap), 0, 0);
    const faults: number[] = [];
    const port = machine.task((address) => {
      faults.push(address);
      throw new Error('no page');
    });
    return { machine, mem: port.memory, faults };
  }

  test('leaves what came before it written', () => {
    const { mem, faults } = withGap();
    expect(() => mem.write(BASE + 100, new Uint8Array(SIZE - 100).fill(1))).toThrow('no page');
    expect(mem.findNot(BASE + 100, 5 * PAGE_SIZE - 100, 1)).toBe(-1);
    expect(() => mem.fill(BASE, SIZE, 2)).toThrow('no page');
    expect(mem.findNot(BASE, 5 * PAGE_SIZE, 2)).toBe(-1);
    expect(() => mem.copy(BASE + PAGE_SIZE, BASE + 8 * PAGE_SIZE, 6 * PAGE_SIZE)).toThrow('no page');
    expect(mem.findNot(BASE + PAGE_SIZE, 4 * PAGE_SIZE, 0)).toBe(-1);
    expect(faults).toEqual([gap, gap, gap]);
  });

  test('fills what came before it of the target', () => {
    const { mem } = withGap();
    mem.fill(BASE, 5 * PAGE_SIZE, 3);
    const target = new Uint8Array(SIZE);
    expect(() => mem.readInto(BASE, target)).toThrow('no page');
    expect(target.findIndex((byte) => byte !== 3)).toBe(5 * PAGE_SIZE);
  });

  test('is served page by page, in ascending order', () => {
    const machine = new TestMachine();
    const faults: number[] = [];
    const { memory } = machine.task((address) => {
      faults.push((address - BASE) / PAGE_SIZE);
      machine.map(address - (address % PAGE_SIZE), machine.newFrame());
    });
    memory.write(BASE + 0x800, new Uint8Array(3 * PAGE_SIZE).fill(9));
    expect(faults).toEqual([0.5, 1, 2, 3]);
    memory.copy(BASE + 8 * PAGE_SIZE, BASE, 2 * PAGE_SIZE);
    expect(faults).toEqual([0.5, 1, 2, 3, 8, 9]);
    expect(memory.findNot(BASE + 8 * PAGE_SIZE + 0x800, PAGE_SIZE, 9)).toBe(-1);
  });

  test('of a copy may take the source away', () => {
    const machine = new TestMachine();
    const source = machine.newFrame();
    machine.map(BASE, source);
    machine.ram.fillFrame(source, 5);
    let moved = 0;
    const { memory } = machine.task((address) => {
      machine.map(address, machine.newFrame());
      // The first target's fault moves the source to another frame.
      if (moved++ === 0) {
        const next = machine.newFrame();
        machine.ram.copyFrame(next, source);
        machine.ram.fillFrame(source, 0xbb);
        machine.map(BASE, next);
        machine.smp.current.invlpg(BASE);
      }
    });
    memory.copy(BASE + 0x10000, BASE, PAGE_SIZE);
    expect(memory.findNot(BASE + 0x10000, PAGE_SIZE, 5)).toBe(-1);
  });
});

describe('C strings', () => {
  test.each([
    ['', []],
    ['abc', [0x61, 0x62, 0x63]],
    ['ü', [0xc3, 0xbc]],
    ['日本', [0xe6, 0x97, 0xa5, 0xe6, 0x9c, 0xac]],
    ['🙂!', [0xf0, 0x9f, 0x99, 0x82, 0x21]],
    ['\ufeffm', [0xef, 0xbb, 0xbf, 0x6d]],
  ])('%j is stored as UTF-8 and comes back', (text, bytes) => {
    const { mem } = task();
    expect(mem.storeCString(BASE + PAGE_SIZE - 2, text)).toBe(bytes.length + 1);
    expect(mem.read(BASE + PAGE_SIZE - 2, bytes.length + 1)).toEqual(Uint8Array.from([...bytes, 0]));
    expect(mem.loadCString(BASE + PAGE_SIZE - 2)).toBe(text);
  });

  test('without an end are cut, and do not touch the next page before they must', () => {
    const machine = new TestMachine();
    machine.map(BASE, machine.newFrame());
    const { memory } = machine.task();
    memory.fill(BASE, PAGE_SIZE, 0x61);
    expect(memory.loadCString(BASE + PAGE_SIZE - 3, 3)).toBe('aaa');
    expect(() => memory.loadCString(BASE + PAGE_SIZE - 3, 4)).toThrow(/fault/);
    memory.store8(BASE + PAGE_SIZE - 1, 0);
    expect(memory.loadCString(BASE + PAGE_SIZE - 3)).toBe('aa');
  });
});

describe('structures', () => {
  test('are laid out as C does', () => {
    const fields = { a: 'u8', b: 'u16', c: 'u8', d: 'u32', e: 'u8', f: 'pointer', g: 'f32', h: 'f64', i: 'i8' } as const;
    expect(structLayout(fields)).toEqual({
      offsets: { a: 0, b: 2, c: 4, d: 8, e: 12, f: 16, g: 24, h: 32, i: 40 },
      size: 48,
      align: 8,
    });
    expect(structLayout({})).toEqual({ offsets: {}, size: 0, align: 1 });
    expect(() => structLayout({ a: 'u128' } as never)).toThrow(/field a: no type u128/);
    expect(() => structLayout({ a: 'toString' } as never)).toThrow(RangeError);
  });

  test('are views: each property loads and stores', () => {
    const { mem } = task();
    const view = mem.struct(BASE + 8, {
      small: 'i8',
      half: 'i16',
      word: 'i32',
      wide: 'u64',
      next: 'pointer',
      single: 'f32',
      double: 'f64',
      byte: 'u8',
      count: 'u16',
      size: 'u32',
    });
    view.small = -1;
    view.half = -2;
    view.word = -3;
    view.wide = 2n ** 63n;
    view.next = BASE;
    view.single = 0.5;
    view.double = 0.1;
    view.byte = 255;
    view.count = 65535;
    view.size = 2 ** 32 - 1;
    expect({ ...view }).toEqual({
      small: -1,
      half: -2,
      word: -3,
      wide: 2n ** 63n,
      next: BASE,
      single: 0.5,
      double: 0.1,
      byte: 255,
      count: 65535,
      size: 2 ** 32 - 1,
    });
    expect([mem.load8(BASE + 8), mem.load16(BASE + 10), mem.load32(BASE + 12), mem.loadAddress(BASE + 24)]).toEqual([
      255,
      65534,
      2 ** 32 - 3,
      BASE,
    ]);
    expect(() => {
      (view as unknown as Record<string, number>)['other'] = 1;
    }).toThrow(TypeError);
  });
});
