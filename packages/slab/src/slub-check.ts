/**
 * The checks of a debugged cache: of an object, of a slab, of a free list. What is wrong is reported and put right, as far
 * as it can be, so that it is reported once.
 *
 * @linux mm/slub.c:check_object, check_slab, on_freelist
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { blockOrder } from '@pagelab/mm-core';
import type { DirectMap } from './direct-map.ts';
import type { SlabReportKind } from './report.ts';
import { setSlabCounts, slabInuse, slabObjects } from './slab-pages.ts';
import { POISON_END, POISON_FREE, POISON_INUSE, SLUB_RED_ACTIVE } from './slub-object.ts';
import type { SlubObject } from './slub-object.ts';
import type { SlubReports } from './slub-reports.ts';
import type { SlubState } from './slub-state.ts';

/** Checks the slabs of one cache. */
export class SlubCheck {
  private readonly state: SlubState;
  private readonly layout: SlubObject;
  private readonly memory: DirectMap;
  private readonly reports: SlubReports;

  constructor(state: SlubState, layout: SlubObject, memory: DirectMap, reports: SlubReports) {
    this.state = state;
    this.layout = layout;
    this.memory = memory;
    this.reports = reports;
  }

  /** Whether an address is that of an object of the slab; 0, the end of a list, is. @linux mm/slub.c:check_valid_pointer */
  isObject(pfn: Pfn, object: VirtAddr): boolean {
    if (object === 0) return true;
    const { state } = this;
    const at = object - this.layout.redLeftPad - state.host.pages.pageAddress(pfn);
    return at >= 0 && at < slabObjects(state.frames, pfn) * state.size && at % state.size === 0;
  }

  /**
   * Checks what surrounds an object, and where it is free the object itself.
   *
   * @param value SLUB_RED_ACTIVE for a live object, SLUB_RED_INACTIVE for a free one
   * @linux mm/slub.c:check_object
   */
  checkObject(pfn: Pfn, object: VirtAddr, value: number): boolean {
    const { layout, state } = this;
    const { objectSize, inuse } = layout;
    const end = object + objectSize;
    let good = true;
    const check = (kind: SlabReportKind, what: string, from: VirtAddr, bytes: number, expected: number): void => {
      if (!this.checkBytes(pfn, object, kind, what, from, bytes, expected, good)) good = false;
    };
    if (layout.redZone) {
      check('redzone', 'Left Redzone', object - layout.redLeftPad, layout.redLeftPad, value);
      check('redzone', 'Right Redzone', end, inuse - objectSize, value);
      if (layout.origSize && value === SLUB_RED_ACTIVE) {
        const asked = layout.requestedSize(object);
        if (asked < objectSize) check('redzone', 'kmalloc Redzone', object + asked, objectSize - asked, value);
      }
    } else if (layout.poison) {
      check('padding', 'Alignment padding', end, inuse - objectSize, POISON_INUSE);
    }
    if (layout.poison) {
      if (value !== SLUB_RED_ACTIVE && layout.objectPoison) {
        check('poison', 'Poison', object, objectSize - 1, POISON_FREE);
        check('poison', 'End Poison', end - 1, 1, POISON_END);
      }
      check('padding', 'Object padding', object + layout.padOffset, layout.end - layout.padOffset, POISON_INUSE);
    }
    // In a live object without room behind it there is none.
    if ((layout.freePointerOutside || value !== SLUB_RED_ACTIVE) && !this.isObject(pfn, state.freePointer(object))) {
      this.reports.object('freelist-corrupt', pfn, object, 'Freepointer corrupt');
      state.setFreePointer(object, 0);
      good = false;
    }
    return good;
  }

  /** @linux mm/slub.c:check_bytes_and_report */
  private checkBytes(
    pfn: Pfn,
    object: VirtAddr,
    kind: SlabReportKind,
    what: string,
    from: VirtAddr,
    bytes: number,
    expected: number,
    printsObject: boolean,
  ): boolean {
    const { memory, reports } = this;
    const first = memory.findNot(from, bytes, expected);
    if (first < 0) return true;
    const corruption = {
      what,
      from: from + first,
      to: from + memory.findLastNot(from, bytes, expected),
      found: memory.byte(from + first),
      expected,
    };
    reports.overwritten(kind, pfn, object, corruption, printsObject);
    this.restore(what, corruption.from, corruption.to, expected);
    return false;
  }

