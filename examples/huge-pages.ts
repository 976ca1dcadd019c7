/**
 * Transparent huge pages: one entry shows 2 MiB where a mapping asks for that, at the first touch, or later, when
 * khugepaged comes by; giving back a part cuts the entry.
 */
import { MADV_DONTNEED, MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const HUGE = 2 ** 21;
const BLOCKS = 4;
const SCAN = '/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs';

export default function hugePages(os: Os): void {
  /** Memory that begins with a block. */
  const map = (): number => {
    const start = os.mmap(0, (BLOCKS + 1) * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    return Math.ceil(start / HUGE) * HUGE;
  };
  const show = (what: string, body: () => void): void => {
    const before = os.getrusage().minflt;
    body();
    const kib = /AnonHugePages: +(\d+)/.exec(os.readFile('/proc/self/smaps_rollup'))![1];
    os.print(`${what}: ${os.getrusage().minflt - before} faults, ${kib} KiB in huge pages`);
  };
  const touch = (start: number): void => {
    for (let at = start; at < start + BLOCKS * HUGE; at += PAGE_SIZE) os.mem.store8(at, 1);
  };

  const asked = map();
  os.madvise(asked, BLOCKS * HUGE, MADV_HUGEPAGE);
  show('touching what asks for huge pages', () => touch(asked));
  const late = map();
  show('touching what does not', () => touch(late));
  os.madvise(late, BLOCKS * HUGE, MADV_HUGEPAGE);
  os.writeFile(SCAN, '100');
  const time = os.sbrk(PAGE_SIZE);
  os.mem.storeAddress(time, 1);
  show('it asks now, and a second passes', () => os.syscall(Syscall.nanosleep, time, 0));
  os.writeFile(SCAN, '10000');
  show('giving one small page back', () => os.madvise(asked, PAGE_SIZE, MADV_DONTNEED));
}
