/**
 * How much memory Linux promises. In mode 0 it refuses only what is plainly too much, in mode 1 nothing; in mode 2 it keeps
 * account, and promises no more than swap and a share of RAM. What is promised is not taken: that happens page by page.
 */
import { MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os, SyscallError } from '@pagelab/abi';

export const machine = { memory: '256M' };

const MIB = 2 ** 20;
const MODE = '/proc/sys/vm/overcommit_memory';

export default function overcommit(os: Os): void {
  const attempt = (mib: number, flags = 0): string => {
    try {
      os.munmap(os.mmap(0, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags), mib * MIB);
      return 'promised';
    } catch (error) {
      return (error as SyscallError).code;
    }
  };
  const kib = (name: string): number => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(os.readFile('/proc/meminfo'))![1]);
  const total = Math.floor(kib('MemTotal') / 1024);
  const mode = os.readFile(MODE);
  for (const [number, says] of [['0', 'guesses'], ['1', 'refuses nothing'], ['2', 'keeps account']] as const) {
    os.writeFile(MODE, number);
    os.print(`mode ${number}, which ${says}`);
    os.print(`  a third of RAM: ${attempt(Math.floor(total / 3))}; all of it and 64 MiB: ${attempt(total + 64)}; without a reserve: ${attempt(total + 64, MAP_NORESERVE)}`);
  }
  const limit = kib('CommitLimit');
  const held = kib('Committed_AS');
  os.print(`the account: half of RAM ${Math.abs(limit / 1024 - total / 2) < 2 ? 'may' : 'may not'} be promised`);
  const area = os.mmap(0, 32 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  os.print(`  32 MiB mapped and not touched: ${(kib('Committed_AS') - held) / 1024} MiB more on it`);
  os.mprotect(area, 32 * MIB, PROT_READ);
  os.print(`  made read-only: ${(kib('Committed_AS') - held) / 1024} MiB, as nobody had stored to it`);
  os.munmap(area, 32 * MIB);
  os.writeFile(MODE, mode);
}
