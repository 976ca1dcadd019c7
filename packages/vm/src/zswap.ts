/**
 * Swapped pages that stay in memory, compressed: in front of the swap areas, which get what no longer fits.
 *
 *     entries.size === storedPages === entries of all LRU lists
 *     ZSWAPPED of a group's own === its entries; ZSWAP_B === their bytes
 *     an entry's slot is named or cached: swap areas tell when it comes free
 *
 * A page that comes back leaves the pool, and is dirty. What compresses to a page and more is stored as it is. Where the
 * pool has reached its share of memory nothing is taken until it has shrunk to `accept_threshold_percent` of that: the
 * pages stored first go to their slots. A page's bytes are charged to its memory cgroup as kernel memory: `memory.zswap.max`
 * bounds them, and `memory.zswap.writeback` says whether they may leave memory.
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
  PF_MEMALLOC,
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
  compoundHead,
} from '@pagelab/mm-core';
import { SHRINKER_MEMCG_AWARE, SHRINKER_NUMA_AWARE, SHRINK_STOP } from '@pagelab/slab';
import type { KmemCache, ShrinkControl } from '@pagelab/slab';
import type { Compressor } from './compressor.ts';
import { ListLru } from './list-lru.ts';
import { MEMCG_STAT, descendants, memcgPageState } from './memcg.ts';
import type { MemCgroup, ObjCgroup } from './memcg.ts';
import { objCgroupCharge, objCgroupUncharge, objcgOfFolio } from './memcg-charge.ts';
import { PAGE_COUNTER_MAX } from './page-counter.ts';
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
  /** Whom its bytes are charged to; `null` for the root. */
  readonly objcg: ObjCgroup | null;
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

/** The group on whose list an entry is; `null` for the root. */
function groupOf({ objcg }: ZswapEntry): MemCgroup | null {
  return objcg === null || objcg.memcg.parent === null ? null : objcg.memcg;
}

export class Zswap {
  readonly #vm: Vm;
  /** What there is to compress with, by name. */
  readonly #compressors = new Map<string, Compressor>();
  readonly #entries = new Map<number, ZswapEntry>();
  /** Entries of each group and node, the one stored first in front: by their slots. @linux mm/zswap.c:zswap_list_lru */
  readonly #lru: ListLru<number>;
  /** Whose turn it is when the pool shrinks. @linux mm/zswap.c:zswap_next_shrink */
  #nextShrink: MemCgroup | null = null;
  #rootTurn = false;
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
  /** Whether huge pages are compressed, too, page by page: since 6.13. */
  takesHuge = true;
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
    this.#lru = new ListLru(vm);
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
      flags: SHRINKER_NUMA_AWARE | SHRINKER_MEMCG_AWARE,
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
   * Takes a page of the swap cache, all parts of it or none, instead of its slots.
   *
   * @returns whether it did; where not, what was stored for the slots is gone
   * @linux mm/zswap.c:zswap_store
   */
  storeFolio(pfn: Pfn, swp: number, nrPages: number): boolean {
    let stored = 0;
    if (nrPages === 1 || this.takesHuge) while (stored < nrPages && this.store(pfn + stored, swp + stored)) stored++;
    if (stored === nrPages) return true;
    if (nrPages > 1) for (let i = 0; i < nrPages; i++) this.invalidate(swp + i);
    return false;
  }

