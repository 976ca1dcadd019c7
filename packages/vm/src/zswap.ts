/**
 * Swapped pages that stay in memory, compressed: in front of the swap areas, which get what no longer fits.
 *
 *     entries.size === storedPages === entries of all LRU lists
 *     an entry's slot is named or cached: swap areas tell when it comes free
 *
 * A page that comes back leaves the pool, and is dirty. What compresses to a page and more is stored as it is. Where the
 * pool has reached its share of memory nothing is taken until it has shrunk to `accept_threshold_percent` of that: the
 * pages stored first go to their slots.
 *
 * @linux mm/zswap.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import {
  GFP_KERNEL,
  GFP_NOWAIT,
  PG_DIRTY,
  PG_RECLAIM,
  PG_UPTODATE,
  PG_WRITEBACK,
  VM_EVENT,
  ZONE_STAT,
  __GFP_FS,
  __GFP_HIGHMEM,
  __GFP_IO,
  __GFP_NORETRY,
} from '@pagelab/mm-core';
import { SHRINKER_NUMA_AWARE, SHRINK_STOP } from '@pagelab/slab';
import type { KmemCache, ShrinkControl } from '@pagelab/slab';
import type { Compressor } from './compressor.ts';
import { endSwapWrites, writeToSlot } from './page-io.ts';
import { deleteFromSwapCache, readSwapCache } from './swap-state.ts';
import type { Vm } from './vm.ts';
import { ZsPool } from './zsmalloc.ts';
import type { ZsHandle } from './zsmalloc.ts';

/** Bytes of `struct zswap_entry` on 64 bits and on 32. */
const ENTRY_BYTES = 56;
const ENTRY_BYTES_32 = 36;
const POOL_GFP = GFP_NOWAIT | __GFP_NORETRY | __GFP_HIGHMEM;
/** Pages in a row that cannot be written back before the pool stays as full as it is. @linux mm/internal.h:MAX_RECLAIM_RETRIES */
const MAX_RECLAIM_RETRIES = 16;

/** A pool, and what compresses for it. The last one made is the one that pages go to. @linux mm/zswap.c:zswap_pool */
interface ZswapPool {
  readonly compressor: Compressor;
  readonly zspool: ZsPool;
  stored: number;
}

/** A page in a pool. @linux mm/zswap.c:zswap_entry */
interface ZswapEntry {
  /** The slot that it would have been written to. */
  readonly swp: number;
  readonly pool: ZswapPool;
  readonly handle: ZsHandle;
  /** Bytes; 4096 where it is stored as it is. */
  readonly length: number;
  readonly nid: number;
  /** It gets another round before it is written back. */
  referenced: boolean;
  /** Address of its object in the `zswap_entry` cache. */
  readonly object: VirtAddr;
}

/** What `/sys/kernel/debug/zswap` counts. */
export interface ZswapStats {
  poolLimitHit: number;
  rejectReclaimFail: number;
  rejectAllocFail: number;
  rejectKmemcacheFail: number;
  rejectCompressFail: number;
  rejectCompressPoor: number;
  decompressFail: number;
  writtenBackPages: number;
}

export class Zswap {
  readonly #vm: Vm;
  /** What there is to compress with, by name. */
  readonly #compressors = new Map<string, Compressor>();
  readonly #entries = new Map<number, ZswapEntry>();
  /** Entries of each node, the one stored first in front: by their slots, since a set keeps its order. */
  readonly #lru: readonly Set<number>[];
  /** Pages of each node that had to be read from disk: as many are spared. */
  readonly #diskSwapins: Float64Array;
  /** The current pool in front. */
  #pools: ZswapPool[] = [];
  #poolCount = 0;
  #cache: KmemCache | null = null;
  #reachedFull = false;
  readonly #buffer = new Uint8Array(PAGE_SIZE);
  /** `uninit` until it is first enabled, `failed` where that was not possible. */
  state: 'uninit' | 'ready' | 'failed' = 'uninit';
  enabled = false;
  /** Name of the compressor that pools are made with. */
  compressor = 'lzo';
  /** Percent of memory that pools may take; and of that, to which they shrink before they take more. */
  maxPoolPercent = 20;
  acceptThresholdPercent = 90;
  /** Whether pages go to their slots before the pool is full, when memory is short. */
  shrinkerEnabled = false;
  storedIncompressible = 0;
  readonly stats: ZswapStats = {
    poolLimitHit: 0,
    rejectReclaimFail: 0,
    rejectAllocFail: 0,
    rejectKmemcacheFail: 0,
    rejectCompressFail: 0,
    rejectCompressPoor: 0,
    decompressFail: 0,
    writtenBackPages: 0,
  };
  /** Has {@link shrink} called soon. */
  wakeShrinker: () => void = () => undefined;

