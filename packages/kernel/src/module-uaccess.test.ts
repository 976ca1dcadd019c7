/** Kernel code and user memory: what SMAP, SMEP, NX and reserved bits keep it from, and how it gets there. */
import { describe, expect, it } from 'vitest';
import { boot } from './boot.ts';
import type { MachineConfigInput } from './config.ts';
import { KernelOops } from './index.ts';
import type { KernelModule, Machine } from './index.ts';
import { inUse } from './testing/run.ts';

const PAGE = 4096;
const PROT_RW = 3;
const PROT_RX = 5;
const PRIVATE_ANONYMOUS = 0x22;

const ARCHES: readonly MachineConfigInput['arch'][] = ['x86-64', 'x86-pae', 'x86-32'];

/** What the log says of an access that ends in an oops. */
function textOf(machine: Machine, body: (kernel: KernelModule) => unknown): string {
  try {
    machine.module(body);
  } catch (error) {
    if (error instanceof KernelOops) return error.text;
    throw error;
  }
  throw new Error('no oops');
}

const hex = (value: number): string => value.toString(16);

describe.each(ARCHES)('kernel code and user memory with %s', (arch = 'x86-64') => {
  const machine = boot({ memory: '128M', arch });
  const { os, pid } = machine.createProcess();
  const page = os.mmap(0, 5 * PAGE, PROT_RW, PRIVATE_ANONYMOUS, -1, 0);
  os.munmap(page + 4 * PAGE, PAGE);
  os.mem.store32(page, 0x1234);

  it('loads and stores are kept out by SMAP: an oops', () => {
    const text = textOf(machine, (k) => k.useMm(pid, () => k.mem.load32(page)));
    expect(text).toContain(`BUG: unable to handle page fault for address: ${arch === 'x86-64' ? hex(page).padStart(16, '0') : hex(page).padStart(8, '0')}\n`);
    expect(text).toContain('#PF: supervisor read access in kernel mode\n#PF: error_code(0x0001) - permissions violation\n');
    // The entries are the program's.
    expect(text).toMatch(arch === 'x86-64' ? /PMD [1-9a-f]\w+ PTE [1-9a-f]\w+67 / : /\*pte = \w+67 /);
    expect(textOf(machine, (k) => k.useMm(pid, () => k.mem.store8(page, 1)))).toContain('error_code(0x0003) - permissions violation');
    expect(textOf(machine, (k) => k.useMm(pid, () => k.mem.load8(page + PAGE)))).toContain('error_code(0x0000) - not-present page');
    expect(os.mem.load32(page)).toBe(0x1234);
    machine.validate();
  });

  it('between stac and clac they get there, and fault pages in', () => {
    const faults = os.getrusage().minflt;
    machine.module((k) => {
      k.useMm(pid, () => {
        k.stac();
        expect(k.mem.load32(page)).toBe(0x1234);
        k.mem.store32(page + 2 * PAGE, 77);
        k.clac();
      });
    });
    expect(os.mem.load32(page + 2 * PAGE)).toBe(77);
    expect(os.getrusage().minflt - faults).toBe(1);
    // What an oops ends has suspended nothing for who comes after it.
    expect(textOf(machine, (k) => {
      k.stac();
      return k.mem.load8(8);
    })).toContain('NULL pointer dereference');
    expect(textOf(machine, (k) => k.useMm(pid, () => k.mem.load8(page)))).toContain('permissions violation');
    machine.validate();
  });

  it('copies stop where a program of its own would be refused', () => {
    machine.module((k) => {
      const buffer = k.kmalloc(2 * PAGE);
      k.mem.fill(buffer, 2 * PAGE, 0xff);
      k.useMm(pid, () => {
        expect(k.copyFromUser(buffer, page, 4)).toBe(0);
        expect(k.mem.load32(buffer)).toBe(0x1234);
        // The mapping ends: what is missing is zeroed.
        expect(k.copyFromUser(buffer, page + 4 * PAGE - 16, 32)).toBe(16);
        expect(k.mem.bytes(buffer, 40)).toEqual(new Uint8Array(40).fill(0xff, 32));
        k.mem.store32(buffer, 0x5678);
        expect(k.copyToUser(page + 8, buffer, 4)).toBe(0);
        const kernelAddress = arch === 'x86-64' ? buffer : 0xc100_0000;
        expect([k.copyToUser(kernelAddress, buffer, 4), k.copyToUser(page + 4 * PAGE, buffer, 4)]).toEqual([4, 4]);
      });
      // Without an address space there is none to copy from.
      expect(k.copyFromUser(buffer, page, 4)).toBe(4);
      k.kfree(buffer);
    });
    expect(os.mem.load32(page + 8)).toBe(0x5678);
    machine.validate();
  });

  it('a store of the kernel copies what is shared, and respects what is for reading', () => {
    const constant = os.mmap(0, PAGE, 1, PRIVATE_ANONYMOUS, -1, 0);
    os.mem.load8(constant);
    machine.module((k) => {
      const buffer = k.kzalloc(8);
      k.mem.store8(buffer, 9);
      k.useMm(pid, () => {
        expect(k.copyToUser(constant, buffer, 1)).toBe(1);
        // The zero page stays what it is.
        expect(k.copyToUser(page + 3 * PAGE, buffer, 1)).toBe(0);
      });
      k.kfree(buffer);
    });
    expect([os.mem.load8(constant), os.mem.load8(page + 3 * PAGE)]).toEqual([0, 9]);
    os.munmap(constant, PAGE);
  });

  it('instructions are not fetched from user pages, nor from data', () => {
    const code = os.mmap(0, PAGE, PROT_RX, PRIVATE_ANONYMOUS, -1, 0);
    os.mem.load8(code);
    const text = textOf(machine, (k) => k.useMm(pid, () => {
      k.stac();
      return k.mem.fetch8(code);
    }));
    // The top level of PAE says nothing of user pages.
    if (arch !== 'x86-pae') expect(text).toMatch(/^unable to execute userspace code \(SMEP\?\) \(uid: 0\)\nBUG: unable to handle page fault/);
    expect(text).toContain('#PF: supervisor instruction fetch in kernel mode\n#PF: error_code(0x0011) - permissions violation');
    if (arch !== 'x86-32') {
      expect(textOf(machine, (k) => {
        const data = k.kmalloc(64);
        return k.mem.fetch8(data);
      })).toMatch(/^kernel tried to execute NX-protected page - exploit attempt\? \(uid: 0\)\n/);
    }
    os.munmap(code, PAGE);
    machine.validate();
  });

  it('an address space of the module\'s own goes with it', () => {
    const before = inUse(machine);
    machine.module((k) => {
      const result = k.attachMm(() => {
        const at = k.vmMmap(3 * PAGE, PROT_RW);
        const buffer = k.kzalloc(16);
        k.mem.store32(buffer, 42);
        expect([k.copyToUser(at + PAGE - 2, buffer, 4), k.copyFromUser(buffer + 8, at + PAGE - 2, 4)]).toEqual([0, 0]);
        const copied = k.mem.load32(buffer + 8);
        k.kfree(buffer);
        return copied;
      });
      expect(result).toBe(42);
      expect(() => k.vmMmap(PAGE, PROT_RW)).toThrow('no address space');
      expect(() => k.useMm(9999, () => 0)).toThrow('useMm: takes the number of a process that lives, not 9999');
    });
    expect(inUse(machine)).toEqual(before);
    machine.validate();
  });
});

