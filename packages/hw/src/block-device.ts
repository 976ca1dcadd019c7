/**
 * A disk: a queue of requests, a device that takes them one after the other in virtual time, and its counts.
 *
 * What is submitted is an *operation* (Linux's bio). Operations that lie side by side on the disk are merged into one
 * *request* while they wait; a request occupies one of the device's channels for as long as the disk's model says, and
 * its data moves by DMA when it is over. Time passes elsewhere: {@link BlockDevice.poll} sees what the clock has come
 * to, {@link BlockDevice.wait} advances it.
 *
 * ```
 * nrRequests === queued + in flight          at most `queueLimit`
 * operations submitted === taken + completed and not taken + in requests
 * ```
 *
 * Between whatever is queued at a time there is no order but that of the queue, and none where channels work in
 * parallel, as on real disks: who needs one waits for the first before submitting the second.
 */
import { Errno } from '@pagelab/abi';
import type { VirtualClock } from './clock.ts';
import { SECTOR_SIZE } from './disk-backing.ts';
import type { DiskBacking } from './disk-backing.ts';
import { DISK_SSD, positioningNs } from './disk-model.ts';
import type { DiskModel } from './disk-model.ts';
import { DMA_OK } from './dma.ts';
import type { DmaEngine, DmaSegment } from './dma.ts';
import { FaultInjector } from './fault-injector.ts';
import type { DiskFault } from './fault-injector.ts';

/** Reads sectors. @linux include/linux/blk_types.h:REQ_OP_READ */
export const REQ_OP_READ = 0;
/** Writes sectors. @linux include/linux/blk_types.h:REQ_OP_WRITE */
export const REQ_OP_WRITE = 1;
/** Waits until what was written is durable. @linux include/linux/blk_types.h:REQ_OP_FLUSH */
export const REQ_OP_FLUSH = 2;
/** Tells that sectors hold nothing of use. @linux include/linux/blk_types.h:REQ_OP_DISCARD */
export const REQ_OP_DISCARD = 3;

/** The counts of one kind of operation, as `/proc/diskstats` has them. */
export interface DiskOpStats {
  /** Requests completed, whether they succeeded or not. */
  ios: number;
  /** Operations merged into a request that waited. */
  merges: number;
  sectors: number;
  /** Time from a request's making to its end, summed over requests, in ns. */
  ns: number;
}

/** How a device is set up; what is left out is as Linux has it for an SSD. */
export interface BlockDeviceOptions {
  readonly model?: DiskModel;
  /** Requests queued and in flight at most. @linux include/linux/blkdev.h:BLKDEV_DEFAULT_RQ */
  readonly queueLimit?: number;
  /** Sectors in a request at most. @linux include/linux/blkdev.h:BLK_DEF_MAX_SECTORS_CAP */
  readonly maxSectors?: number;
  /** Segments in a request at most. @linux include/linux/blkdev.h:BLK_MAX_SEGMENTS */
  readonly maxSegments?: number;
  /** Seed of errors that come by chance. */
  readonly seed?: number;
}

interface Operation {
  readonly tag: number;
  readonly sector: number;
  readonly nrSectors: number;
  readonly segments: readonly DmaSegment[];
}

interface Request {
  readonly op: number;
  sector: number;
  nrSectors: number;
  nrSegments: number;
  /** In the order of their sectors. */
  readonly operations: Operation[];
  readonly madeAt: number;
  /** When it will be over; meaningful in flight. */
  endsAt: number;
}

const NO_SEGMENTS: readonly DmaSegment[] = [];

/** A disk. */
export class BlockDevice {
  readonly name: string;
  readonly model: DiskModel;
  readonly nrSectors: number;
  readonly queueLimit: number;
  readonly maxSectors: number;
  readonly maxSegments: number;
  /** By `REQ_OP_…`. */
  readonly opStats: readonly DiskOpStats[] = [0, 1, 2, 3].map(() => ({ ios: 0, merges: 0, sectors: 0, ns: 0 }));
  /** Operations that failed: by injection, by the backing store, or by DMA. */
  errors = 0;
  /** Errors that are made to happen. */
  readonly faults: FaultInjector;