  constructor(vm: Vm) {
    this.#vm = vm;
    this.#lru = vm.pages.nodes.map(() => new Set());
    this.#diskSwapins = new Float64Array(vm.pages.nodes.length);
  }

  /** Pages that are stored. */
  get storedPages(): number {
    return this.#entries.size;
  }

  /** Pages that the pools take. @linux mm/zswap.c:zswap_total_pages */
  get totalPages(): number {
    let pages = 0;
    for (const { zspool } of this.#pools) pages += zspool.pages;
    return pages;
  }

  /** Adds what there is to compress with; the first is the default. */
  addCompressors(compressors: readonly Compressor[]): void {
    for (const compressor of compressors) this.#compressors.set(compressor.name, compressor);
    const [first] = compressors;
    if (first !== undefined) this.compressor = first.name;
  }

  // ---- settings

  /**
   * Switches it on or off. What is stored when it is switched off stays until it is wanted.
   *
   * @returns 0; −ENODEV where it cannot be set up, for want of a compressor or of memory
   * @linux mm/zswap.c:zswap_enabled_param_set
   */
  setEnabled(enabled: boolean): number {
    if (enabled && this.state === 'uninit') this.#setUp();
    if (enabled && this.state === 'failed') {
      this.#vm.log('zswap: can\'t enable, initialization failed');
      return -Errno.ENODEV;
    }
    this.enabled = enabled;
    return 0;
  }

  /** @linux mm/zswap.c:zswap_setup */
  #setUp(): void {
    const { slab } = this.#vm;
    const bytes = this.#vm.tables.format.addressBits > 32 ? ENTRY_BYTES : ENTRY_BYTES_32;
    const cache = slab.kmemCacheCreate({ name: 'zswap_entry', size: bytes });
    if (typeof cache === 'number') {
      this.state = 'failed';
      return;
    }
    this.#cache = cache;
    slab.shrinkers.register({
      name: 'mm-zswap',
      flags: SHRINKER_NUMA_AWARE,
      countObjects: (control) => this.#shrinkerCount(control),
      scanObjects: (control) => this.#shrinkerScan(control),
    });
    const error = this.#makePool(this.compressor);
    this.state = error === 0 ? 'ready' : 'failed';
    this.#vm.log(error === 0 ? `zswap: loaded using pool ${this.compressor}` : 'zswap: pool creation failed');
  }

  /**
   * Chooses the compressor: pages that are stored from now on are compressed with it.
   *
   * @returns 0; −ENOENT where there is none of that name; −ENOMEM. Before it is first enabled every name will do
   * @linux mm/zswap.c:zswap_compressor_param_set
   */
  setCompressor(name: string): number {
    if (this.state === 'uninit' || name === this.compressor) {
      this.compressor = name;
      return 0;
    }
    const error = this.#makePool(name);
    if (error === 0) this.compressor = name;
    return error;
  }

