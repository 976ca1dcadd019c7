/**
 * SLOB's heap: pages from which objects of any size are cut, first fit. A page's free blocks are linked in ascending order
 * through the free memory itself, in *units* of two bytes:
 *
 *     a block of two units or more begins with   | units | place of the next, in units from the page |
 *     a block of one unit holds                  | minus the place of the next |
 *
 * The last block's next is the page's end. A page with free blocks is on one of three lists, by the size of what it was last
 * cut for: small, medium or large; a full page is on none. A page's state lies in its frame's columns:
 *
 *     mapping    id of the heap          index   place of the first free block, in units
 *     private    | list:2 | units:16 |   next, prev  links of the list
 *
 * @linux mm/slob.c (up to 6.3)
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { KernelBug, bugOn } from '@pagelab/lib';
import { PG_SLAB, __GFP_ZERO } from '@pagelab/mm-core';
import type { PageFrames } from '@pagelab/mm-core';
import type { SlabHost } from './host.ts';
import { SlabPageList, giveSlabPages, takeSlabPages } from './slab-pages.ts';

/** Bytes of a unit. @linux mm/slob.c:SLOB_UNIT */
export const SLOB_UNIT = 2;
/** Units of a page. */
const PAGE_UNITS = PAGE_SIZE / SLOB_UNIT;
/** Sizes below these are small, and medium. @linux mm/slob.c:SLOB_BREAK1, SLOB_BREAK2 */
const SLOB_BREAK1 = 256;
const SLOB_BREAK2 = 1024;
/** Objects begin at multiples of this. */
const ALIGN = 8;
const LIST_SHIFT = 16;
const UNITS_MASK = 0xffff;

/** Whether an address begins an object, and whose: for checks and views, Linux has no such thing. */
class Starts {
  private readonly byPage = new Map<Pfn, Uint16Array>();
  private readonly pageOffset: VirtAddr;

  constructor(pageOffset: VirtAddr) {
    this.pageOffset = pageOffset;
  }

  addPage(pfn: Pfn): void {
    this.byPage.set(pfn, new Uint16Array(PAGE_SIZE / ALIGN));
  }

  dropPage(pfn: Pfn): void {
    this.byPage.delete(pfn);
  }

  hasPage(pfn: Pfn): boolean {
    return this.byPage.has(pfn);
  }

  set(address: VirtAddr, owner: number): void {
    const pa = address - this.pageOffset;
    this.byPage.get(Math.floor(pa / PAGE_SIZE))![(pa % PAGE_SIZE) / ALIGN] = owner;
  }

  /** 0 where no object begins. */
  get(address: VirtAddr): number {
    const pa = address - this.pageOffset;
    return this.byPage.get(Math.floor(pa / PAGE_SIZE))?.[(pa % PAGE_SIZE) / ALIGN] ?? 0;
  }

  /** The object that begins last at or before an address of its page, or 0. */
  before(address: VirtAddr): VirtAddr {
    const pa = address - this.pageOffset;
    const owners = this.byPage.get(Math.floor(pa / PAGE_SIZE));
    if (owners === undefined) return 0;
    let slot = Math.floor((pa % PAGE_SIZE) / ALIGN);
    while (slot >= 0 && owners[slot] === 0) slot--;
    return slot < 0 ? 0 : address - (pa % PAGE_SIZE) + slot * ALIGN;
  }

  /** Where objects of an owner begin, ascending within a page. */
  *of(owner: number): Iterable<VirtAddr> {
    for (const [pfn, owners] of this.byPage) {
      for (let slot = 0; slot < owners.length; slot++) if (owners[slot] === owner) yield this.pageOffset + pfn * PAGE_SIZE + slot * ALIGN;
    }
  }

  pages(): Iterable<Pfn> {
    return this.byPage.keys();
  }
}

/** The heap. */
export class SlobHeap {
  readonly starts: Starts;
  nrPages = 0;
  private readonly host: SlabHost;
  private readonly owner: { readonly id: number; readonly flags: number };
  private readonly frames: PageFrames;
  /** RAM in signed units. */
  private readonly units: Int16Array;
  /** Small, medium, large. */
  private readonly lists: readonly SlabPageList[] = [new SlabPageList(), new SlabPageList(), new SlabPageList()];

  constructor(host: SlabHost, owner: { readonly id: number; readonly flags: number }) {
    this.host = host;
    this.starts = new Starts(host.pages.pageOffset);
    this.owner = owner;
    this.frames = host.pages.frames;
    this.units = new Int16Array(host.ram.u8.buffer);
  }

