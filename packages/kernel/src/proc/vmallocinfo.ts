import { VM_ALLOC, VM_DMA_COHERENT, VM_IOREMAP, VM_MAP, VM_USERMAP } from '@pagelab/vm';
import type { VmStruct } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';

/**
 * `/proc/vmallocinfo`: areas of vmalloc, and those that wait for a TLB flush. Addresses are shown as they are, as by a kernel
 * that was booted with `no_hash_pointers`; who asked is a function's name without an offset.
 *
 * @linux mm/vmalloc.c:vmalloc_info_show
 */
export function vmallocinfo(kernel: Kernel): string {
  const { space } = kernel.vm.vmalloc;
  let text = '';
  for (const { start, end, vm } of space.shown()) {
    text += `${range(kernel, start, end)} ${vm === null ? 'vm_map_ram' : describe(kernel, vm)}\n`;
  }
  for (const { start, end } of space.lazy) text += `${range(kernel, start, end)} unpurged vm_area\n`;
  return text;
}

function range(kernel: Kernel, start: number, end: number): string {
  return `${pointer(kernel, start)}-${pointer(kernel, end)} ${String(end - start).padStart(7)}`;
}

function pointer({ config }: Kernel, address: number): string {
  if (config.arch !== 'x86-64') return `0x${(address >>> 0).toString(16).padStart(8, '0')}`;
  return `0x${(BigInt(address) & 0xffff_ffff_ffff_ffffn).toString(16).padStart(16, '0')}`;
}

function describe(kernel: Kernel, vm: VmStruct): string {
  const { vmalloc } = kernel.vm;
  let text = vm.caller;
  if (vm.pages.length > 0) text += ` pages=${vm.pages.length}`;
  if (vm.phys !== 0) text += ` phys=0x${vm.phys.toString(16).padStart(kernel.config.arch === 'x86-32' ? 8 : 16, '0')}`;
  if ((vm.flags & VM_IOREMAP) !== 0) text += ' ioremap';
  if ((vm.flags & VM_ALLOC) !== 0) text += ' vmalloc';
  if ((vm.flags & VM_MAP) !== 0) text += ' vmap';
  if ((vm.flags & VM_USERMAP) !== 0) text += ' user';
  if ((vm.flags & VM_DMA_COHERENT) !== 0) text += ' dma-coherent';
  if (vmalloc.isVmallocAddr(vm.pagesArray)) text += ' vpages';
  // A kernel of 32 bits knows no nodes.
  return kernel.config.arch === 'x86-64' ? text + nodePages(kernel, vm) : text;
}

/** @linux mm/vmalloc.c:show_numa_info */
function nodePages({ pages }: Kernel, vm: VmStruct): string {
  const counts = new Map<number, number>();
  for (const pfn of vm.pages) {
    const nid = pages.zoneOf(pfn)?.nid ?? 0;
    counts.set(nid, (counts.get(nid) ?? 0) + 1);
  }
  return pages.nodes.map(({ nid }) => (counts.has(nid) ? ` N${nid}=${counts.get(nid)}` : '')).join('');
}
