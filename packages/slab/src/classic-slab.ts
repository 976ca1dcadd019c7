/**
 * SLAB, the allocator that Linux had until 6.7: arrays of free objects at hand for each CPU, and slabs on three lists a node.
 *
 * @linux mm/slab.c (up to 6.7)
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { PG_SLAB, __GFP_THISNODE, __GFP_ZERO, compoundHead } from '@pagelab/mm-core';
import { nodeOfPage } from './accounting.ts';
import { ArrayCache, staticArrayMemory } from './classic-array.ts';
import { allocArrays, freeArrays } from './classic-arrays.ts';
import type { ClassicArrays } from './classic-arrays.ts';
import type { ClassicGeometry } from './classic-geometry.ts';
import { ClassicSlabs } from './classic-slabs.ts';
import { freeForeign } from './foreign-free.ts';
import type { CacheSpec, SlabCpus, SlabHost } from './host.ts';
import type { SlabInfo } from './kmem-cache.ts';
import type { SlabReportKind } from './report.ts';

/** Objects a CPU's array takes at most at a time when it was not used lately. @linux mm/slab.c:BATCHREFILL_LIMIT */
const BATCHREFILL_LIMIT = 16;
/** Jiffies between two visits of the reaper to a node's lists. @linux mm/slab.c:REAPTIMEOUT_NODE */
const REAPTIMEOUT_NODE = 4 * 250;

/** A cache of SLAB. @linux include/linux/slab_def.h:kmem_cache */
export class ClassicCache extends ClassicSlabs {
  /** By CPU. */
  cpu: readonly ArrayCache[];
  protected readonly smp: SlabCpus;
  /** The memory that arrays lie in; `null` until they have been made, while each holds one object. */
  private arrays: ClassicArrays | null = null;

  constructor(host: SlabHost, spec: CacheSpec, geometry: ClassicGeometry) {
    super(host, spec, geometry);
    this.smp = host.smp;
    const { wordBytes } = host.machine;
    this.cpu = Array.from({ length: host.smp.cpus.length }, () => new ArrayCache(staticArrayMemory(1, wordBytes), 1, 1));
    this.setFreeLimits(1);
  }

  /** @linux mm/slab.c:setup_kmem_cache_node */
  private setFreeLimits(batchcount: number): void {
    this.nodes.forEach((node, nid) => {
      node.freeLimit = (1 + this.host.pages.nodes[nid].cpus.length) * batchcount + this.objectsPerSlab;
    });
  }

  override initLate(): number {
    const { geometry, host } = this;
    const arrays = allocArrays(host, geometry);
    if (arrays === null) return -Errno.ENOMEM;
    const { limit, batchcount } = geometry;
    const before = this.cpu;
    this.arrays = arrays;
    this.cpu = arrays.cpu.map((memory) => new ArrayCache(memory, limit, batchcount));
    this.nodes.forEach((node, nid) => {
      node.shared = arrays.shared[nid];
      node.alien = arrays.alien[nid];
    });
    this.setFreeLimits(batchcount);
    before.forEach((ac, id) => this.freeArray(ac, host.cpuNode[id]));
    return 0;
  }

  // ----------------------------------------------------------------------------------------------------- allocating

  /** @linux mm/slab.c:____cache_alloc */
  override alloc(gfp: number): VirtAddr {
    const ac = this.cpu[this.smp.processorId];
    let object: VirtAddr;
    if (ac.avail > 0) {
      ac.touched = true;
      object = ac.pop();
    } else {
      object = this.refill(ac, gfp);
      if (object === 0) return 0;
    }
    return this.finish(object, gfp);
  }

  /** @linux mm/slab.c:kmem_cache_alloc_node */
  override allocNode(gfp: number, node: number): VirtAddr {
    const { pages, cpuNode } = this.host;
    if (node < 0 || this.nodes.length === 1 || pages.nodes[node].present === 0 || node === cpuNode[this.smp.processorId]) {
      return this.alloc(gfp);
    }
    const object = this.takeFromNode(node) || this.growAndTake(gfp, node);
    return object === 0 ? this.alloc(gfp) : this.finish(object, gfp);
  }

  /** From where an object begins in its slab to what the caller gets. */
  protected finish(object: VirtAddr, gfp: number): VirtAddr {
    const { trace, tracepoints, memory } = this.host;
    if ((gfp & __GFP_ZERO) !== 0) memory.fill(object, this.objectSize, 0);
    if (trace.enabled) trace.emit(tracepoints.kmemCacheAlloc, object, this.objectSize, this.size, gfp);
    return object;
  }