  /** @linux mm/zswap.c:zswap_pool_create */
  #makePool(name: string): number {
    const known = this.#pools.findIndex(({ compressor }) => compressor.name === name);
    if (known >= 0) {
      this.#pools.unshift(...this.#pools.splice(known, 1));
      this.#dropEmptyPools();
      return 0;
    }
    const compressor = this.#compressors.get(name);
    if (compressor === undefined) {
      this.#vm.log(`zswap: compressor ${name} not available`);
      return -Errno.ENOENT;
    }
    const zspool = ZsPool.create(this.#vm, `zswap${++this.#poolCount}`);
    if (typeof zspool === 'number') return zspool;
    this.#pools.unshift({ compressor, zspool, stored: 0 });
    this.#dropEmptyPools();
    return 0;
  }

  /** Pools that pages no longer go to go themselves with their last page. @linux mm/zswap.c:__zswap_pool_release */
  #dropEmptyPools(): void {
    this.#pools = this.#pools.filter((pool, i) => {
      if (i === 0 || pool.stored > 0) return true;
      pool.zspool.destroy();
      return false;
    });
  }

  // ---- pages to the pool and back

  /**
   * Takes a page of the swap cache instead of its slot.
   *
   * @returns whether it did; where not, what was stored for the slot is gone
   * @linux mm/zswap.c:zswap_store
   */
  store(pfn: Pfn, swp: number): boolean {
    let stored = false;
    if (this.enabled && !this.#isFull()) stored = this.#storePage(pfn, swp);
    if (stored) this.#vm.pages.events[VM_EVENT.ZSWPOUT]++;
    else {
      if (this.#reachedFull) this.wakeShrinker();
      this.invalidate(swp);
    }
    return stored;
  }

  /** @linux mm/zswap.c:zswap_check_limits */
  #isFull(): boolean {
    const pages = this.totalPages;
    if (pages >= this.#maxPages()) {
      this.stats.poolLimitHit++;
      this.#reachedFull = true;
    } else if (this.#reachedFull && pages <= this.#acceptPages()) {
      this.#reachedFull = false;
    }
    return this.#reachedFull;
  }

  #maxPages(): number {
    return Math.floor((this.#vm.pages.totalramPages * this.maxPoolPercent) / 100);
  }

  #acceptPages(): number {
    return Math.floor((this.#maxPages() * this.acceptThresholdPercent) / 100);
  }

  /** @linux mm/zswap.c:zswap_store_page */
  #storePage(pfn: Pfn, swp: number): boolean {
    const vm = this.#vm;
    const object = this.#cache!.alloc(GFP_KERNEL);
    if (object === 0) {
      this.stats.rejectKmemcacheFail++;
      return false;
    }
    const [pool] = this.#pools;
    const data = this.#compress(pool, pfn);
    const { nid } = vm.pages.zoneOf(pfn)!;
    const handle = pool.zspool.malloc(data.length, POOL_GFP, nid);
    if (typeof handle === 'number') {
      this.stats.rejectAllocFail++;
      this.#cache!.free(object);
      return false;
    }
    pool.zspool.write(handle, data);
    pool.stored++;
    const home = pool.zspool.nid(handle);
    const entry: ZswapEntry = { swp, pool, handle, length: data.length, nid: home, referenced: true, object };
    this.invalidate(swp);
    this.#entries.set(swp, entry);
    this.#lru[home].add(swp);
    if (data.length === PAGE_SIZE) this.storedIncompressible++;
    return true;
  }

  /** What a page comes to; its own bytes where nothing is gained. @linux mm/zswap.c:zswap_compress */
  #compress({ compressor }: ZswapPool, pfn: Pfn): Uint8Array {
    const vm = this.#vm;
    const host = vm.ram.frameWord(pfn) * 4;
    vm.clock.advance(vm.costs.compressPage);
    const data = compressor.compress(vm.ram.u8.subarray(host, host + PAGE_SIZE));
    if (data.length > 0 && data.length < PAGE_SIZE) return data;
    // Getting memory for it may move all of RAM in the host.
    this.#buffer.set(vm.ram.u8.subarray(host, host + PAGE_SIZE));
    return this.#buffer;
  }

  /** @returns whether the page is in the frame @linux mm/zswap.c:zswap_decompress */
  #decompress({ pool, handle, length }: ZswapEntry, pfn: Pfn): boolean {
    const vm = this.#vm;
    const data = this.#buffer.subarray(0, length);
    pool.zspool.read(handle, data);
    let page: Uint8Array = data;
    if (length < PAGE_SIZE) {
      vm.clock.advance(vm.costs.decompressPage);
      try {
        page = pool.compressor.decompress(data);
      } catch {
        page = data;
      }
      if (page.length !== PAGE_SIZE) {
        this.stats.decompressFail++;
        this.#vm.log(`zswap: Decompression error from zswap (${pool.compressor.name}): ${length} bytes of object ${handle.index}`);
        return false;
      }
    }
    vm.ram.u8.set(page, vm.ram.frameWord(pfn) * 4);
    return true;
  }

  /**
   * Brings a page back, where it is stored: it leaves the pool, and is dirty.
   *
   * @returns 0; −ENOENT where the slot has it; −EIO where it cannot be decompressed
   * @linux mm/zswap.c:zswap_load
   */
  load(pfn: Pfn, swp: number): number {
    const entry = this.#entries.get(swp);
    if (entry === undefined) return -Errno.ENOENT;
    if (!this.#decompress(entry, pfn)) return -Errno.EIO;
    this.#vm.pages.events[VM_EVENT.ZSWPIN]++;
    this.#vm.frames.flags[pfn] |= PG_DIRTY | PG_UPTODATE;
    this.#free(entry);
    return 0;
  }

  /** A page was read from its slot: too much was written back. @linux mm/zswap.c:zswap_folio_swapin */
  noteDiskSwapin(pfn: Pfn): void {
    this.#diskSwapins[this.#vm.pages.zoneOf(pfn)!.nid]++;
  }

  /** A slot is nobody's any more, or gets other contents. @linux mm/zswap.c:zswap_invalidate */
  invalidate(swp: number): void {
    const entry = this.#entries.get(swp);
    if (entry !== undefined) this.#free(entry);
  }

  /** @linux mm/zswap.c:zswap_entry_free */
  #free(entry: ZswapEntry): void {
    const { swp, pool, handle, nid, length, object } = entry;
    this.#entries.delete(swp);
    this.#lru[nid].delete(swp);
    pool.zspool.free(handle);
    pool.stored--;
    if (length === PAGE_SIZE) this.storedIncompressible--;
    this.#cache!.free(object);
    if (pool.stored === 0 && pool !== this.#pools[0]) this.#dropEmptyPools();
  }

  // ---- writing back

  /** Writes pages to their slots until the pool takes more again. @linux mm/zswap.c:shrink_worker */
  shrink(): void {
    const threshold = this.#acceptPages();
    let failures = 0;
    while (this.totalPages > threshold && this.#entries.size > 0) {
      let written = 0;
      for (const { nid } of this.#vm.pages.nodes) written += this.#walk(nid, 1).written;
      if (written === 0 && ++failures === MAX_RECLAIM_RETRIES) return;
    }
  }

  /**
   * Looks at entries of a node, in the order they were stored: one that has not had its second round gets it, the others
   * are written to their slots.
   *
   * @linux mm/zswap.c:shrink_memcg_cb
   */
  #walk(nid: number, nrToWalk: number): { written: number; stopped: boolean } {
    const lru = this.#lru[nid];
    let written = 0;
    for (let left = Math.min(nrToWalk, lru.size); left > 0; left--) {
      const first = lru.values().next();
      if (first.done === true) break;
      const entry = this.#entries.get(first.value)!;
      // Whatever becomes of it, it is not the next one.
      lru.delete(entry.swp);
      lru.add(entry.swp);
      if (entry.referenced) {
        entry.referenced = false;
        continue;
      }
      const error = this.#writeBack(entry);
      if (error === 0) {
        this.stats.writtenBackPages++;
        written++;
        continue;
      }
      this.stats.rejectReclaimFail++;
      if (error === -Errno.EEXIST) return { written, stopped: true };
    }
    return { written, stopped: false };
  }

  /**
   * Writes one page to its slot, by way of the swap cache.
   *
   * @returns 0; −ENOMEM; −EEXIST where it is on its way into memory already; −EIO
   * @linux mm/zswap.c:zswap_writeback_entry
   */
  #writeBack(entry: ZswapEntry): number {
    const vm = this.#vm;
    const { flags } = vm.frames;
    const { swp } = entry;
    const pfn = readSwapCache(vm, swp, GFP_KERNEL);
    if (pfn < 0) return -Errno.ENOMEM;
    if (!vm.swap.readFresh) return -Errno.EEXIST;
    // Getting the frame may have come to bring the page in, or to free it.
    const stillThere = this.#entries.get(swp) === entry;
    if (!stillThere || !this.#decompress(entry, pfn)) {
      deleteFromSwapCache(vm, pfn);
      return stillThere ? -Errno.EIO : -Errno.ENOMEM;
    }
    this.#free(entry);
    vm.pages.events[VM_EVENT.ZSWPWB]++;
    flags[pfn] |= PG_UPTODATE | PG_RECLAIM;
    const pending: Pfn[] = [];
    writeToSlot(vm, pfn, pending);
    bugOn((flags[pfn] & PG_WRITEBACK) === 0, 'zswap: a page that is written back is not under writeback');
    endSwapWrites(vm, pending);
    return 0;
  }

  /** @linux mm/zswap.c:zswap_shrinker_count */
  #shrinkerCount({ gfp, nid }: ShrinkControl): number {
    if (!this.shrinkerEnabled || (gfp & (__GFP_IO | __GFP_FS)) !== (__GFP_IO | __GFP_FS)) return 0;
    const freeable = this.#lru[nid].size;
    if (freeable === 0) return 0;
    // Pages that had to be read from disk would better have stayed: so many are spared.
    const spared = Math.min(freeable, this.#diskSwapins[nid]);
    this.#diskSwapins[nid] -= spared;
    // What is well compressed frees little: a page counts by what it takes.
    return Math.floor(((freeable - spared) * this.totalPages) / this.#entries.size);
  }

  /** @linux mm/zswap.c:zswap_shrinker_scan */
  #shrinkerScan(control: ShrinkControl): number {
    if (!this.shrinkerEnabled) return SHRINK_STOP;
    const { written, stopped } = this.#walk(control.nid, control.nrToScan);
    return stopped || written === 0 ? SHRINK_STOP : written;
  }

  // ---- validation

  /** Checks counts, lists and pools. @throws KernelBug at the first that does not hold */
  validate(): void {
    const { pages, swap } = this.#vm;
    let listed = 0;
    for (const [nid, lru] of this.#lru.entries()) {
      listed += lru.size;
      for (const swp of lru) bugOn(this.#entries.get(swp)?.nid !== nid, `zswap: slot ${swp} is on the list of node ${nid}, and not stored there`);
    }
    bugOn(listed !== this.#entries.size, `zswap: ${this.#entries.size} pages stored, ${listed} on lists`);
    let frames = 0;
    for (const pool of this.#pools) {
      pool.zspool.validate();
      frames += pool.zspool.pages;
      let stored = 0;
      for (const entry of this.#entries.values()) if (entry.pool === pool) stored++;
      bugOn(stored !== pool.stored, `zswap: a pool holds ${stored} pages, and counts ${pool.stored}`);
    }
    let incompressible = 0;
    for (const { swp, length } of this.#entries.values()) {
      bugOn(swap.isFree(swp), `zswap: slot ${swp} is free, and its page stored`);
      if (length === PAGE_SIZE) incompressible++;
    }
    bugOn(incompressible !== this.storedIncompressible, 'zswap: pages stored as they are, miscounted');
    bugOn(this.#cache !== null && this.#cache.activeObjects < this.#entries.size, 'zswap: an entry without its object');
    bugOn(frames !== pages.zoneState(ZONE_STAT.NR_ZSPAGES), `zswap: its pools have ${frames} frames, and ${pages.zoneState(ZONE_STAT.NR_ZSPAGES)} are counted`);
  }
}
