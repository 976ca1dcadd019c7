/**
 * What a malloc trace asked for and what that cost, in memory that does not grow with the trace: sums, how large blocks were and how
 * long they lived, and samples over its course.
 */
import { BlockTable, OP_FREE, OP_REALLOC } from '@pagelab/libc-malloc';
import type { Mallinfo2, MallocEvents } from '@pagelab/libc-malloc';

/** One moment of a replay. Sizes in bytes. */
export interface MallocSample {
  /** Events so far. */
  readonly events: number;
  /** Asked for and not freed. */
  readonly requested: number;
  /** Obtained from the system: the heap and mapped blocks. */
  readonly obtained: number;
  /** In blocks, with what rounding and headers add. */
  readonly inUse: number;
  /** Of the process. */
  readonly resident: number;
}

/** Blocks by their size, or by how long they lived: from 2^(index − 1) + 1 to 2^index. */
export interface Distribution {
  readonly blocks: readonly number[];
  /** Bytes asked for in them. */
  readonly bytes: readonly number[];
}

export interface MallocProfileResult {
  readonly events: number;
  readonly requestedBytes: number;
  readonly peakRequestedBytes: number;
  readonly peakObtainedBytes: number;
  readonly peakResidentBytes: number;
  /** Of memory in blocks, the share that nobody asked for; of memory obtained, the share in no block. At the moment of the peak. */
  readonly internalFragmentation: number;
  readonly externalFragmentation: number;
  readonly sizes: Distribution;
  /** In events, of blocks that were freed. */
  readonly lifetimes: Distribution;
  /** Blocks never freed, and the bytes in them. */
  readonly leftBlocks: number;
  readonly samples: readonly MallocSample[];
}

const MAX_SAMPLES = 512;
const BUCKETS = 64;
/** No program has as much memory: a request of so many bytes got none. */
const USER_SPACE_BYTES = 2 ** 47;

/** The index of the bucket: 0 for 0 and 1, then one for each power of two. */
function bucketOf(value: number): number {
  return value <= 1 ? 0 : Math.ceil(Math.log2(value));
}

class Buckets {
  readonly blocks = new Float64Array(BUCKETS);
  readonly bytes = new Float64Array(BUCKETS);

  add(value: number, bytes: number): void {
    const bucket = bucketOf(value);
    this.blocks[bucket]! += 1;
    this.bytes[bucket]! += bytes;
  }

  result(): Distribution {
    const used = this.blocks.findLastIndex((blocks) => blocks > 0) + 1;
    return { blocks: [...this.blocks.subarray(0, used)], bytes: [...this.bytes.subarray(0, used)] };
  }
}

/** What a sample needs of the allocator and the process. */
export interface ProfileSources {
  readonly mallinfo2: () => Mallinfo2;
  /** Bytes. */
  readonly resident: () => number;
}

export class MallocProfile {
  readonly #sources: ProfileSources;
  readonly #sizes = new Buckets();
  readonly #lifetimes = new Buckets();
  /** By block: its size + 1, and the event that made it + 1. */
  readonly #size = new BlockTable();
  readonly #born = new BlockTable();
  #events = 0;
  #live = 0;
  #liveBlocks = 0;
  #peakLive = 0;
  #samples: MallocSample[] = [];
  #interval = 1;
  #nextSample = 0;

  constructor(sources: ProfileSources) {
    this.#sources = sources;
  }

  /** Counts events that have been replayed. */
  add({ count, ops, ids, extras, sizes }: MallocEvents): void {
    for (let i = 0; i < count; i++) {
      const op = ops[i]!;
      this.#events++;
      if (op === OP_FREE) {
        this.#died(ids[i]!);
      } else if (op === OP_REALLOC) {
        // One that cannot succeed leaves the old block.
        if (sizes[i]! >= USER_SPACE_BYTES) continue;
        this.#died(ids[i]!);
        if (sizes[i]! > 0) this.#made(extras[i]!, sizes[i]!);
      } else {
        this.#died(ids[i]!);
        this.#made(ids[i]!, sizes[i]!);
      }
      if (this.#live > this.#peakLive) this.#peakLive = this.#live;
    }
    if (this.#events >= this.#nextSample) this.#sample();
  }

  result(): MallocProfileResult {
    this.#sample();
    const samples = this.#samples;
    const peak = samples.reduce((a, b) => (b.obtained > a.obtained ? b : a));
    return {
      events: this.#events,
      requestedBytes: this.#live,
      peakRequestedBytes: this.#peakLive,
      peakObtainedBytes: peak.obtained,
      peakResidentBytes: samples.reduce((most, { resident }) => Math.max(most, resident), 0),
      internalFragmentation: peak.inUse === 0 ? 0 : Math.max(0, 1 - peak.requested / peak.inUse),
      externalFragmentation: peak.obtained === 0 ? 0 : Math.max(0, 1 - peak.inUse / peak.obtained),
      sizes: this.#sizes.result(),
      lifetimes: this.#lifetimes.result(),
      leftBlocks: this.#liveBlocks,
      samples,
    };
  }

  #made(id: number, bytes: number): void {
    if (bytes >= USER_SPACE_BYTES) return;
    this.#sizes.add(bytes, bytes);
    this.#size.set(id, bytes + 1);
    this.#born.set(id, this.#events);
    this.#live += bytes;
    this.#liveBlocks++;
  }

  #died(id: number): void {
    const born = this.#born.take(id);
    if (born === 0) return;
    const bytes = this.#size.take(id) - 1;
    this.#lifetimes.add(this.#events - born, bytes);
    this.#live -= bytes;
    this.#liveBlocks--;
  }

  #sample(): void {
    const { arena, uordblks, hblkhd } = this.#sources.mallinfo2();
    this.#samples.push({
      events: this.#events, requested: this.#live, obtained: arena + hblkhd, inUse: uordblks + hblkhd, resident: this.#sources.resident(),
    });
    if (this.#samples.length === MAX_SAMPLES) {
      this.#samples = this.#samples.filter((_, at) => at % 2 === 0);
      this.#interval = Math.max(this.#interval, Math.ceil(this.#events / this.#samples.length));
    }
    this.#nextSample = this.#events + this.#interval;
  }
}
