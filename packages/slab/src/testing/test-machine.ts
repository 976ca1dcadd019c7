/** A small machine for tests and benchmarks of the slab layer. */
import { PAGE_OFFSET } from '@pagelab/hw';
import { Slab } from '../slab.ts';
import type { SlabParts } from '../slab.ts';
import { FakePages } from './fake-pages.ts';

export interface TestMachineOptions extends Partial<Pick<SlabParts, 'slubOptions' | 'allocator' | 'report' | 'trace' | 'context' | 'log' | 'seed' | 'rcu'>> {
  readonly memoryBytes?: number;
  readonly nrCpus?: number;
  readonly nrNodes?: number;
}

export function createTestMachine(options: TestMachineOptions = {}) {
  const { memoryBytes = 64 * 2 ** 20, nrCpus = 2, nrNodes = 1, ...rest } = options;
  const pages = new FakePages(memoryBytes, nrNodes, options.slubOptions?.wordBytes === 4 ? 0xc000_0000 : PAGE_OFFSET);
  const smp = { cpus: { length: nrCpus }, processorId: 0 };
  const slab = new Slab({ pages: pages.asPageAlloc(), ram: pages.ram, smp, ...rest });
  return { pages, ram: pages.ram, smp, slab };
}
