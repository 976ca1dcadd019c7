/**
 * The pool of huge pages: pages of 2 MiB are set aside, a mapping is promised what it needs when it is made, and takes it
 * when it is touched. Where the promise cannot be given, `mmap` fails, and no later access does.
 */
import { MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os , SyscallError } from '@pagelab/abi';

const HUGE = 2 ** 21;
const POOL = '/proc/sys/vm/nr_hugepages';

export default function hugePagePool(os: Os): void {
  const map = (pages: number): number =>
    os.mmap(0, pages * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
  const show = (what: string): void => {
    const counts = [...os.readFile('/proc/meminfo').matchAll(/HugePages_(\w+): +(\d+)/g)].map(([, name, count]) => `${name!.toLowerCase()} ${count}`);
    os.print(`${what}: ${counts.join(', ')}`);
  };

  os.writeFile(POOL, '8');
  show('eight pages set aside');
  const memory = map(6);
  show('six of them promised');
  const before = os.getrusage().minflt;
  os.mem.fill(memory, 2 * HUGE, 1);
  show(`two filled, with ${os.getrusage().minflt - before} faults`);
  try {
    map(3);
  } catch (error) {
    os.print(`three more: ${(error as SyscallError).code}`);
  }
  os.munmap(memory, 6 * HUGE);
  show('unmapped');
  os.writeFile(POOL, '0');
}
