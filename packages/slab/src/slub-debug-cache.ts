/**
 * A cache of SLUB that is debugged. No CPU has a slab of its own: every object is taken from and goes back to the slabs of
 * the nodes one by one, so that it can be looked at.
 *
 * @linux mm/slub.c:alloc_single_from_partial, free_to_partial_list
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { __GFP_ZERO, compoundHead } from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import { SLAB_CONSISTENCY_CHECKS, SLAB_RED_ZONE, SLAB_TRACE } from './flags.ts';
import { freeForeign } from './foreign-free.ts';
import type { SlabGeometry } from './geometry.ts';
import type { CacheSpec, SlabHost } from './host.ts';
import type { SlabTracks } from './kmem-cache.ts';
import { cacheOfPage, setSlabCounts, slabInuse, slabObjects } from './slab-pages.ts';
import { SlubCheck } from './slub-check.ts';
import { POISON_INUSE, SLUB_RED_ACTIVE, SLUB_RED_INACTIVE, SlubObject } from './slub-object.ts';
import { SlubReports } from './slub-reports.ts';
import { SlubSlabs } from './slub-slabs.ts';
import type { SlabTrack } from './track.ts';

const NO_NODE = -1;

/** A cache with any of SLAB_DEBUG_FLAGS. */
export class SlubDebugCache extends SlubSlabs {
  private readonly layout: SlubObject;
  private readonly checks: SlubCheck;
  private readonly reports: SlubReports;
  /** Objects and slabs are checked when they are allocated from and freed to. */
  private readonly consistencyChecks: boolean;

  constructor(host: SlabHost, spec: CacheSpec, geometry: SlabGeometry) {
    super(host, spec, geometry);
    const { memory, tracking, taint, report, machine } = host;
    const keepsRequestedSize = machine.kernel !== '6.1';
    this.layout = new SlubObject(
      { flags: spec.flags, objectSize: spec.objectSize, hasConstructor: spec.ctor !== undefined, geometry, keepsRequestedSize },
      memory,
    );
    this.reports = new SlubReports({ state: this, layout: this.layout, memory, tracking, kernel: machine.kernel, taint, report });
    this.checks = new SlubCheck(this, this.layout, memory, this.reports);
    this.consistencyChecks = (spec.flags & SLAB_CONSISTENCY_CHECKS) !== 0;
  }

  // ----------------------------------------------------------------------------------------------------- allocating

  override alloc(gfp: number): VirtAddr {
    return this.allocObject(gfp, NO_NODE, this.objectSize);
  }

  override allocNode(gfp: number, node: number): VirtAddr {
    const known = node === NO_NODE || this.host.pages.nodes[node].present > 0;
    return this.allocObject(gfp, known ? node : NO_NODE, this.objectSize);
  }

  override allocSized(gfp: number, bytes: number): VirtAddr {
    return this.allocObject(gfp, NO_NODE, bytes);
  }

  private allocObject(gfp: number, node: number, bytes: number): VirtAddr {
    const object = this.takeObject(gfp, node, bytes);
    this.reports.flush();
    if (object === 0) return 0;
    const { layout, host } = this;
    if (layout.storeUser) host.tracking.set(object + layout.trackOffset);
    if ((gfp & __GFP_ZERO) !== 0) {
      // What lies beyond the bytes asked for is red zone.
      host.memory.fill(object, layout.origSize && layout.redZone ? bytes : this.objectSize, 0);
    }
    if (host.trace.enabled) host.trace.emit(host.tracepoints.kmemCacheAlloc, object, this.objectSize, this.size, gfp);
    return object;
  }

  /** @linux mm/slub.c:___slab_alloc */
  private takeObject(gfp: number, node: number, bytes: number): VirtAddr {
    const { pages, cpuNode, smp } = this.host;
    const near = node === NO_NODE ? cpuNode[smp.processorId] : node;
    const object = this.takePartial(near, bytes);
    if (object !== 0) return object;
    if (node === NO_NODE) {
      for (const other of pages.nodes[near].fallbackOrder) {
        if (this.nodes[other].length <= this.geometry.minPartial) continue;
        const far = this.takePartial(other, bytes);
        if (far !== 0) return far;
      }
    }
    for (;;) {
      const pfn = this.newSlab(gfp, node);
      if (pfn === 0) return 0;
      const first = this.takeFirst(pfn, bytes);
      if (first === 0) continue;
      if (slabInuse(this.frames, pfn) < slabObjects(this.frames, pfn)) {
        this.nodes[nodeOfPage(pages, pfn)].addHead(this.frames, pfn);
      }
      return first;
    }
  }

