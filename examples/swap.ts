/**
 * Swap: a program that stores to more memory than there is, and finds all of it again.
 */
import { MADV_PAGEOUT, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '64M', swap: [{ size: '96M', priority: 5 }] };

const BYTES = 80 * 2 ** 20;

function field(os: Os, file: string, name: string): number {
  return Number(new RegExp(`^${name}:?\\s+(\\d+)`, 'm').exec(os.readFile(file))![1]);
}

function report(os: Os, when: string): void {
  const mib = (name: string): number => Math.round(field(os, '/proc/self/status', name) / 1024);
  os.print(`${when}: ${mib('RssAnon')} MiB resident, ${mib('VmSwap')} MiB in swap`);
}

export default function swap(os: Os): void {
  os.print(os.readFile('/proc/swaps').trimEnd());
  const start = os.mmap(0, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let at = 0; at < BYTES; at += PAGE_SIZE) os.mem.store32(start + at, at + 1);
  report(os, '80 MiB stored to');

  const faults = (): number => field(os, '/proc/vmstat', 'pgmajfault');
  const before = faults();
  let changed = 0;
  for (let at = 0; at < BYTES; at += PAGE_SIZE) if (os.mem.load32(start + at) !== at + 1) changed++;
  report(os, 'and read back');
  os.print(`  ${changed} pages changed, ${faults() - before} times the program waited for the disk`);
  os.print(`  ${field(os, '/proc/vmstat', 'swap_ra')} pages were read ahead, ${field(os, '/proc/vmstat', 'swap_ra_hit')} of them used`);

  // On request, too: the last MiB, which was used just now.
  os.madvise(start + BYTES - 2 ** 20, 2 ** 20, MADV_PAGEOUT);
  report(os, 'the last MiB paged out');
}
