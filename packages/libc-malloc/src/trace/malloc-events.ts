/** What an event asks for: the letter of its line. */
export const OP_MALLOC = 0;
export const OP_CALLOC = 1;
export const OP_MEMALIGN = 2;
export const OP_REALLOC = 3;
export const OP_FREE = 4;

/** Events of a malloc trace as columns; rows `0 … count - 1` are valid. */
export interface MallocEvents {
  count: number;
  /** `OP_MALLOC`, … */
  readonly ops: Uint8Array;
  readonly threads: Uint32Array;
  /** The block: of `realloc` the old one. */
  readonly ids: Uint32Array;
  /** Of `realloc` the new block, of `memalign` the alignment in bytes, else 0. */
  readonly extras: Uint32Array;
  /** Bytes asked for; 0 for `free`. */
  readonly sizes: Float64Array;
}

/** Makes room for `capacity` events. */
export function createMallocEvents(capacity: number): MallocEvents {
  return {
    count: 0,
    ops: new Uint8Array(capacity),
    threads: new Uint32Array(capacity),
    ids: new Uint32Array(capacity),
    extras: new Uint32Array(capacity),
    sizes: new Float64Array(capacity),
  };
}

/** A copy with room for `capacity` events. */
export function growMallocEvents(events: MallocEvents, capacity: number): MallocEvents {
  const grown = createMallocEvents(capacity);
  grown.count = events.count;
  grown.ops.set(events.ops);
  grown.threads.set(events.threads);
  grown.ids.set(events.ids);
  grown.extras.set(events.extras);
  grown.sizes.set(events.sizes);
  return grown;
}
