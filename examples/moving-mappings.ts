/**
 * `mremap` moves a mapping by its page tables: not a byte is copied, and a move of a whole upper table's reach is one entry.
 * What was at the old address is gone, or, with `MREMAP_DONTUNMAP`, empty.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, MREMAP_DONTUNMAP, MREMAP_MAYMOVE, PROT_NONE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const MIB = 2 ** 20;

export default function movingMappings(os: Os): void {
  const map = (bytes: number, prot = PROT_READ | PROT_WRITE): number => os.mmap(0, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS);
  const faults = (): number => os.getrusage().minflt;
  const step = (what: string, act: () => unknown): void => {
    const before = faults();
    const result = act();
    os.print(`${what}: ${faults() - before} faults${typeof result === 'string' ? `; ${result}` : ''}`);
  };

  let area = map(MIB);
  step('1 MiB stored to', () => os.mem.fill(area, MIB, 7));
  map(4096, PROT_NONE);
  step('grown to 8 MiB, with a neighbour in the way', () => {
    const moved = os.mremap(area, MIB, 8 * MIB, MREMAP_MAYMOVE);
    const where = moved === area ? 'in place' : 'it has moved';
    area = moved;
    return where;
  });
  step('read again', () => `byte ${os.mem.load8(area + MIB - 1)}, and ${os.mem.load8(area + MIB)} behind what there was`);
  step('shrunk to 64 KiB', () => {
    os.mremap(area, 8 * MIB, MIB / 16, 0);
  });
  step('moved, the old address kept', () => {
    const copy = os.mremap(area, MIB / 16, MIB / 16, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    return `byte ${os.mem.load8(copy)} at the new address`;
  });
  step('the old one read', () => `byte ${os.mem.load8(area)}: it is there, and empty`);
}