  readonly #backing: DiskBacking;
  readonly #dma: DmaEngine;
  readonly #clock: VirtualClock;
  readonly #queue: Request[] = [];
  /** In flight, in the order in which they end. */
  readonly #flying: Request[] = [];
  /** Statuses of completed operations that nobody took yet, by tag. */
  readonly #completed = new Map<number, number>();
  #nextTag = 1;
  #plugged = false;
  /** The sector after the last one that was read or written: where the head is. */
  #head = 0;
  /** When the link is free again: it moves the data of one request at a time. */
  #linkFreeAt = 0;
  /** Time in which at least one request was queued or in flight, up to {@link #busyFrom}. */
  #busyNs = 0;
  #busyFrom = 0;
  #transfer = new Uint8Array(0);

  constructor(name: string, backing: DiskBacking, dma: DmaEngine, clock: VirtualClock, options: BlockDeviceOptions = {}) {
    this.name = name;
    this.#backing = backing;
    this.#dma = dma;
    this.#clock = clock;
    this.nrSectors = backing.nrSectors;
    this.model = options.model ?? DISK_SSD;
    this.queueLimit = options.queueLimit ?? 128;
    this.maxSectors = options.maxSectors ?? 2560;
    this.maxSegments = options.maxSegments ?? 128;
    if (!(this.queueLimit >= 1 && this.maxSectors >= 8 && this.maxSegments >= 1)) {
      throw new RangeError('a queue holds at least one request, of 8 sectors and a segment');
    }
    this.faults = new FaultInjector(options.seed ?? 0);
  }

  /** Requests queued or in flight. */
  get nrRequests(): number {
    return this.#queue.length + this.#flying.length;
  }

  /** Whether a submission that cannot be merged would be refused. */
  get full(): boolean {
    return this.nrRequests >= this.queueLimit;
  }

  /** When the next request in flight will be over, in ns; `Infinity` where none is. */
  get nextCompletion(): number {
    return this.#flying.length === 0 ? Infinity : this.#flying[0].endsAt;
  }

  /**
   * Holds requests back, so that operations which follow can be merged, until {@link unplug}.
   *
   * @linux block/blk-core.c:blk_start_plug
   */
  plug(): void {
    this.#plugged = true;
  }

  /** Lets the device take what is queued. @linux block/blk-core.c:blk_finish_plug */
  unplug(): void {
    this.#plugged = false;
    this.#start(this.#clock.now);
  }

  /** Makes an error happen from now on. @throws RangeError for a rule that makes no sense */
  inject(fault: DiskFault): void {
    this.faults.add(fault);
  }

  /**
   * Submits an operation on the sectors from `sector` on, to or from the memory that `segments` name.
   *
   * @param op `REQ_OP_…`
   * @param segments whole sectors each; none for a flush or a discard
   * @param discardSectors how many sectors to discard
   * @returns the tag under which its status will be found, −EIO beyond the disk's end, or −EAGAIN where the queue is
   *   full
   * @throws RangeError for a segment that is not whole sectors
   * @linux block/blk-core.c:submit_bio
   */
  submit(op: number, sector: number, segments: readonly DmaSegment[] = NO_SEGMENTS, discardSectors = 0): number {
    this.poll();
    const nrSectors = op === REQ_OP_DISCARD ? discardSectors : sectorsOf(segments);
    if (!(op >= REQ_OP_READ && op <= REQ_OP_DISCARD) || (op !== REQ_OP_FLUSH && nrSectors === 0)) {
      throw new RangeError(`not a disk operation: ${op} of ${nrSectors} sectors`);
    }
    if (!Number.isInteger(sector) || sector < 0 || sector + nrSectors > this.nrSectors) return -Errno.EIO;
    if (nrSectors > this.maxSectors || segments.length > this.maxSegments) {
      if (op !== REQ_OP_DISCARD) throw new RangeError(`an operation of ${nrSectors} sectors is more than a request holds`);
    }
    const operation: Operation = { tag: this.#nextTag, sector, nrSectors, segments };
    if (!this.#merge(op, operation)) {
      if (this.full) return -Errno.EAGAIN;
      const { now } = this.#clock;
      if (this.nrRequests === 0) this.#busyFrom = now;
      this.#queue.push({
        op,
        sector,
        nrSectors,
        nrSegments: segments.length,
        operations: [operation],
        madeAt: now,
        endsAt: 0,
      });
      if (!this.#plugged) this.#start(now);
    }
    this.#nextTag += 1;
    return operation.tag;
  }

