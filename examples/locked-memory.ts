/**
 * Locked memory stays in RAM: it is brought in at once, is never paged out, and the kernel keeps it on a list of its own that
 * reclaim does not look at. With `MLOCK_ONFAULT` it is locked as it is touched. How much a user may lock is limited.
 */
import {
  MADV_PAGEOUT, MAP_ANONYMOUS, MAP_PRIVATE, MLOCK_ONFAULT, PAGE_SIZE, PROT_READ, PROT_WRITE, RLIMIT_MEMLOCK, Syscall,
} from '@pagelab/abi';
import type { Os, SyscallError } from '@pagelab/abi';
import { statusKb } from './shared/proc.ts';

export const machine = { memory: '64M', swap: [{ size: '64M' }] };

const MIB = 2 ** 20;

export default function lockedMemory(os: Os): void {
  const map = (bytes: number): number => os.mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const resident = (at: number): number => os.mincore(at, MIB).reduce((sum, byte) => sum + (byte & 1), 0);
  const secret = map(MIB);
  os.mlock(secret, MIB);
  os.print(`mlock: ${resident(secret)} of ${MIB / PAGE_SIZE} pages resident at once, VmLck ${statusKb(os, 'VmLck')} KiB`);
  const later = map(MIB);
  os.mlock2(later, MIB, MLOCK_ONFAULT);
  os.mem.store8(later, 1);
  os.print(`mlock2 with MLOCK_ONFAULT: ${resident(later)} resident, the one that was touched`);

  os.mem.store32(secret, 4711);
  try {
    os.madvise(secret, MIB, MADV_PAGEOUT);
  } catch (error) {
    os.print(`MADV_PAGEOUT: ${(error as SyscallError).code}`);
  }
  // More than the machine has: whatever can go to swap does.
  const free = Number(/^MemFree: +(\d+) kB$/m.exec(os.readFile('/proc/meminfo'))![1]) * 1024;
  if (free < 64 * MIB) {
    const hog = map(72 * MIB);
    for (let at = 0; at < 72 * MIB; at += PAGE_SIZE) os.mem.store32(hog + at, at);
    os.print(`72 MiB stored to: ${Math.round(statusKb(os, 'VmSwap') / 1024) > 0 ? 'some of it is' : 'nothing is'} in swap, ${resident(secret)} locked pages resident`);
    os.munmap(hog, 72 * MIB);
  }
  os.print(`still ${os.mem.load32(secret)}`);
  os.munlock(secret, MIB);
  os.munlock(later, MIB);
  os.print(`both unlocked: VmLck ${statusKb(os, 'VmLck')} KiB`);

  os.waitpid(os.fork((child) => {
    child.setrlimit(RLIMIT_MEMLOCK, { cur: 64 * 1024 });
    child.syscall(Syscall.setuid, 1000);
    const attempt = (bytes: number): string => {
      try {
        child.mlock(secret, bytes);
        return 'locked';
      } catch (error) {
        return (error as SyscallError).code;
      }
    };
    child.print(`a user, who may lock 64 KiB: 64 KiB ${attempt(64 * 1024)}, 68 KiB ${attempt(68 * 1024)}`);
  }));
}
