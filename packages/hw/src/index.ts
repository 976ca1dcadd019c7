export {
  PAGE_SIZE,
  PAGE_SHIFT,
  PAGE_WORDS,
  PAGE_OFFSET,
  CHUNK_PAGES,
  CHUNK_PAGE_SHIFT,
  CHUNK_WORDS,
  CHUNK_BYTES,
} from './page.ts';
export type { PhysAddr, Pfn } from './page.ts';
export { firmwareMemoryMap, wholeFrames, checkMemoryMap } from './memory-map.ts';
export type { Board, MemoryRange, MemoryType } from './memory-map.ts';
export { PhysicalMemory, BusError, HostMemoryError } from './physical-memory.ts';
export type { PhysicalMemoryOptions, RamUser } from './physical-memory.ts';
export { BufferPool } from './host-buffers.ts';
export type { BufferSource } from './host-buffers.ts';
export {
  PTE_PRESENT,
  PTE_RW,
  PTE_USER,
  PTE_PWT,
  PTE_PCD,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_PS,
  PTE_GLOBAL,
  PTE_SOFT_LO_MASK,
  PTE_LO_FRAME_MASK,
  PTE_HI_FRAME_MASK,
  PTE_UFFD_WP_LO,
  PTE_SOFT_DIRTY_HI,
  PTE_NX_HI,
  PF_PROT,
  PF_WRITE,
  PF_USER,
  PF_RSVD,
  PF_INSTR,
  VECTOR_PAGE_FAULT,
  VECTOR_GENERAL_PROTECTION,
  PTRS_PER_TABLE,
  ptePfn,
  pteLo,
  pteHi,
  pgdIndex,
  pudIndex,
  pmdIndex,
  pteIndex,
} from './pte.ts';
export {
  PHYS_ADDR_BITS,
  X86_64,
  X86_PAE,
  X86_32,
  PAGE_TABLE_FORMATS,
  tableIndex,
  largePfn,
} from './page-table-format.ts';
export type { PageTableFormat, PageTableLevel } from './page-table-format.ts';
export { Tlb, TLB_ENTRIES } from './tlb.ts';
export {
  Cpu,
  TRANSLATE_FAULT,
  CPU_WP,
  CPU_SMEP,
  CPU_SMAP,
  CPU_AC,
  CPU_NXE,
  CPU_PGE,
  CPU_PCIDE,
  CPU_PSE,
  CPU_DEFAULT_CONTROLS,
  CR3_NOFLUSH,
} from './cpu.ts';
export type { CpuStats } from './cpu.ts';
export {
  Smp,
  MAX_CPUS,
  TLB_SINGLE_PAGE_FLUSH_CEILING,
  TLB_FREED_TABLES,
  SWITCH_MM_NOTHING,
  SWITCH_MM_NOFLUSH,
  SWITCH_MM_FLUSH,
} from './smp.ts';
export type { SmpOptions, SmpStats } from './smp.ts';
export { TLB_NR_DYN_ASIDS } from './tlb-contexts.ts';
export { createUserMemory } from './user-memory.ts';
export type { UserMemoryPort } from './user-memory.ts';
export type { UserMemoryHandlers } from './user-access.ts';
export { structLayout } from './struct-view.ts';
export type { StructLayout } from './struct-view.ts';
export {
  TLB_DATA,
  TLB_INSTRUCTION,
  TLB_4K,
  TLB_2M,
  TLB_1G,
  WALK_GLOBAL,
  WALK_FAULT,
  INVPCID_TYPE_INDIV_ADDR,
  INVPCID_TYPE_SINGLE_CTXT,
  INVPCID_TYPE_ALL_INCL_GLOBAL,
  INVPCID_TYPE_ALL_NON_GLOBAL,
  pageNumber,
  tlbModelStats,
} from './tlb-model.ts';
export type { TlbModel, TlbModelFactory, TlbModelStats, TlbSideStats } from './tlb-model.ts';
export type { TlbReplacement } from './tlb-array.ts';
export { TLB_NEHALEM, TLB_SKYLAKE, TLB_GOLDEN_COVE, TLB_ZEN3, TLB_GEOMETRIES } from './tlb-geometry.ts';
export type { TlbArrayGeometry, TlbGeometry } from './tlb-geometry.ts';
export { SetAssociativeTlb, TLB_SPECS, tlbModelFactory } from './modelled-tlb.ts';
export type { SetAssociativeTlbOptions } from './modelled-tlb.ts';
export { FullyAssociativeTlb } from './fully-associative-tlb.ts';
export { DmaEngine, DMA_OK, DMA_ERROR_MASK, DMA_ERROR_BUS } from './dma.ts';
export type { DmaMaskBits, DmaSegment, DmaStats } from './dma.ts';
export { BlockDevice, REQ_OP_READ, REQ_OP_WRITE, REQ_OP_FLUSH, REQ_OP_DISCARD } from './block-device.ts';
export type { BlockDeviceOptions, DiskOpStats } from './block-device.ts';
export type { DiskFault } from './fault-injector.ts';
export { SECTOR_SIZE, MemoryBacking, FileBacking } from './disk-backing.ts';
export type { DiskBacking, HostFile } from './disk-backing.ts';
export {
  DISK_HDD,
  DISK_LAPTOP_HDD,
  DISK_SSD,
  DISK_NVME,
  DISK_RAM,
  DISK_MODELS,
  diskModel,
  positioningNs,
} from './disk-model.ts';
export type { DiskModel } from './disk-model.ts';
export { VirtualClock } from './clock.ts';
export { DEFAULT_COSTS } from './cost-model.ts';
export type { CostModel } from './cost-model.ts';
