import { BlockDevice, DISK_SSD, DmaEngine, MemoryBacking, VirtualClock } from '@pagelab/hw';
import { PAGE_SIZE } from '@pagelab/abi';
import { swapDeviceContract } from './swap-device-contract.ts';
import { DiskSwapDevice, MemorySwapDevice } from './swap-device.ts';

swapDeviceContract('in memory', (ram) => new MemorySwapDevice(ram, 2048));
swapDeviceContract('on a disk', (ram) => (
  new DiskSwapDevice(new BlockDevice('vdb', new MemoryBacking(2048 * PAGE_SIZE), new DmaEngine(ram), new VirtualClock(), { seed: 1, model: DISK_SSD }))
));
