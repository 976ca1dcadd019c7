/**
 * Recomputes what the pool of huge pages keeps count of.
 */
import type { Pfn } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import { PG_ANON, PG_HUGETLB } from '@pagelab/mm-core';
import type { Vm } from './vm.ts';

/**
 * @param entries third-level entries that show each page of the pool
 * @throws KernelBug for the first count that is wrong
 */
export function validateHugetlb(vm: Vm, entries: ReadonlyMap<Pfn, number>): void {
  const { hugetlb, frames } = vm;
  const check = (condition: boolean, message: string): void => {
    if (!condition) throw new KernelBug(`hugetlb: ${message}`);
  };
  const free = new Set(hugetlb.nodes.flatMap((node) => node.free));
  check(free.size === hugetlb.freeHugePages, `${hugetlb.freeHugePages} pages free, ${free.size} found`);
  const cached = new Set<Pfn>();
  vm.mappings.forEach(({ ops, pages }) => {
    if (ops !== vm.hugetlbOps) return;
    pages.forEachIn(0, Infinity, (head) => {
      cached.add(head);
    });
  });
  const { kept } = vm.hwpoison;
  const broken = [...kept].filter((pfn) => (frames.flags[pfn] & PG_HUGETLB) !== 0);
  const used = new Set([...entries.keys(), ...cached, ...broken]);
  check(free.size + used.size === hugetlb.nrHugePages, `${hugetlb.nrHugePages} pages, ${free.size} free and ${used.size} in use`);
  check(hugetlb.nodes.reduce((sum, { nr }) => sum + nr, 0) === hugetlb.nrHugePages, 'the nodes have another number of pages');
  check(hugetlb.nodes.reduce((sum, { surplus }) => sum + surplus, 0) === hugetlb.surplusHugePages, 'surplus pages miscounted');
  check(hugetlb.resvHugePages <= hugetlb.freeHugePages && hugetlb.resvHugePages >= 0, `${hugetlb.resvHugePages} pages promised, ${hugetlb.freeHugePages} free`);
  check(hugetlb.unmapped.length === 0, 'pages wait for a flush');
  for (const head of free) check(frames.refcount[head] === 1 && !used.has(head), `frame ${head}: free and in use`);
  for (const head of used) {
    check((frames.flags[head] & PG_HUGETLB) !== 0, `frame ${head}: not of the pool`);
    const shown = entries.get(head) ?? 0;
    const references = 1 + shown + (cached.has(head) ? 1 : 0) + (kept.has(head) ? 1 : 0);
    check(frames.refcount[head] === references, `frame ${head}: refcount ${frames.refcount[head]}, ${references} references`);
    check(frames.mapcount[head] === shown, `frame ${head}: mapcount ${frames.mapcount[head]}, mapped ${shown} times`);
    check(kept.has(head) || (frames.flags[head] & PG_ANON) !== 0 !== cached.has(head), `frame ${head}: private and a file's, or neither`);
  }
}
