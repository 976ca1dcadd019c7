/**
 * Four ways to memory that two processes share: a mapping from before the fork, a file without a name, one in /dev/shm, and a
 * segment of System V. All are pages of the same kind of file, counted as Shmem, and gone with the last who holds them.
 */
import {
  F_ADD_SEALS, F_SEAL_SHRINK, IPC_CREAT, IPC_PRIVATE, IPC_RMID, MAP_ANONYMOUS, MAP_SHARED, O_CREAT, O_RDWR, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall, errnoName,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const BYTES = 16 * PAGE_SIZE;
const RW = PROT_READ | PROT_WRITE;

export default function sharedMemory(os: Os): void {
  const name = os.sbrk(PAGE_SIZE);
  const before = shmemPages(os);
  const use = (what: string, memory: number): void => {
    const pid = os.fork((child) => {
      for (let at = 0; at < BYTES; at += PAGE_SIZE) child.mem.store32(memory + at, child.getpid());
    });
    os.waitpid(pid);
    os.print(`${what}: the child left ${os.mem.load32(memory) === pid ? 'its number' : 'nothing'}; ${shmemPages(os) - before} pages of shared memory`);
  };

  const anonymous = os.mmap(0, BYTES, RW, MAP_SHARED | MAP_ANONYMOUS);
  use('a shared mapping', anonymous);
  os.munmap(anonymous, BYTES);

  os.mem.storeCString(name, 'scratch');
  const memfd = os.syscall(Syscall.memfd_create, name, 2);
  os.syscall(Syscall.ftruncate, memfd, BYTES);
  const nameless = os.mmap(0, BYTES, RW, MAP_SHARED, memfd);
  use('memfd_create', nameless);
  os.syscall(Syscall.fcntl, memfd, F_ADD_SEALS, F_SEAL_SHRINK);
  os.print(`  sealed against shrinking: ftruncate answers ${errnoName(os.syscall(Syscall.ftruncate, memfd, 0))}`);
  os.munmap(nameless, BYTES);
  os.syscall(Syscall.close, memfd);

  os.mem.storeCString(name, '/dev/shm/board');
  const fd = os.syscall(Syscall.open, name, O_RDWR | O_CREAT, 0o600);
  os.syscall(Syscall.ftruncate, fd, BYTES);
  const named = os.mmap(0, BYTES, RW, MAP_SHARED, fd);
  use('/dev/shm', named);
  os.munmap(named, BYTES);
  os.syscall(Syscall.close, fd);
  os.print(`  closed and unmapped, it is still there: ${shmemPages(os) - before} pages`);
  os.syscall(Syscall.unlink, name);

  const id = os.syscall(Syscall.shmget, IPC_PRIVATE, BYTES, IPC_CREAT | 0o600);
  const segment = os.syscall(Syscall.shmat, id, 0, 0);
  os.syscall(Syscall.shmctl, id, IPC_RMID, 0);
  use('shmget, removed while attached', segment);
  os.syscall(Syscall.shmdt, segment);
  os.print(`all gone: ${shmemPages(os) - before} pages`);
}

function shmemPages(os: Os): number {
  return Number(/^Shmem: +(\d+) kB$/m.exec(os.readFile('/proc/meminfo'))![1]) / 4;
}
