/**
 * A segmentation fault is a question: a handler may answer it. This one maps the page that was missing, or gives back
 * the right that was lacking, and the access that faulted is tried again, as user-space garbage collectors do it.
 */
import {
  MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, SEGV_MAPERR, SIGSEGV, signalCodeName,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export default function segfaultRepaired(os: Os): void {
  const area = os.mmap(0, 4 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
  os.munmap(area + 2 * PAGE_SIZE, 2 * PAGE_SIZE);

  os.sigaction(SIGSEGV, ({ signo, code, addr }) => {
    const page = addr - (addr % PAGE_SIZE);
    os.print(`  handler: ${signalCodeName(signo, code)} at page ${(page - area) / PAGE_SIZE}`);
    if (code === SEGV_MAPERR) os.mmap(page, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
    else os.mprotect(page, PAGE_SIZE, PROT_READ | PROT_WRITE);
  });

  for (const page of [0, 2, 0]) {
    os.print(`store to page ${page}`);
    os.mem.store32(area + page * PAGE_SIZE, 100 + page);
  }
  os.print(`a copy over pages 1 to 3 faults where it must`);
  os.mem.fill(area + PAGE_SIZE, 3 * PAGE_SIZE, 5);
  os.print(`page 0 holds ${os.mem.load32(area)}, page 3 holds ${os.mem.load8(area + 3 * PAGE_SIZE)}`);
}
