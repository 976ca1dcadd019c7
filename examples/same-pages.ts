/**
 * Pages of the same contents share one frame: ksmd compares what asks to be merged, a few pages at a time, and a store
 * takes the page apart again.
 */
import { MADV_MERGEABLE, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const KSM = '/sys/kernel/mm/ksm/';
const PAGES = 64;

export default function samePages(os: Os): void {
  const start = os.mmap(0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  // Half of the pages have one of four contents, the others each their own.
  for (let page = 0; page < PAGES; page++) os.mem.fill(start + page * PAGE_SIZE, PAGE_SIZE, page < PAGES / 2 ? page % 4 : page);
  const time = os.sbrk(PAGE_SIZE);
  os.mem.storeAddress(time, 1);
  const show = (what: string): void => {
    const counts = ['pages_shared', 'pages_sharing', 'pages_unshared'].map((name) => `${name} ${os.readFile(`${KSM}${name}`).trim()}`);
    os.print(`${what}: ${counts.join(', ')}`);
  };
  const pause = (): number => os.syscall(Syscall.nanosleep, time, 0);

  os.writeFile(`${KSM}run`, '1');
  os.madvise(start, PAGES * PAGE_SIZE, MADV_MERGEABLE);
  show('at first');
  pause();
  show('a second later');
  os.mem.store8(start, 100);
  pause();
  show('after a store');
  os.print(`the page written has ${os.mem.load8(start)}, its like still ${os.mem.load8(start + 4 * PAGE_SIZE)}`);
  os.writeFile(`${KSM}run`, '2');
  show('all taken apart');
  os.writeFile(`${KSM}run`, '0');
}
