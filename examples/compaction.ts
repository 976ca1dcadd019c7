/**
 * Compaction: memory that is half free, and yet has no block of 2 MiB, until the pages in use move together.
 */
import { MADV_DONTNEED, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '128M' };

const BYTES = 80 * 2 ** 20;

/** Free memory in MiB: all of it, and what lies in blocks of 2 MiB and more. */
function free(os: Os): string {
  let all = 0;
  let large = 0;
  for (const line of os.readFile('/proc/buddyinfo').trim().split('\n')) {
    const blocks = line.trim().split(/\s+/).slice(4).map(Number);
    blocks.forEach((count, order) => (all += count * 2 ** order));
    large += blocks[9]! * 2 ** 9 + blocks[10]! * 2 ** 10;
  }
  return `${Math.round(all / 256)} MiB free, ${Math.round(large / 256)} of it in blocks of 2 MiB and more`;
}

/** What zone DMA32, or Normal where there is none, says of blocks of 2 MiB: why there is none, and how much of what is free is of no use for them. */
function index(os: Os, name: string): string {
  const row = os.readFile(`/sys/kernel/debug/extfrag/${name}`).split('\n').find((line) => /DMA32|Normal/.test(line))!;
  return row.trim().split(/\s+/).slice(4)[9]!;
}

function moved(os: Os): number {
  return Number(/^pgmigrate_success (\d+)$/m.exec(os.readFile('/proc/vmstat'))![1]);
}

export default function compaction(os: Os): void {
  const start = os.mmap(0, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let at = 0; at < BYTES; at += PAGE_SIZE) os.mem.store32(start + at, at);
  for (let at = 0; at < BYTES; at += 2 * PAGE_SIZE) os.madvise(start + at, PAGE_SIZE, MADV_DONTNEED);
  os.print(`every second page given back: ${free(os)}`);
  os.print(`  extfrag_index ${index(os, 'extfrag_index')}, unusable_index ${index(os, 'unusable_index')}`);

  const before = moved(os);
  os.writeFile('/proc/sys/vm/compact_memory', '1');
  os.print(`compacted: ${free(os)}`);
  os.print(`  extfrag_index ${index(os, 'extfrag_index')}, unusable_index ${index(os, 'unusable_index')}`);
  os.print(`  ${moved(os) - before} pages moved`);

  let changed = 0;
  for (let at = PAGE_SIZE; at < BYTES; at += 2 * PAGE_SIZE) if (os.mem.load32(start + at) !== at) changed++;
  os.print(`pages that the program finds changed: ${changed}`);
}
