/** The machine's hardware as programs and modules meet it: memory and its holes, page-table entries in RAM, TLBs, DMA. */
import { SIGSEGV } from '@pagelab/abi';
import { DMA_ERROR_BUS, DMA_ERROR_MASK, DMA_OK } from '@pagelab/hw';
import { describe, expect, it, test } from 'vitest';
import { boot } from './boot.ts';
import { KernelOops } from './index.ts';
import type { KernelModule, Machine } from './index.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const PROT_READ = 1;
const PROT_RW = 3;
const PROT_RX = 5;
const PRIVATE_ANONYMOUS = 0x22;
const MADV_HUGEPAGE = 14;

/** The levels of tables, by the lowest bit of an address that each takes, and how many bits that are. */
const LEVELS = {
  'x86-64': [[39, 9], [30, 9], [21, 9], [12, 9]],
  'x86-pae': [[30, 2], [21, 9], [12, 9]],
  'x86-32': [[22, 10], [12, 10]],
} as const;

const P = 1n;
const RW = 2n;
const US = 4n;
const A = 32n;
const D = 64n;
const PS = 128n;
const G = 256n;
const NX = 1n << 63n;
const RIGHTS = P | RW | US | A | D | PS | G | NX;

type Arch = keyof typeof LEVELS;

/** The entry that maps an address, as it stands in RAM, found from CR3 down; with the lowest bit of the address below it. */
function leafOf(k: KernelModule, address: number, arch: Arch): { entry: bigint; shift: number } {
  let table = k.readCr3();
  const bytes = arch === 'x86-32' ? 4 : 8;
  const bits = BigInt.asUintN(64, BigInt(address));
  for (const [shift, width] of LEVELS[arch]) {
    const index = Number((bits >> BigInt(shift)) & ((1n << BigInt(width)) - 1n));
    const at = k.pageAddress(Math.floor(table / PAGE)) + (table % PAGE) + index * bytes;
    const entry = bytes === 4 ? BigInt(k.mem.load32(at)) : k.mem.load64(at);
    if ((entry & P) === 0n || shift === 12 || (entry & PS) !== 0n) return { entry, shift };
    table = Number(entry & 0x000f_ffff_ffff_f000n);
  }
  throw new Error('no last level');
}

describe('physical memory', () => {
  it('has holes: what the direct map leaves out faults, and where it does not the bus has no answer', () => {
    const machine = boot({ memory: '4G' });
    const iomem = machine.readFile('/proc/iomem');
    expect(iomem).toMatch(/^00001000-0009fbff : System RAM$/m);
    expect(iomem).toMatch(/^00100000-bffdffff : System RAM$/m);
    expect(iomem).toMatch(/^100000000-13fffffff : System RAM$/m);
    const read = (pfn: number): number => machine.module((k) => k.mem.load8(k.pageAddress(pfn)));
    expect(read(0x9e)).toBe(0);
    expect(read(0x100000)).toBe(0);
    // From 3 to 4 GiB there is no memory, and no mapping. Below 1 MiB a page of 2 MiB maps the hole, too.
    expect(() => read(0xd0000)).toThrow(KernelOops);
    expect(() => read(0xa0)).toThrow('bus error at physical address 0xa0000');
    // A machine check: nothing goes on after it.
    expect(() => machine.readFile('/proc/iomem')).toThrow('bus error');
  });

  it('is there where it is touched: from 64 MiB to 1 TiB', () => {
    for (const memory of ['64M', '1T']) {
      const machine = boot({ memory });
      const { status } = machine.run((os) => os.mem.fill(os.mmap(0, MIB, PROT_RW, PRIVATE_ANONYMOUS), MIB, 1));
      expect(status).toBe(0);
      expect(machine.stats().hostBytes).toBeLessThan(300 * MIB);
      machine.dispose();
    }
  });
});

