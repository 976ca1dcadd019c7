/**
 * A small machine for the tests of this package: real memory, page allocator and slab, no kernel.
 */
import { createUserMemory, PAGE_OFFSET, PAGE_SIZE, PTE_PRESENT, PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import type { UserMemoryPort } from '@pagelab/hw';
import { TraceRing } from '@pagelab/lib';
import { GFP_KERNEL, PageAlloc, X86_64_ZONES, __GFP_ZERO, x86Zones } from '@pagelab/mm-core';
import type { NodeConfig, PageAllocHooks } from '@pagelab/mm-core';
import { Slab, createKernelCaches } from '@pagelab/slab';
import type { KernelWarningSink } from '../kernel-warning.ts';
import { mmAlloc } from '../mm-lifetime.ts';
import type { MmLimits, MmStruct } from '../mm-struct.ts';
import { FAULT_OK } from '../fault-flags.ts';
import { handlePageFault } from '../page-fault.ts';
import { PAGE_TABLE_SHAPES } from '../pgtable-shape.ts';
import type { ReclaimPolicyFactory } from '../reclaim.ts';
import { VMALLOC_X86_64 } from '../vm-struct.ts';
import { DEFAULT_VM_SYSCTL, Vm } from '../vm.ts';

/** Nothing is limited, everything allowed. */
export const NO_LIMITS: MmLimits = { rlimit: () => -1, rlimitMax: () => -1, capable: () => true };

export type TestArch = keyof typeof PAGE_TABLE_SHAPES;

export interface TestVmOptions {
  readonly arch?: TestArch;
  readonly memoryBytes?: number;
  readonly cpus?: number;
  readonly hooks?: PageAllocHooks;
  readonly nodes?: readonly NodeConfig[];
  readonly warn?: KernelWarningSink;
  readonly reclaimPolicy?: ReclaimPolicyFactory;
}

/** With 32 bits: so much is for vmalloc that memory above 64 MiB is high. */
const VMALLOC_BYTES = 936 * 2 ** 20 - 2 ** 20;

/** Boots as much as virtual memory needs. With 32 bits some memory is high. */
export function testVm(options: TestVmOptions = {}): Vm {
  const { arch = 'x86-64' } = options;
  const tables = PAGE_TABLE_SHAPES[arch];
  const is32Bit = tables.format.addressBits === 32;
  const layout = is32Bit ? x86Zones(arch === 'x86-pae', VMALLOC_BYTES) : X86_64_ZONES;
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', options.memoryBytes ?? 128 * 2 ** 20));
  const smp = new Smp(ram, options.cpus ?? 2, { format: tables.format });
  const clock = new VirtualClock();
  const trace = new TraceRing(1024, clock);
  const pageOffset = is32Bit ? tables.taskSize : PAGE_OFFSET;
  const pages = new PageAlloc({ ram, smp, clock, trace, layout, pageOffset, hooks: options.hooks ?? {}, nodes: options.nodes ?? [] });
  const slab = new Slab({ pages, ram, smp, trace, slubOptions: { wordBytes: is32Bit ? 4 : 8 } });
  const made = createKernelCaches(slab, arch === 'x86-64' ? '6.18' : arch);
  const zeroPfn = pages.allocPage(GFP_KERNEL | __GFP_ZERO);
  const kernelPgd = pages.allocPage(GFP_KERNEL | __GFP_ZERO);
  const lowEndPfn = layout.limits[1];
  if (arch === 'x86-pae') ram.storeAddress(kernelPgd * PAGE_SIZE + 3 * 8, pages.allocPage(GFP_KERNEL | __GFP_ZERO) * PAGE_SIZE + PTE_PRESENT);
  return new Vm({
    ...(options.reclaimPolicy === undefined ? {} : { reclaimPolicy: options.reclaimPolicy }),
    ram,
    smp,
    pages,
    slab,
    clock,
    trace,
    sysctl: { ...DEFAULT_VM_SYSCTL },
    caches: {
      vmArea: made.vm_area_struct,
      dentry: made.dentry,
      mm: made.mm_struct,
      anonVma: made.anon_vma,
      anonVmaChain: made.anon_vma_chain,
      mapleNode: made.maple_node,
      file: made.filp,
      shmemInode: made.shmem_inode_cache,
      inode: made.inode_cache,
      hugetlbfsInode: made.hugetlbfs_inode_cache,
      radixTreeNode: made.radix_tree_node,
      vmapArea: made.vmap_area,
      numaPolicy: made.numa_policy,
      ksmRmapItem: made.ksm_rmap_item,
      ksmStableNode: made.ksm_stable_node,
      ksmMmSlot: made.ksm_mm_slot,
    },
    zeroPfn,
    kernelPgd,
    tables,
    ...(is32Bit ? { lowEndPfn, vmalloc: { ...VMALLOC_X86_64, hugeSize: 0, start: tables.taskSize + lowEndPfn * PAGE_SIZE + 2 ** 23, end: 0xfebf_e000 } } : {}),
    ...(options.warn === undefined ? {} : { warn: options.warn }),
  });
}

/** An empty address space whose mapping area ends where Linux's does. */
export function testMm(vm: Vm): MmStruct {
  const mm = mmAlloc(vm, NO_LIMITS);
  if (typeof mm === 'number') throw new Error(`mmAlloc: ${mm}`);
  mm.mmapBase = mm.is32Bit ? 0xb7ff_f000 : 0x7fff_f7ff_f000;
  return mm;
}

/** What an access that the kernel refuses throws in {@link attachUser}. */
export class TestFault extends Error {
  readonly address: number;
  /** FAULT_MAPERR, … */
  readonly fault: number;

  constructor(address: number, fault: number) {
    super(`fault ${fault} at 0x${address.toString(16)}`);
    this.address = address;
    this.fault = fault;
  }
}

/** Loads and stores of a program in `mm`, through CPU `cpu`: other address spaces on it are detached. */
export function attachUser(mm: MmStruct, cpuId = 0): UserMemoryPort {
  const { vm } = mm;
  const cpu = vm.smp.cpus[cpuId];
  const port = createUserMemory(vm.ram, {
    onDetached: () => {
      port.attach(cpu);
    },
    onFault: (address, errorCode) => {
      const fault = handlePageFault(mm, address, errorCode);
      if (fault !== FAULT_OK) throw new TestFault(address, fault);
    },
  });
  cpu.loadCr3(mm.pgd * PAGE_SIZE);
  port.attach(cpu);
  return port;
}