  /** Index in `units` of a page's first. */
  private base(pfn: Pfn): number {
    return this.host.ram.frameWord(pfn) * (4 / SLOB_UNIT);
  }

  /** Units of the free block at a place of a page. @linux mm/slob.c:slob_units */
  private unitsAt(base: number, place: number): number {
    const first = this.units[base + place];
    return first > 0 ? first : 1;
  }

  /** The place of the next free block. @linux mm/slob.c:slob_next */
  private nextAt(base: number, place: number): number {
    const first = this.units[base + place];
    return first < 0 ? -first : this.units[base + place + 1];
  }

  /** Makes a free block. @linux mm/slob.c:set_slob */
  private set(base: number, place: number, units: number, next: number): void {
    if (units > 1) {
      this.units[base + place] = units;
      this.units[base + place + 1] = next;
    } else {
      this.units[base + place] = -next;
    }
  }

  /**
   * Allocates.
   *
   * @param size bytes, at most a page
   * @param align what the byte `alignOffset` behind the address is a multiple of
   * @param node −1 is any
   * @returns the address, or 0 where there is no memory
   * @linux mm/slob.c:slob_alloc
   */
  alloc(size: number, gfp: number, align: number, node: number, alignOffset: number): VirtAddr {
    const { frames } = this;
    const wanted = Math.ceil(size / SLOB_UNIT);
    const which = size < SLOB_BREAK1 ? 0 : size < SLOB_BREAK2 ? 1 : 2;
    const list = this.lists[which];
    for (let pfn = list.head; pfn !== 0; pfn = frames.next[pfn]) {
      if (node >= 0 && this.nodeOf(pfn) !== node) continue;
      if ((frames.private[pfn] & UNITS_MASK) < wanted) continue;
      const place = this.cut(pfn, wanted, align, alignOffset);
      if (place < 0) continue;
      // The next search begins where this one ended, which spreads the fragments.
      if ((frames.private[pfn] & UNITS_MASK) !== 0 && pfn !== list.head) this.rotateTo(list, pfn);
      return this.host.pages.pageAddress(pfn) + place * SLOB_UNIT;
    }
    const pfn = takeSlabPages(this.host, this.owner, gfp & ~__GFP_ZERO, 0, node);
    if (pfn < 0) return 0;
    this.nrPages++;
    this.starts.addPage(pfn);
    frames.index[pfn] = 0;
    frames.private[pfn] = (which << LIST_SHIFT) | PAGE_UNITS;
    this.set(this.base(pfn), 0, PAGE_UNITS, PAGE_UNITS);
    list.addHead(frames, pfn);
    const place = this.cut(pfn, wanted, align, alignOffset);
    bugOn(place < 0, 'slob: a fresh page has no room');
    return this.host.pages.pageAddress(pfn) + place * SLOB_UNIT;
  }

  private nodeOf(pfn: Pfn): number {
    return this.host.pages.zoneOf(pfn)?.nid ?? 0;
  }

  /** Makes a page the first of its list, what was before it the last. @linux include/linux/list.h:list_rotate_to_front */
  private rotateTo(list: SlabPageList, pfn: Pfn): void {
    const { next, prev } = this.frames;
    next[list.tail] = list.head;
    prev[list.head] = list.tail;
    list.tail = prev[pfn];
    next[list.tail] = 0;
    list.head = pfn;
    prev[pfn] = 0;
  }

  /** Cuts a block out of a page; −1 where none is large enough. @linux mm/slob.c:slob_page_alloc */
  private cut(pfn: Pfn, wanted: number, align: number, alignOffset: number): number {
    const { frames } = this;
    const base = this.base(pfn);
    let previous = -1;
    for (let at = frames.index[pfn]; at < PAGE_UNITS; previous = at, at = this.nextAt(base, at)) {
      const avail = this.unitsAt(base, at);
      const aligned = Math.ceil((at * SLOB_UNIT + alignOffset) / align) * align - alignOffset;
      const delta = aligned / SLOB_UNIT - at;
      if (avail < wanted + delta) continue;
      let place = at;
      let room = avail;
      if (delta > 0) {
        const next = this.nextAt(base, at);
        place = at + delta;
        room = avail - delta;
        this.set(base, place, room, next);
        this.set(base, at, delta, place);
        previous = at;
      }
      const next = this.nextAt(base, place);
      const rest = room === wanted ? next : place + wanted;
      if (room !== wanted) this.set(base, rest, room - wanted, next);
      if (previous < 0) frames.index[pfn] = rest;
      else this.set(base, previous, this.unitsAt(base, previous), rest);
      frames.private[pfn] -= wanted;
      if ((frames.private[pfn] & UNITS_MASK) === 0) this.lists[frames.private[pfn] >> LIST_SHIFT].remove(frames, pfn);
      return place;
    }
    return -1;
  }

