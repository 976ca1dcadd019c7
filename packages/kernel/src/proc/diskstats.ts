import type { Kernel } from '../kernel.ts';

/** virtio_blk's major number, as the kernel gives it out first, and minors kept for the partitions of each disk. */
const VIRTBLK_MAJOR = 254;
const PART_BITS = 4;

/** `/proc/diskstats`: what each disk was asked to do. @linux block/genhd.c:diskstats_show */
export function diskstats(kernel: Kernel): string {
  let text = '';
  for (const disk of kernel.swapDisks.values()) {
    const minor = (disk.name.charCodeAt(disk.name.length - 1) - 'a'.charCodeAt(0)) << PART_BITS;
    text += `${String(VIRTBLK_MAJOR).padStart(4)} ${String(minor).padStart(7)} ${disk.name} ${disk.diskstats().join(' ')}\n`;
  }
  return text;
}
