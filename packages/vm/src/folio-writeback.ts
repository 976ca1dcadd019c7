/**
 * Pages of files on their way to the device.
 *
 * What was dirty and is being written is *under writeback*: clean, so that a store makes it dirty once more, and not to be
 * taken away, since the device reads it when its turn comes. Pages whose blocks lie side by side go in one operation; the
 * device merges what it can of those that wait. They end when the device is done and somebody looks: {@link endWritebacks}, or
 * who needs them ended lets time pass in {@link folioWaitWriteback}.
 *
 *     PG_WRITEBACK of a page of a file === its entry in `pages` carries TAG_WRITEBACK === one of `bios` has it
 *
 * @linux fs/ext4/page-io.c, mm/filemap.c:folio_wait_writeback, folio_end_writeback
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { KernelBug, XA_MARK_2 } from '@pagelab/lib';
import { NODE_STAT, PG_DIRTY, PG_RECLAIM, PG_UPTODATE, PG_WRITEBACK } from '@pagelab/mm-core';
import type { BlockStore } from './block-store.ts';
import type { AddressSpace } from './file.ts';
import { TAG_DIRTY } from './page-cache.ts';
import { folioRotateReclaimable } from './swap.ts';
import type { Vm } from './vm.ts';

/** The mark of pages under writeback in `AddressSpace.pages`. @linux include/linux/fs.h:PAGECACHE_TAG_WRITEBACK */
export const TAG_WRITEBACK = XA_MARK_2;
/** Pages of one operation. @linux include/linux/bio.h:BIO_MAX_VECS, include/linux/blkdev.h:BLK_MAX_SEGMENTS */
const MAX_BIO_PAGES = 128;

/** An operation that is under way. @linux include/linux/blk_types.h:bio */
export interface WritebackBio {
  readonly mapping: AddressSpace;
  /** Page offset of the first page; the others follow. */
  readonly firstPgoff: number;
  readonly pfns: readonly Pfn[];
  /** What becomes of it: 0 or −EIO. */
  readonly ended: (bio: WritebackBio, error: number) => void;
}

/** A page on its way from the device. */
export interface PendingRead {
  readonly mappingId: number;
  readonly pgoff: number;
  readonly pfn: Pfn;
}

/** Pages that were being read are there. @linux fs/mpage.c:mpage_read_end_io */
export function endReads(vm: Vm): void {
  const { reads } = vm.writeback;
  for (const { mappingId, pgoff, pfn } of reads) {
    if (vm.mappings.get(mappingId)?.pages.get(pgoff) === pfn) vm.frames.flags[pfn] |= PG_UPTODATE;
  }
  reads.length = 0;
}

/** What is collected to go in one operation. */
export class WritebackPlug {
  readonly #vm: Vm;
  readonly #store: BlockStore;
  readonly #ended: WritebackBio['ended'];
  #mapping: AddressSpace | null = null;
  #firstPgoff = 0;
  #firstBlock = 0;
  #pfns: Pfn[] = [];

  constructor(vm: Vm, store: BlockStore, ended: WritebackBio['ended']) {
    this.#vm = vm;
    this.#store = store;
    this.#ended = ended;
  }

  /** Puts a page, which is clean by now, under writeback: it goes to `block`. @linux fs/ext4/page-io.c:io_submit_add_bh */
  add(mapping: AddressSpace, pgoff: number, block: number, pfn: Pfn): void {
    const { length } = this.#pfns;
    if (mapping !== this.#mapping || pgoff !== this.#firstPgoff + length || block !== this.#firstBlock + length || length === MAX_BIO_PAGES) {
      this.submit();
      this.#mapping = mapping;
      this.#firstPgoff = pgoff;
      this.#firstBlock = block;
    }
    this.#pfns.push(pfn);
    this.#vm.frames.flags[pfn] |= PG_WRITEBACK;
    mapping.pages.setMark(pgoff, TAG_WRITEBACK);
    this.#vm.pages.modNodeState(pfn, NODE_STAT.NR_WRITEBACK, 1);
  }

