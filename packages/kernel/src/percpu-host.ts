/**
 * Per-CPU memory's ground: boot memory for the first chunk, vmalloc's address space for the others.
 *
 * @linux mm/percpu-vm.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { __GFP_HIGHMEM, __GFP_ZERO } from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';
import { Percpu } from '@pagelab/slab';
import type { PercpuLayout, Slab } from '@pagelab/slab';
import type { Vm } from '@pagelab/vm';
import type { BootFrames } from './boot-frames.ts';
import type { MachineConfig } from './config.ts';
import type { KernelLog } from './kernel-log.ts';

/** What stock kernels set aside for each CPU, by release and architecture, as they log it. */
const SIZES: Readonly<Record<'6.1' | '6.12' | 'x86-pae' | 'x86-32', Pick<PercpuLayout, 'staticSize' | 'reservedSize' | 'dynSize'>>> = {
  '6.1': { staticSize: 217_088, reservedSize: 8192, dynSize: 28_672 },
  '6.12': { staticSize: 233_472, reservedSize: 8192, dynSize: 28_672 },
  'x86-pae': { staticSize: 104_276, reservedSize: 0, dynSize: 30_892 },
  'x86-32': { staticSize: 103_316, reservedSize: 0, dynSize: 31_852 },
};

/** What per-CPU memory is set up from. */
export interface PercpuParts {
  readonly config: MachineConfig;
  readonly vm: Vm;
  readonly pages: PageAlloc;
  readonly slab: Slab;
  readonly bootFrames: BootFrames;
  readonly log: KernelLog;
}

/** Sets per-CPU memory up, for all CPUs there could be. @linux arch/x86/kernel/setup_percpu.c:setup_per_cpu_areas */
export function setupPercpu({ config, vm, pages, slab, bootFrames, log }: PercpuParts): Percpu {
  const { vmalloc } = vm;
  const depopulate = (addresses: readonly VirtAddr[]): void => {
    const frames = addresses.map((address) => vmalloc.unmapFrame(address));
    vm.smp.flushTlbKernelRange(Math.min(...addresses), Math.max(...addresses) + PAGE_SIZE);
    for (const pfn of frames) if (pfn >= 0) pages.freePage(pfn);
  };
  const percpu = new Percpu(
    {
      wordBytes: slab.memory.wordBytes,
      smp: vm.smp,
      firstChunk: ({ nrUnits, unitSize, usedSize, unitOffsets }) =>
        pages.pageAddress(bootFrames.takeSpaced(unitOffsets, unitSize / PAGE_SIZE, usedSize / PAGE_SIZE, nrUnits)),
      getArea: (bytes) => vmalloc.getHighArea(bytes, 'pcpu_get_vm_areas'),
      putArea: (base) => vmalloc.vunmap(base),
      populate(addresses, gfp) {
        const done: VirtAddr[] = [];
        for (const address of addresses) {
          const pfn = pages.allocPage(gfp | __GFP_HIGHMEM);
          if (pfn >= 0 && vmalloc.mapFrame(address, pfn) === 0) {
            done.push(address);
            continue;
          }
          if (pfn >= 0) pages.freePage(pfn);
          if (done.length > 0) depopulate(done);
          return -Errno.ENOMEM;
        }
        return 0;
      },
      depopulate,
      memZalloc: (bytes, gfp) =>
        bytes <= PAGE_SIZE ? slab.kzalloc(bytes, gfp) : vmalloc.vmallocNodeRange(bytes, { gfp: gfp | __GFP_ZERO, caller: 'pcpu_create_chunk' }),
      memFree: (address) => vmalloc.kvfree(address),
      zero(address, bytes) {
        for (let at = address; at < address + bytes; ) {
          const run = Math.min(PAGE_SIZE - (at & (PAGE_SIZE - 1)), address + bytes - at);
          const pa = vmalloc.physAddr(at);
          const host = vm.ram.frameWord(Math.floor(pa / PAGE_SIZE)) * 4 + (pa % PAGE_SIZE);
          vm.ram.u8.fill(0, host, host + run);
          at += run;
        }
      },
      warn: (text) => log.print(text),
    },
    {
      ...SIZES[config.arch !== 'x86-64' ? config.arch : config.kernel === '6.1' ? '6.1' : '6.12'],
      // What a large page of the direct map holds.
      atomSize: config.arch === 'x86-64' ? 2 ** 21 : PAGE_SIZE,
      groups: groupsOf(config, pages),
    },
  );
  const { staticSize, reservedSize, dynSize, unitSize, usedSize } = percpu.info;
  log.print(`percpu: Embedded ${usedSize / PAGE_SIZE} pages/cpu s${staticSize} r${reservedSize} d${dynSize} u${unitSize}`);
  return percpu;
}

/**
 * The CPUs there could be, those of a node together; those that are on none with those of the first. Where nodes are fake,
 * each CPU is on all of them: boot then takes them for one after the other's.
 *
 * @linux arch/x86/kernel/setup_percpu.c:pcpu_cpu_distance, arch/x86/mm/numa.c:numa_init_array
 */
function groupsOf({ possibleCpus }: MachineConfig, { nodes }: PageAlloc): number[][] {
  const groups: number[][] = nodes.map(() => []);
  for (let cpu = 0; cpu < possibleCpus; cpu++) {
    const homes = nodes.filter(({ cpus }) => cpus.includes(cpu));
    groups[homes.length > 1 ? cpu % nodes.length : (homes[0]?.nid ?? 0)]!.push(cpu);
  }
  return groups.filter((cpus) => cpus.length > 0);
}