  /**
   * Takes a page instead of its slot.
   *
   * @returns whether it did; where not, what was stored for the slot is gone
   * @linux mm/zswap.c:zswap_store_page
   */
  store(pfn: Pfn, swp: number): boolean {
    const { memcgs } = this.#vm;
    const objcg = memcgs === null ? null : objcgOfFolio(memcgs, compoundHead(this.#vm.frames, pfn));
    let stored = false;
    if (this.enabled && this.#groupMayStore(objcg) && !this.#isFull()) stored = this.#storePage(pfn, swp, objcg);
    if (stored) this.#countEvent(VM_EVENT.ZSWPOUT, objcg);
    else {
      if (this.#reachedFull) this.wakeShrinker();
      this.invalidate(swp);
    }
    return stored;
  }

  #countEvent(event: number, objcg: ObjCgroup | null): void {
    this.#vm.pages.events[event]++;
    if (objcg !== null) objcg.memcg.vmEvents[event]++;
  }

  /** Whether the group of a page, and those above, may have one more: where not, one of theirs is written back first. @linux mm/memcontrol.c:obj_cgroup_may_zswap */
  #groupMayStore(objcg: ObjCgroup | null): boolean {
    if (objcg === null) return true;
    for (let each = objcg.memcg; each.parent !== null; each = each.parent) {
      if (each.zswapMax >= PAGE_COUNTER_MAX) continue;
      const isFull = each.zswapMax === 0 || Math.floor(memcgPageState(each, MEMCG_STAT.ZSWAP_B) / PAGE_SIZE) >= each.zswapMax;
      if (isFull) return this.#shrinkGroup(objcg.memcg) === 0;
    }
    return true;
  }

  /** Whether the pages of a group may leave the pool for their slots. @linux mm/memcontrol.c:mem_cgroup_zswap_writeback_enabled */
  writesBack(memcg: MemCgroup | null): boolean {
    if (!this.enabled) return true;
    for (let each = memcg ?? this.#vm.memcgs?.root ?? null; each !== null; each = each.parent) if (!each.zswapWriteback) return false;
    return true;
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
  #storePage(pfn: Pfn, swp: number, objcg: ObjCgroup | null): boolean {
    const vm = this.#vm;
    const object = this.#cache!.alloc(GFP_KERNEL);
    if (object === 0) {
      this.stats.rejectKmemcacheFail++;
      return false;
    }
    const [pool] = this.#pools;
    const data = this.#compress(pool, pfn);
    // What is as large as before is worth keeping only where it can go to its slot later.
    if (data.length === PAGE_SIZE && !this.writesBack(objcg?.memcg ?? null)) {
      this.stats.rejectCompressPoor++;
      this.#cache!.free(object);
      return false;
    }
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
    const entry: ZswapEntry = { swp, pool, handle, length: data.length, nid: home, objcg, referenced: true, object };
    this.invalidate(swp);
    this.#charge(objcg, data.length);
    this.#entries.set(swp, entry);
    this.#lru.add(swp, groupOf(entry), home);
    if (data.length === PAGE_SIZE) this.storedIncompressible++;
    return true;
  }

  /** The bytes are charged whatever the limit: they take less than the page did. @linux mm/memcontrol.c:obj_cgroup_charge_zswap */
  #charge(objcg: ObjCgroup | null, bytes: number): void {
    if (objcg === null) return;
    const { memcgs, pages } = this.#vm;
    const saved = pages.currentFlags;
    pages.currentFlags |= PF_MEMALLOC;
    objCgroupCharge(memcgs!, objcg, GFP_KERNEL, bytes);
    pages.currentFlags = saved;
    objcg.memcg.stat[MEMCG_STAT.ZSWAP_B] += bytes;
    objcg.memcg.stat[MEMCG_STAT.ZSWAPPED]++;
  }

  /** @linux mm/memcontrol.c:obj_cgroup_uncharge_zswap */
  #uncharge(objcg: ObjCgroup | null, bytes: number): void {
    if (objcg === null) return;
    objcg.memcg.stat[MEMCG_STAT.ZSWAP_B] -= bytes;
    objcg.memcg.stat[MEMCG_STAT.ZSWAPPED]--;
    objCgroupUncharge(this.#vm.memcgs!, objcg, bytes);
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
    this.#countEvent(VM_EVENT.ZSWPIN, entry.objcg);
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
    this.#lru.delete(swp, groupOf(entry), nid);
    this.#uncharge(entry.objcg, length);
    pool.zspool.free(handle);
    pool.stored--;
    if (length === PAGE_SIZE) this.storedIncompressible--;
    this.#cache!.free(object);
    if (pool.stored === 0 && pool !== this.#pools[0]) this.#dropEmptyPools();
  }

  // ---- writing back

  /**
   * Writes pages to their slots until the pool takes more again, one of each group and node in turn.
   *
   * @linux mm/zswap.c:shrink_worker
   */
  shrink(): void {
    const threshold = this.#acceptPages();
    let failures = 0;
    let attempts = 0;
    do {
      const memcg = this.#nextGroup();
      if (memcg === undefined) {
        if (attempts === 0 && ++failures === MAX_RECLAIM_RETRIES) return;
        attempts = 0;
        continue;
      }
      const error = this.#shrinkGroup(memcg);
      if (error === -Errno.ENOENT) continue;
      attempts++;
      if (error !== 0 && ++failures === MAX_RECLAIM_RETRIES) return;
    } while (this.totalPages > threshold);
  }

  /** The group whose turn it is, `null` for the root; `undefined` after the last. @linux mm/memcontrol.c:mem_cgroup_iter */
  #nextGroup(): MemCgroup | null | undefined {
    const root = this.#vm.memcgs?.root;
    if (root === undefined) {
      // One turn of the root's, then the end of the round.
      this.#rootTurn = !this.#rootTurn;
      return this.#rootTurn ? null : undefined;
    }
    const groups = [...descendants(root)];
    const next = groups[this.#nextShrink === null ? 0 : groups.indexOf(this.#nextShrink) + 1];
    this.#nextShrink = next ?? null;
    return next === undefined ? undefined : next === root ? null : next;
  }

  /**
   * Writes back one of a group's pages on each node.
   *
   * @param memcg `null` for the root
   * @returns 0; −ENOENT where there is nothing to write or it may not be written; −EAGAIN
   * @linux mm/zswap.c:shrink_memcg
   */
  #shrinkGroup(memcg: MemCgroup | null): number {
    if (!this.writesBack(memcg) || memcg?.online === false) return -Errno.ENOENT;
    const group = memcg === null || memcg.parent === null ? null : memcg;
    let scanned = 0;
    let shrunk = 0;
    for (const { nid } of this.#vm.pages.nodes) {
      scanned += Math.min(1, this.#lru.list(group, nid).size);
      shrunk += this.#walk(group, nid, 1).written;
    }
    if (scanned === 0) return -Errno.ENOENT;
    return shrunk > 0 ? 0 : -Errno.EAGAIN;
  }

  /**
   * Looks at a group's entries of a node, in the order they were stored: one that has not had its second round gets it, the others
   * are written to their slots.
   *
   * @linux mm/zswap.c:shrink_memcg_cb
   */
  #walk(memcg: MemCgroup | null, nid: number, nrToWalk: number): { written: number; stopped: boolean } {
    const lru = this.#lru.list(memcg, nid);
    let written = 0;
    for (let left = Math.min(nrToWalk, lru.size); left > 0; left--) {
      const first = lru.values().next();
      if (first.done === true) break;
      const entry = this.#entries.get(first.value)!;
      // Whatever becomes of it, it is not the next one.
      this.#lru.delete(entry.swp, memcg, nid);
      this.#lru.add(entry.swp, memcg, nid);
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
    this.#countEvent(VM_EVENT.ZSWPWB, entry.objcg);
    flags[pfn] |= PG_UPTODATE | PG_RECLAIM;
    const pending: Pfn[] = [];
    writeToSlot(vm, pfn, pending);
    bugOn((flags[pfn] & PG_WRITEBACK) === 0, 'zswap: a page that is written back is not under writeback');
    endSwapWrites(vm, pending);
    return 0;
  }

  /** @linux mm/zswap.c:zswap_shrinker_count */
  #shrinkerCount({ gfp, nid, memcg }: ShrinkControl): number {
    const group = memcg as MemCgroup | null;
    if (!this.shrinkerEnabled || !this.writesBack(group) || (gfp & (__GFP_IO | __GFP_FS)) !== (__GFP_IO | __GFP_FS)) return 0;
    const freeable = this.#lru.list(group, nid).size;
    if (freeable === 0) return 0;
    // Pages that had to be read from disk would better have stayed: so many are spared.
    const spared = Math.min(freeable, this.#diskSwapins[nid]);
    this.#diskSwapins[nid] -= spared;
    // What is well compressed frees little: a page counts by what it takes.
    const backing = group === null ? this.totalPages : Math.floor(memcgPageState(group, MEMCG_STAT.ZSWAP_B) / PAGE_SIZE);
    const stored = group === null ? this.#entries.size : memcgPageState(group, MEMCG_STAT.ZSWAPPED);
    return stored === 0 ? 0 : Math.floor(((freeable - spared) * backing) / stored);
  }

  /** @linux mm/zswap.c:zswap_shrinker_scan */
  #shrinkerScan({ nid, memcg, nrToScan }: ShrinkControl): number {
    const group = memcg as MemCgroup | null;
    if (!this.shrinkerEnabled || !this.writesBack(group)) return SHRINK_STOP;
    const { written, stopped } = this.#walk(group, nid, nrToScan);
    return stopped || written === 0 ? SHRINK_STOP : written;
  }

  // ---- validation

  /** Checks counts, lists and pools. @throws KernelBug at the first that does not hold */
  validate(): void {
    const { pages, swap } = this.#vm;
    let listed = 0;
    for (const [swp, memcg, nid] of this.#lru.entries()) {
      listed++;
      const entry = this.#entries.get(swp);
      bugOn(entry?.nid !== nid || groupOf(entry) !== memcg, `zswap: slot ${swp} is on the list of node ${nid}, and not stored there`);
    }
    bugOn(listed !== this.#lru.size, `zswap: lists of ${this.#lru.size} entries, ${listed} found`);
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

  /** Pages that a group has in the pools, and their bytes. */
  storedOf(objcg: ObjCgroup): { nrPages: number; bytes: number } {
    let nrPages = 0;
    let bytes = 0;
    for (const entry of this.#entries.values()) {
      if (entry.objcg !== objcg) continue;
      nrPages++;
      bytes += entry.length;
    }
    return { nrPages, bytes };
  }
}