/** Address, in the direct map, of the last-level entry for `address`, found by hand from CR3 down. */
function entryOf(k: KernelModule, address: number, arch: string): number {
  const levels = arch === 'x86-64' ? [39, 30, 21, 12] : [30, 21, 12];
  let table = k.readCr3();
  for (const shift of levels) {
    const index = Math.floor(address / 2 ** shift) % (shift === 30 && arch === 'x86-pae' ? 4 : 512);
    const at = k.pageAddress(Math.floor(table / PAGE)) + (table % PAGE) + index * 8;
    if (shift === 12) return at;
    table = Number(k.mem.load64(at) & 0x000f_ffff_ffff_f000n);
  }
  return 0;
}

describe('a reserved bit in an entry', () => {
  it.each([['x86-64', 51n], ['x86-pae', 52n]] as const)('is met by the kernel as an oops with %s', (arch, bit) => {
    const machine = boot({ memory: '128M', arch });
    const { os, pid } = machine.createProcess();
    const page = os.mmap(0, PAGE, PROT_RW, PRIVATE_ANONYMOUS, -1, 0);
    os.mem.store8(page, 1);
    const flip = (k: KernelModule): void => {
      const entry = entryOf(k, page, arch);
      k.mem.store64(entry, k.mem.load64(entry) ^ (1n << bit));
    };
    const text = textOf(machine, (k) => k.useMm(pid, () => {
      flip(k);
      k.stac();
      return k.mem.load8(page);
    }));
    expect(text).toContain('#PF: error_code(0x0009) - reserved bit violation');
    machine.module((k) => k.useMm(pid, () => flip(k)));
    expect(os.mem.load8(page)).toBe(1);
    machine.validate();
  });

  it('kills the program that meets it', () => {
    const machine = boot({ memory: '128M', arch: 'x86-pae' });
    const process = machine.createProcess({ name: 'victim' });
    const { os, pid } = process;
    const page = os.mmap(0, PAGE, PROT_RW, PRIVATE_ANONYMOUS, -1, 0);
    os.mem.store8(page, 1);
    machine.module((k) => k.useMm(pid, () => {
      const entry = entryOf(k, page, 'x86-pae');
      k.mem.store64(entry, k.mem.load64(entry) | (1n << 52n));
    }));
    // The TLB has the entry still, until another address space is on.
    expect(os.mem.load8(page)).toBe(1);
    machine.run((other) => other.mem.store8(other.sbrk(PAGE), 1));
    expect(() => os.mem.load8(page)).toThrow();
    expect([process.alive, process.lastSignal]).toEqual([false, 9]);
    expect(machine.dmesg()).toMatch(/victim: Corrupted page table at address [0-9a-f]+\n.*\*pdpt = .*\n.*Bad pagetable: 000d \[#1\]/);
    machine.validate();
  });
});
