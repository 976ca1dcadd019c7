/**
 * What pages a program refers to, in what order: for policies that need the future.
 */
import type { Os, UserMemory } from '@pagelab/abi';

const PAGE_SIZE = 4096;
/** Bytes that a method of `UserMemory` refers to, where its name tells. */
const WIDTHS: Readonly<Record<string, number>> = {
  load8: 1, load16: 2, load32: 4, load64: 8, loadAddress: 8, loadFloat32: 4, loadFloat64: 8, fetch8: 1,
  store8: 1, store16: 2, store32: 4, store64: 8, storeAddress: 8, storeFloat32: 4, storeFloat64: 8,
};

/** A program's calls and memory, and what it has referred to by them. */
export interface RecordedOs {
  readonly os: Os;
  /** Virtual page numbers in the order of the references; references to one page in a row are one. */
  readonly references: number[];
}

/**
 * Has a program's loads and stores noted: run it with the `os` that this returns, and run it again with
 * `optReclaim(references)`. What system calls read and write for it is not noted. Costs a call for each access.
 */
export function recordReferences(os: Os): RecordedOs {
  const references: number[] = [];
  const note = (addr: number, length: number): void => {
    for (let vpn = Math.floor(addr / PAGE_SIZE); vpn * PAGE_SIZE < addr + length; vpn++) if (references.at(-1) !== vpn) references.push(vpn);
  };
  const { mem } = os;
  const recorded: Partial<Record<keyof UserMemory, unknown>> = {
    read: (addr: number, length: number) => {
      note(addr, length);
      return mem.read(addr, length);
    },
    readInto: (addr: number, target: Uint8Array) => {
      note(addr, target.length);
      mem.readInto(addr, target);
    },
    write: (addr: number, bytes: Uint8Array) => {
      note(addr, bytes.length);
      mem.write(addr, bytes);
    },
    fill: (addr: number, length: number, byte: number) => {
      note(addr, length);
      mem.fill(addr, length, byte);
    },
    copy: (to: number, from: number, length: number) => {
      note(from, length);
      note(to, length);
      mem.copy(to, from, length);
    },
    findNot: (addr: number, length: number, byte: number) => {
      const found = mem.findNot(addr, length, byte);
      note(addr, found < 0 ? length : found - addr + 1);
      return found;
    },
    loadCString: (addr: number, maxBytes?: number) => {
      const text = mem.loadCString(addr, maxBytes);
      note(addr, text.length + 1);
      return text;
    },
    storeCString: (addr: number, text: string) => {
      const length = mem.storeCString(addr, text);
      note(addr, length);
      return length;
    },
  };
  // What a program gets is frozen: these stand in front of it.
  const memory = new Proxy({} as UserMemory, {
    get: (_, name: string): unknown => {
      const own = recorded[name as keyof UserMemory];
      if (own !== undefined) return own;
      const method: unknown = Reflect.get(mem, name);
      if (typeof method !== 'function') return method;
      const width = WIDTHS[name];
      // A view of a struct loads and stores by the memory it is made by.
      if (width === undefined) return method.bind(name === 'struct' ? memory : mem);
      return (addr: number, value?: unknown): unknown => {
        note(addr, width);
        return method.call(mem, addr, value);
      };
    },
  });
  const wrapped = new Proxy({} as Os, {
    get: (_, name): unknown => {
      if (name === 'mem') return memory;
      const method: unknown = Reflect.get(os, name);
      return typeof method === 'function' ? method.bind(os) : method;
    },
  });
  return { os: wrapped, references };
}