describe.each(Object.keys(LEVELS) as Arch[])('page-table entries of %s', (arch) => {
  const nx = arch === 'x86-32' ? 0n : NX;

  it('say what a program may do, and what it has done', () => {
    const machine = boot({ memory: '128M', arch });
    const { os, pid } = machine.createProcess();
    const entryOf = (address: number): bigint => machine.module((k) => k.useMm(pid, () => leafOf(k, address, arch).entry & RIGHTS));
    const data = os.mmap(0, 2 * PAGE, PROT_RW, PRIVATE_ANONYMOUS);
    expect(entryOf(data) & P).toBe(0n);
    os.mem.load8(data);
    expect(entryOf(data)).toBe(P | US | A | nx);
    os.mem.store8(data, 1);
    expect(entryOf(data)).toBe(P | RW | US | A | D | nx);
    os.mprotect(data, PAGE, PROT_READ);
    expect(entryOf(data) & RW).toBe(0n);
    os.mprotect(data, PAGE, PROT_RX);
    expect(entryOf(data) & NX).toBe(0n);
    // The accessed bit is the hardware's: cleared, a load sets it again.
    os.mprotect(data, PAGE, PROT_RW);
    machine.writeFile(`/proc/${pid}/clear_refs`, '1');
    expect(entryOf(data) & A).toBe(0n);
    expect(machine.readFile(`/proc/${pid}/smaps`)).not.toMatch(/Referenced: +[1-9]/);
    os.mem.load8(data);
    expect(entryOf(data) & A).toBe(A);
    machine.validate();
  });

  it('map huge pages by one entry', () => {
    const bytes = arch === 'x86-32' ? 4 * MIB : 2 * MIB;
    const machine = boot({ memory: '1G', arch, cmdline: 'transparent_hugepage=madvise' });
    const { os, pid } = machine.createProcess();
    const area = os.mmap(0, 2 * bytes, PROT_RW, PRIVATE_ANONYMOUS);
    const at = Math.ceil(area / bytes) * bytes;
    os.madvise(at, bytes, MADV_HUGEPAGE);
    os.mem.store8(at + 5 * PAGE, 7);
    machine.module((k) => k.useMm(pid, () => {
      const { entry, shift } = leafOf(k, at, arch);
      expect([entry & RIGHTS, 2 ** shift]).toEqual([P | RW | US | A | D | PS | nx, bytes]);
      // What the entry names is what the program wrote.
      const pfn = Number((entry & 0x000f_ffff_ffff_f000n) / 4096n);
      expect(pfn % (bytes / PAGE)).toBe(0);
      const window = k.kmapLocalPage(pfn + 5);
      expect(k.mem.load8(window)).toBe(7);
      k.kunmapLocal(window);
    }));
  });

  it('map all of low memory for the kernel alone, by large pages that outlast a load of CR3', () => {
    const machine = boot({ memory: arch === 'x86-64' ? '3G' : '512M', arch });
    machine.module((k) => {
      const { entry, shift } = leafOf(k, k.pageAddress(GIB / PAGE / (arch === 'x86-64' ? 1 : 4)), arch);
      expect(entry & RIGHTS).toBe(P | RW | A | D | PS | G | nx);
      expect(2 ** shift).toBe({ 'x86-64': GIB, 'x86-pae': 2 * MIB, 'x86-32': 4 * MIB }[arch]);
    });
    const meminfo = machine.readFile('/proc/meminfo');
    expect(meminfo).toMatch(arch === 'x86-64' ? /^DirectMap1G: +[1-9]\d+ kB$/m : arch === 'x86-pae' ? /^DirectMap2M: +[1-9]\d+ kB$/m : /^DirectMap4M: +[1-9]\d+ kB$/m);
  });
});

