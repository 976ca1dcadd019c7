/**
 * An allocator of one's own: first fit over the blocks in address order, neighbours joined on the way. Everything it
 * knows is in the program's memory: each block is preceded by one word, its size with bit 0 set while it is in use.
 *
 *     pagelab replay TRACE --malloc examples/plugins/first-fit-malloc.ts
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Mallinfo2, Malloc, MallocOs } from '@pagelab/libc-malloc';

const HEADER = 16;
const USED = 1;
const GROWTH = 256 * 1024;

const roundUp = (bytes: number): number => Math.ceil(bytes / 16) * 16;

export class FirstFitMalloc implements Malloc {
  readonly #os: MallocOs;
  readonly #start: VirtAddr;
  /** Where the heap ends: the break as this allocator left it. */
  #end: VirtAddr;

  constructor(os: MallocOs) {
    this.#os = os;
    const at = os.sbrk(0);
    if (at % 16 !== 0) os.sbrk(16 - (at % 16));
    this.#start = os.sbrk(0);
    this.#end = this.#start;
  }

  malloc(size: number): VirtAddr {
    if (!(size >= 0 && size < 2 ** 46)) return 0;
    const need = HEADER + Math.max(16, roundUp(size));
    const block = this.#findFree(need) || this.#grow(need);
    if (block === 0) return 0;
    const { mem } = this.#os;
    const rest = mem.loadAddress(block) - need;
    if (rest >= HEADER + 16) {
      mem.storeAddress(block + need, rest);
      mem.storeAddress(block, need + USED);
    } else {
      mem.storeAddress(block, need + rest + USED);
    }
    return block + HEADER;
  }

  free(ptr: VirtAddr): void {
    if (ptr === 0) return;
    const size = this.#os.mem.loadAddress(ptr - HEADER);
    this.#os.mem.storeAddress(ptr - HEADER, size - USED);
  }

  calloc(n: number, size: number): VirtAddr {
    const ptr = this.malloc(n * size);
    if (ptr !== 0) this.#os.mem.fill(ptr, n * size, 0);
    return ptr;
  }

  realloc(ptr: VirtAddr, size: number): VirtAddr {
    if (ptr === 0) return this.malloc(size);
    if (size === 0) {
      this.free(ptr);
      return 0;
    }
    const usable = this.mallocUsableSize(ptr);
    if (size <= usable) return ptr;
    const moved = this.malloc(size);
    if (moved === 0) return 0;
    this.#os.mem.copy(moved, ptr, usable);
    this.free(ptr);
    return moved;
  }

  memalign(alignment: number, size: number): VirtAddr {
    const align = Math.max(16, 2 ** Math.ceil(Math.log2(alignment || 1)));
    // Room to move up to the alignment, and for what is skipped to be a block of its own.
    const ptr = this.malloc(size + align + HEADER + 16);
    if (ptr === 0 || ptr % align === 0) return ptr;
    const aligned = Math.ceil((ptr + HEADER + 16) / align) * align;
    const { mem } = this.#os;
    const skipped = aligned - ptr;
    mem.storeAddress(aligned - HEADER, mem.loadAddress(ptr - HEADER) - skipped);
    mem.storeAddress(ptr - HEADER, skipped);
    return aligned;
  }

  mallocUsableSize(ptr: VirtAddr): number {
    return ptr === 0 ? 0 : this.#os.mem.loadAddress(ptr - HEADER) - USED - HEADER;
  }

  mallocTrim(): number {
    return 0;
  }

  mallopt(): number {
    return 0;
  }

  mallinfo2(): Mallinfo2 {
    let used = 0;
    let free = 0;
    let freeBlocks = 0;
    this.#forEachBlock((_block, size, inUse) => {
      if (inUse) used += size;
      else {
        free += size;
        freeBlocks++;
      }
    });
    return {
      arena: this.#end - this.#start, ordblks: freeBlocks, smblks: 0, hblks: 0, hblkhd: 0, usmblks: 0, fsmblks: 0,
      uordblks: used, fordblks: free, keepcost: 0,
    };
  }

  validate(): void {
    let end = this.#start;
    this.#forEachBlock((block, size) => {
      if (size < HEADER + 16 || size % 16 !== 0) throw new Error(`block at 0x${block.toString(16)}: size ${size}`);
      end = block + size;
    });
    if (end !== this.#end) throw new Error('the last block does not end where the heap does');
  }

  /** The first free block of at least `need` bytes, joined with the free ones behind it; 0 where there is none. */
  #findFree(need: number): VirtAddr {
    const { mem } = this.#os;
    for (let block = this.#start; block < this.#end; ) {
      let size = mem.loadAddress(block);
      if (size % 2 === USED) {
        block += size - USED;
        continue;
      }
      for (let next = block + size; next < this.#end; next = block + size) {
        const nextSize = mem.loadAddress(next);
        if (nextSize % 2 === USED) break;
        size += nextSize;
      }
      mem.storeAddress(block, size);
      if (size >= need) return block;
      block += size;
    }
    return 0;
  }

  /** A fresh block at the end of the heap; 0 where the system gives no more, or somebody else moved the break. */
  #grow(need: number): VirtAddr {
    const bytes = Math.ceil(need / GROWTH) * GROWTH;
    const block = this.#end;
    try {
      if (this.#os.sbrk(0) !== block) return 0;
      this.#os.sbrk(bytes);
    } catch {
      return 0;
    }
    this.#end = block + bytes;
    this.#os.mem.storeAddress(block, bytes);
    return block;
  }

  #forEachBlock(visit: (block: VirtAddr, size: number, inUse: boolean) => void): void {
    for (let block = this.#start; block < this.#end; ) {
      const word = this.#os.mem.loadAddress(block);
      const inUse = word % 2 === USED;
      visit(block, inUse ? word - USED : word, inUse);
      block += inUse ? word - USED : word;
    }
  }
}

export default (os: MallocOs): Malloc => new FirstFitMalloc(os);
