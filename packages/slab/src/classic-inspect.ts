/**
 * Looking at a cache of SLAB: which of its objects live, and whether lists, arrays and free lists fit together.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import { PG_SLAB, blockOrder, compoundHead } from '@pagelab/mm-core';
import type { PageFrames } from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import type { ClassicGeometry } from './classic-geometry.ts';
import type { ClassicNode } from './classic-state.ts';
import type { SlabHost } from './host.ts';

/** What is looked at. */
export interface ClassicState {
  readonly id: number;
  readonly name: string;
  readonly host: SlabHost;
  readonly frames: PageFrames;
  readonly geometry: ClassicGeometry;
  readonly nodes: readonly ClassicNode[];
  readonly slabs: ReadonlySet<Pfn>;
  firstObject(pfn: Pfn): VirtAddr;
  arrayObjects(): VirtAddr[];
}

/** Objects of a slab that are not on its free list, by number. @throws KernelBug where the list is broken */
function activeSlots(state: ClassicState, pfn: Pfn): Uint8Array {
  const { frames, host, geometry } = state;
  const num = geometry.objectsPerSlab;
  const slots = new Uint8Array(num).fill(1);
  const active = frames.private[pfn] & 0xffff;
  if (active > num) throw new KernelBug(`slab ${state.name}: slab ${pfn} has ${active} of ${num} objects active`);
  for (let i = active; i < num; i++) {
    const slot = host.memory.byte(frames.index[pfn] + i);
    if (slot >= num) throw new KernelBug(`slab ${state.name}: the free list of slab ${pfn} leaves it`);
    if (slots[slot] === 0) throw new KernelBug(`slab ${state.name}: an object of slab ${pfn} is on its free list twice`);
    slots[slot] = 0;
  }
  return slots;
}

/** The addresses of all live objects. */
export function classicLiveObjects(state: ClassicState): VirtAddr[] {
  const atHand = new Set(state.arrayObjects());
  const live: VirtAddr[] = [];
  for (const pfn of state.slabs) {
    const first = state.firstObject(pfn);
    activeSlots(state, pfn).forEach((active, slot) => {
      const object = first + slot * state.geometry.size;
      if (active === 1 && !atHand.has(object)) live.push(object);
    });
  }
  return live;
}

/** @throws KernelBug for the first thing that does not fit */
export function validateClassic(state: ClassicState): void {
  const { frames, geometry, name, slabs } = state;
  const fail = (what: string): never => {
    throw new KernelBug(`slab ${name}: ${what}`);
  };
  const seen = new Set<Pfn>();
  state.nodes.forEach((node, nid) => {
    let free = 0;
    for (const [kind, list] of Object.entries({ full: node.full, partial: node.partial, free: node.free })) {
      let previous = 0;
      let length = 0;
      for (let pfn = list.head; pfn !== 0; previous = pfn, pfn = frames.next[pfn], length++) {
        if (!slabs.has(pfn)) fail(`page ${pfn} is on a list and no slab of the cache`);
        if (seen.has(pfn)) fail(`slab ${pfn} is in two places`);
        seen.add(pfn);
        if (frames.prev[pfn] !== previous) fail(`the ${kind} list of node ${nid} is broken at slab ${pfn}`);
        if (nodeOfPage(state.host.pages, pfn) !== nid) fail(`slab ${pfn} is on the list of another node`);
        const active = frames.private[pfn] & 0xffff;
        const belongs = active === 0 ? 'free' : active === geometry.objectsPerSlab ? 'full' : 'partial';
        if (belongs !== kind) fail(`slab ${pfn} with ${active} active objects is on the ${kind} list`);
        free += geometry.objectsPerSlab - active;
      }
      if (list.tail !== previous || list.length !== length) fail(`the ${kind} list of node ${nid} does not add up`);
    }
    if (free !== node.freeObjects) fail(`node ${nid} has ${free} free objects on its lists, ${node.freeObjects} by its count`);
  });
  if (seen.size !== slabs.size) fail('a slab is on no list');
  const active = new Map<Pfn, Uint8Array>();
  for (const pfn of slabs) {
    if ((frames.flags[pfn] & PG_SLAB) === 0 || frames.mapping[pfn] !== state.id) fail(`slab ${pfn} is not marked`);
    if (frames.refcount[pfn] < 1 || blockOrder(frames, pfn) !== geometry.order) fail(`slab ${pfn} is no block of its order`);
    active.set(pfn, activeSlots(state, pfn));
  }
  for (const object of state.arrayObjects()) {
    const pfn = compoundHead(frames, state.host.pages.virtToPfn(object));
    const slots = active.get(pfn);
    const slot = (object - state.firstObject(pfn)) / geometry.size;
    if (slots === undefined || !Number.isInteger(slot) || slot < 0 || slot >= slots.length) fail('an array holds what is no object');
    else if (slots[slot] !== 1) fail(`object ${slot} of slab ${pfn} is free twice`);
    else slots[slot] = 2;
  }
}
