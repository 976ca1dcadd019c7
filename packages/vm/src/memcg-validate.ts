/**
 * Recomputes what memory cgroups have counted from the frames, the swap areas and the objects alone.
 */
import { KernelBug } from '@pagelab/lib';
import { NODE_STAT, PG_ANON, PG_MEMCG, PG_SWAPBACKED, PG_SWAPCACHE, PG_TABLE, PG_TAIL, blockOrder, compoundHead } from '@pagelab/mm-core';
import { MEMCG_STAT, MemCgroup, OBJECT_BYTES, ObjCgroup, descendants, isBelow, memcgPageState } from './memcg.ts';
import type { MemCgroups } from './memcg.ts';
import { chargedSlots } from './memcg-swap.ts';
import { PAGE_COUNTER_MAX } from './page-counter.ts';
import type { Vm } from './vm.ts';

const PAGE_BYTES = 4096;

function check(condition: boolean, message: string): void {
  if (!condition) throw new KernelBug(`memcg: ${message}`);
}

/** What one pass over the frames finds: pages by owner, and what of them is in use how, by group and node. */
interface Found {
  readonly pages: Map<number, number>;
  readonly states: Map<string, number>;
}

/**
 * Checks that every charge belongs to a page, an object or a swap slot, and every such to a group that counts it.
 *
 * @throws KernelBug at the first that does not hold
 */
export function validateMemCgroups(vm: Vm): void {
  const { memcgs } = vm;
  if (memcgs === null) return;
  const found = lookAtFrames(vm, memcgs);
  const objects = new Map<ObjCgroup, number>();
  for (const [object, charge] of memcgs.objects) {
    const objcg = memcgs.owners[Math.floor(charge / OBJECT_BYTES)];
    if (!(objcg instanceof ObjCgroup)) throw new KernelBug(`memcg: object ${object} belongs to an owner that is gone`);
    objects.set(objcg, (objects.get(objcg) ?? 0) + (charge % OBJECT_BYTES));
  }
  for (const { objcg, bytes } of memcgs.percpu.values()) objects.set(objcg, (objects.get(objcg) ?? 0) + bytes);
  const slots = new Map<number, number>();
  for (const area of vm.swap.areas) if (area !== null) for (const [id, count] of chargedSlots(area)) slots.set(id, (slots.get(id) ?? 0) + count);
  let groups = 0;
  for (const [id, owner] of memcgs.owners.entries()) {
    if (owner === undefined) {
      check(!found.pages.has(id) && !slots.has(id), `pages or slots are charged to ${id}, which is nobody`);
    } else if (owner instanceof MemCgroup) {
      if (owner !== memcgs.root) groups++;
      check(owner.nrPages === (found.pages.get(id) ?? 0), `${owner.path}: ${owner.nrPages} pages, ${found.pages.get(id) ?? 0} found`);
      check(owner.nrSwapSlots === (slots.get(id) ?? 0), `${owner.path}: ${owner.nrSwapSlots} swap slots, ${slots.get(id) ?? 0} found`);
      if (owner !== memcgs.root) validateGroup(vm, memcgs, owner, found);
    } else {
      validateOwner(memcgs, owner, found.pages.get(id) ?? 0, (objects.get(owner) ?? 0) + vm.zswap.storedOf(owner).bytes);
    }
  }
  check(groups === memcgs.nrGroups, `${memcgs.nrGroups} groups, ${groups} found`);
  const reachable = [...descendants(memcgs.root)].length - 1;
  check(reachable === groups, `${groups} groups, of which ${reachable} are somebody's`);
}

function lookAtFrames(vm: Vm, memcgs: MemCgroups): Found {
  const { frames } = vm;
  const { flags, mapcount, mapping, memcg, taken } = frames;
  const found: Found = { pages: new Map(), states: new Map() };
  for (let pfn = 0; pfn < frames.nrFrames; pfn++) {
    // What the page allocator has is nobody's, and most of a large machine.
    if ((pfn & 31) === 0 && taken[pfn >>> 5] === 0) {
      pfn += 31;
      continue;
    }
    if ((flags[pfn] & PG_TAIL) === 0) {
      check(((flags[pfn] & PG_MEMCG) !== 0) === (memcg[pfn] !== 0), `frame ${pfn}: charged, and its flags do not say so, or the reverse`);
    }
    const head = compoundHead(frames, pfn);
    if ((flags[head] & PG_MEMCG) === 0) continue;
    const id = memcg[head];
    if (pfn === head) found.pages.set(id, (found.pages.get(id) ?? 0) + 2 ** blockOrder(frames, head));
    const owner = memcgs.owners[id];
    check(owner !== undefined, `frame ${pfn} is charged to ${id}, which is nobody`);
    const key = `${owner!.memcg.id}:${vm.pages.nodeOf(pfn)}:`;
    const note = (item: number): void => void found.states.set(key + item, (found.states.get(key + item) ?? 0) + 1);
    if ((flags[head] & PG_TABLE) !== 0 && vm.groupsCountTables) note(NODE_STAT.NR_PAGETABLE);
    if (!(owner instanceof MemCgroup)) continue;
    const isAnon = (flags[pfn] & PG_ANON) !== 0;
    if (mapcount[pfn] > 0) note(isAnon ? NODE_STAT.NR_ANON_MAPPED : NODE_STAT.NR_FILE_MAPPED);
    if ((flags[head] & PG_SWAPCACHE) !== 0) note(NODE_STAT.NR_SWAPCACHE);
    if (isAnon || mapping[pfn] === 0) continue;
    note(NODE_STAT.NR_FILE_PAGES);
    if ((flags[pfn] & PG_SWAPBACKED) !== 0) note(NODE_STAT.NR_SHMEM);
  }
  return found;
}