  /** Completes what is over by now. Returns how many requests that were. */
  poll(): number {
    const { now } = this.#clock;
    let completed = 0;
    while (this.nextCompletion <= now) {
      const request = this.#flying.shift()!;
      this.#complete(request);
      completed += 1;
      this.#start(request.endsAt);
    }
    return completed;
  }

  /**
   * The status of a completed operation, which is forgotten by that: 0 or −EIO; `undefined` while it is under way.
   */
  take(tag: number): number | undefined {
    const status = this.#completed.get(tag);
    if (status !== undefined) this.#completed.delete(tag);
    return status;
  }

  /**
   * Lets time pass until an operation is over, and takes its status. Unplugs.
   *
   * @throws RangeError for a tag that is not under way
   * @linux block/bio.c:submit_bio_wait
   */
  wait(tag: number): number {
    this.unplug();
    for (;;) {
      const status = this.take(tag);
      if (status !== undefined) return status;
      if (this.#flying.length === 0) throw new RangeError(`no operation ${tag} is under way on ${this.name}`);
      this.#clock.now = Math.max(this.#clock.now, this.nextCompletion);
      this.poll();
    }
  }

  /** Lets time pass until the queue is no longer full, as a task that submits does. @linux block/blk-mq-tag.c:blk_mq_get_tag */
  waitForRoom(): void {
    while (this.full) {
      if (this.#flying.length === 0) this.unplug();
      this.#clock.now = Math.max(this.#clock.now, this.nextCompletion);
      this.poll();
    }
  }

  /** Lets time pass until nothing is under way. */
  drain(): void {
    this.unplug();
    while (this.#flying.length > 0) {
      this.#clock.now = Math.max(this.#clock.now, this.nextCompletion);
      this.poll();
    }
  }

  /** Reads sectors into memory and waits. 0 or −EIO. */
  read(sector: number, segments: readonly DmaSegment[]): number {
    return this.#now(REQ_OP_READ, sector, segments);
  }

  /** Writes sectors from memory and waits. 0 or −EIO. */
  write(sector: number, segments: readonly DmaSegment[]): number {
    return this.#now(REQ_OP_WRITE, sector, segments);
  }

  /**
   * The 17 numbers of the disk's line in `/proc/diskstats`, times in ms: reads, reads merged, sectors read, ms reading;
   * the same for writes; requests in flight, ms with any, ms summed over requests; the four of discards; flushes, ms
   * flushing.
   *
   * @linux block/genhd.c:diskstats_show
   */
  diskstats(): number[] {
    const [read, write, flush, discard] = this.opStats;
    const { now } = this.#clock;
    const four = ({ ios, merges, sectors, ns }: DiskOpStats): number[] => [ios, merges, sectors, ms(ns)];
    const busy = this.#busyNs + (this.nrRequests > 0 ? now - this.#busyFrom : 0);
    const all = this.opStats.reduce((sum, { ns }) => sum + ns, 0);
    return [
      ...four(read),
      ...four(write),
      this.nrRequests,
      ms(busy),
      ms(all),
      ...four(discard),
      flush.ios,
      ms(flush.ns),
    ];
  }

  #now(op: number, sector: number, segments: readonly DmaSegment[]): number {
    this.waitForRoom();
    const tag = this.submit(op, sector, segments);
    return tag < 0 ? tag : this.wait(tag);
  }

  /** Adds an operation to a request that waits, at its end or at its beginning. @linux block/blk-merge.c:blk_attempt_bio_merge */
  #merge(op: number, operation: Operation): boolean {
    if (op === REQ_OP_FLUSH) return false;
    const { sector, nrSectors, segments } = operation;
    // The last one queued is the likeliest, as who writes a file goes on where it was.
    for (let i = this.#queue.length - 1; i >= 0; i--) {
      const request = this.#queue[i];
      if (request.op === REQ_OP_FLUSH) return false;
      if (request.op !== op || request.nrSectors + nrSectors > this.maxSectors) continue;
      if (request.nrSegments + segments.length > this.maxSegments) continue;
      if (request.sector + request.nrSectors === sector) {
        request.operations.push(operation);
      } else if (sector + nrSectors === request.sector) {
        request.operations.unshift(operation);
        request.sector = sector;
      } else {
        continue;
      }
      request.nrSectors += nrSectors;
      request.nrSegments += segments.length;
      this.opStats[op].merges += 1;
      return true;
    }
    return false;
  }

