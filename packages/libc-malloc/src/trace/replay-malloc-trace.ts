import type { VirtAddr } from '@pagelab/abi';
import type { Malloc, MallocOs } from '../malloc.ts';
import { BlockTable } from './block-table.ts';
import type { MallocEvents } from './malloc-events.ts';
import { OP_CALLOC, OP_FREE, OP_MALLOC, OP_MEMALIGN } from './malloc-events.ts';

/** Takes where a block landed: its offset in bytes from the start of the heap, or -1 for a mapping of its own. */
export type OnBlock = (offset: number, address: VirtAddr) => void;

/** What a replay tells on the way. */
export interface MallocReplayOptions {
  /**
   * Called after each event but `free`. A block is in the heap if it lies between the break at the start of the replay
   * and the break now; where there was no memory the offset is -1, the address 0.
   */
  readonly onBlock?: OnBlock;
  /**
   * Begins a thread of the address space and answers its handle: each thread number of the trace has one then, but for the
   * first one seen, which is the allocator's own. By default all events are that thread's: this is how recorded addresses are.
   */
  readonly beginThread?: () => MallocOs;
}

/**
 * Asks an allocator for what a trace asked, in the order of the events. A `free` or `realloc` of a
 * number that holds no block is one of NULL.
 */
export class MallocReplay {
  readonly #malloc: Malloc;
  readonly #os: Pick<MallocOs, 'sbrk'>;
  readonly #onBlock: OnBlock | undefined;
  readonly #beginThread: (() => MallocOs) | undefined;
  /** By thread number, where each is a thread of its own. */
  readonly #threads = new Map<number, Malloc>();
  readonly #heapStart: VirtAddr;
  /** The blocks that live now. */
  readonly blocks = new BlockTable();

  constructor(malloc: Malloc, os: Pick<MallocOs, 'sbrk'>, options: MallocReplayOptions = {}) {
    this.#malloc = malloc;
    this.#os = os;
    this.#onBlock = options.onBlock;
    this.#beginThread = options.beginThread;
    this.#heapStart = os.sbrk(0);
  }

  /** Replays the next events of the trace. @throws MallocAbort where the allocator gives up */
  run(events: MallocEvents): void {
    const { ops, ids, extras, sizes, count } = events;
    let malloc = this.#malloc;
    const beginThread = this.#beginThread;
    const blocks = this.blocks;
    const onBlock = this.#onBlock;
    for (let event = 0; event < count; event++) {
      const op = ops[event];
      const id = ids[event];
      if (beginThread !== undefined) malloc = this.#thread(beginThread, events.threads[event]);
      let block: VirtAddr;
      if (op === OP_FREE) {
        malloc.free(blocks.take(id));
        continue;
      }
      if (op === OP_MALLOC) {
        block = malloc.malloc(sizes[event]);
        blocks.set(id, block);
      } else if (op === OP_CALLOC) {
        block = malloc.calloc(1, sizes[event]);
        blocks.set(id, block);
      } else if (op === OP_MEMALIGN) {
        block = malloc.memalign(extras[event], sizes[event]);
        blocks.set(id, block);
      } else {
        block = malloc.realloc(blocks.get(id), sizes[event]);
        if (extras[event] !== id) blocks.set(id, 0);
        blocks.set(extras[event], block);
      }
      if (onBlock !== undefined) this.#tell(onBlock, block);
    }
  }

  #thread(beginThread: () => MallocOs, number: number): Malloc {
    const threads = this.#threads;
    const known = threads.get(number);
    if (known !== undefined) return known;
    const malloc = this.#malloc;
    const thread = threads.size === 0 || malloc.thread === undefined ? malloc : malloc.thread(beginThread());
    threads.set(number, thread);
    return thread;
  }

  #tell(onBlock: OnBlock, block: VirtAddr): void {
    const inHeap = block >= this.#heapStart && block < this.#os.sbrk(0);
    onBlock(inHeap ? block - this.#heapStart : -1, block);
  }
}

/** Replays a whole trace; see {@link MallocReplay}. */
export function replayMallocTrace(
  events: MallocEvents,
  malloc: Malloc,
  os: Pick<MallocOs, 'sbrk'>,
  options: MallocReplayOptions = {},
): void {
  new MallocReplay(malloc, os, options).run(events);
}

/** A block's place as recorded address lists write it: the offset in hexadecimal, or `mmap`. */
export function formatBlockOffset(offset: number): string {
  return offset < 0 ? 'mmap' : offset.toString(16);
}
