import { MIGRATETYPE_NAMES, gfpMigratetype, gfpText, pageFlagsText } from '@pagelab/mm-core';
import type { PageOwner, PageOwnerEntry } from '@pagelab/mm-core';
import type { Kernel } from '../kernel.ts';

/**
 * `/sys/kernel/debug/page_owner`: who allocated each block that is allocated, by address. Functions have no offsets, and those
 * of the kernel the names they have in the host.
 *
 * @linux mm/page_owner.c:print_page_owner
 */
export function pageOwnerText(kernel: Kernel, owner: PageOwner): string {
  return owner
    .entries()
    .map((entry) => blockText(kernel, entry))
    .join('');
}

function blockText({ pages, config }: Kernel, { pfn, order, gfp, pid, tgid, comm, ts, freeTs, trace }: PageOwnerEntry): string {
  const old = config.kernel === '6.1';
  const mask = `mask 0x${gfp.toString(16)}(${gfpText(gfp)})`;
  const freed = old ? `, free_ts ${Math.round(freeTs)} ns` : '';
  let text = `Page allocated via order ${order}, ${mask}, pid ${pid}, tgid ${tgid} (${comm}), ts ${Math.round(ts)} ns${freed}\n`;
  const type = MIGRATETYPE_NAMES[gfpMigratetype(gfp)];
  const block = pfn >>> pages.pageblockOrder;
  const flags = `0x${pages.frames.flags[pfn]!.toString(16)}(${pageFlagsText(pages.frames.flags[pfn]!)})`;
  text += `PFN ${old ? pfn : `0x${pfn.toString(16)}`} type ${type} Block ${block} type ${MIGRATETYPE_NAMES[pages.blockTypes[block]!]} Flags ${flags}\n`;
  for (const name of trace) text += ` ${name}\n`;
  return `${text}\n`;
}