/** Pages of an owner: whole ones, and those that its objects, its spare bytes and a CPU's stock are parts of. */
function validateOwner(memcgs: MemCgroups, owner: ObjCgroup, wholePages: number, objectBytes: number): void {
  let stock = 0;
  for (const each of memcgs.objStock) if (each.objcg === owner) stock += each.nrBytes;
  const bytes = wholePages * PAGE_BYTES + objectBytes + owner.spareBytes + stock;
  check(bytes === owner.nrPages * PAGE_BYTES, `owner ${owner.id} of ${owner.memcg.path}: ${owner.nrPages} pages charged, ${bytes / PAGE_BYTES} found`);
  check(owner.memcg.objcgs.has(owner), `owner ${owner.id}: ${owner.memcg.path} does not know of it`);
}

const ITEMS = [
  ['NR_ANON_MAPPED', NODE_STAT.NR_ANON_MAPPED],
  ['NR_FILE_MAPPED', NODE_STAT.NR_FILE_MAPPED],
  ['NR_FILE_PAGES', NODE_STAT.NR_FILE_PAGES],
  ['NR_SHMEM', NODE_STAT.NR_SHMEM],
  ['NR_SWAPCACHE', NODE_STAT.NR_SWAPCACHE],
] as const;

function validateGroup(vm: Vm, memcgs: MemCgroups, memcg: MemCgroup, found: Found): void {
  const { path, memory, swap } = memcg;
  const nrItems = memcg.nodeStat.length / memcg.lruvecs.length;
  for (const { nid } of vm.pages.nodes) {
    for (const [name, item] of ITEMS) {
      const counted = memcg.nodeStat[nid * nrItems + item];
      // What a removed child had counted is its parent's, as are pages of its that are left.
      const there = found.states.get(`${memcg.id}:${nid}:${item}`) ?? 0;
      check(counted === there, `${path}: ${name} of node ${nid} is ${counted}, found ${there}`);
    }
  }
  if (!memcg.online) return;
  let percpu = 0;
  for (const { objcg, bytes } of memcgs.percpu.values()) if (isBelow(objcg.memcg, memcg)) percpu += bytes;
  check(memcgPageState(memcg, MEMCG_STAT.PERCPU_B) === percpu, `${path}: bytes of per-CPU memory miscounted: ${percpu} found`);
  let zswapped = 0;
  let zswapBytes = 0;
  for (const each of descendants(memcg)) {
    for (const objcg of each.objcgs) {
      const stored = vm.zswap.storedOf(objcg);
      zswapped += stored.nrPages;
      zswapBytes += stored.bytes;
    }
  }
  check(memcgPageState(memcg, MEMCG_STAT.ZSWAPPED) === zswapped, `${path}: compressed pages miscounted: ${zswapped} found`);
  check(memcgPageState(memcg, MEMCG_STAT.ZSWAP_B) === zswapBytes, `${path}: bytes of compressed pages miscounted: ${zswapBytes} found`);
  let pages = 0;
  let slots = 0;
  let minUsage = 0;
  let lowUsage = 0;
  for (const each of descendants(memcg)) {
    pages += each.nrPages;
    slots += each.nrSwapSlots;
    for (const cpu of memcgs.stock) for (const slot of cpu) if (slot.memcg === each) pages += slot.nrPages;
    for (const objcg of each.objcgs) pages += objcg.nrPages;
  }
  for (const child of memcg.children) {
    minUsage += child.memory.minUsage;
    lowUsage += child.memory.lowUsage;
  }
  check(memory.usage === pages, `${path}: ${memory.usage} pages used, ${pages} found`);
  check(swap.usage === slots, `${path}: ${swap.usage} swap slots used, ${slots} found`);
  check(memory.childrenMinUsage === minUsage && memory.childrenLowUsage === lowUsage, `${path}: what is protected below is miscounted`);
  check(memory.watermark >= memory.usage && memory.max <= PAGE_COUNTER_MAX, `${path}: its peak is below its usage`);
}
