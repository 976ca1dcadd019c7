/**
 * Looking at a cache of SLUB: counting what is free, listing what is live, checking that it all fits.
 *
 *     objects of a slab === inuse + objects on its own list
 *     live objects      === inuse − objects on the list of the CPU that allocates from it
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { KernelBug, bugOn } from '@pagelab/lib';
import { PG_SLAB, blockOrder } from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import { SLAB_FROZEN, SLAB_ON_PARTIAL, slabInuse, slabObjects } from './slab-pages.ts';
import type { SlubState } from './slub-state.ts';

/** Free objects on the lists of the nodes. @linux mm/slub.c:count_partial */
export function countFreeOnNodes({ frames, nodes }: SlubState): number {
  let free = 0;
  for (const list of nodes) {
    for (let pfn = list.head; pfn !== 0; pfn = frames.next[pfn]) free += slabObjects(frames, pfn) - slabInuse(frames, pfn);
  }
  return free;
}

/** Objects that are free, wherever. */
export function countFree(state: SlubState): number {
  const { frames } = state;
  let free = countFreeOnNodes(state);
  for (const c of state.cpu) {
    for (let pfn = c.partial; pfn !== 0; pfn = frames.next[pfn]) free += slabObjects(frames, pfn) - slabInuse(frames, pfn);
    if (c.pfn === 0) continue;
    const objects = slabObjects(frames, c.pfn);
    let held = 0;
    for (let word = c.freeWord; word >= 0 && held < objects; word = state.nextFreeWord(c, word)) held++;
    free += objects - slabInuse(frames, c.pfn) + held;
  }
  return free;
}

/** An object of a slab is live, or free on the slab's list, or free on a CPU's. */
const LIVE = 0;
const FREE_ON_SLAB = 1;
const FREE_ON_CPU = 2;

/**
 * One of the three for each object of a slab, in ascending order.
 *
 * @throws KernelBug where a free list leaves the slab or holds an object twice
 */
function objectStates(state: SlubState, pfn: Pfn): Uint8Array {
  const { frames, size, offset, name } = state;
  const states = new Uint8Array(slabObjects(frames, pfn));
  const start = state.host.pages.pageAddress(pfn);
  const walk = (first: VirtAddr, mark: number): void => {
    for (let object = first; object !== 0; ) {
      const slot = (object - start - state.geometry.redLeftPad) / size;
      if (!Number.isInteger(slot) || slot < 0 || slot >= states.length) {
        throw new KernelBug(`slab ${name}: a free list of slab ${pfn} leaves it`);
      }
      if (states[slot] !== LIVE) throw new KernelBug(`slab ${name}: an object of slab ${pfn} is on free lists twice`);
      states[slot] = mark;
      object = state.freePointer(object);
    }
  };
  walk(frames.index[pfn], FREE_ON_SLAB);
  for (const c of state.cpu) {
    if (c.pfn === pfn && c.freeWord >= 0) walk(c.start + (((c.freeWord - c.base) << 2) - offset), FREE_ON_CPU);
  }
  return states;
}

/** The addresses of all live objects. */
export function liveObjects(state: SlubState): VirtAddr[] {
  const live: VirtAddr[] = [];
  for (const pfn of state.slabs) {
    const first = state.host.pages.pageAddress(pfn) + state.geometry.redLeftPad;
    objectStates(state, pfn).forEach((of, slot) => {
      if (of === LIVE) live.push(first + slot * state.size);
    });
  }
  return live;
}

/** Where a slab is: on the list of a node, on the list of a CPU, or being allocated from. */
const ON_NODE = 1;
const ON_CPU = 2;
const CURRENT = 3;

/**
 * Recomputes a cache's invariants from its slabs.
 *
 * @throws KernelBug for the first that does not hold
 */
export function validateSlub(state: SlubState): void {
  const { frames, slabs, name } = state;
  const places = new Map<Pfn, number>();
  const fail = (what: string): never => {
    throw new KernelBug(`slab ${name}: ${what}`);
  };
  const place = (pfn: Pfn, where: number): void => {
    if (!slabs.has(pfn)) fail(`page ${pfn} is on a list and no slab of the cache`);
    if (places.has(pfn)) fail(`slab ${pfn} is in two places`);
    places.set(pfn, where);
  };
  state.nodes.forEach((list, nid) => {
    let previous = 0;
    let length = 0;
    for (let pfn = list.head; pfn !== 0; previous = pfn, pfn = frames.next[pfn], length++) {
      place(pfn, ON_NODE);
      if (frames.prev[pfn] !== previous) fail(`the list of node ${nid} is broken at slab ${pfn}`);
      if (nodeOfPage(state.host.pages, pfn) !== nid) fail(`slab ${pfn} is on the list of another node`);
    }
    if (list.tail !== previous || list.length !== length) fail(`the list of node ${nid} does not add up`);
  });
  state.cpu.forEach((c, id) => {
    let length = 0;
    for (let pfn = c.partial; pfn !== 0; pfn = frames.next[pfn], length++) place(pfn, ON_CPU);
    if (c.partialSlabs !== length) fail(`the list of CPU ${id} does not add up`);
    if (c.pfn !== 0) place(c.pfn, CURRENT);
    bugOn(c.pfn === 0 && (c.freeWord >= 0 || c.bytes !== 0), 'slab: a CPU has objects of no slab');
  });
  let objects = 0;
  let pages = 0;
  for (const pfn of slabs) {
    const order = blockOrder(frames, pfn);
    if ((frames.flags[pfn] & PG_SLAB) === 0 || frames.mapping[pfn] !== state.id) fail(`slab ${pfn} is not marked`);
    if (frames.refcount[pfn] < 1) fail(`slab ${pfn} is no allocated block`);
    const nr = slabObjects(frames, pfn);
    if (nr !== Math.floor((PAGE_SIZE * 2 ** order) / state.size)) fail(`slab ${pfn} has ${nr} objects`);
    checkSlab(state, pfn, places.get(pfn) ?? 0, fail);
    objects += nr;
    pages += 2 ** order;
  }
  for (const pfn of state.leaving) pages += 2 ** blockOrder(frames, pfn);
  if (objects !== state.nrObjects || pages !== state.nrPages) fail('its objects or pages do not add up');
}

function checkSlab(state: SlubState, pfn: Pfn, where: number, fail: (what: string) => never): void {
  const { frames } = state;
  const counters = frames.private[pfn];
  const free = objectStates(state, pfn).reduce((sum, of) => sum + (of === FREE_ON_SLAB ? 1 : 0), 0);
  const counted = slabObjects(frames, pfn) - slabInuse(frames, pfn);
  if (free !== counted) fail(`slab ${pfn} has ${free} free objects on its list, ${counted} by its count`);
  if (free > 0 && where === 0) fail(`slab ${pfn} has free objects and is on no list`);
  if (free === 0 && (where === ON_NODE || where === ON_CPU)) fail(`slab ${pfn} is full and on a list`);
  if ((counters & SLAB_ON_PARTIAL) !== 0 !== (where === ON_NODE)) fail(`slab ${pfn} is not where it says`);
  if ((counters & SLAB_FROZEN) !== 0 !== (where === CURRENT)) fail(`slab ${pfn} is frozen by no CPU, or not by its own`);
}
