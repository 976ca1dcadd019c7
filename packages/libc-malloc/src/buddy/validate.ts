/**
 * What must hold in a buddy heap between two requests:
 *
 * - the map's blocks fill each region, each aligned to its size; no two free buddies
 * - the free blocks of an order are those in its list, whose links are sound both ways
 * - `sum of free blocks === REGION_FREE` in each region, and `=== FREE_BYTES` in all; `sum of regions === OBTAINED`
 */
import type { UserMemory, VirtAddr } from '@pagelab/abi';
import {
  FIRST_BLOCK,
  FREE,
  FREE_BYTES,
  HEADS,
  MAP,
  MAX_ORDER,
  MIN_ORDER,
  NEXT,
  OBTAINED,
  PREV,
  REGION_FREE,
  REGION_NEXT,
  REGION_SIZE,
  REGIONS,
} from './layout.ts';

function check(condition: boolean, what: string, p: VirtAddr): void {
  if (!condition) throw new Error(`buddy heap: ${what} (at 0x${p.toString(16)})`);
}

/** Throws an Error that names the first broken invariant. Linear in the number of blocks. */
export function validateBuddy(mem: UserMemory, control: VirtAddr): void {
  const listed = new Map<VirtAddr, number>();
  for (let order = MIN_ORDER; order <= MAX_ORDER; order++) {
    let prev = 0;
    for (let p = mem.loadAddress(control + HEADS + 8 * order); p !== 0; prev = p, p = mem.loadAddress(p + NEXT)) {
      check(!listed.has(p), 'a list is a loop', p);
      check(mem.loadAddress(p + PREV) === prev, 'a link does not lead back', p);
      listed.set(p, order);
    }
  }
  let obtained = 0;
  let freeBytes = 0;
  let free = 0;
  for (let region = mem.loadAddress(control + REGIONS); region !== 0; region = mem.loadAddress(region + REGION_NEXT)) {
    obtained += REGION_SIZE;
    let regionFree = 0;
    let offset = FIRST_BLOCK;
    while (offset < REGION_SIZE) {
      const byte = mem.load8(region + MAP + (offset >>> MIN_ORDER));
      const order = byte & 31;
      check(byte >= FREE && order >= MIN_ORDER && order <= MAX_ORDER, 'the map holds no block', region + offset);
      check(offset % 2 ** order === 0, 'a block is not aligned to its size', region + offset);
      if ((byte & FREE) !== 0) {
        check(listed.get(region + offset) === order, 'a free block is not in the list of its order', region + offset);
        const buddy = mem.load8(region + MAP + ((offset ^ (1 << order)) >>> MIN_ORDER));
        check(order === MAX_ORDER || buddy !== byte, 'two buddies are free', region + offset);
        regionFree += 2 ** order;
        free++;
      }
      offset += 2 ** order;
    }
    check(offset === REGION_SIZE, 'the blocks do not fill the region', region);
    check(mem.loadAddress(region + REGION_FREE) === regionFree, 'the free bytes of a region are not counted right', region);
    freeBytes += regionFree;
  }
  check(free === listed.size, 'the lists hold blocks that are in no region', control);
  check(mem.loadAddress(control + FREE_BYTES) === freeBytes, 'the free bytes are not counted right', control);
  check(mem.loadAddress(control + OBTAINED) === obtained, 'the regions are not counted right', control);
}
