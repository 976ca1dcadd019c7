/** A page allocator on a machine of its own, for tests. */
import { PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { TraceRing } from '@pagelab/lib';
import { PageAlloc } from '../page-alloc.ts';
import type { PageAllocOptions } from '../page-alloc-options.ts';
import type { Zone } from '../zone.ts';

export interface TestMachineOptions extends Partial<PageAllocOptions> {
  readonly memoryMib?: number;
  readonly cpus?: number;
  readonly board?: 'pc' | 'q35';
}

export interface TestMachine {
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly clock: VirtualClock;
  readonly trace: TraceRing;
  readonly pages: PageAlloc;
}

/** Boots a machine of 256 MiB and one CPU unless told otherwise. */
export function testMachine(options: TestMachineOptions = {}): TestMachine {
  const { memoryMib = 256, cpus = 1, board = 'pc', ...rest } = options;
  const ram = options.ram ?? new PhysicalMemory(firmwareMemoryMap(board, memoryMib * 0x100000));
  const smp = options.smp ?? new Smp(ram, cpus);
  const clock = options.clock ?? new VirtualClock();
  const trace = options.trace ?? new TraceRing(1024);
  return { ram, smp, clock, trace, pages: new PageAlloc({ ...rest, ram, smp, clock, trace }) };
}

/** Allocates single pages until it fails; returns their frames. */
export function exhaust(pages: PageAlloc, gfp: number): number[] {
  const got: number[] = [];
  for (let pfn = pages.allocPage(gfp); pfn >= 0; pfn = pages.allocPage(gfp)) got.push(pfn);
  return got;
}

/** The zone of a name that has pages. @throws Error where there is none */
export function zoneNamed(pages: PageAlloc, name: string): Zone {
  const zone = pages.zones.find((z) => z.name === name && z.present > 0);
  if (zone === undefined) throw new Error(`no zone ${name}`);
  return zone;
}
