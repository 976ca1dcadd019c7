/**
 * Page replacement: a small part of memory is used again and again, and then a lot is gone through once. ARC remembers what was
 * used again; with `"reclaim": "lru"` in the machine's configuration, nothing of it would be left.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '64M', reclaim: 'arc' as const, swap: [{ size: '256M' }], sysctl: { 'vm.page-cluster': 0 } };

const HOT = 1500;
const ONCE = 5000;

export default function main(os: Os): void {
  const map = (nrPages: number): number => os.mmap(0, nrPages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const use = (start: number, nrPages: number): void => {
    for (let page = 0; page < nrPages; page++) os.mem.store32(start + page * PAGE_SIZE, page);
  };
  const hot = map(HOT);
  const inMemory = (): number => os.mincore(hot, HOT * PAGE_SIZE).filter((bit) => (bit & 1) !== 0).length;
  const others: number[] = [];
  for (let round = 0; round < 6; round++) {
    use(hot, HOT);
    others.push(map(ONCE));
    use(others.at(-1)!, ONCE);
  }
  use(hot, HOT);
  os.print(`${HOT} pages are used again and again, between ${others.length * ONCE} that are used once: ${inMemory()} of them are in memory`);
  for (let round = 0; round < 3; round++) {
    others.push(map(ONCE));
    use(others.at(-1)!, ONCE);
  }
  os.print(`and after ${3 * ONCE} more that are used once: ${inMemory()}`);
  os.munmap(hot, HOT * PAGE_SIZE);
  for (const start of others) os.munmap(start, ONCE * PAGE_SIZE);
}
