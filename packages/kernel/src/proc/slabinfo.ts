import type { Kernel } from '../kernel.ts';

const HEADER =
  'slabinfo - version: 2.1\n' +
  '# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> ' +
  ': slabdata <active_slabs> <num_slabs> <sharedavail>\n';

/** `/proc/slabinfo`, the cache made last first. @linux mm/slab_common.c:slab_show */
export function slabinfo(kernel: Kernel): string {
  let text = HEADER;
  for (const cache of [...kernel.slab.caches()].reverse()) {
    const info = cache.slabInfo();
    const number = (value: number, width: number): string => String(value).padStart(width);
    text +=
      `${info.name.padEnd(17)} ${number(info.activeObjects, 6)} ${number(info.totalObjects, 6)} ${number(info.objectSize, 6)} ` +
      `${number(info.objectsPerSlab, 4)} ${number(info.pagesPerSlab, 4)} : tunables    0    0    0 : slabdata ` +
      `${number(info.activeSlabs, 6)} ${number(info.totalSlabs, 6)}      0\n`;
  }
  return text;
}