  /** Sends what was collected. Where the device's queue is full, time passes until there is room. @linux fs/ext4/page-io.c:ext4_io_submit */
  submit(): void {
    const vm = this.#vm;
    const pfns = this.#pfns;
    if (pfns.length === 0) return;
    this.#pfns = [];
    if (this.#store.full) {
      this.#store.waitForRoom();
      endWritebacks(vm);
    }
    const bio: WritebackBio = { mapping: this.#mapping!, firstPgoff: this.#firstPgoff, pfns, ended: this.#ended };
    const tag = this.#store.submit(this.#firstBlock, vm.ram, pfns);
    if (tag < 0) {
      endBio(vm, bio, -Errno.EIO);
      return;
    }
    vm.writeback.bios.set(tag, bio);
    vm.writeback.submitted();
  }
}

/** Ends the operations that the device is done with by now. @linux block/bio.c:bio_endio */
export function endWritebacks(vm: Vm): void {
  const { bios } = vm.writeback;
  if (bios.size === 0) return;
  const { store } = vm.blockFs;
  for (const [tag, bio] of bios) {
    const status = store.take(tag);
    if (status === undefined) continue;
    bios.delete(tag);
    endBio(vm, bio, status);
  }
}

/** @linux fs/ext4/page-io.c:ext4_finish_bio */
function endBio(vm: Vm, bio: WritebackBio, error: number): void {
  const { flags } = vm.frames;
  const { firstPgoff, mapping, pfns } = bio;
  for (let i = 0; i < pfns.length; i++) {
    const pfn = pfns[i];
    flags[pfn] &= ~PG_WRITEBACK;
    mapping.pages.clearMark(firstPgoff + i, TAG_WRITEBACK);
    vm.pages.modNodeState(pfn, NODE_STAT.NR_WRITEBACK, -1);
    vm.pages.modNodeState(pfn, NODE_STAT.NR_WRITTEN, 1);
  }
  bio.ended(bio, error);
  // Reclaim has met them, and wants them next.
  for (const pfn of pfns) {
    if ((flags[pfn] & PG_RECLAIM) === 0) continue;
    flags[pfn] &= ~PG_RECLAIM;
    folioRotateReclaimable(vm, pfn);
  }
}

/**
 * Lets time pass until none of pages `first` to `last` of a file is under writeback.
 *
 * @linux mm/filemap.c:folio_wait_writeback, __filemap_fdatawait_range
 */
export function folioWaitWriteback(vm: Vm, mapping: AddressSpace, first: number, last: number): void {
  const { pages } = mapping;
  if (!pages.isMarked(TAG_WRITEBACK)) return;
  endWritebacks(vm);
  for (;;) {
    const pgoff = pages.findMarked(first, TAG_WRITEBACK);
    if (pgoff < 0 || pgoff > last) return;
    waitForBio(vm, mapping, pgoff);
  }
}

/** Lets time pass until the operation that has a page is over. */
function waitForBio(vm: Vm, mapping: AddressSpace, pgoff: number): void {
  const { bios } = vm.writeback;
  for (const [tag, bio] of bios) {
    if (bio.mapping !== mapping || pgoff < bio.firstPgoff || pgoff >= bio.firstPgoff + bio.pfns.length) continue;
    const status = vm.blockFs.store.wait(tag);
    bios.delete(tag);
    endBio(vm, bio, status);
    endWritebacks(vm);
    return;
  }
}

/** As {@link folioWaitWriteback}, of one page of any file. */
export function waitOnWriteback(vm: Vm, pfn: Pfn): void {
  const mapping = vm.mappings.get(vm.frames.mapping[pfn]);
  if (mapping !== undefined) folioWaitWriteback(vm, mapping, vm.frames.index[pfn], vm.frames.index[pfn]);
}

/**
 * Lets up to `ns` pass until some operation is over.
 *
 * @returns whether one was
 */
export function waitForSomeWriteback(vm: Vm, ns: number): boolean {
  const { bios } = vm.writeback;
  const before = bios.size;
  if (before === 0) return false;
  const { store } = vm.blockFs;
  vm.clock.now = Math.max(vm.clock.now, Math.min(vm.clock.now + ns, store.nextCompletion));
  endWritebacks(vm);
  return bios.size < before;
}

/**
 * Recomputes what is dirty and what is on its way.
 *
 * @throws KernelBug where a page's flag, its mark, the counters and the operations that are under way do not agree
 */
export function validateWriteback(vm: Vm): void {
  const { flags } = vm.frames;
  const { bios } = vm.writeback;
  const claim = (holds: boolean, what: string): void => {
    if (!holds) throw new KernelBug(`writeback: ${what}`);
  };
  let dirty = 0;
  let underWay = 0;
  vm.mappings.forEach(({ id, ops, pages }) => {
    if (ops.swapBacked || ops === vm.hugetlbOps) return;
    pages.forEachIn(0, Infinity, (pfn, pgoff) => {
      claim(pages.getMark(pgoff, TAG_DIRTY) === ((flags[pfn] & PG_DIRTY) !== 0), `page ${pgoff} of ${id}: the mark of dirty pages is wrong`);
      claim(pages.getMark(pgoff, TAG_WRITEBACK) === ((flags[pfn] & PG_WRITEBACK) !== 0), `page ${pgoff} of ${id}: the mark of pages under writeback is wrong`);
      if ((flags[pfn] & PG_DIRTY) !== 0) dirty++;
      if ((flags[pfn] & PG_WRITEBACK) !== 0) underWay++;
    });
  });
  let inBios = 0;
  for (const { firstPgoff, mapping, pfns } of bios.values()) {
    inBios += pfns.length;
    for (let i = 0; i < pfns.length; i++) claim(mapping.pages.get(firstPgoff + i) === pfns[i], `page ${firstPgoff + i} of ${mapping.id} left on its way`);
  }
  claim(inBios === underWay, `${inBios} pages are on their way, ${underWay} say so`);
  claim(vm.pages.nodeState(NODE_STAT.NR_WRITEBACK) === underWay, `NR_WRITEBACK, ${underWay} pages`);
  claim(vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY) === dirty, `NR_FILE_DIRTY, ${dirty} pages`);
}
