/**
 * High memory. A kernel of 32 bits has a GiB of addresses, and with them at hand 880 MiB of RAM or so; all above is high
 * memory, which it looks at through windows. Programs do not mind: they get high memory first, and what the kernel needs
 * itself stays low. Their own addresses end at 3 GiB. With 64 bits all memory has an address, and nothing of this is needed.
 */
import { MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os, SyscallError } from '@pagelab/abi';

export const machine = { arch: 'x86-pae', memory: '2G', cpus: 2 } as const;

const MIB = 2 ** 20;

export default function highmem(os: Os): void {
  const map = (bytes: number): number =>
    os.mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  const freeMib = (zones: string): number => {
    const kib = new RegExp(`^${zones}Free: +(\\d+) kB$`, 'm').exec(os.readFile('/proc/meminfo'))?.[1];
    return Number(kib ?? 0) / 1024;
  };
  const has32Bits = /^HighTotal/m.test(os.readFile('/proc/meminfo'));
  if (!has32Bits) {
    os.print('all memory has an address of the kernel');
    return;
  }

  const before = { high: freeMib('High'), low: freeMib('Low') };
  const memory = map(256 * MIB);
  os.mem.fill(memory, 256 * MIB, 1);
  const taken = { high: before.high - freeMib('High'), low: before.low - freeMib('Low') };
  os.print(`256 MiB at ${memory.toString(16)}: of high memory ${Math.round(taken.high)} MiB, of low ${Math.round(taken.low)}`);
  os.munmap(memory, 256 * MIB);

  const [stack] = /^\S+(?= .*\[stack\]$)/m.exec(os.readFile('/proc/self/maps'))!;
  os.print(`stack at ${stack}`);
  os.print(`2 GiB at ${map(2048 * MIB).toString(16)}`);
  try {
    map(1024 * MIB);
  } catch (error) {
    os.print(`another: ${(error as SyscallError).code}`);
  }
}
