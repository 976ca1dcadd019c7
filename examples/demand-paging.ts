/**
 * Demand paging: a mapping is a promise. Memory comes with the first touch of each page: a read shows the one zero
 * page that everybody shares, and only a write takes a frame.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { statusKb } from './shared/proc.ts';

const PAGES = 256;

export default function demandPaging(os: Os): void {
  const report = (when: string): void => {
    os.print(`${when}: ${os.getrusage().minflt - faults} faults, ${statusKb(os, 'VmRSS') - resident} KiB more resident`);
  };
  const heap = os.mmap(0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const faults = os.getrusage().minflt;
  const resident = statusKb(os, 'VmRSS');

  report(`mapped ${PAGES} pages`);
  for (let page = 0; page < PAGES; page++) os.mem.load8(heap + page * PAGE_SIZE);
  report('read each of them');
  for (let page = 0; page < PAGES; page += 2) os.mem.store8(heap + page * PAGE_SIZE, 1);
  report('wrote to every second');
  for (let page = 0; page < PAGES; page += 2) os.mem.store8(heap + page * PAGE_SIZE, 2);
  report('wrote to those again');
  os.munmap(heap, PAGES * PAGE_SIZE);
  report('unmapped them');
}
