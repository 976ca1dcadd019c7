/**
 * Sealing: once `mseal` has been called on a mapping, nobody can unmap, move, replace or reprotect it any more, as long as the
 * program runs. What it holds may still be read and, where its rights allow that, stored to.
 */
import { MADV_DONTNEED, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export default function sealedMappings(os: Os): void {
  const at = os.mmap(0, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  os.mem.storeCString(at + PAGE_SIZE, 'a table of functions');
  os.mprotect(at + PAGE_SIZE, PAGE_SIZE, PROT_READ);
  // Kernels of 32 bits seal nothing.
  if (os.syscall(Syscall.mseal, at + PAGE_SIZE, PAGE_SIZE, 0) < 0) return;
  const tried = (what: string, result: number): void => {
    os.print(`${what}: ${result === 0 ? 'done' : `error ${-result}`}`);
  };
  tried('munmap of all three pages', os.syscall(Syscall.munmap, at, 3 * PAGE_SIZE));
  tried('mprotect to writable', os.syscall(Syscall.mprotect, at + PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE));
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  tried('mmap in its place', os.syscall(Syscall.mmap, at + PAGE_SIZE, PAGE_SIZE, PROT_READ, flags, -1, 0));
  tried('madvise(MADV_DONTNEED)', os.syscall(Syscall.madvise, at + PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED));
  tried('munmap of the page before', os.syscall(Syscall.munmap, at, PAGE_SIZE));
  os.print(`it still holds: ${os.mem.loadCString(at + PAGE_SIZE, 64)}`);
}
