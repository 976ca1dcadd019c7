/**
 * The disk that regular files lie on, where the configuration gives it a size and a model.
 */
import { BlockDevice, DISK_MODELS, DISK_SSD, DmaEngine, MemoryBacking } from '@pagelab/hw';
import type { PhysicalMemory, VirtualClock } from '@pagelab/hw';
import { DiskBlockStore } from '@pagelab/vm';
import type { MachineConfig } from './config.ts';

/** Makes it: `vda`, empty, in the host's memory, which it takes where it is written. */
export function fileDisk(config: NonNullable<MachineConfig['disk']>, seed: number, ram: PhysicalMemory, clock: VirtualClock): DiskBlockStore {
  const model = DISK_MODELS.find(({ name }) => name === config.model) ?? DISK_SSD;
  const bytes = config.size - (config.size % 4096);
  return new DiskBlockStore(new BlockDevice('vda', new MemoryBacking(bytes), new DmaEngine(ram), clock, { seed, model }));
}
