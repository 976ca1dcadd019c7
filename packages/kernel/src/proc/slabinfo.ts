import type { Kernel } from '../kernel.ts';

const HEADER =
  'slabinfo - version: 2.1\n' +
  '# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> ' +
  ': slabdata <active_slabs> <num_slabs> <sharedavail>\n';

/** What SLUB and SLOB show. */
const NO_TUNABLES = { limit: 0, batchcount: 0, sharedFactor: 0 };

/** `/proc/slabinfo`, the cache made last first. @linux mm/slab_common.c:slab_show */
export function slabinfo(kernel: Kernel): string {
  let text = HEADER;
  for (const cache of [...kernel.slab.caches()].reverse()) {
    const info = cache.slabInfo();
    const number = (value: number, width: number): string => String(value).padStart(width);
    const { limit, batchcount, sharedFactor } = info.tunables ?? NO_TUNABLES;
    text +=
      `${info.name.padEnd(17)} ${number(info.activeObjects, 6)} ${number(info.totalObjects, 6)} ${number(info.objectSize, 6)} ` +
      `${number(info.objectsPerSlab, 4)} ${number(info.pagesPerSlab, 4)} : ` +
      `tunables ${number(limit, 4)} ${number(batchcount, 4)} ${number(sharedFactor, 4)} : slabdata ` +
      `${number(info.activeSlabs, 6)} ${number(info.totalSlabs, 6)} ${number(info.sharedAvail ?? 0, 6)}\n`;
  }
  return text;
}
