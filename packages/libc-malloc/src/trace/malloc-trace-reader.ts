import type { MallocEvents } from './malloc-events.ts';
import {
  OP_CALLOC,
  OP_FREE,
  OP_MALLOC,
  OP_MEMALIGN,
  OP_REALLOC,
  createMallocEvents,
  growMallocEvents,
} from './malloc-events.ts';

/** A line of a trace that says nothing: its number counts from 1. */
export class MallocTraceError extends Error {
  override readonly name = 'MallocTraceError';
  readonly line: number;
  /** What is wrong with the line, without its number. */
  readonly problem: string;

  constructor(line: number, problem: string) {
    super(`line ${line}: ${problem}`);
    this.line = line;
    this.problem = problem;
  }
}

/** What becomes of what a reader reads. */
export interface MallocTraceReaderOptions {
  /** Takes a full batch of events. The columns are used again for the next. */
  readonly onBatch: (events: MallocEvents) => void;
  /** Takes the error of a broken line, which is then skipped. Without it the error is thrown. */
  readonly onError?: (error: MallocTraceError) => void;
  /** Events in a batch. Default 65,536. */
  readonly batchSize?: number;
}

const NEWLINE = 10;
const CARRIAGE_RETURN = 13;
const SPACE = 32;
const TAB = 9;
const HASH = 35;

/** No line of an event is as long; what is longer is not kept. */
const MAX_LINE = 1024;

const FORMS = ['m THREAD ID SIZE', 'c THREAD ID SIZE', 'a THREAD ID SIZE ALIGN', 'r THREAD OLD NEW SIZE', 'f THREAD ID'];

function opOf(letter: number): number {
  switch (letter) {
    case 109:
      return OP_MALLOC;
    case 99:
      return OP_CALLOC;
    case 97:
      return OP_MEMALIGN;
    case 114:
      return OP_REALLOC;
    case 102:
      return OP_FREE;
    default:
      return -1;
  }
}

/**
 * Reads a malloc trace of any length piece by piece, in memory that does not grow with it:
 *
 * ```
 * # comment
 * m THREAD ID SIZE          ID = malloc(SIZE)
 * c THREAD ID SIZE          ID = calloc(1, SIZE)
 * a THREAD ID SIZE ALIGN    ID = memalign(ALIGN, SIZE)
 * r THREAD OLD NEW SIZE     NEW = realloc(OLD, SIZE)
 * f THREAD ID               free(ID)
 * ```
 */
export class MallocTraceReader {
  readonly #options: MallocTraceReaderOptions;
  readonly #batch: MallocEvents;
  readonly #batchSize: number;
  /** The start of a line whose end has not come yet. */
  readonly #rest = new Uint8Array(MAX_LINE);
  #restLength = 0;
  #line = 0;
  /** The line being read, and the place in it. */
  #bytes: Uint8Array = this.#rest;
  #at = 0;
  #end = 0;

  constructor(options: MallocTraceReaderOptions) {
    this.#options = options;
    this.#batchSize = options.batchSize ?? 65_536;
    this.#batch = createMallocEvents(this.#batchSize);
  }

  /** Lines read so far. */
  get line(): number {
    return this.#line;
  }

  /** Reads the next piece; it may end anywhere. @throws MallocTraceError for a broken line, without `onError` */
  push(piece: Uint8Array | string): void {
    const bytes = typeof piece === 'string' ? asciiBytes(piece) : piece;
    let start = 0;
    for (;;) {
      const newline = bytes.indexOf(NEWLINE, start);
      if (newline < 0) break;
      if (this.#restLength > 0) {
        this.#keep(bytes, start, newline);
        const length = this.#restLength;
        this.#restLength = 0;
        this.#readLine(this.#rest, 0, length);
      } else {
        this.#readLine(bytes, start, newline);
      }
      start = newline + 1;
    }
    this.#keep(bytes, start, bytes.length);
  }

