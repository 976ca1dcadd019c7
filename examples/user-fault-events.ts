/**
 * A program that serves page faults hears of more than faults: of a fork, whose child's faults it serves from then on, of
 * memory that moves, and of memory that goes. Who does such a thing waits until that was read.
 */
import {
  MADV_DONTNEED,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  O_NONBLOCK,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  Syscall,
  UFFDIO_API,
  UFFDIO_COPY,
  UFFDIO_REGISTER,
  UFFDIO_REGISTER_MODE_MISSING,
  UFFD_API,
  UFFD_EVENT_FORK,
  UFFD_EVENT_PAGEFAULT,
  UFFD_EVENT_REMAP,
  UFFD_EVENT_REMOVE,
  UFFD_FEATURE_EVENT_FORK,
  UFFD_FEATURE_EVENT_REMAP,
  UFFD_FEATURE_EVENT_REMOVE,
  UFFD_FEATURE_EVENT_UNMAP,
  UFFD_MSG_BYTES,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export default function userFaultEvents(os: Os): void {
  const map = (pages: number): number => os.mmap(0, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const words = map(1);
  const request = (fd: number, code: number, ...values: readonly bigint[]): number => {
    values.forEach((value, i) => os.mem.store64(words + i * 8, value));
    return os.syscall(Syscall.ioctl, fd, code, words);
  };
  const word = (address: number): number => Number(os.mem.load64(address));
  const source = map(1);
  const memory = map(4);
  const uffd = os.userfaultfd(O_NONBLOCK);
  const features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP;
  request(uffd, UFFDIO_API, BigInt(UFFD_API), BigInt(features), 0n);
  request(uffd, UFFDIO_REGISTER, BigInt(memory), BigInt(4 * PAGE_SIZE), BigInt(UFFDIO_REGISTER_MODE_MISSING), 0n);

  const files = [uffd];
  let served = 0;
  let done = false;
  const page = (address: number): number => Math.floor((address - memory) / PAGE_SIZE);
  const serve = (fd: number): boolean => {
    const message = words + 512;
    if (os.syscall(Syscall.read, fd, message, UFFD_MSG_BYTES) !== UFFD_MSG_BYTES) return false;
    const [one, two, three] = [word(message + 8), word(message + 16), word(message + 24)] as const;
    const event = os.mem.load8(message);
    if (event === UFFD_EVENT_PAGEFAULT) {
      served++;
      os.mem.fill(source, PAGE_SIZE, served);
      request(fd, UFFDIO_COPY, BigInt(two), BigInt(source), BigInt(PAGE_SIZE), 0n, 0n);
      os.print(`  page ${page(two)} of the ${fd === uffd ? 'parent' : 'child'}: filled with ${served}`);
    } else if (event === UFFD_EVENT_FORK) {
      files.push(one & 0x7fff_ffff);
      os.print('  a child: its faults come by a file of their own');
    } else if (event === UFFD_EVENT_REMAP) os.print(`  ${three / PAGE_SIZE} page has moved from page ${page(one)}`);
    else os.print(`  pages ${page(one)} to ${page(two) - 1} ${event === UFFD_EVENT_REMOVE ? 'are given up' : 'are unmapped'}`);
    return true;
  };
  os.thread(function* () {
    while (!done) if (!files.some(serve)) yield;
  });

  os.print('a touch:');
  os.mem.load8(memory);
  os.print('a fork, and the child touches what the parent has not:');
  const child = os.fork((each) => each.mem.load8(memory + PAGE_SIZE));
  const { status } = os.waitpid(child) as { status: number };
  os.print(`  the child read ${status}`);
  os.print('madvise(MADV_DONTNEED):');
  os.madvise(memory, PAGE_SIZE, MADV_DONTNEED);
  os.print(`  it reads ${os.mem.load8(memory)} now`);
  os.print('mremap:');
  const moved = os.mremap(memory + 2 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, 3, memory - 64 * PAGE_SIZE);
  os.munmap(moved, PAGE_SIZE);
  os.print('munmap:');
  os.munmap(memory, 2 * PAGE_SIZE);
  done = true;
}
