/** What the C library prints about its heap: `malloc_stats` for people, `malloc_info` for programs. */
import { mallocAbort } from '../malloc-abort.ts';
import type { Arena } from './arena.ts';
import { FD, MALLOC_ALIGNMENT, NBINS, NFASTBINS, SIZE } from './chunk.ts';
import { HEAP_SIZE, MPROTECT_SIZE, PREV_HEAP, heapForPtr } from './heap-info.ts';
import { arenaInfo } from './mallinfo.ts';
import { MAX_MMAPPED_MEM, MAX_N_MMAPS, MMAPPED_MEM, N_MMAPS } from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { revealPtr } from './safe-linking.ts';
import { chunksize } from './unlink.ts';

/**
 * The text that `malloc_stats` prints to standard error: bytes obtained and in use, an arena at a time. Counts are
 * printed as C's `unsigned int`.
 *
 * @linux glibc malloc/malloc.c:__malloc_stats
 */
export function mallocStats(pt: Ptmalloc): string {
  const { mem, mp } = pt;
  const column = (value: number): string => String(value % 2 ** 32).padStart(10);
  const mmapped = mem.loadAddress(mp + MMAPPED_MEM);
  let system = mmapped;
  let inUse = mmapped;
  let text = '';
  let number = 0;
  pt.forEachArena((av) => {
    const { systemMem, fastBytes, binBytes, topBytes } = arenaInfo(pt, av);
    const used = systemMem - fastBytes - binBytes - topBytes;
    system += systemMem;
    inUse += used;
    text += `Arena ${number++}:\nsystem bytes     = ${column(systemMem)}\nin use bytes     = ${column(used)}\n`;
  });
  const maxMmapped = String(mem.loadAddress(mp + MAX_MMAPPED_MEM)).padStart(10);
  return (
    `${text}Total (incl. mmap):\nsystem bytes     = ${column(system)}\nin use bytes     = ${column(inUse)}\n` +
    `max mmap regions = ${column(mem.load32(mp + MAX_N_MMAPS))}\nmax mmap bytes   = ${maxMmapped}\n`
  );
}

interface BinSizes {
  from: number;
  to: number;
  total: number;
  count: number;
}

/**
 * The XML that `malloc_info` prints: the sizes of what is free, bin by bin, and totals. As in glibc, the sizes of
 * binned chunks include their flags.
 *
 * @linux glibc malloc/malloc.c:__malloc_info
 */
export function mallocInfo(pt: Ptmalloc): string {
  const { mem, mp } = pt;
  let text = '<malloc version="1">\n';
  const total = { fastCount: 0, fast: 0, restCount: 0, rest: 0, system: 0, maxSystem: 0, aspace: 0, readable: 0 };
  let number = 0;
  pt.forEachArena((av) => {
    const fastbins = fastSizes(pt, av);
    const [unsorted, ...bins] = binSizes(pt, av);
    const rest = [unsorted, ...bins];
    const { systemMem, maxSystemMem, topBytes } = arenaInfo(pt, av);
    const fast = sum(fastbins, 'total');
    const fastCount = sum(fastbins, 'count');
    const restBytes = topBytes + sum(rest, 'total');
    const restCount = 1 + sum(rest, 'count');
    const space = av === pt.mainArena ? { aspace: systemMem, readable: systemMem, heaps: 0 } : heapSpace(pt, av);
    text += `<heap nr="${number++}">\n<sizes>\n`;
    for (const bin of [...fastbins, ...bins]) if (bin.count > 0) text += `  ${sizeElement('size', bin)}`;
    if (unsorted.count > 0) text += `  ${sizeElement('unsorted', unsorted)}`;
    text += '</sizes>\n';
    text += totals(fastCount, fast, restCount, restBytes);
    text += systemElements(systemMem, maxSystemMem, space.aspace, space.readable);
    if (space.heaps > 0) text += `<aspace type="subheaps" size="${space.heaps}"/>\n`;
    text += '</heap>\n';
    total.fastCount += fastCount;
    total.fast += fast;
    total.restCount += restCount;
    total.rest += restBytes;
    total.system += systemMem;
    total.maxSystem += maxSystemMem;
    total.aspace += space.aspace;
    total.readable += space.readable;
  });
  text += totals(total.fastCount, total.fast, total.restCount, total.rest);
  text += `<total type="mmap" count="${mem.load32(mp + N_MMAPS)}" size="${mem.loadAddress(mp + MMAPPED_MEM)}"/>\n`;
  text += systemElements(total.system, total.maxSystem, total.aspace, total.readable);
  return `${text}</malloc>\n`;
}

function sum(bins: readonly BinSizes[], key: 'total' | 'count'): number {
  return bins.reduce((result, bin) => result + bin[key], 0);
}

function sizeElement(name: string, { from, to, total, count }: BinSizes): string {
  return `<${name} from="${from}" to="${to}" total="${total}" count="${count}"/>\n`;
}

function totals(fastCount: number, fast: number, restCount: number, rest: number): string {
  return `<total type="fast" count="${fastCount}" size="${fast}"/>\n<total type="rest" count="${restCount}" size="${rest}"/>\n`;
}

function systemElements(current: number, max: number, aspace: number, readable: number): string {
  return (
    `<system type="current" size="${current}"/>\n<system type="max" size="${max}"/>\n` +
    `<aspace type="total" size="${aspace}"/>\n<aspace type="mprotect" size="${readable}"/>\n`
  );
}

function fastSizes(pt: Ptmalloc, av: Arena): BinSizes[] {
  const { mem } = pt;
  return Array.from({ length: NFASTBINS }, (_, index) => {
    const bin: BinSizes = { from: 0, to: 0, total: 0, count: 0 };
    for (let p = mem.loadAddress(av.fastbins + 8 * index); p !== 0; p = revealPtr(mem, p + FD)) {
      if ((p & 15) !== 0) mallocAbort('__malloc_info(): unaligned fastbin chunk detected');
      bin.to = chunksize(mem, p);
      bin.from = bin.to - (MALLOC_ALIGNMENT - 1);
      bin.total += bin.to;
      bin.count++;
    }
    return bin;
  });
}

/** Bin 1, the unsorted one, first. */
function binSizes(pt: Ptmalloc, av: Arena): BinSizes[] {
  const { mem } = pt;
  return Array.from({ length: NBINS - 1 }, (_, index) => {
    const bin = av.bins + 16 * (index + 1);
    const sizes: BinSizes = { from: Infinity, to: 0, total: 0, count: 0 };
    for (let p = mem.loadAddress(bin + FD); p !== bin; p = mem.loadAddress(p + FD)) {
      const head = mem.loadAddress(p + SIZE);
      sizes.from = Math.min(sizes.from, head);
      sizes.to = Math.max(sizes.to, head);
      sizes.total += head;
      sizes.count++;
    }
    return sizes;
  });
}

/** What a thread arena's heaps use, have readable, and how many there are. */
function heapSpace(pt: Ptmalloc, av: Arena): { aspace: number; readable: number; heaps: number } {
  const { mem } = pt;
  const space = { aspace: 0, readable: 0, heaps: 0 };
  for (let heap = heapForPtr(mem.loadAddress(av.top)); heap !== 0; heap = mem.loadAddress(heap + PREV_HEAP)) {
    space.aspace += mem.loadAddress(heap + HEAP_SIZE);
    space.readable += mem.loadAddress(heap + MPROTECT_SIZE);
    space.heaps++;
  }
  return space;
}