  /** Fills the CPU's array and takes one. @linux mm/slab.c:cache_alloc_refill */
  private refill(ac: ArrayCache, gfp: number): VirtAddr {
    const nid = this.host.cpuNode[this.smp.processorId];
    const node = this.nodes[nid];
    let wanted = ac.touched ? ac.batchcount : Math.min(ac.batchcount, BATCHREFILL_LIMIT);
    if (node.shared !== undefined && ac.takeFrom(node.shared, wanted) > 0) {
      node.shared.touched = true;
    } else {
      while (wanted > 0) {
        const pfn = this.firstSlab(node);
        if (pfn === 0) break;
        const taken = this.takeBlock(ac, pfn, wanted);
        node.freeObjects -= taken;
        wanted -= taken;
        this.settle(node, pfn);
      }
    }
    if (ac.avail === 0) {
      const pfn = this.grow(gfp, nid);
      // Reclaim on behalf of the slab may have left objects here.
      if (pfn !== 0) {
        if (ac.avail === 0) this.takeBlock(ac, pfn, wanted);
        this.settleNew(pfn);
      }
      if (ac.avail === 0) return this.takeElsewhere(nid);
    }
    ac.touched = true;
    return ac.pop();
  }

  /** An object of another node's slabs, where no slab can be made. @linux mm/slab.c:fallback_alloc */
  private takeElsewhere(nid: number): VirtAddr {
    for (const other of this.host.pages.nodes[nid].fallbackOrder) {
      const object = this.takeFromNode(other);
      if (object !== 0) return object;
    }
    return 0;
  }

  /** @linux mm/slab.c:____cache_alloc_node */
  private takeFromNode(nid: number): VirtAddr {
    const node = this.nodes[nid];
    const pfn = this.firstSlab(node);
    if (pfn === 0) return 0;
    const object = this.takeObject(pfn);
    node.freeObjects--;
    this.settle(node, pfn);
    return object;
  }

  private growAndTake(gfp: number, node: number): VirtAddr {
    const pfn = this.grow(gfp | __GFP_THISNODE, node);
    if (pfn === 0) return 0;
    const object = this.takeObject(pfn);
    this.settleNew(pfn);
    return object;
  }

  // ------------------------------------------------------------------------------------------------------- freeing

  override free(object: VirtAddr): void {
    const { host } = this;
    const head = this.headOf(object);
    if (head === 0) {
      if (object !== 0) freeForeign(host, this, object, host.freelist.hardening !== 'none');
      return;
    }
    const ac = this.cpu[this.smp.processorId];
    if (ac.avail > 0 && ac.entry(ac.avail - 1) === object && host.freelist.hardening !== 'none') {
      this.report('double-free', object, 'Object already free');
      return;
    }
    if (object < this.firstObject(head)) {
      this.report('invalid-free', object, 'Invalid object pointer');
      return;
    }
    if (host.trace.enabled) host.trace.emit(host.tracepoints.kmemCacheFree, object);
    this.put(head, object);
  }

  /** First page of the slab of this cache that an address lies in; 0 for none. */
  protected headOf(address: VirtAddr): number {
    const { frames, host } = this;
    const page = (address - host.pages.pageOffset) / PAGE_SIZE;
    const head = page >= 0 && page < frames.nrFrames ? compoundHead(frames, page | 0) : 0;
    return (frames.flags[head] & PG_SLAB) === 0 || frames.mapping[head] !== this.id ? 0 : head;
  }

  /** Puts an object of slab `head` into the running CPU's array, or sends it home. @linux mm/slab.c:___cache_free */
  protected put(head: number, object: VirtAddr): void {
    const { host } = this;
    const here = host.cpuNode[this.smp.processorId];
    if (this.nodes.length > 1) {
      const nid = nodeOfPage(host.pages, head);
      if (nid !== here) {
        this.freeAlien(object, here, nid);
        return;
      }
    }
    const ac = this.cpu[this.smp.processorId];
    if (ac.avail >= ac.limit) this.flushArray(ac, here);
    ac.push(object);
  }

  /** @linux mm/slab.c:cache_free_alien */
  private freeAlien(object: VirtAddr, here: number, nid: number): void {
    const alien = this.nodes[here].alien[nid];
    if (alien === undefined) {
      const node = this.nodes[nid];
      this.putObject(node, object);
      this.trim(node);
      return;
    }
    if (alien.avail === alien.limit) this.drainAlien(alien, nid);
    alien.push(object);
  }

  /** @linux mm/slab.c:__drain_alien_cache */
  private drainAlien(alien: ArrayCache, nid: number): void {
    if (alien.avail === 0) return;
    this.nodes[nid].shared?.takeFrom(alien, alien.limit);
    this.freeBlock(alien, alien.avail, nid);
  }

