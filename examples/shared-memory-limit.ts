/**
 * `/dev/shm` holds what it may and no more: `devShm` of the machine's configuration, or half of memory. A file takes room when
 * its pages are there, not when it has its size; a store beyond that is SIGBUS, a write ENOSPC.
 */
import { MAP_SHARED, O_CREAT, O_RDWR, PAGE_SIZE, PROT_READ, PROT_WRITE, SIGBUS, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '64M', devShm: '64K' };

export default function sharedMemoryLimit(os: Os): void {
  const buffer = os.sbrk(PAGE_SIZE);
  os.mem.storeCString(buffer, '/dev/shm/ring');
  const fd = os.syscall(Syscall.open, buffer, O_CREAT | O_RDWR, 0o600);
  const pages = 24;
  os.syscall(Syscall.ftruncate, fd, pages * PAGE_SIZE);
  const at = os.mmap(0, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  os.print(`a file of ${pages} pages, none of them there`);

  class Stop {}
  let signal = 0;
  os.sigaction(SIGBUS, ({ signo }) => {
    signal = signo;
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- a jump out of the handler
    throw new Stop();
  });
  let stored = 0;
  try {
    for (; stored < pages; stored++) os.mem.store8(at + stored * PAGE_SIZE, 1);
  } catch (thrown) {
    if (!(thrown instanceof Stop)) throw thrown;
  }
  os.print(signal === SIGBUS ? `page ${stored}: SIGBUS, /dev/shm is full` : `${stored} pages stored to`);
  os.print(`writing one more: ${os.syscall(Syscall.pwrite64, fd, buffer, PAGE_SIZE, 20 * PAGE_SIZE)} (ENOSPC where it is full)`);

  os.syscall(Syscall.ftruncate, fd, 4 * PAGE_SIZE);
  os.print(`cut to 4 pages, there is room again: ${os.syscall(Syscall.pwrite64, fd, buffer, PAGE_SIZE, 4 * PAGE_SIZE)} bytes written`);
  os.munmap(at, pages * PAGE_SIZE);
  os.mem.storeCString(buffer, '/dev/shm/ring');
  os.syscall(Syscall.unlink, buffer);
  os.syscall(Syscall.close, fd);
}
