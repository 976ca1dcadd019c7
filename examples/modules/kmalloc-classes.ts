/**
 * What `kmalloc` gives: a block of the smallest class that fits, all of which may be used, as `ksize` says. A `krealloc` within it
 * stays where it is. Above two pages there are no classes: whole blocks of pages, the next power of two.
 */
import { GFP_DMA, GFP_KERNEL } from '@pagelab/kernel';
import type { KernelModule } from '@pagelab/kernel';

export default function kmallocClasses(kernel: KernelModule): void {
  for (const size of [1, 9, 65, 97, 130, 1025, 4097, 8192, 8193, 300_000]) {
    const block = kernel.kmalloc(size);
    const usable = kernel.ksize(block);
    kernel.printk(`kmalloc(${size}): ${usable} bytes, ${Math.round((1 - size / usable) * 100)} % of them not asked for`);
    kernel.kfree(block);
  }

  const block = kernel.kmalloc(70);
  kernel.mem.store32(block, 42);
  const grown = kernel.krealloc(block, 96);
  kernel.printk(`krealloc from 70 to 96: ${grown === block ? 'in place' : 'moved'}`);
  const moved = kernel.krealloc(grown, 97);
  kernel.printk(`krealloc from 96 to 97: ${moved === grown ? 'in place' : 'moved'}, first word still ${kernel.mem.load32(moved)}`);
  kernel.kfree(moved);

  const low = kernel.kmalloc(100, GFP_KERNEL | GFP_DMA);
  const physical = low - kernel.pageAddress(0);
  kernel.printk(`with GFP_DMA: ${physical < 16 * 2 ** 20 ? 'below' : 'above'} 16 MiB`);
  kernel.kfree(low);

  kernel.printk(`kmalloc(4 GiB): ${kernel.kmalloc(2 ** 32) === 0 ? 'NULL' : 'a block'}`);
  kernel.kfree(0);
  kernel.printk('kfree(NULL): nothing');
}
