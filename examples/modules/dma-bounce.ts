/**
 * A disk controller with 32 address lines in a machine with memory above 4 GiB. What it cannot reach it is given by a bounce
 * buffer: mapping copies there, unmapping copies back, and in between CPU and device see different bytes.
 */
import { DMA_FROM_DEVICE, DMA_TO_DEVICE } from '@pagelab/kernel';
import type { KernelModule, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '6G', cpus: 2 };

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const side = (address: number): string => (address < 2 ** 32 ? 'below 4 GiB' : 'above 4 GiB');

export default function dmaBounce(kernel: KernelModule): void {
  const disk = kernel.device('disk', 32);
  const ring = disk.allocCoherent(4096)!;
  kernel.printk(`coherent memory for its ring: ${side(ring.dma)}, no copies ever`);

  const pfn = kernel.allocPages();
  const page = kernel.pageAddress(pfn);
  kernel.mem.set(page, new TextEncoder().encode('sector from the page cache'));
  kernel.printk(`a page of the page cache: ${side(pfn * 4096)}`);

  const out = disk.mapPage(pfn, 0, 512, DMA_TO_DEVICE);
  const seen = new Uint8Array(26);
  disk.engine.read(out, seen);
  kernel.printk(`mapped to be written to the disk: ${side(out)}; the device reads "${text(seen)}"`);
  disk.unmap(out, 512, DMA_TO_DEVICE);

  const into = disk.mapPage(pfn, 0, 512, DMA_FROM_DEVICE);
  disk.engine.write(into, new TextEncoder().encode('SECTOR'));
  kernel.printk(`the device has written: the CPU still reads "${text(kernel.mem.bytes(page, 26))}"`);
  disk.unmap(into, 512, DMA_FROM_DEVICE);
  kernel.printk(`unmapped: the CPU reads "${text(kernel.mem.bytes(page, 26))}"; once more unmapped:`);
  disk.unmap(into, 512, DMA_FROM_DEVICE);

  disk.freeCoherent(4096, ring.cpu, ring.dma);
  kernel.freePages(pfn);
  disk.release();
}
