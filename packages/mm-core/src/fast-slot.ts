import type { MemoryNode } from './node.ts';
import { PcpList, PerCpuPages } from './pcp.ts';
import { PGALLOC_OF_ZONE } from './vmstat.ts';
import type { Zone } from './zone.ts';

/** Where a CPU finds a page for a combination of the low GFP bits, if memory is plentiful. */
export interface FastSlot {
  /** The preferred zone. */
  readonly zone: Zone;
  /** Its lists on this CPU. */
  readonly pcp: PerCpuPages;
  /** The list of the migrate type; for ever empty where the allocation must not take the short way. */
  readonly list: PcpList;
  /** The event that counts it. */
  readonly event: number;
}

/**
 * The slots of all CPUs: row `cpu * 32 + low five bits`. A node without memory has to take the long way.
 *
 * @param watched whether every allocation has to, as somebody notes them
 */
export function fastSlots(gfpTable: Int8Array, nodes: readonly MemoryNode[], cpuNode: Int32Array, watched = false): FastSlot[] {
  const nobody = new PerCpuPages();
  const empty = new PcpList();
  const anyZone = nodes[0].zones[0];
  const slots: FastSlot[] = [];
  for (let cpu = 0; cpu < cpuNode.length; cpu++) {
    const node = nodes[cpuNode[cpu]];
    for (let low = 0; low < 32; low++) {
      const kind = gfpTable[low];
      const zone = kind < 0 ? undefined : node.zonelists[kind & 7][0];
      if (watched || zone === undefined || zone.nid !== node.nid) slots.push({ zone: anyZone, pcp: nobody, list: empty, event: 0 });
      else slots.push({ zone, pcp: zone.pcp[cpu], list: zone.pcp[cpu].lists[kind >> 3], event: PGALLOC_OF_ZONE[zone.kind] });
    }
  }
  return slots;
}