  /** An object of the first slab of a node that is in order; one that is not is given up. */
  private takePartial(node: number, bytes: number): VirtAddr {
    const { frames } = this;
    const list = this.nodes[node];
    for (let pfn = list.head, next: Pfn; pfn !== 0; pfn = next) {
      next = frames.next[pfn];
      const object = this.takeFirst(pfn, bytes);
      if (object === 0 || slabInuse(frames, pfn) === slabObjects(frames, pfn)) list.remove(frames, pfn);
      if (object !== 0) return object;
    }
    return 0;
  }

  /** Takes the first free object of a slab; 0 where something is wrong with it, and the slab is used up then. */
  private takeFirst(pfn: Pfn, bytes: number): VirtAddr {
    const { frames, layout, checks, reports } = this;
    const object = frames.index[pfn];
    const objects = slabObjects(frames, pfn);
    let good = object !== 0 && checks.isObject(pfn, object);
    if (good) {
      frames.index[pfn] = this.freePointer(object);
      setSlabCounts(frames, pfn, objects, slabInuse(frames, pfn) + 1);
      if (this.consistencyChecks) good = checks.checkSlab(pfn) && checks.checkObject(pfn, object, SLUB_RED_INACTIVE);
    } else {
      // Without checks Linux follows the pointer, wherever it leads.
      reports.slab('freelist-corrupt', pfn, 'Freelist Pointer check fails', object);
    }
    if (!good) {
      reports.fix('Marking all objects used');
      setSlabCounts(frames, pfn, objects, objects);
      frames.index[pfn] = 0;
      return 0;
    }
    this.trace(pfn, object, 'alloc');
    layout.setRequestedSize(object, bytes);
    layout.init(object, SLUB_RED_ACTIVE);
    return object;
  }

  protected override prepareSlab(pfn: Pfn, order: number, objects: number): void {
    const { layout, host } = this;
    const start = this.host.pages.pageAddress(pfn);
    if (layout.poison) host.memory.fill(start, PAGE_SIZE * 2 ** order, POISON_INUSE);
    for (let i = 0; i < objects; i++) layout.setUp(start + layout.redLeftPad + i * this.size);
  }

  protected override linkAscending(pfn: Pfn, objects: number): VirtAddr {
    const first = this.host.pages.pageAddress(pfn) + this.geometry.redLeftPad;
    for (let i = 0; i < objects; i++) this.setFreePointer(first + i * this.size, i + 1 < objects ? first + (i + 1) * this.size : 0);
    return first;
  }

  // --------------------------------------------------------------------------------------------------------- freeing

  override free(object: VirtAddr): void {
    if (object === 0) return;
    const { host, frames } = this;
    const page = this.host.pages.virtToPfn(object);
    if (cacheOfPage(host, page) !== this) {
      freeForeign(host, this, object, this.consistencyChecks || host.freelist.hardening !== 'none');
      return;
    }
    if (host.trace.enabled) host.trace.emit(host.tracepoints.kmemCacheFree, object);
    this.freeObject(compoundHead(frames, page), object);
    this.reports.flush();
  }

  /** @linux mm/slub.c:free_to_partial_list */
  private freeObject(pfn: Pfn, object: VirtAddr): void {
    const { frames, host, layout, reports } = this;
    const inuse = slabInuse(frames, pfn) - 1;
    if (!this.mayFree(pfn, object)) {
      reports.fix(`Object at 0x${this.host.memory.format(object)} not freed`);
      return;
    }
    const prior = frames.index[pfn];
    if (layout.storeUser) host.tracking.set(object + layout.trackOffset + layout.trackBytes);
    this.trace(pfn, object, 'free');
    layout.init(object, SLUB_RED_INACTIVE);
    this.setFreePointer(object, prior);
    frames.index[pfn] = object;
    setSlabCounts(frames, pfn, slabObjects(frames, pfn), inuse);
    const list = this.nodes[nodeOfPage(host.pages, pfn)];
    const surplus = inuse === 0 && list.length >= this.geometry.minPartial;
    if (prior !== 0 && surplus) list.remove(frames, pfn);
    if (surplus) this.discard(pfn);
    else if (prior === 0) list.addTail(frames, pfn);
  }

