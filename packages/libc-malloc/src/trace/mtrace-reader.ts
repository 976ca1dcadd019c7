import type { MallocEvents } from './malloc-events.ts';
import { OP_FREE, OP_MALLOC, OP_REALLOC, createMallocEvents } from './malloc-events.ts';

/** What becomes of what is read. */
export interface MtraceReaderOptions {
  /** Takes a full batch of events. The columns are used again for the next. */
  readonly onBatch: (events: MallocEvents) => void;
  /** Events in a batch. Default 65,536. */
  readonly batchSize?: number;
}

const LINE = /^@ .*? ?([+<>!-]) (0x[0-9a-f]+|\(nil\))(?: (0x[0-9a-f]+|0))?$/;

/**
 * Reads the log that glibc's `mtrace` writes, line by line:
 *
 * ```
 * @ PROGRAM:(FUNCTION+0x1d)[0x401136] + 0x55f96da134a0 0x64      allocated, bytes
 * @ PROGRAM:[0x11c5] < 0x55f96da134a0                            realloc: the old block …
 * @ PROGRAM:[0x11c5] > 0x55f96da134a0 0x1388                     … and the new one, bytes
 * @ PROGRAM:[0x1243] ! 0x55f96da132a0 0xfffffffffffff000         realloc of this block failed
 * @ PROGRAM:[0x11fb] - 0x55f96da134a0                            freed
 * ```
 *
 * `calloc` and `memalign` look like `malloc` there, and all threads like one. Memory grows with the number of live blocks.
 */
export class MtraceReader {
  readonly #options: MtraceReaderOptions;
  readonly #batch: MallocEvents;
  readonly #batchSize: number;
  readonly #ids = new Map<string, number>();
  readonly #freeIds: number[] = [];
  #nextId = 1;
  /** The old block of a `realloc` whose second line has not come. */
  #old: string | null = null;
  #unknownFrees = 0;

  constructor(options: MtraceReaderOptions) {
    this.#options = options;
    this.#batchSize = options.batchSize ?? 65_536;
    this.#batch = createMallocEvents(this.#batchSize);
  }

  /** Blocks freed or resized that were allocated before the log began. */
  get unknownFrees(): number {
    return this.#unknownFrees;
  }

  /** Reads a line; answers what is wrong with it, `''` where nothing is. */
  line(text: string): string {
    if (text.startsWith('= ')) return '';
    const fields = LINE.exec(text);
    if (fields === null) return "expected '@ CALLER + ADDRESS SIZE', or '-', '<', '>', '!' and the same";
    const [, sign, address = '', size] = fields;
    const old = this.#old;
    this.#old = null;
    if ((sign === '>') !== (old !== null)) return old === null ? "'>' without '<' before it" : `'${sign}' right after '<'`;
    if (sign === '<') {
      this.#old = address;
    } else if (sign === '-') {
      this.#free(address);
    } else if (size === undefined) {
      return `'${sign}' needs a size`;
    } else if (sign === '+') {
      this.#add(OP_MALLOC, this.#idOf(address), 0, Number(size));
    } else if (sign === '>') {
      this.#resize(old!, address, Number(size));
    } else {
      // It failed, and the old block is still there: asked again, it fails again.
      this.#add(OP_REALLOC, this.#known(address), this.#known(address), Number(size));
    }
    return '';
  }

  /** Ends the log: hands the last batch on. */
  end(): void {
    if (this.#batch.count > 0) this.#flush();
  }

  #free(address: string): void {
    const id = this.#ids.get(address);
    if (id === undefined) {
      this.#unknownFrees++;
      return;
    }
    this.#ids.delete(address);
    this.#freeIds.push(id);
    this.#add(OP_FREE, id, 0, 0);
  }

  #resize(old: string, address: string, size: number): void {
    const id = this.#known(old);
    if (address === '(nil)') {
      this.#add(OP_REALLOC, id, id, size);
      return;
    }
    this.#ids.delete(old);
    this.#ids.set(address, id);
    this.#add(OP_REALLOC, id, id, size);
  }

  /** The number of a block that should be known; one that is not gets a number without a block. */
  #known(address: string): number {
    const id = this.#ids.get(address);
    if (id !== undefined) return id;
    this.#unknownFrees++;
    return this.#idOf(address);
  }

  #idOf(address: string): number {
    const id = this.#freeIds.pop() ?? this.#nextId++;
    if (address !== '(nil)') this.#ids.set(address, id);
    return id;
  }

  #add(op: number, id: number, extra: number, size: number): void {
    const batch = this.#batch;
    const row = batch.count++;
    batch.ops[row] = op;
    batch.threads[row] = 0;
    batch.ids[row] = id;
    batch.extras[row] = extra;
    batch.sizes[row] = size;
    if (batch.count === this.#batchSize) this.#flush();
  }

  #flush(): void {
    this.#options.onBatch(this.#batch);
    this.#batch.count = 0;
  }
}
