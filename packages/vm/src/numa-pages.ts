/**
 * On which nodes a mapping's pages lie.
 */
import { PTE_DIRTY } from '@pagelab/hw';
import { PG_ACTIVE, PG_ANON, PG_DIRTY, PG_WRITEBACK } from '@pagelab/mm-core';
import { entryHi } from './pgtable-shape.ts';
import { PteTableWalk } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { VM_HUGETLB } from './vma.ts';
import type { VmArea } from './vma.ts';

/** Figures of a mapping, in pages. @linux fs/proc/task_mmu.c:numa_maps */
export interface NumaPages {
  pages: number;
  anon: number;
  active: number;
  dirty: number;
  writeback: number;
  /** Mappings of the page that has most. */
  mapcountMax: number;
  /** Pages by node. */
  readonly byNode: number[];
}

/** Counts a mapping's pages. Costs a few steps a resident page. @linux fs/proc/task_mmu.c:gather_stats */
export function numaPagesOf(vma: VmArea): NumaPages {
  const { mm } = vma;
  const { pages, frames, ram } = mm.vm;
  const { i32 } = ram;
  const { flags, mapcount } = frames;
  const found: NumaPages = { pages: 0, anon: 0, active: 0, dirty: 0, writeback: 0, mapcountMax: 0, byNode: pages.nodes.map(() => 0) };
  const isHugetlb = (vma.flags & VM_HUGETLB) !== 0;
  const walk = new PteTableWalk(mm, vma.start, vma.end);
  while (walk.next()) {
    const { huge } = walk;
    for (let i = 0; i < walk.count; i++) {
      const entry = huge ? walk.pmdEntry : walk.entry + i * walk.step;
      const lo = i32[entry];
      if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) continue;
      const pfn = pfnOf(lo, entryHi(i32, entry, walk.step)) + (huge ? i : 0);
      const pageFlags = flags[pfn];
      if (isHugetlb && i > 0) break;
      found.pages++;
      if ((lo & PTE_DIRTY) !== 0 || (pageFlags & PG_DIRTY) !== 0) found.dirty++;
      if ((pageFlags & PG_ACTIVE) !== 0) found.active++;
      if ((pageFlags & PG_WRITEBACK) !== 0) found.writeback++;
      if ((pageFlags & PG_ANON) !== 0) found.anon++;
      found.mapcountMax = Math.max(found.mapcountMax, mapcount[pfn]);
      found.byNode[pages.nodeOf(pfn)]++;
    }
  }
  return found;
}
