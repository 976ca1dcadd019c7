/**
 * `/sys/kernel/debug`: how scattered free memory is, and CMA regions, which can be allocated from and given back to here.
 *
 * @linux mm/vmstat.c:extfrag_debug_init, mm/cma_debug.c
 */
import { Errno } from '@pagelab/abi';
import { NR_PAGE_ORDERS, cmaAlloc, cmaRelease, extfragIndex, unusableIndex } from '@pagelab/mm-core';
import type { CmaArea, PageAlloc, Zone } from '@pagelab/mm-core';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { populated } from '../proc/buddyinfo.ts';

const DEBUG = '/sys/kernel/debug/';

/** The files, by path. */
export function debugFiles(kernel: Kernel): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  const text = (path: string, read: () => string): void => void files.set(`${DEBUG}${path}`, { mode: 0o444, read });
  text('extfrag/extfrag_index', () => indexLines(kernel, extfragIndex));
  text('extfrag/unusable_index', () => indexLines(kernel, unusableIndex));
  for (const area of kernel.pages.cmaAreas ?? []) {
    const path = `cma/${area.name}/`;
    text(`${path}base_pfn`, () => `${area.basePfn}\n`);
    text(`${path}count`, () => `${area.count}\n`);
    text(`${path}order_per_bit`, () => `${area.orderPerBit}\n`);
    text(`${path}used`, () => `${area.count - area.availableCount}\n`);
    text(`${path}maxchunk`, () => `${area.maxChunk()}\n`);
    text(`${path}bitmap`, () => `${[...area.bitmap.words].join(' ')}\n`);
    for (const [name, file] of allocFiles(kernel.pages, area)) files.set(`${DEBUG}${path}${name}`, file);
  }
  return files;
}

/** An index for each order, in each zone. @linux mm/vmstat.c:extfrag_show_print */
function indexLines(kernel: Kernel, index: (zone: Zone, order: number) => number): string {
  let text = '';
  for (const zone of populated(kernel)) {
    text += `Node ${zone.nid}, zone ${zone.name.padStart(8)} `;
    for (let order = 0; order < NR_PAGE_ORDERS; order++) {
      const value = index(zone, order);
      text += `${value < 0 ? '-' : ''}${Math.floor(Math.abs(value) / 1000)}.${String(Math.abs(value) % 1000).padStart(3, '0')} `;
    }
    text += '\n';
  }
  return text;
}

/** Writing pages to `alloc` allocates them in one piece, and to `free` gives the last ones back. @linux mm/cma_debug.c:cma_alloc_write */
function allocFiles(pages: PageAlloc, area: CmaArea): (readonly [string, ProcFile])[] {
  const number = (text: string): number => (/^\s*\d+\s*$/.test(text) ? Number(text) : -1);
  return [
    ['alloc', {
      mode: 0o200,
      write: (text) => {
        const count = number(text);
        if (count < 0) return -Errno.EINVAL;
        const pfn = count === 0 ? -Errno.ENOMEM : cmaAlloc(pages, area, count, 0);
        if (pfn < 0) return pfn;
        area.byHand.push({ pfn, count });
        return text.length;
      },
    }],
    ['free', {
      mode: 0o200,
      write: (text) => {
        let left = number(text);
        if (left < 0) return -Errno.EINVAL;
        while (left > 0) {
          const last = area.byHand.pop();
          if (last === undefined) break;
          const count = Math.min(left, last.count);
          // What stays of a piece is its upper end.
          cmaRelease(pages, area, last.pfn, count);
          if (count < last.count) area.byHand.push({ pfn: last.pfn + count, count: last.count - count });
          left -= count;
        }
        return text.length;
      },
    }],
  ];
}