  /** @linux mm/slub.c:restore_bytes */
  private restore(what: string, from: VirtAddr, to: VirtAddr, value: number): void {
    this.reports.fix(`Restoring ${what} 0x${this.memory.format(from)}-0x${this.memory.format(to)}=0x${value.toString(16)}`);
    this.memory.fill(from, to - from + 1, value);
  }

  /** @linux mm/slub.c:check_slab */
  checkSlab(pfn: Pfn): boolean {
    const { state, reports } = this;
    const objects = slabObjects(state.frames, pfn);
    const most = Math.floor((PAGE_SIZE * 2 ** blockOrder(state.frames, pfn)) / state.size);
    const inuse = slabInuse(state.frames, pfn);
    if (objects > most) {
      reports.slab('slab-corrupt', pfn, `objects ${objects} > max ${most}`);
      return false;
    }
    if (inuse > objects) {
      reports.slab('slab-corrupt', pfn, `inuse ${inuse} > max ${objects}`);
      return false;
    }
    this.checkSlabPadding(pfn);
    return true;
  }

  /** What is left of the slab behind its last object. @linux mm/slub.c:slab_pad_check */
  private checkSlabPadding(pfn: Pfn): void {
    if (!this.layout.poison) return;
    const { state, memory, reports } = this;
    const bytes = PAGE_SIZE * 2 ** blockOrder(state.frames, pfn);
    const left = bytes % state.size;
    const start = state.host.pages.pageAddress(pfn);
    const pad = start + bytes - left;
    const first = memory.findNot(pad, left, POISON_INUSE);
    if (first < 0) return;
    const from = pad + first;
    const to = pad + memory.findLastNot(pad, left, POISON_INUSE);
    const corruption = { what: 'Padding', from, to, found: memory.byte(from), expected: POISON_INUSE };
    reports.slabPadding(pfn, corruption, pad, left);
    this.restore('slab padding', from, to, POISON_INUSE);
  }

  /**
   * Whether an object is on the slab's free list; looks at the list as far as it goes, and mends what it finds.
   *
   * @param search 0 to look at all of it
   * @linux mm/slub.c:on_freelist
   */
  onFreeList(pfn: Pfn, search: VirtAddr): boolean {
    const { state, reports } = this;
    const { frames } = state;
    const objects = slabObjects(frames, pfn);
    const clear = (what: string): false => {
      reports.slab('freelist-corrupt', pfn, what);
      frames.index[pfn] = 0;
      setSlabCounts(frames, pfn, objects, objects);
      reports.fix('Freelist cleared');
      return false;
    };
    let counted = 0;
    let before = 0;
    let at = frames.index[pfn];
    while (at !== 0 && counted <= objects) {
      if (at === search) return true;
      if (!this.isObject(pfn, at)) {
        if (before === 0) return clear('Freepointer corrupt');
        reports.object('freelist-corrupt', pfn, before, 'Freechain corrupt');
        state.setFreePointer(before, 0);
        break;
      }
      before = at;
      at = state.freePointer(at);
      counted++;
    }
    if (counted > objects) return clear('Freelist cycle detected');
    const most = Math.floor((PAGE_SIZE * 2 ** blockOrder(frames, pfn)) / state.size);
    if (objects !== most) {
      reports.slab('slab-corrupt', pfn, `Wrong number of objects. Found ${objects} but should be ${most}`);
      setSlabCounts(frames, pfn, most, slabInuse(frames, pfn));
      reports.fix('Number of objects adjusted');
    }
    const inuse = slabInuse(frames, pfn);
    const live = slabObjects(frames, pfn) - counted;
    if (inuse !== live) {
      reports.slab('slab-corrupt', pfn, `Wrong object count. Counter is ${inuse} but counted were ${live}`);
      setSlabCounts(frames, pfn, slabObjects(frames, pfn), live);
      reports.fix('Object count adjusted');
    }
    return search === 0;
  }
}