  /** Gives a block of `size` bytes back; a page that is free then goes. @linux mm/slob.c:slob_free */
  free(block: VirtAddr, size: number): void {
    const { frames } = this;
    const pfn = this.host.pages.virtToPfn(block);
    const base = this.base(pfn);
    let units = Math.ceil(size / SLOB_UNIT);
    const place = (block - this.host.pages.pageAddress(pfn)) / SLOB_UNIT;
    const before = frames.private[pfn] & UNITS_MASK;
    if (before + units === PAGE_UNITS) {
      if (before > 0) this.lists[frames.private[pfn] >> LIST_SHIFT].remove(frames, pfn);
      this.starts.dropPage(pfn);
      this.nrPages--;
      giveSlabPages(this.host, pfn, this.owner.flags, 0);
      return;
    }
    if (before === 0) {
      const which = size < SLOB_BREAK1 ? 0 : size < SLOB_BREAK2 ? 1 : 2;
      frames.private[pfn] = (which << LIST_SHIFT) | units;
      frames.index[pfn] = place;
      this.set(base, place, units, PAGE_UNITS);
      this.lists[which].addHead(frames, pfn);
      return;
    }
    frames.private[pfn] += units;
    const first = frames.index[pfn];
    if (place < first) {
      let next = first;
      if (place + units === first) {
        units += this.unitsAt(base, first);
        next = this.nextAt(base, first);
      }
      this.set(base, place, units, next);
      frames.index[pfn] = place;
      return;
    }
    let previous = first;
    let next = this.nextAt(base, previous);
    while (place > next) {
      previous = next;
      next = this.nextAt(base, next);
    }
    if (next < PAGE_UNITS && place + units === next) {
      units += this.unitsAt(base, next);
      next = this.nextAt(base, next);
    }
    const previousUnits = this.unitsAt(base, previous);
    if (previous + previousUnits === place) {
      this.set(base, previous, previousUnits + units, next);
    } else {
      this.set(base, place, units, next);
      this.set(base, previous, previousUnits, place);
    }
  }

  /**
   * Recomputes each page's free units from its blocks, and the lists.
   *
   * @throws KernelBug for the first thing that does not fit
   */
  validate(claim: (pfn: Pfn) => void): void {
    const { frames } = this;
    const listed = new Map<Pfn, number>();
    this.lists.forEach((list, which) => {
      let previous = 0;
      let length = 0;
      for (let pfn = list.head; pfn !== 0; previous = pfn, pfn = frames.next[pfn], length++) {
        if (listed.has(pfn)) throw new KernelBug(`slob: page ${pfn} is on two lists`);
        if (frames.prev[pfn] !== previous) throw new KernelBug(`slob: list ${which} is broken at page ${pfn}`);
        listed.set(pfn, which);
      }
      if (list.tail !== previous || list.length !== length) throw new KernelBug(`slob: list ${which} does not add up`);
    });
    let pages = 0;
    for (const pfn of this.starts.pages()) {
      pages++;
      claim(pfn);
      if ((frames.flags[pfn] & PG_SLAB) === 0 || frames.mapping[pfn] !== this.owner.id) throw new KernelBug(`slob: page ${pfn} is not marked`);
      this.validatePage(pfn, listed.get(pfn));
      listed.delete(pfn);
    }
    if (listed.size > 0) throw new KernelBug('slob: a page of nobody is on a list');
    if (pages !== this.nrPages) throw new KernelBug(`slob: ${pages} pages, ${this.nrPages} by its count`);
  }

  private validatePage(pfn: Pfn, list: number | undefined): void {
    const { frames } = this;
    const counted = frames.private[pfn] & UNITS_MASK;
    if (list !== (counted === 0 ? undefined : frames.private[pfn] >> LIST_SHIFT)) throw new KernelBug(`slob: page ${pfn} is not on its list`);
    if (counted === 0) return;
    const base = this.base(pfn);
    let free = 0;
    let end = -1;
    for (let at = frames.index[pfn]; at < PAGE_UNITS; at = this.nextAt(base, at)) {
      if (at <= end) throw new KernelBug(`slob: the blocks of page ${pfn} are not ascending, or touch`);
      const units = this.unitsAt(base, at);
      free += units;
      end = at + units;
      if (end > PAGE_UNITS) throw new KernelBug(`slob: a block of page ${pfn} leaves it`);
    }
    if (free !== counted) throw new KernelBug(`slob: page ${pfn} has ${free} free units, ${counted} by its count`);
  }
}
