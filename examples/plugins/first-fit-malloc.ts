/**
 * An allocator of one's own: first fit over the blocks in address order, free neighbours joined on the way. All that it
 * knows is in the program's memory: 16 bytes before each block hold its size, odd while it is in use.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Mallinfo2, Malloc, MallocOs } from '@pagelab/libc-malloc';
import { MallocAbort, mallinfoOf, trySbrk } from '@pagelab/libc-malloc';

const HEADER = 16;
const roundUp = (bytes: number, unit: number): number => Math.ceil(bytes / unit) * unit;

class FirstFitMalloc implements Malloc {
  readonly #os: MallocOs;
  readonly #start: VirtAddr;
  #end: VirtAddr;
  constructor(os: MallocOs) {
    this.#os = os;
    os.sbrk(roundUp(os.sbrk(0), 16) - os.sbrk(0));
    this.#start = this.#end = os.sbrk(0);
  }
  malloc(size: number): VirtAddr {
    const need = HEADER + Math.max(16, roundUp(size, 16));
    const block = size >= 0 && need < 2 ** 46 ? this.#find(need) || this.#grow(need) : 0;
    if (block === 0) return 0;
    const { mem } = this.#os;
    const whole = mem.loadAddress(block);
    const rest = whole - need >= 32 ? whole - need : 0;
    if (rest > 0) mem.storeAddress(block + need, rest);
    mem.storeAddress(block, whole - rest + 1);
    return block + HEADER;
  }
  free(ptr: VirtAddr): void {
    if (ptr !== 0) this.#os.mem.storeAddress(ptr - HEADER, this.#sizeOf(ptr));
  }
  calloc(n: number, size: number): VirtAddr {
    const ptr = this.malloc(n * size);
    if (ptr !== 0) this.#os.mem.fill(ptr, n * size, 0);
    return ptr;
  }
  realloc(ptr: VirtAddr, size: number): VirtAddr {
    if (ptr !== 0 && size > 0 && size <= this.mallocUsableSize(ptr)) return ptr;
    const moved = ptr !== 0 && size === 0 ? 0 : this.malloc(size);
    if (moved !== 0 && ptr !== 0) this.#os.mem.copy(moved, ptr, this.mallocUsableSize(ptr));
    if (moved !== 0 || size === 0) this.free(ptr);
    return moved;
  }
  memalign(alignment: number, size: number): VirtAddr {
    const power = Math.max(16, 2 ** Math.ceil(Math.log2(alignment)));
    const ptr = this.malloc(size + power + HEADER + 16);
    if (ptr === 0 || ptr % power === 0) return ptr;
    // What is skipped becomes a free block of its own.
    const aligned = roundUp(ptr + HEADER + 16, power);
    this.#os.mem.storeAddress(aligned - HEADER, this.#sizeOf(ptr) - (aligned - ptr) + 1);
    this.#os.mem.storeAddress(ptr - HEADER, aligned - ptr);
    return aligned;
  }
  mallocUsableSize = (ptr: VirtAddr): number => (ptr === 0 ? 0 : this.#sizeOf(ptr) - HEADER);
  mallocTrim = (): number => 0;
  mallopt = (): number => 0;
  mallinfo2(): Mallinfo2 {
    const free = [...this.#blocks()].filter(([, , used]) => !used);
    const arena = this.#end - this.#start;
    return mallinfoOf({ arena, ordblks: free.length, fordblks: free.reduce((sum, [, size]) => sum + size, 0) });
  }
  validate(): void {
    for (const [block, size] of this.#blocks()) if (size < 32 || size % 16 !== 0) throw new Error(`size ${size} at ${block}`);
  }
  /** Bytes of a block in use, its header among them. */
  #sizeOf(ptr: VirtAddr): number {
    const word = this.#os.mem.loadAddress(ptr - HEADER);
    if (word % 2 === 0 || ptr % 16 !== 0) throw new MallocAbort('first fit: not a block in use');
    return word - 1;
  }
  #find(need: number): VirtAddr {
    let [start, joined] = [0, 0];
    for (const [block, size, used] of this.#blocks()) {
      if (joined === 0) start = block;
      joined = used ? 0 : joined + size;
      if (joined > 0) this.#os.mem.storeAddress(start, joined);
      if (joined >= need) return start;
    }
    return 0;
  }
  #grow(need: number): VirtAddr {
    const bytes = roundUp(need, 256 * 1024);
    const block = trySbrk(this.#os, bytes);
    if (block === 0 || block !== this.#end) return 0;
    this.#end = block + bytes;
    this.#os.mem.storeAddress(block, bytes);
    return block;
  }
  *#blocks(): Generator<[block: VirtAddr, size: number, used: boolean]> {
    for (let at = this.#start; at < this.#end; ) {
      const word = this.#os.mem.loadAddress(at);
      yield [at, word - (word % 2), word % 2 === 1];
      at += word - (word % 2);
    }
  }
}

export default (os: MallocOs): Malloc => new FirstFitMalloc(os);
