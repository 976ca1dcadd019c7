import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '@pagelab/hw';
import type { MemoryRange } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, __GFP_NOWARN } from './gfp.ts';
import { MIGRATE_MOVABLE } from './migratetype.ts';
import { pageAllocators } from './page-allocators.ts';
import type { PageAllocator, PageAllocatorFactory, PageAllocatorRefusal } from './page-allocator.ts';
import type { PageAlloc } from './page-alloc.ts';
import { testMachine } from './testing/machine.ts';
import type { Zone } from './zone.ts';
import { ZONE_DMA, ZONE_DMA32 } from './zone-types.ts';

const MIB = 0x100000;
/** First frame of a hole in the larger zone, which begins within a block. */
const HOLE_START = (128 * MIB) / 4096 - 5;
const MAP: readonly MemoryRange[] = [
  { start: 0, end: 640 * 1024, type: 'usable' },
  { start: MIB, end: HOLE_START * 4096, type: 'usable' },
  { start: 160 * MIB, end: 256 * MIB, type: 'usable' },
];

/** What a lie says in place of the true answer, which is what the honest allocator said. */
type Lie = (truth: number, order: number) => number;

/** An allocator that is honest until it is told to lie. */
class Liar {
  lie: Lie | undefined = undefined;
  readonly refusals: PageAllocatorRefusal[] = [];
  readonly pages: PageAlloc;
  readonly zone: Zone;

  constructor(honest: PageAllocatorFactory) {
    const pageAllocator: PageAllocatorFactory = {
      name: 'liar',
      create: (context) => this.corrupt(honest.create(context)),
    };
    const hooks = { warnRefusal: (refusal: PageAllocatorRefusal) => this.refusals.push(refusal) };
    this.pages = testMachine({ ram: new PhysicalMemory([...MAP]), pageAllocator, hooks }).pages;
    this.zone = zoneOfKind(this.pages, ZONE_DMA32);
  }

  private corrupt(allocator: PageAllocator): PageAllocator {
    const alloc = allocator.alloc.bind(allocator);
    allocator.alloc = (order, migratetype, allocFlags) => {
      const truth = alloc(order, migratetype, allocFlags);
      return this.lie === undefined || truth < 0 ? truth : this.lie(truth, order);
    };
    Object.defineProperty(allocator, 'name', { value: 'liar' });
    return allocator;
  }
}

function zoneOfKind(pages: PageAlloc, kind: number): Zone {
  const zone = pages.zones.find((candidate) => candidate.kind === kind);
  if (zone === undefined) throw new Error('the machine has no such zone');
  return zone;
}

/** All that the kernel knows of frames in use and of its zones, as one number. */
function digest({ pages }: Liar): number {
  const { flags, refcount, mapcount, mapping, next, private: priv, taken } = pages.frames;
  let sum = 0;
  const add = (value: number): void => {
    sum = (Math.imul(sum ^ value, 0x0100_0193) + 1) | 0;
  };
  for (const word of taken) add(word);
  for (let pfn = 0; pfn < pages.frames.nrFrames; pfn++) {
    if ((taken[pfn >>> 5] & (1 << (pfn & 31))) === 0) continue;
    for (const column of [flags, refcount, mapcount, mapping, next, priv]) add(column[pfn]);
  }
  for (const { nrFree } of pages.zones) add(nrFree);
  return sum;
}

/** The block of an order that holds a frame. */
function around(pfn: number, order: number): number {
  return pfn & -(1 << order);
}

/** Lies about a zone in which of 16 frames only the last, `mine`, is in use. */
const LIES: readonly (readonly [string, PageAllocatorRefusal['reason'], (liar: Liar, mine: number) => Lie])[] = [
  ['a block part of which is in use', 'handedOut', (_, mine) => (_truth, order) => around(mine, order)],
  ['what is on a per-CPU list', 'handedOut', ({ zone }) => (_, order) => around(onList(zone), order)],
  ['frames that boot did not give it', 'neverGiven', () => () => HOLE_START + 5],
  ['a block part of which boot did not give it', 'neverGiven', () => (_, order) => around(HOLE_START, order)],
  ['frames before the zone', 'notOfZone', ({ zone }) => () => zone.startPfn - 1024],
  ['frames behind the zone', 'notOfZone', ({ zone }) => () => zone.endPfn],
  ['a block that reaches out of the zone', 'notOfZone', ({ zone }) => (_, order) => zone.endPfn - (1 << order) + 1],
  ['a free block of another zone', 'notOfZone', ({ pages }) => (_, order) => freeBlock(zoneOfKind(pages, ZONE_DMA), order)],
  ['frames that no machine has', 'notAFrame', () => () => 2 ** 40],
  ['no number', 'notAFrame', () => () => NaN],
  ['half a frame', 'notAFrame', () => (truth) => truth + 0.5],
  ['nothing', 'notAFrame', () => () => undefined as unknown as number],
];

/** A frame on a per-CPU list, whose neighbours all are the page allocator's or were. */
function onList(zone: Zone): number {
  const pages = zone.pcp.flatMap(({ lists }) => lists.flatMap((list) => Array.from({ length: list.count }, (_, i) => list.at(i))));
  const found = pages.find((pfn) => zone.managedRanges.some(({ start, end }) => around(pfn, 4) >= start && around(pfn, 4) + 16 <= end));
  if (found === undefined) throw new Error('no such frame is on the per-CPU lists');
  return found;
}