  /** Gives the device what it has channels for. */
  #start(now: number): void {
    while (!this.#plugged && this.#queue.length > 0 && this.#flying.length < this.model.channels) {
      const [next] = this.#queue;
      // A flush is over only when everything before it is, and nothing overtakes it.
      if (this.#flying.some(({ op }) => op === REQ_OP_FLUSH) || (next.op === REQ_OP_FLUSH && this.#flying.length > 0)) return;
      this.#queue.shift();
      next.endsAt = this.#serve(next, now);
      let at = this.#flying.length;
      while (at > 0 && this.#flying[at - 1].endsAt > next.endsAt) at -= 1;
      this.#flying.splice(at, 0, next);
    }
  }

  /** When a request that starts at `now` is over. */
  #serve({ op, sector, nrSectors }: Request, now: number): number {
    const { model } = this;
    const command = op === REQ_OP_READ ? model.readCommandNs : model.writeCommandNs;
    if (op === REQ_OP_FLUSH || op === REQ_OP_DISCARD) return now + command;
    const ready = now + command + positioningNs(model, sector - this.#head, this.nrSectors);
    this.#head = sector + nrSectors;
    const bytesPerSecond = op === REQ_OP_READ ? model.readBytesPerSecond : model.writeBytesPerSecond;
    const end = Math.max(ready, this.#linkFreeAt) + (nrSectors * SECTOR_SIZE * 1e9) / bytesPerSecond;
    this.#linkFreeAt = end;
    return end;
  }

  /** Moves a request's data and counts it. */
  #complete(request: Request): void {
    const { op, endsAt } = request;
    const fault = this.faults.decide(op, request.sector, request.nrSectors);
    for (const operation of request.operations) {
      const struck = fault !== undefined && FaultInjector.strikes(fault, operation.sector, operation.nrSectors);
      const done = !struck && this.#move(op, operation);
      if (!done) this.errors += 1;
      this.#completed.set(operation.tag, done ? 0 : -Errno.EIO);
    }
    const stats = this.opStats[op];
    stats.ios += 1;
    stats.sectors += request.nrSectors;
    stats.ns += endsAt - request.madeAt;
    if (this.nrRequests === 0) this.#busyNs += endsAt - this.#busyFrom;
  }

  /** Moves the data of one operation. A failure leaves memory, or the disk, as it was. */
  #move(op: number, { sector, nrSectors, segments }: Operation): boolean {
    if (op === REQ_OP_FLUSH) return true;
    if (op === REQ_OP_DISCARD) {
      this.#backing.discard(sector, nrSectors);
      return true;
    }
    const length = nrSectors * SECTOR_SIZE;
    if (this.#transfer.length < length) this.#transfer = new Uint8Array(length);
    const bytes = this.#transfer.subarray(0, length);
    if (op === REQ_OP_READ) return this.#backing.read(sector, bytes) && this.#dma.scatter(segments, bytes) === DMA_OK;
    return this.#dma.gather(segments, bytes) === DMA_OK && this.#backing.write(sector, bytes);
  }
}

/** How many sectors the segments are. */
function sectorsOf(segments: readonly DmaSegment[]): number {
  let bytes = 0;
  for (const { length } of segments) {
    if (!(length > 0) || length % SECTOR_SIZE !== 0) throw new RangeError(`a segment of ${length} bytes is not whole sectors`);
    bytes += length;
  }
  return bytes / SECTOR_SIZE;
}

function ms(ns: number): number {
  return Math.floor(ns / 1e6);
}
