/**
 * A file in memory: whoever maps it shows pages of the page cache, which `read` and `write` use too. A shared mapping stores to
 * the file, a private one to copies of its own. Behind the file's end the last page is zero, and beyond that page is nothing.
 */
import { MAP_PRIVATE, MAP_SHARED, O_CREAT, O_RDWR, PAGE_SIZE, PROT_READ, PROT_WRITE, SIGBUS, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const BYTES = PAGE_SIZE + 100;

export default function fileMapping(os: Os): void {
  const name = os.sbrk(PAGE_SIZE);
  os.mem.storeCString(name, '/notes');
  const fd = os.syscall(Syscall.open, name, O_RDWR | O_CREAT, 0o600);
  os.syscall(Syscall.ftruncate, fd, BYTES);
  const shared = os.mmap(0, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
  const mine = os.mmap(0, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
  const both = (when: string): void => {
    os.print(`${when}: shared ${os.mem.load8(shared)}, private ${os.mem.load8(mine)}`);
  };

  os.mem.store8(shared, 1);
  both('stored 1 through the shared mapping');
  os.mem.store8(name, 2);
  os.syscall(Syscall.pwrite64, fd, name, 1, 0);
  both('written 2 with pwrite');
  os.mem.store8(mine, 3);
  both('stored 3 through the private mapping');
  os.mem.store8(shared, 4);
  both('stored 4 through the shared mapping');

  os.print(`behind the end, in the last page: ${os.mem.load8(shared + BYTES + 1)}`);
  os.sigaction(SIGBUS, ({ addr }) => {
    throw new Error(`SIGBUS at page ${(addr - shared) / PAGE_SIZE} of the mapping`);
  });
  const attempt = (page: number): string => {
    try {
      return String(os.mem.load8(shared + page * PAGE_SIZE));
    } catch (error) {
      return (error as Error).message;
    }
  };
  os.print(`beyond that page: ${attempt(2)}`);
  os.syscall(Syscall.ftruncate, fd, 0);
  os.print(`truncated to nothing: ${attempt(0)}`);
  os.syscall(Syscall.ftruncate, fd, BYTES);
  both('grown again');
  os.munmap(shared, 3 * PAGE_SIZE);
  os.munmap(mine, 3 * PAGE_SIZE);
  os.syscall(Syscall.close, fd);
  os.mem.storeCString(name, '/notes');
  os.syscall(Syscall.unlink, name);
}