function freeBlock(zone: Zone, order: number): number {
  let found = -1;
  zone.allocator.forEachFree((pfn, free) => (found = free >= order ? pfn : found));
  return found;
}

describe.each(Object.entries(pageAllocators))('a zone distrusts its page allocator, %s,', (_, honest) => {
  it.each(LIES)('when that answers with %s', (_name, reason, makeLie) => {
    const liar = new Liar(honest);
    const { pages, zone } = liar;
    const block = zone.take(4, MIGRATE_MOVABLE, 0);
    const mine = block + 15;
    for (let order = 3, pfn = block; order >= 0; pfn += 1 << order, order--) zone.give(pfn, order, MIGRATE_MOVABLE);
    const [user, ...more] = Array.from({ length: 40 }, () => pages.allocPage(GFP_HIGHUSER_MOVABLE));
    for (const pfn of more) pages.freePage(pfn);
    liar.lie = makeLie(liar, mine);
    for (const order of [0, 1, 3, 4]) {
      const before = digest(liar);
      const { refusals } = zone;
      expect(zone.take(order, MIGRATE_MOVABLE, 0)).toBe(-1);
      expect(digest(liar)).toBe(before);
      expect(zone.refusals).toBe(refusals + 1);
      expect(liar.refusals.at(-1)).toMatchObject({ allocator: 'liar', nid: 0, zone: zone.name, order, reason, times: zone.refusals });
      expect(zone.lastRefusal).toContain(`liar answered frame ${liar.refusals.at(-1)?.pfn} for order ${order} in zone ${zone.name}`);
    }
    expect(pages.pageCount(user)).toBe(1);
    // What was handed out can still be given back, and honest answers are believed again.
    liar.lie = undefined;
    zone.give(mine, 0, MIGRATE_MOVABLE);
    expect(zone.take(3, MIGRATE_MOVABLE, 0)).toBeGreaterThan(0);
  });

  it('when it answers with a block that is not aligned', () => {
    const { zone, ...liar } = new Liar(honest);
    const whole = zone.take(4, MIGRATE_MOVABLE, 0);
    zone.give(whole, 4, MIGRATE_MOVABLE);
    Object.assign(zone.allocator, { alloc: () => whole + 1 });
    const free = zone.nrFree;
    for (const order of [1, 2, 3]) {
      expect(zone.take(order, MIGRATE_MOVABLE, 0)).toBe(-1);
      expect(liar.refusals.at(-1)?.reason).toBe('notAligned');
    }
    expect(zone.nrFree).toBe(free);
    zone.validate();
  });

  it('when it says that there is none, whatever there is', () => {
    const { pages, zone } = new Liar(honest);
    for (const answer of [-1, -12]) {
      Object.assign(zone.allocator, { alloc: () => answer });
      expect(zone.take(0, MIGRATE_MOVABLE, 0)).toBe(-1);
    }
    expect(zone.refusals).toBe(0);
    // Other zones serve.
    const pfn = pages.allocPage(GFP_KERNEL);
    expect(pages.zoneOf(pfn)?.kind).toBe(ZONE_DMA);
    pages.validate();
  });

  it('when nothing it says is true: allocations fail, and what is in use stays as it was', () => {
    const liar = new Liar(honest);
    const { pages } = liar;
    const held = Array.from({ length: 3000 }, (_unused, i) => ({ pfn: pages.allocPages(GFP_HIGHUSER_MOVABLE, i % 3), order: i % 3 }));
    pages.drainAllPages();
    liar.lie = (_truth, order) => (held.find((block) => block.order === order) ?? held[0]).pfn;
    const before = held.map(({ pfn }) => [pages.frames.refcount[pfn], pages.frames.flags[pfn]]);
    for (let i = 0; i < 200; i++) expect(pages.allocPages(GFP_KERNEL | __GFP_NOWARN, i % 4)).toBeLessThan(0);
    expect(held.map(({ pfn }) => [pages.frames.refcount[pfn], pages.frames.flags[pfn]])).toEqual(before);
    expect(liar.refusals.length).toBeGreaterThanOrEqual(200);
    liar.lie = undefined;
    for (const { pfn, order } of held) pages.freePages(pfn, order);
    expect(pages.allocPage(GFP_KERNEL)).toBeGreaterThan(0);
  });

  it.each([
    ['more than there is', 1e12],
    ['less than nothing', -1e12],
    ['no number', NaN],
  ])('when it counts %s', (_name, count) => {
    const { pages, zone } = new Liar(honest);
    Object.assign(zone.allocator, { nrFreeOfType: () => count, nrFreeBlocks: () => count, moveBlock: () => count, hasFree: () => true });
    zone.nrReservedHighatomic = 512;
    zone.countSpecial();
    expect(zone.nrFreeHighatomic).toBeGreaterThanOrEqual(0);
    expect(zone.nrFreeHighatomic).toBeLessThanOrEqual(zone.nrFree);
    const free = zone.nrFree;
    const pfn = zone.take(2, MIGRATE_MOVABLE, 0);
    expect(zone.nrFree).toBe(free - 4);
    zone.give(pfn, 2, MIGRATE_MOVABLE);
    // Blocks that are not there do not make allocations loop.
    for (let i = 0; i < 300; i++) if (pages.allocPages(GFP_KERNEL | __GFP_NOWARN, 10) < 0) return;
  });
});
