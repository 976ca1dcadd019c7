/**
 * Where a kernel has its vmalloc area, by architecture and release.
 */
import { PAGE_SIZE } from '@pagelab/hw';
import { ZONE_NORMAL } from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';
import { VMALLOC_X86_64 } from '@pagelab/vm';
import type { VmallocLayout } from '@pagelab/vm';
import type { MachineConfig } from './config.ts';
import { zoneLayout } from './memory-shape.ts';

/** Of a kernel with 32 bits: where vmalloc's part ends, with and without PAE; and the gap before it. */
const VMALLOC_END_PAE = 0xfeff_e000;
const VMALLOC_END_32 = 0xfebf_e000;
const VMALLOC_OFFSET = 8 * 2 ** 20;
/** Bytes of `struct vm_struct` up to 6.12; PAE has physical addresses of 8 bytes. */
const VM_STRUCT_BYTES = { 'x86-64': 64, 'x86-pae': 36, 'x86-32': 32 } as const;

/** One past the last frame that a kernel of 32 bits has a permanent address for. @linux arch/x86/mm/init_32.c:max_low_pfn */
export function lowEndPfn(config: MachineConfig, pages: PageAlloc): number {
  const { kinds, limits } = zoneLayout(config);
  return Math.min(limits[kinds.indexOf(ZONE_NORMAL)]!, pages.layout.maxPfn);
}

/** @linux arch/x86/include/asm/pgtable_32_areas.h:VMALLOC_START, arch/x86/include/asm/pgtable_64_types.h:VMALLOC_START */
export function vmallocLayout(config: MachineConfig, pages: PageAlloc): VmallocLayout {
  const word = config.arch === 'x86-64' ? 8 : 4;
  const release = {
    // Kernels of 32 bits have none.
    hugeSize: config.arch === 'x86-64' && config.commandLine.nohugevmalloc !== true ? 2 ** 21 : 0,
    // `requested_size` came after 6.12.
    vmStructBytes: VM_STRUCT_BYTES[config.arch] + (config.kernel === '6.18' ? word : 0),
    nrNodes: config.kernel === '6.1' || config.arch !== 'x86-64' ? 1 : Math.min(config.possibleCpus, 128),
    // Constructors of page tables came level by level: the last one for the kernel's own PTE tables.
    countsTables: (level: string): boolean =>
      config.kernel === '6.18' || level === 'pmd' || (config.kernel === '6.12' && level === 'pud'),
  };
  if (config.arch === 'x86-64') return { ...VMALLOC_X86_64, ...release };
  const end = config.arch === 'x86-pae' ? VMALLOC_END_PAE : VMALLOC_END_32;
  return { start: pages.pageAddress(lowEndPfn(config, pages)) + VMALLOC_OFFSET, end, ...release };
}

/** `VmallocTotal`, in KiB. @linux include/linux/vmalloc.h:VMALLOC_TOTAL */
export function vmallocTotalKib(config: MachineConfig, pages: PageAlloc): number {
  const { start, end } = vmallocLayout(config, pages);
  // On 64 bits the end is the last byte of the range.
  return config.arch === 'x86-64' ? Math.floor((end + PAGE_SIZE - 1 - start) / 1024) : (end - start) / 1024;
}
