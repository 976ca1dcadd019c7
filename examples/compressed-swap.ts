/**
 * Compressed swap (zswap): pages that are swapped out stay in memory as long as they are small there, and the disk hears
 * nothing of them.
 */
import { MADV_PAGEOUT, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '64M', swap: [{ size: '96M' }], cmdline: 'zswap.enabled=1 zswap.max_pool_percent=5' };

const PAGES = 512;

function vmstat(os: Os, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(os.readFile('/proc/vmstat'))![1]);
}

function report(os: Os, what: string): void {
  const kib = (name: string): string => new RegExp(`^${name}: +(\\d+)`, 'm').exec(os.readFile('/proc/meminfo'))![1]!;
  os.print(`${what}: ${kib('Zswapped')} KiB of pages lie in ${kib('Zswap')} KiB, ${vmstat(os, 'pswpout')} pages on the disk`);
}

/** Pages of so much text and so much noise. */
function fill(os: Os, start: number, noisyWords: number): void {
  let noise = 1;
  for (let at = start; at < start + PAGES * PAGE_SIZE; at += 4) {
    noise = (Math.imul(noise, 1_664_525) + 1_013_904_223) >>> 0;
    os.mem.store32(at, at % PAGE_SIZE < noisyWords * 4 ? noise : 0x2e6f_6f66);
  }
}

export default function compressedSwap(os: Os): void {
  const start = os.mmap(0, 3 * PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  fill(os, start, 16);
  os.madvise(start, PAGES * PAGE_SIZE, MADV_PAGEOUT);
  report(os, 'text');
  fill(os, start + PAGES * PAGE_SIZE, 512);
  os.madvise(start + PAGES * PAGE_SIZE, PAGES * PAGE_SIZE, MADV_PAGEOUT);
  report(os, 'half of it noise');
  fill(os, start + 2 * PAGES * PAGE_SIZE, 1024);
  os.madvise(start + 2 * PAGES * PAGE_SIZE, PAGES * PAGE_SIZE, MADV_PAGEOUT);
  report(os, 'nothing but noise');
  for (let at = start; at < start + 3 * PAGES * PAGE_SIZE; at += PAGE_SIZE) os.mem.load32(at);
  report(os, 'all read back');
  os.print(`${vmstat(os, 'zswpin')} of ${3 * PAGES} pages came from memory, ${vmstat(os, 'pswpin')} from the disk`);
}
