/**
 * Page faults served by the program itself: a range is registered, whoever touches a page of it that is not there waits,
 * and a thread reads of it and puts the page in place. So memory can come from anywhere: a file, a network, a formula.
 */
import {
  MAP_ANONYMOUS, MAP_PRIVATE, O_NONBLOCK, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall, UFFDIO_API, UFFDIO_COPY, UFFDIO_REGISTER, UFFDIO_REGISTER_MODE_MISSING, UFFD_API, UFFD_MSG_BYTES,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const PAGES = 16;

export default function userFaults(os: Os): void {
  const map = (pages: number): number => os.mmap(0, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const memory = map(PAGES);
  const source = map(1);
  const scratch = os.sbrk(PAGE_SIZE);
  const fd = os.userfaultfd(O_NONBLOCK);
  /** A request with its structure of 64-bit words. */
  const request = (number: number, ...words: number[]): void => {
    words.forEach((word, i) => os.mem.storeAddress(scratch + i * 8, word));
    os.ioctl(fd, number, scratch);
  };
  request(UFFDIO_API, UFFD_API, 0, 0);
  request(UFFDIO_REGISTER, memory, PAGES * PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING, 0);

  let served = 0;
  let done = false;
  // A generator: it gives up the CPU where there is nothing to do.
  os.thread(function* () {
    const message = scratch + 512;
    while (!done) {
      if (os.syscall(Syscall.read, fd, message, UFFD_MSG_BYTES) < 0) {
        yield;
        continue;
      }
      const address = os.mem.loadAddress(message + 16);
      const page = (address - memory) / PAGE_SIZE;
      os.mem.fill(source, PAGE_SIZE, page * page);
      request(UFFDIO_COPY, address, source, PAGE_SIZE, 0, 0);
      served += 1;
    }
  });

  for (const page of [3, 7, 3, 12]) {
    const value = os.mem.load8(memory + page * PAGE_SIZE + 100);
    os.print(`page ${page} has ${value}: ${served} served so far`);
  }
  done = true;
}
