/**
 * Huge pages that come apart: what a program gives up of one stays in memory until that is short; and one of mostly zeros is
 * split where khugepaged would not have made it.
 */
import { MADV_DONTNEED, MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '128M' };

const HUGE = 2 ** 21;
const COUNT = 8;
const O_WRONLY = 1;
const SETTINGS = '/sys/kernel/mm/transparent_hugepage/';

function set(os: Os, file: string, text: string): void {
  const buffer = os.sbrk(4096);
  os.mem.storeCString(buffer, file);
  const fd = os.syscall(Syscall.open, buffer, O_WRONLY, 0);
  os.mem.storeCString(buffer, text);
  os.syscall(Syscall.write, fd, buffer, text.length);
  os.syscall(Syscall.close, fd);
}

function report(os: Os, when: string): void {
  const vmstat = os.readFile('/proc/vmstat');
  const count = (name: string): string => new RegExp(`^${name} (\\d+)`, 'm').exec(vmstat)?.[1] ?? '0';
  const kib = /RssAnon:\s+(\d+)/.exec(os.readFile('/proc/self/status'))![1];
  os.print(`${when}: ${kib} KiB resident; ${count('thp_fault_alloc')} huge pages made, ${count('thp_deferred_split_page')} were set down to be split, ${count('thp_split_page')} were split`);
}

export default function hugePageSplit(os: Os): void {
  set(os, `${SETTINGS}enabled`, 'madvise');
  const start = os.mmap(0, (COUNT + 1) * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const first = Math.ceil(start / HUGE) * HUGE;
  os.madvise(first, COUNT * HUGE, MADV_HUGEPAGE);
  for (let i = 0; i < COUNT; i++) os.mem.store32(first + i * HUGE, i + 1);
  report(os, 'one word stored to each');
  // The upper half of four of them goes, for the program; the frames stay in one piece.
  for (let i = 0; i < COUNT / 2; i++) os.madvise(first + i * HUGE + HUGE / 2, HUGE / 2, MADV_DONTNEED);
  report(os, 'half of four given up');
  set(os, '/proc/sys/vm/drop_caches', '2');
  report(os, 'what can be freed is freed');
  // A block with more than 64 empty pages is not worth a huge page: from now on.
  set(os, `${SETTINGS}khugepaged/max_ptes_none`, '64');
  const later = os.mmap(0, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const block = Math.ceil(later / HUGE) * HUGE;
  os.madvise(block, HUGE, MADV_HUGEPAGE);
  os.mem.store32(block, 99);
  report(os, 'another, all zeros but one page');
  set(os, '/proc/sys/vm/drop_caches', '2');
  report(os, 'freed again');
  os.print(`the word is ${os.mem.load32(block)}, and the rest reads ${os.mem.load32(block + HUGE / 2)}`);
}