  /** Makes room in a CPU's array. @linux mm/slab.c:cache_flusharray */
  private flushArray(ac: ArrayCache, nid: number): void {
    const { shared } = this.nodes[nid];
    const room = shared === undefined ? 0 : shared.limit - shared.avail;
    if (shared === undefined || room === 0) this.freeBlock(ac, ac.batchcount, nid);
    else shared.takeFirst(ac, Math.min(ac.batchcount, room));
  }

  protected report(kind: SlabReportKind, address: VirtAddr, what: string): void {
    const text = `BUG ${this.name}: ${what} 0x${this.host.memory.format(address)}`;
    this.host.report({ kind, cache: this.name, address, text, fatal: kind === 'double-free' });
  }

  // --------------------------------------------------------------------------------------------------- giving back

  /** Empties every array, then gives back every free slab. @linux mm/slab.c:__kmem_cache_shrink */
  override shrink(): number {
    const before = this.slabs.size;
    const { cpuNode } = this.host;
    this.cpu.forEach((ac, id) => {
      this.freeArray(ac, cpuNode[id]);
    });
    this.nodes.forEach((node, here) => {
      node.alien.forEach((alien, nid) => {
        if (alien !== undefined) this.drainAlien(alien, nid);
      });
      if (node.shared !== undefined) this.freeArray(node.shared, here);
    });
    // What aliens sent to shared arrays before.
    this.nodes.forEach((node, nid) => {
      if (node.shared !== undefined) this.freeArray(node.shared, nid);
      while (node.free.tail !== 0) this.destroySlab(node, node.free.tail);
    });
    return (before - this.slabs.size) * 2 ** this.order;
  }

  /** Frees all of an array: the objects of a CPU's may be of other nodes, when it took them for want of its own. */
  private freeArray(ac: ArrayCache, nid: number): void {
    if (this.nodes.length === 1) {
      this.freeBlock(ac, ac.avail, nid);
      return;
    }
    const objects = ac.objects();
    ac.avail = 0;
    for (const object of objects) {
      const pfn = compoundHead(this.frames, this.host.pages.virtToPfn(object));
      this.putObject(this.nodes[nodeOfPage(this.host.pages, pfn)], object);
    }
    for (const node of this.nodes) this.trim(node);
  }

  override shutdown(): boolean {
    this.shrink();
    if (this.slabs.size > 0) return false;
    if (this.arrays !== null) freeArrays(this.host, this.arrays);
    this.arrays = null;
    return true;
  }

  /**
   * What the running CPU does every two seconds: objects that were not needed go back to their slabs, a fifth of what the
   * array may hold at a time, and free slabs that were not needed are given back.
   *
   * @linux mm/slab.c:cache_reap
   */
  override reap(): void {
    const { host } = this;
    const here = host.cpuNode[this.smp.processorId];
    const node = this.nodes[here];
    node.alien.forEach((alien, nid) => {
      if (alien !== undefined) this.drainAlien(alien, nid);
    });
    this.reapArray(this.cpu[this.smp.processorId], here);
    if (node.nextReap > host.tracking.jiffies) return;
    node.nextReap = host.tracking.jiffies + REAPTIMEOUT_NODE;
    if (node.shared !== undefined) this.reapArray(node.shared, here);
    if (node.freeTouched) {
      node.freeTouched = false;
      return;
    }
    let slabs = Math.floor((node.freeLimit + 5 * this.objectsPerSlab - 1) / (5 * this.objectsPerSlab));
    while (slabs-- > 0 && node.free.tail !== 0) this.destroySlab(node, node.free.tail);
  }

  /** @linux mm/slab.c:drain_array */
  private reapArray(ac: ArrayCache, nid: number): void {
    if (ac.touched) {
      ac.touched = false;
      return;
    }
    let count = Math.floor((ac.limit + 4) / 5);
    if (count > ac.avail) count = Math.floor((ac.avail + 1) / 2);
    this.freeBlock(ac, count, nid);
  }

  // ------------------------------------------------------------------------------------------------------- looking

  override arrayObjects(): VirtAddr[] {
    const arrays = [...this.cpu, ...this.nodes.flatMap(({ shared, alien }) => [shared, ...alien])];
    return arrays.flatMap((ac) => ac?.objects() ?? []);
  }

  override slabInfo(): SlabInfo {
    const [{ limit, batchcount }] = this.cpu;
    return { ...super.slabInfo(), tunables: { limit, batchcount, sharedFactor: this.arrays === null ? 0 : this.geometry.shared } };
  }
}