  /** Ends the trace: reads a last line without a newline, and hands the last batch on. */
  end(): void {
    if (this.#restLength > 0) {
      const length = this.#restLength;
      this.#restLength = 0;
      this.#readLine(this.#rest, 0, length);
    }
    if (this.#batch.count > 0) this.#flush();
  }

  #keep(bytes: Uint8Array, start: number, end: number): void {
    const room = MAX_LINE - this.#restLength;
    const kept = bytes.subarray(start, Math.min(end, start + room));
    this.#rest.set(kept, this.#restLength);
    this.#restLength += kept.length;
  }

  #flush(): void {
    this.#options.onBatch(this.#batch);
    this.#batch.count = 0;
  }

  #readLine(bytes: Uint8Array, start: number, end: number): void {
    this.#line++;
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end > start && bytes[end - 1] === CARRIAGE_RETURN ? end - 1 : end;
    this.#skipBlanks();
    if (this.#at === this.#end || bytes[this.#at] === HASH) return;
    const problem = this.#readEvent();
    if (problem === '') {
      if (++this.#batch.count === this.#batchSize) this.#flush();
      return;
    }
    const error = new MallocTraceError(this.#line, problem);
    if (this.#options.onError === undefined) throw error;
    this.#options.onError(error);
  }

  /** Reads one event into the batch's next row; returns what is wrong, '' where nothing is. */
  #readEvent(): string {
    const batch = this.#batch;
    const row = batch.count;
    const op = opOf(this.#bytes[this.#at++]);
    if (op < 0) {
      const letter = String.fromCharCode(this.#bytes[this.#at - 1]);
      return `unknown event '${letter}': expected m, c, a, r or f`;
    }
    const thread = this.#number();
    const id = this.#number();
    let size = 0;
    let extra = 0;
    if (op === OP_REALLOC) {
      extra = this.#number();
      size = this.#number();
    } else if (op !== OP_FREE) {
      size = this.#number();
      if (op === OP_MEMALIGN) extra = this.#number();
    }
    this.#skipBlanks();
    // A number that is not there is below 0.
    if (thread < 0 || id < 0 || size < 0 || extra < 0 || this.#at !== this.#end) return `expected '${FORMS[op]}'`;
    if (thread >= 2 ** 32) return 'a thread number is below 2^32';
    if (id >= 2 ** 32 || (op === OP_REALLOC && extra >= 2 ** 32)) return 'a block number is below 2^32';
    if (op === OP_MEMALIGN && extra >= 2 ** 32) return 'an alignment is below 2^32';
    batch.ops[row] = op;
    batch.threads[row] = thread;
    batch.ids[row] = id;
    batch.extras[row] = extra;
    batch.sizes[row] = size;
    return '';
  }

  /** The next number, after at least one blank; -1 where there is none. */
  #number(): number {
    const bytes = this.#bytes;
    const before = this.#at;
    this.#skipBlanks();
    if (this.#at === before) return -1;
    const start = this.#at;
    let value = 0;
    while (this.#at < this.#end) {
      const digit = bytes[this.#at] - 48;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      this.#at++;
    }
    return this.#at === start ? -1 : value;
  }

  #skipBlanks(): void {
    const bytes = this.#bytes;
    while (this.#at < this.#end && (bytes[this.#at] === SPACE || bytes[this.#at] === TAB)) this.#at++;
  }
}

function asciiBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  // What is not ASCII is in no event: it is read as '?'.
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i) < 128 ? text.charCodeAt(i) : 63;
  return bytes;
}

/** Reads a whole trace. @throws MallocTraceError for the first broken line */
export function parseMallocTrace(trace: Uint8Array | string): MallocEvents {
  let all = createMallocEvents(Math.max(16, Math.ceil(trace.length / 10)));
  const reader = new MallocTraceReader({
    onBatch(batch) {
      const count = all.count + batch.count;
      if (count > all.ops.length) all = growMallocEvents(all, Math.max(count, 2 * all.ops.length));
      all.ops.set(batch.ops.subarray(0, batch.count), all.count);
      all.threads.set(batch.threads.subarray(0, batch.count), all.count);
      all.ids.set(batch.ids.subarray(0, batch.count), all.count);
      all.extras.set(batch.extras.subarray(0, batch.count), all.count);
      all.sizes.set(batch.sizes.subarray(0, batch.count), all.count);
      all.count = count;
    },
  });
  reader.push(trace);
  reader.end();
  return all;
}