describe('protection', () => {
  it('keeps programs out of the kernel and of addresses that there are not', () => {
    const machine = boot({ memory: '64M' });
    const ended = (address: number, name: string): number | null => machine.run((os) => os.mem.load8(address), { name }).signal;
    // The direct map is there, and not for users: error code 5. What is not canonical is no page fault at all.
    expect(ended(-0x7780_0000_0000 + 2 * MIB, 'peek')).toBe(SIGSEGV);
    expect(machine.dmesg()).toMatch(/peek\[\d+\]: segfault at ffff888000200000 .* error 5 /);
    expect(ended(2 ** 47, 'stray')).toBe(SIGSEGV);
    expect(machine.dmesg()).toMatch(/traps: stray\[\d+\] general protection fault/);
  });

  it('holds for the kernel too where pages are for reading (CR0.WP)', () => {
    const machine = boot({ memory: '64M' });
    const { os, pid } = machine.createProcess();
    const constant = os.mmap(0, PAGE, PROT_READ, PRIVATE_ANONYMOUS);
    os.mem.load8(constant);
    const kernelText = -0x7f00_0000;
    expect(machine.module((k) => k.mem.load32(kernelText))).toBe(0);
    expect(() => machine.module((k) => k.mem.store8(kernelText, 1))).toThrow(KernelOops);
    expect(machine.dmesg()).toContain('error_code(0x0003) - permissions violation');
    expect(() => machine.module((k) => k.useMm(pid, () => {
      k.stac();
      k.mem.store8(constant, 1);
    }))).toThrow(KernelOops);
    expect(os.mem.load8(constant)).toBe(0);
    machine.validate();
  });
});

describe('the TLB', () => {
  /** Misses of a modelled TLB while a program reads `pages` pages in turn, twice. */
  function misses(tlb: string, pages: number, huge = false): number {
    const machine = boot({ memory: '1G', tlb, cmdline: 'transparent_hugepage=madvise' });
    let found = 0;
    machine.run((os) => {
      const area = Math.ceil(os.mmap(0, pages * PAGE + 4 * MIB, PROT_RW, PRIVATE_ANONYMOUS) / (2 * MIB)) * 2 * MIB;
      if (huge) os.madvise(area, pages * PAGE, MADV_HUGEPAGE);
      for (let page = 0; page < pages; page++) os.mem.store8(area + page * PAGE, 1);
      const before = machine.stats().tlbModel!.misses;
      for (let page = 0; page < pages; page++) os.mem.load8(area + page * PAGE);
      found = machine.stats().tlbModel!.misses - before;
    });
    machine.validate();
    return found;
  }

  it('modelled, has room for so many pages, and for more memory in huge ones', () => {
    expect(misses('modelled:skylake', 1000)).toBe(0);
    expect(misses('modelled:skylake', 4096)).toBeGreaterThan(2500);
    expect(misses('modelled:skylake', 4096, true)).toBeLessThan(10);
    // 2,048 entries of the second level, and not 1,536.
    expect(misses('modelled:zen3', 2000)).toBeLessThan(200);
    expect(misses('modelled:skylake', 2000)).toBeGreaterThan(800);
  });

  it('keeps what is the kernel\'s over a switch of address spaces, and by PCID what is a program\'s', () => {
    const machine = boot({ memory: '256M', tlb: 'modelled:skylake' });
    let cold = 0;
    let again = 0;
    machine.run(function* (os) {
      const area = os.mmap(0, 16 * PAGE, PROT_RW, PRIVATE_ANONYMOUS);
      const touch = (): number => {
        const before = machine.stats().tlbModel!.misses;
        for (let page = 0; page < 16; page++) os.mem.load8(area + page * PAGE);
        return machine.stats().tlbModel!.misses - before;
      };
      cold = touch();
      os.fork(function* (child) {
        child.mem.load8(area);
        yield;
      });
      touch();
      yield;
      yield;
      again = touch();
    });
    expect([cold >= 16, again]).toEqual([true, 0]);
  });
});

test('a device reaches what its address lines name, and no hole', () => {
  const machine: Machine = boot({ memory: '6G' });
  machine.module((k) => {
    const bytes = new Uint8Array(16);
    const results = ([24, 32, 64] as const).map((bits) => {
      const device = k.device(`card${bits}`, bits);
      const at = [8 * MIB, 2 * GIB, 5 * GIB].map((address) => device.engine.read(address, bytes));
      device.release();
      return at;
    });
    expect(results).toEqual([[DMA_OK, DMA_ERROR_MASK, DMA_ERROR_MASK], [DMA_OK, DMA_OK, DMA_ERROR_MASK], [DMA_OK, DMA_OK, DMA_OK]]);
    const device = k.device('card', 64);
    expect([device.engine.write(3.5 * GIB, bytes), device.engine.write(0xa0000, bytes)]).toEqual([DMA_ERROR_BUS, DMA_ERROR_BUS]);
    device.release();
  });
});
