/**
 * What a kernel of arm64 has taken of memory by the time it sets up the page allocator, as far as it says where a CMA region
 * lies; fitted to recorded boots of Debian's 6.1.
 *
 * @linux arch/arm64/mm/init.c:bootmem_init
 */
import type { Memblock } from './memblock.ts';
import { RESERVED_FOR_BOOT, countPages } from './memblock.ts';
import type { NodeShape } from './mm-init.ts';
import { OWNER_KERNEL_CODE, OWNER_KERNEL_DATA, OWNER_MEMMAP } from './owner.ts';

/** The image: where it begins behind the start of memory, and its pages. */
const IMAGE_OFFSET = 0x210;
const IMAGE = { code: 3312, data: 3264, init: 1616 };
/** Pages that an entry of the last table but one stands for: all of memory is mapped by single pages. */
const PAGES_PER_TABLE = 512;
/** What describes a node, in pages. */
const NODE_DATA_PAGES = 3;
/** A section of sparse memory, 128 MiB, and the `struct page` of it. @linux arch/arm64/include/asm/sparsemem.h:SECTION_SIZE_BITS */
const SECTION_PAGES = 32_768;
const MEMMAP_PAGES = 512;
/** Hash tables and the like, and a CPU's area. */
const TABLES_PAGES = 2400;
const PERCPU_PAGES = 31;

/** Reserves it, top down, what is described later below what is described first. */
export function reserveEarlyArm64(memblock: Memblock, nodes: readonly NodeShape[], possibleCpus: number, reserveCma: () => void): void {
  const { memory } = memblock;
  const first = memory[0]?.start ?? 0;
  const maxPfn = memory.at(-1)?.end ?? 0;
  const image = first + IMAGE_OFFSET;
  memblock.reserve(image, image + IMAGE.code, OWNER_KERNEL_CODE);
  memblock.reserve(image + IMAGE.code, image + IMAGE.code + IMAGE.data, OWNER_KERNEL_DATA);
  const init = image + IMAGE.code + IMAGE.data;
  memblock.reserve(init, init + IMAGE.init, OWNER_KERNEL_DATA, RESERVED_FOR_BOOT);
  // A table for each 2 MiB of memory, one of those for each GiB, and two above.
  const tables = Math.ceil(countPages(memory) / PAGES_PER_TABLE);
  memblock.allocTopDown(tables + Math.ceil(tables / PAGES_PER_TABLE) + 2, first, maxPfn, OWNER_KERNEL_DATA);
  for (const { ranges } of nodes) {
    const start = ranges[0]?.start ?? first;
    memblock.allocTopDown(NODE_DATA_PAGES, start, ranges.at(-1)?.end ?? maxPfn, OWNER_KERNEL_DATA);
  }
  for (const { ranges } of nodes) {
    const [start, end] = [ranges[0]?.start ?? 0, ranges.at(-1)?.end ?? 0];
    const pages = (Math.ceil(end / SECTION_PAGES) - Math.floor(start / SECTION_PAGES)) * MEMMAP_PAGES;
    const place = pages === 0 ? -1 : memblock.find(pages, MEMMAP_PAGES, start, end);
    if (place >= 0) memblock.reserve(place, place + pages, OWNER_MEMMAP);
  }
  reserveCma();
  memblock.allocTopDown(TABLES_PAGES + PERCPU_PAGES * possibleCpus, first, maxPfn, OWNER_KERNEL_DATA);
}
