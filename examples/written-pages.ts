/**
 * Which pages were stored to since one last asked, without being told of each: userfaultfd's asynchronous write protection,
 * and PAGEMAP_SCAN, which finds the pages and protects them again in the same step. So a checkpoint copies what has changed.
 */
import {
  MAP_ANONYMOUS, MAP_PRIVATE, O_NONBLOCK, O_RDONLY, PAGEMAP_SCAN, PAGE_IS_WRITTEN, PAGE_SIZE, PM_SCAN_ARG_BYTES, PM_SCAN_WP_MATCHING, PROT_READ, PROT_WRITE, Syscall, UFFDIO_API,
  UFFDIO_REGISTER, UFFDIO_REGISTER_MODE_WP, UFFD_API, UFFD_FEATURE_WP_ASYNC,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const PAGES = 64;
const MAX_REGIONS = 16;

export default function writtenPages(os: Os): void {
  const { mem } = os;
  const memory = os.mmap(0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const scratch = os.sbrk(2 * PAGE_SIZE);
  const regions = scratch + PAGE_SIZE;
  const request = (fd: number, number: number, words: readonly number[]): number => {
    words.forEach((word, i) => mem.storeAddress(scratch + i * 8, word));
    return os.ioctl(fd, number, scratch);
  };

  const uffd = os.userfaultfd(O_NONBLOCK);
  try {
    request(uffd, UFFDIO_API, [UFFD_API, UFFD_FEATURE_WP_ASYNC, 0]);
  } catch {
    os.print('page-table entries of 32 bits have no room for it');
    return;
  }
  request(uffd, UFFDIO_REGISTER, [memory, PAGES * PAGE_SIZE, UFFDIO_REGISTER_MODE_WP, 0]);
  mem.storeCString(scratch, '/proc/self/pagemap');
  const pagemap = os.syscall(Syscall.open, scratch, O_RDONLY, 0);

  const written = (): string => {
    const query = [PM_SCAN_ARG_BYTES, PM_SCAN_WP_MATCHING, memory, memory + PAGES * PAGE_SIZE, 0, regions, MAX_REGIONS, 0, 0, PAGE_IS_WRITTEN, 0, PAGE_IS_WRITTEN];
    const count = request(pagemap, PAGEMAP_SCAN, query);
    const found: string[] = [];
    for (let i = 0; i < count; i++) {
      const [from, to] = [0, 8].map((at) => (mem.loadAddress(regions + i * 24 + at) - memory) / PAGE_SIZE) as [number, number];
      found.push(to - from === 1 ? `${from}` : `${from}-${to - 1}`);
    }
    return found.length === 0 ? 'none' : found.join(', ');
  };

  os.print(`at first, for all anybody knows: ${written()}`);
  os.print(`asked again: ${written()}`);
  for (const page of [3, 4, 5, 20]) mem.store8(memory + page * PAGE_SIZE, 1);
  mem.load8(memory + 40 * PAGE_SIZE);
  os.print(`after four stores and a load: ${written()}`);
  mem.fill(memory + 60 * PAGE_SIZE, 4 * PAGE_SIZE, 7);
  mem.store8(memory + 4 * PAGE_SIZE, 2);
  os.print(`after more: ${written()}`);
}
