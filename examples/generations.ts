/**
 * Generations: the kernel walks page tables now and then, and pages that were used join the youngest generation. When memory is
 * short the oldest goes.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '64M', swap: [{ size: '64M' }] };

const ENABLED = '/sys/kernel/mm/lru_gen/enabled';
const GENERATIONS = '/sys/kernel/debug/lru_gen';
const PAGES = 2048;

/** Generations of node 0 that hold pages: number, and anonymous pages. */
function generations(os: Os): { number: number; pages: number }[] {
  const node = os.readFile(GENERATIONS).split(' node ')[1]!;
  return [...node.matchAll(/^ +(\d+) +\d+ +(\d+) +\d+/gm)].map(([, number, pages]) => ({ number: Number(number), pages: Number(pages) }));
}

function report(os: Os, when: string): void {
  // Pages that wait in a batch of a CPU are on no list yet: figures are rounded.
  const held = generations(os).filter(({ pages }) => pages > 64).map(({ number, pages }) => `${number}: ${Math.round(pages / 128) * 128}`);
  os.print(`${when.padEnd(38)} ${held.join('   ')}`);
}

/** Makes a new youngest generation. */
function age(os: Os): void {
  os.writeFile(GENERATIONS, `+ 0 0 ${generations(os).at(-1)!.number} 60`);
}

export default function main(os: Os): void {
  const before = os.readFile(ENABLED);
  os.writeFile(ENABLED, 'y');
  const start = os.mmap(0, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const use = (first: number, count: number): void => {
    for (let page = first; page < first + count; page++) os.mem.store32(start + page * PAGE_SIZE, page);
  };
  const inMemory = (first: number): number => os.mincore(start + first * PAGE_SIZE, (PAGES / 2) * PAGE_SIZE).filter((bit) => (bit & 1) !== 0).length;
  use(0, PAGES);
  report(os, 'generation: pages, all just made');
  age(os);
  for (let round = 0; round < 3; round++) {
    use(0, PAGES / 2);
    age(os);
    report(os, 'the first half used, once more');
  }
  const oldest = generations(os).find(({ pages }) => pages > 64)!.number;
  // The first time pages are written, the second time they go.
  for (let time = 0; time < 2; time++) os.writeFile(GENERATIONS, `- 0 0 ${oldest} 200 900`);
  os.print(`some of generation ${oldest} given up: of the first half ${inMemory(0)} pages are in memory, of the other ${inMemory(PAGES / 2)}`);
  os.munmap(start, PAGES * PAGE_SIZE);
  os.writeFile(ENABLED, before.trim());
}
