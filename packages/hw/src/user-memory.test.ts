import { describe, expect, test } from 'vitest';
import type { UserMemory } from '@pagelab/abi';
import { BusError, PAGE_SIZE, PTE_NX_HI, PTE_PRESENT, PTE_USER, createUserMemory } from './index.ts';
import type { UserMemoryPort } from './index.ts';
import { PAGE_RW_DIRTY, TestMachine } from './testing/address-space.ts';

const BASE = 0x7f1234567000;

/** A task with `nrPages` pages at `BASE`, their frames in falling order. */
function task(nrPages = 4): { machine: TestMachine; port: UserMemoryPort; mem: UserMemory } {
  const machine = new TestMachine();
  const frames = Array.from({ length: nrPages }, () => machine.newFrame()).reverse();
  frames.forEach((pfn, i) => machine.map(BASE + i * PAGE_SIZE, pfn));
  const port = machine.task();
  return { machine, port, mem: port.memory };
}

describe('values', () => {
  // Twice, so that the first access misses the TLB and the second hits.
  const places = [0, 1, 2, 3, 4, 5, 6, 7, 0xff8, 0xffc, 0xffd, 0xffe, 0xfff];
  test.each(places)('of every type are stored and loaded at offset %i, little-endian', (offset) => {
    const { mem } = task();
    const at = BASE + offset;
    for (let round = 0; round < 2; round++) {
      mem.store64(at, 0x8877665544332211n);
      expect(mem.load64(at)).toBe(0x8877665544332211n);
      expect([...mem.read(at, 8)]).toEqual([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
      expect(mem.load32(at)).toBe(0x44332211);
      expect(mem.load32(at + 4)).toBe(0x88776655);
      expect(mem.load16(at + 6)).toBe(0x8877);
      expect(mem.load8(at + 7)).toBe(0x88);
      mem.store32(at + 4, -2);
      mem.store16(at + 2, 0x12345);
      mem.store8(at, 0x1fe);
      expect(mem.load64(at)).toBe(0xfffffffe234522fen);
      mem.store64(at, -1n);
      expect(mem.load64(at)).toBe(0xffffffffffffffffn);
      for (const address of [0, 1, BASE, 2 ** 32, 2 ** 53, -1, -4096, -0x778000000000, -(2 ** 53)]) {
        mem.storeAddress(at, address);
        expect(mem.loadAddress(at)).toBe(address);
        expect(mem.load64(at)).toBe(BigInt.asUintN(64, BigInt(address)));
      }
      mem.storeFloat64(at, -1.1e-300);
      expect(mem.loadFloat64(at)).toBe(-1.1e-300);
      mem.storeFloat32(at, 1.5);
      expect(mem.loadFloat32(at)).toBe(1.5);
      expect(mem.load32(at)).toBe(0x3fc00000);
      mem.storeFloat64(at, NaN);
      expect(mem.loadFloat64(at)).toBeNaN();
    }
  });

  test('are converted before the page is looked up', () => {
    const { machine, mem } = task();
    mem.store32(BASE, 1);
    const sly = {
      valueOf(): number {
        machine.setEntry(machine.entry(BASE), 0, 0);
        machine.smp.current.invlpg(BASE);
        return 2;
      },
    } as unknown as number;
    expect(() => mem.store32(BASE, sly)).toThrow(/code 6/);
  });
});

describe('a store that crosses into a page it may not write', () => {
  test.each([
    ['store16', 0xfff, (mem: UserMemory, at: number) => mem.store16(at, 0x1122)],
    ['store32', 0xffd, (mem: UserMemory, at: number) => mem.store32(at, 0x11223344)],
    ['store64', 0xff9, (mem: UserMemory, at: number) => mem.store64(at, 0x1122334455667788n)],
    ['storeAddress', 0xffc, (mem: UserMemory, at: number) => mem.storeAddress(at, BASE)],
    ['storeFloat64', 0xfff, (mem: UserMemory, at: number) => mem.storeFloat64(at, 1)],
  ])('%s stores nothing, and the fault is at the second page', (_, offset, store) => {
    const { machine, mem } = task(1);
    mem.fill(BASE, PAGE_SIZE, 0x77);
    machine.map(BASE + PAGE_SIZE, machine.newFrame(), PTE_PRESENT | PTE_USER);
    expect(() => store(mem, BASE + offset)).toThrow(`fault at ${(BASE + PAGE_SIZE).toString(16)}, code 7, vector 14`);
    expect(mem.findNot(BASE, PAGE_SIZE, 0x77)).toBe(-1);
  });
});

test('addresses that cannot be are a RangeError, whatever is in the TLB', () => {
  const { mem } = task();
  mem.store64(BASE, 1n);
  const calls: ((at: number) => unknown)[] = [
    (at) => mem.load8(at),
    (at) => mem.load16(at),
    (at) => mem.load32(at),
    (at) => mem.load64(at),
    (at) => mem.loadAddress(at),
    (at) => mem.loadFloat32(at),
    (at) => mem.loadFloat64(at),
    (at) => mem.store8(at, 1),
    (at) => mem.store16(at, 1),
    (at) => mem.store32(at, 1),
    (at) => mem.store64(at, 1n),
    (at) => mem.storeAddress(at, 1),
    (at) => mem.storeFloat32(at, 1),
    (at) => mem.storeFloat64(at, 1),
    (at) => mem.fetch8(at),
    (at) => mem.read(at, 1),
    (at) => mem.readInto(at, new Uint8Array(1)),
    (at) => mem.write(at, new Uint8Array(1)),
    (at) => mem.fill(at, 1, 0),
    (at) => mem.copy(at, BASE, 1),
    (at) => mem.copy(BASE, at, 1),
    (at) => mem.findNot(at, 1, 0),
    (at) => mem.loadCString(at),
    (at) => mem.storeCString(at, ''),
    (at) => mem.struct(at, { a: 'u8' }),
  ];
  for (const call of calls) {
    const none = undefined as unknown as number;
    for (const at of [NaN, BASE + 0.5, Infinity, -Infinity, 2 ** 64, -(2 ** 63) - 2048, none]) {
      expect(() => call(at), `${call.toString()} at ${at}`).toThrow(RangeError);
    }
  }
  for (const length of [-1, 0.5, NaN, Infinity]) {
    expect(() => mem.read(BASE, length)).toThrow(RangeError);
    expect(() => mem.fill(BASE, length, 0)).toThrow(RangeError);
    expect(() => mem.copy(BASE, BASE, length)).toThrow(RangeError);
    expect(() => mem.findNot(BASE, length, 0)).toThrow(RangeError);
    expect(() => mem.loadCString(BASE, length)).toThrow(RangeError);
  }
});

describe('faults', () => {
  test('carry what the processor pushes', () => {
    const { machine, mem } = task(1);
    machine.map(BASE + PAGE_SIZE, machine.newFrame(), PTE_PRESENT | PTE_USER, PTE_NX_HI);
    machine.map(-0x778000000000, machine.newFrame(), PAGE_RW_DIRTY & ~PTE_USER);
    const fault = (at: number, code: number, vector = 14): string =>
      `fault at ${at.toString(16)}, code ${code}, vector ${vector}`;
    expect(() => mem.load32(0x1000)).toThrow(fault(0x1000, 4));
    expect(() => mem.store8(0x1001, 1)).toThrow(fault(0x1001, 6));
    expect(() => mem.store32(BASE + PAGE_SIZE + 8, 1)).toThrow(fault(BASE + PAGE_SIZE + 8, 7));
    expect(() => mem.fetch8(BASE + PAGE_SIZE)).toThrow(fault(BASE + PAGE_SIZE, 0x15));
    expect(() => mem.fetch8(0x1000)).toThrow(fault(0x1000, 0x14));
    expect(() => mem.load64(-0x778000000000)).toThrow(fault(-0x778000000000, 5));
    expect(() => mem.load8(2 ** 64 - 4096)).toThrow(fault(-4096, 4));
    expect(() => mem.load8(2 ** 47)).toThrow(fault(2 ** 47, 0, 13));
    expect(mem.fetch8(BASE)).toBe(0);
  });

  test('are served, and the access tried again until it succeeds', () => {
    const machine = new TestMachine();
    const seen: string[] = [];
    const { memory } = machine.task((address, code) => {
      seen.push(`${(address - BASE).toString(16)} ${code}`);
      const flags = (code & 2) !== 0 ? PAGE_RW_DIRTY : PTE_PRESENT | PTE_USER;
      machine.map(address - (address % PAGE_SIZE), machine.newFrame(), flags);
      machine.smp.current.invlpg(address);
    });
    memory.store64(BASE + 0xffc, 0x1122334455667788n);
    expect(memory.load64(BASE + 0xffc)).toBe(0x1122334455667788n);
    expect(memory.load32(BASE + 0x5000)).toBe(0);
    memory.store32(BASE + 0x5004, 1);
    expect(seen).toEqual(['ffc 6', '1000 6', '5000 4', '5004 7']);
  });

  test('a handler that uses the same memory does not disturb the access', () => {
    const machine = new TestMachine();
    machine.map(BASE + 0x10000, machine.newFrame());
    const port = machine.task((address) => {
      machine.map(address - (address % PAGE_SIZE), machine.newFrame());
      port.memory.store64(BASE + 0x10ff1, 0x5555555555555555n);
      port.memory.loadFloat64(BASE + 0x10003);
    });
    const { memory } = port;
    memory.storeFloat64(BASE + 0xffd, 1.25);
    memory.store64(BASE + 0x3003, 0x0102030405060708n);
    memory.storeAddress(BASE + 0x4000, BASE);
    expect(memory.loadFloat64(BASE + 0xffd)).toBe(1.25);
    expect(memory.load64(BASE + 0x3003)).toBe(0x0102030405060708n);
    expect(memory.loadAddress(BASE + 0x4000)).toBe(BASE);
  });

  test('serving one page may take the other away: both are looked up anew', () => {
    const machine = new TestMachine();
    const frames = [machine.newFrame(), machine.newFrame()];
    let evictions = 0;
    // Until the third fault each page that comes takes the place of the other.
    const { memory } = machine.task((address) => {
      const page = address - (address % PAGE_SIZE);
      const index = (page - BASE) / PAGE_SIZE;
      machine.map(page, frames[index]);
      if (evictions++ < 3) {
        const other = page === BASE ? BASE + PAGE_SIZE : BASE;
        machine.setEntry(machine.entry(other), 0, 0);
        machine.smp.current.invlpg(other);
      }
    });
    memory.store32(BASE + 0xffe, 0xa1b2c3d4);
    expect(evictions).toBe(4);
    expect(machine.ram.load16(frames[0] * PAGE_SIZE + 0xffe)).toBe(0xc3d4);
    expect(machine.ram.load16(frames[1] * PAGE_SIZE)).toBe(0xa1b2);
  });

  test('a page whose frame is no RAM is a bus error', () => {
    const { machine, mem } = task(1);
    machine.map(BASE + PAGE_SIZE, 0xa0);
    expect(() => mem.load32(BASE + PAGE_SIZE)).toThrow(BusError);
    expect(() => mem.write(BASE + 0xff0, new Uint8Array(32))).toThrow(BusError);
  });
});

describe('attaching', () => {
  test('a detached task is scheduled in by its next access, each time', () => {
    const machine = new TestMachine(64 * 2 ** 20, 2);
    const pgd = machine.newFrame() * PAGE_SIZE;
    const [first, second] = [machine.newFrame(), machine.newFrame()];
    machine.map(BASE, first);
    machine.setEntry(machine.entry(BASE, 1, pgd), second, PAGE_RW_DIRTY);
    const cpu = machine.smp.current;
    const ports: UserMemoryPort[] = [];
    const log: number[] = [];
    [machine.pgd, pgd].forEach((root, id) => {
      ports.push(
        createUserMemory(machine.ram, {
          onDetached() {
            log.push(id);
            ports[1 - id].detach();
            cpu.loadCr3(root);
            ports[id].attach(cpu);
          },
          onFault() {
            throw new Error('not expected');
          },
        }),
      );
    });
    for (let i = 0; i < 3; i++) {
      ports[0].memory.store32(BASE, 100 + i);
      ports[0].memory.store32(BASE + 4, 100 + i);
      ports[1].memory.store32(BASE, 200 + i);
    }
    expect(log).toEqual([0, 1, 0, 1, 0, 1]);
    expect(ports[0].memory.load32(BASE)).toBe(102);
    expect(ports[1].memory.loadAddress(BASE)).toBe(202);
    ports[1].detach();
    expect(ports[1].memory.read(BASE, 4)[0]).toBe(202);
    expect(log).toEqual([0, 1, 0, 1, 0, 1, 0, 1, 1]);
    expect(machine.ram.load32(first * PAGE_SIZE)).toBe(102);
    expect(machine.ram.load32(second * PAGE_SIZE)).toBe(202);
  });

  test('a task that cannot be scheduled in gets the exception', () => {
    const machine = new TestMachine();
    const port = createUserMemory(machine.ram, {
      onDetached() {
        throw new Error('it has ended');
      },
      onFault() {
        throw new Error('not expected');
      },
    });
    expect(() => port.memory.load8(BASE)).toThrow('it has ended');
    expect(() => port.memory.fill(BASE, 1, 1)).toThrow('it has ended');
  });
});

describe('what a program can reach', () => {
  test('is functions of the memory alone', () => {
    const { port, mem } = task();
    expect(Object.isFrozen(mem)).toBe(true);
    expect(Object.keys(mem)).toEqual([]);
    const globals = new Set<unknown>([
      Object.prototype,
      Function.prototype,
      Object,
      ...Reflect.ownKeys(Object.prototype).map((key) => Reflect.get(Object.prototype, key) as unknown),
    ]);
    const seen = new Set<unknown>();
    const visit = (value: unknown, path: string): void => {
      if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return;
      if (seen.has(value) || globals.has(value)) return;
      seen.add(value);
      const isMemory = value === mem || value === Object.getPrototypeOf(mem);
      if (!isMemory) expect(typeof value, path).toBe('function');
      for (const key of Reflect.ownKeys(value)) {
        const descriptor = Reflect.getOwnPropertyDescriptor(value, key);
        visit(descriptor?.value, `${path}.${String(key)}`);
        visit(descriptor?.get, `${path}.get ${String(key)}`);
        visit(descriptor?.set, `${path}.set ${String(key)}`);
      }
      visit(Object.getPrototypeOf(value), `${path}.__proto__`);
    };
    visit(mem, 'mem');
    expect(seen.size).toBeGreaterThan(24);
    expect(seen.has(port)).toBe(false);
    expect(mem.constructor).toBe(Object);
    const prototype = Object.getPrototypeOf(mem) as Record<string, unknown>;
    expect(() => {
      prototype['load8'] = () => 0;
    }).toThrow(TypeError);
  });

  test('never is RAM itself, whatever is passed in', () => {
    const { mem } = task();
    const leaked: ArrayBufferLike[] = [];
    class Spy extends Uint8Array {
      static get [Symbol.species](): typeof Uint8Array {
        return Spy;
      }
      override set(array: ArrayLike<number>): void {
        leaked.push((array as Uint8Array).buffer);
      }
      override subarray(): Uint8Array<ArrayBuffer> {
        return new Uint8Array(1 << 20);
      }
      override get length(): number {
        return 1 << 20;
      }
    }
    mem.fill(BASE, 100, 0x33);
    mem.fill(BASE + 100, 100, 0x44);
    const target = new Spy(100);
    mem.readInto(BASE, target);
    expect(leaked).toEqual([]);
    expect(new Uint8Array(target.buffer).every((byte) => byte === 0x33)).toBe(true);
    mem.write(BASE + 100, target);
    expect([mem.load8(BASE + 199), mem.load8(BASE + 200)]).toEqual([0x33, 0]);
    expect(() => mem.write(BASE, [1, 2] as unknown as Uint8Array)).toThrow(TypeError);
    expect(() => mem.readInto(BASE, new Uint16Array(2) as unknown as Uint8Array)).toThrow(TypeError);
    expect(mem.read(BASE, 16).buffer.byteLength).toBe(16);
  });

  test('a method called on something else fails', () => {
    const { mem } = task();
    const impostor = Object.create(mem) as UserMemory;
    expect(() => impostor.load32(BASE)).toThrow(TypeError);
    expect(() => impostor.fill(BASE, 1, 1)).toThrow(TypeError);
  });
});
