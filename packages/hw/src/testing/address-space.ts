/** Page tables made by hand, for tests and benchmarks that have no kernel. */
import type { VirtAddr } from '@pagelab/abi';
import {
  PAGE_SIZE,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_RW,
  PTE_USER,
  PhysicalMemory,
  Smp,
  createUserMemory,
  firmwareMemoryMap,
  pgdIndex,
  pmdIndex,
  pteHi,
  pteIndex,
  pteLo,
  pudIndex,
} from '../index.ts';
import type { Pfn, PhysAddr, UserMemoryPort } from '../index.ts';

/** Flags of an ordinary data page that was written before. */
export const PAGE_RW_DIRTY = PTE_PRESENT | PTE_RW | PTE_USER | PTE_ACCESSED | PTE_DIRTY;
const TABLE = PTE_PRESENT | PTE_RW | PTE_USER;

/** A machine whose frames are handed out in ascending order from 2 MiB, with one address space. */
export class TestMachine {
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly pgd: PhysAddr;
  #nextPfn: Pfn = 512;

  constructor(memoryBytes = 64 * 2 ** 20, nrCpus = 1) {
    this.ram = new PhysicalMemory(firmwareMemoryMap('pc', memoryBytes));
    this.smp = new Smp(this.ram, nrCpus);
    this.pgd = this.newFrame() * PAGE_SIZE;
    this.smp.current.loadCr3(this.pgd);
  }

  newFrame(): Pfn {
    return this.#nextPfn++;
  }

  /** Physical address of the entry for `va` at a level (1: 4 KiB pages), the tables above it made as needed. */
  entry(va: VirtAddr, level = 1, pgd = this.pgd): PhysAddr {
    const indices = [pteIndex(va), pmdIndex(va), pudIndex(va), pgdIndex(va)];
    let table = pgd;
    for (let l = 4; l > level; l--) {
      const at = table + indices[l - 1] * 8;
      if ((this.ram.load32(at) & PTE_PRESENT) === 0) this.setEntry(at, this.newFrame(), TABLE);
      table = Math.floor(this.ram.loadAddress(at) / PAGE_SIZE) * PAGE_SIZE;
    }
    return table + indices[level - 1] * 8;
  }

  setEntry(at: PhysAddr, pfn: Pfn, lo: number, hi = 0): void {
    this.ram.store32(at, pteLo(pfn, lo));
    this.ram.store32(at + 4, pteHi(pfn, hi));
  }

  /** Maps a page of 4 KiB. */
  map(va: VirtAddr, pfn: Pfn, lo = PAGE_RW_DIRTY, hi = 0): void {
    this.setEntry(this.entry(va), pfn, lo, hi);
  }

  /** A task's memory that is attached to the current CPU, and throws where it faults. */
  task(onFault?: (address: VirtAddr, errorCode: number, vector: number) => void): UserMemoryPort {
    const port = createUserMemory(this.ram, {
      onDetached: () => port.attach(this.smp.current),
      onFault:
        onFault ??
        ((address, errorCode, vector) => {
          throw new Error(`fault at ${address.toString(16)}, code ${errorCode}, vector ${vector}`);
        }),
    });
    return port;
  }
}
