export { BufferPool } from '@pagelab/hw';
export type { BufferSource } from '@pagelab/hw';
export { boot } from './boot.ts';
export type { BootOptions } from './boot.ts';
export type { Compressor, HostDirectory, HostEntry } from '@pagelab/vm';
export { CONFIG_KEYS, ConfigError, parseMachineConfig } from './config.ts';
export type { MachineConfig, MachineConfigInput } from './config.ts';
export type { ConsoleSink } from './console.ts';
export { TaskExit } from './exit.ts';
export type { ProgramImage } from './exec.ts';
export type { Machine, Process, RunResult, StartOptions, Thread } from './machine.ts';
export type { KmemleakReport } from './kmemleak.ts';
export type { PageOwnerEntry } from '@pagelab/mm-core';
export { KernelModule } from './module.ts';
export type { ModuleOptions } from './module-run.ts';
export { KernelOops } from './oops.ts';
export type { OopsKind } from './oops.ts';
export {
  GFP_ATOMIC,
  GFP_DMA,
  GFP_DMA32,
  GFP_HIGHUSER,
  GFP_KERNEL,
  GFP_NOFS,
  GFP_NOIO,
  GFP_NOWAIT,
  GFP_USER,
  __GFP_NOWARN,
  __GFP_ZERO,
} from '@pagelab/mm-core';
export { SLAB_ACCOUNT, SLAB_CACHE_DMA, SLAB_HWCACHE_ALIGN, SLAB_NO_MERGE, SLAB_RECLAIM_ACCOUNT, SLAB_TYPESAFE_BY_RCU } from '@pagelab/slab';
export { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_MAPPING_ERROR, DMA_TO_DEVICE } from '@pagelab/vm';
export type { CoherentBlock, DmaDevice } from '@pagelab/vm';
export { DeadlockError } from './scheduler.ts';
export type { ProcessMemory } from './process-memory.ts';
export type { CacheStats, MachineStats, ProcessStats, ZoneStats, TlbModelCounts } from './stats.ts';
export { formatSize, parseSize } from './size.ts';
export type { SlabAllocator, SlabCorruption, SlabReport, SlabReportKind, SlabTrack } from '@pagelab/slab';
