/**
 * Huge pages of shared memory: a file's pages are put together when a program asks for that, and every mapping shows them by one
 * entry; a hole punched into the file takes them apart. Settings decide which files have them from the first touch on.
 */
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, MADV_COLLAPSE, MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_FIXED, MAP_SHARED, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const RW = PROT_READ | PROT_WRITE;
const THP = '/sys/kernel/mm/transparent_hugepage/';

export default function sharedHugePages(os: Os): void {
  const huge = Number(os.readFile(`${THP}hpage_pmd_size`));
  const name = os.sbrk(PAGE_SIZE);
  os.mem.storeCString(name, 'board');
  const fd = os.syscall(Syscall.memfd_create, name, 0);
  os.syscall(Syscall.ftruncate, fd, 2 * huge);
  const start = os.mmap(0, 3 * huge, RW, MAP_SHARED, fd);
  const block = Math.ceil(start / huge) * huge;
  // The file's second block, where its addresses are those of a block, too.
  os.mmap(block, huge, RW, MAP_SHARED | MAP_FIXED, fd, huge);

  const show = (what: string, task: Os, addr: number, body: () => void): void => {
    const before = task.getrusage().minflt;
    body();
    const smaps = task.readFile('/proc/self/smaps');
    const own = smaps.slice(smaps.search(new RegExp(`^0*${addr.toString(16)}-`, 'm')));
    const kib = (name: string): number => Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(own)![1]);
    const faults = task.getrusage().minflt - before;
    task.print(`${what}: ${faults} fault${faults === 1 ? '' : 's'}, ${kib('Rss')} KiB resident, ${kib('ShmemPmdMapped')} KiB of them by one entry`);
  };
  show('four pages are stored to', os, block, () => {
    for (let page = 0; page < 4; page++) os.mem.store8(block + page * PAGE_SIZE, 1);
  });
  show('the block is collapsed', os, block, () => os.madvise(block, huge, MADV_COLLAPSE));
  os.waitpid(os.fork((child) => show('a child touches it', child, block, () => child.mem.load8(block + huge - 1))));
  show('a page is punched out', os, block, () => os.syscall(Syscall.fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, huge + 3 * PAGE_SIZE, PAGE_SIZE));
  show('a page behind it is touched', os, block, () => os.mem.load8(block + 300 * PAGE_SIZE));

  os.writeFile(`${THP}shmem_enabled`, 'advise');
  const anonymous = os.mmap(0, huge, RW, MAP_SHARED | MAP_ANONYMOUS);
  os.madvise(anonymous, huge, MADV_HUGEPAGE);
  show('shared memory that asks for it', os, anonymous, () => os.mem.store8(anonymous, 1));
  os.writeFile(`${THP}shmem_enabled`, 'never');
}