  /** @linux mm/slub.c:free_debug_processing */
  private mayFree(pfn: Pfn, object: VirtAddr): boolean {
    const { frames, checks, reports } = this;
    if (this.consistencyChecks && !checks.checkSlab(pfn)) return false;
    if (slabInuse(frames, pfn) < 1) {
      reports.slab('double-free', pfn, 'Slab has 0 allocated objects but 1 are to be freed', object);
      return false;
    }
    const offset = object - this.host.pages.pageAddress(pfn) - this.geometry.redLeftPad;
    if (!this.consistencyChecks) {
      if (offset % 4 === 0) return true;
      // The free pointer would not lie on a word.
      reports.slab('invalid-free', pfn, `Invalid object pointer 0x${this.host.memory.format(object)}`, object);
      return false;
    }
    if (!checks.isObject(pfn, object)) {
      reports.slab('invalid-free', pfn, `Invalid object pointer 0x${this.host.memory.format(object)}`, object);
      return false;
    }
    if (checks.onFreeList(pfn, object)) {
      reports.object('double-free', pfn, object, 'Object already free');
      return false;
    }
    return checks.checkObject(pfn, object, SLUB_RED_ACTIVE);
  }

  /** @linux mm/slub.c:free_slab */
  protected override discard(pfn: Pfn): void {
    if (this.consistencyChecks) {
      const first = this.host.pages.pageAddress(pfn) + this.geometry.redLeftPad;
      this.checks.checkSlab(pfn);
      for (let i = 0; i < slabObjects(this.frames, pfn); i++) {
        this.checks.checkObject(pfn, first + i * this.size, SLUB_RED_INACTIVE);
      }
    }
    super.discard(pfn);
  }

  override shrink(): number {
    const given = super.shrink();
    this.reports.flush();
    return given;
  }

  // --------------------------------------------------------------------------------------------------------- looking

  override get tracksSize(): boolean {
    return this.layout.origSize;
  }

  override requestedSize(object: VirtAddr): number | undefined {
    return this.layout.origSize ? this.layout.requestedSize(object) : undefined;
  }

  override resized(object: VirtAddr, bytes: number): void {
    const { layout } = this;
    if (!layout.origSize) return;
    layout.setRequestedSize(object, bytes);
    if ((this.flags & SLAB_RED_ZONE) !== 0) this.host.memory.fill(object + bytes, this.objectSize - bytes, SLUB_RED_ACTIVE);
  }

  override check(): number {
    const { frames, checks } = this;
    let looked = 0;
    for (const pfn of this.slabs) {
      if (!checks.checkSlab(pfn) || !checks.onFreeList(pfn, 0)) continue;
      const free = new Set<VirtAddr>();
      for (let at = frames.index[pfn]; at !== 0; at = this.freePointer(at)) free.add(at);
      const first = this.host.pages.pageAddress(pfn) + this.geometry.redLeftPad;
      for (let i = 0; i < slabObjects(frames, pfn); i++, looked++) {
        const object = first + i * this.size;
        if (!checks.checkObject(pfn, object, free.has(object) ? SLUB_RED_INACTIVE : SLUB_RED_ACTIVE)) break;
      }
    }
    this.reports.flush();
    return looked;
  }

  override remainingLines(): string[] {
    return this.liveObjects().flatMap((object) => {
      const head = compoundHead(this.frames, this.host.pages.virtToPfn(object));
      return [`Object 0x${this.host.memory.format(object)} @offset=${object - this.host.pages.pageAddress(head)}`, ...this.reports.trackLines(object)];
    });
  }

  override objectTracks(object: VirtAddr): { lines: string[]; allocated?: SlabTrack; freed?: SlabTrack } {
    return { lines: this.reports.trackLines(object), ...this.reports.tracks(object) };
  }

  override tracks(): SlabTracks | undefined {
    if (!this.layout.storeUser) return undefined;
    const allocated: SlabTrack[] = [];
    const freed: SlabTrack[] = [];
    for (const object of this.liveObjects()) {
      const known = this.reports.tracks(object);
      if (known.allocated !== undefined) allocated.push(known.allocated);
      if (known.freed !== undefined) freed.push(known.freed);
    }
    return { allocated, freed };
  }

  /** @linux mm/slub.c:trace */
  private trace(pfn: Pfn, object: VirtAddr, what: 'alloc' | 'free'): void {
    if ((this.flags & SLAB_TRACE) === 0) return;
    const { host, frames } = this;
    const fp = this.host.memory.format(frames.index[pfn]);
    host.log(`TRACE ${this.name} ${what} 0x${this.host.memory.format(object)} inuse=${slabInuse(frames, pfn)} fp=0x${fp}`);
    if (what === 'free') for (const line of host.memory.dump('Object   ', object, this.objectSize)) host.log(line);
  }
}
