/**
 * Copy on write: after a fork, parent and child show the same frames, and a frame is copied when one of them writes.
 * Whoever is left alone with a frame writes to it in place.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const PAGES = 64;

export default function copyOnWrite(os: Os): void {
  const memory = os.mmap(0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  os.mem.fill(memory, PAGES * PAGE_SIZE, 7);

  const pid = os.fork((child) => {
    const before = child.getrusage().minflt;
    const sum = child.mem.read(memory, PAGES * PAGE_SIZE).reduce((total, byte) => total + byte, 0);
    child.print(`child: read ${PAGES} pages, sum ${sum}: ${child.getrusage().minflt - before} faults`);
    for (let page = 0; page < PAGES / 2; page++) child.mem.store8(memory + page * PAGE_SIZE, 8);
    child.print(`child: wrote to ${PAGES / 2} of them: ${child.getrusage().minflt - before} faults, each a copy`);
    return 0;
  });
  const { status } = os.waitpid(pid)!;

  os.print(`parent: the child ended with status ${status}; my first byte is still ${os.mem.load8(memory)}`);
  const before = os.getrusage().minflt;
  for (let page = 0; page < PAGES; page++) os.mem.store8(memory + page * PAGE_SIZE, 9);
  os.print(`parent: wrote to all ${PAGES}: ${os.getrusage().minflt - before} faults, no copy: nobody else is left`);
}
