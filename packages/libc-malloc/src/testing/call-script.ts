import type { VirtAddr } from '@pagelab/abi';
import { SyscallError } from '@pagelab/abi';
import type { Malloc, MallocOs } from '../malloc.ts';

/**
 * Makes the calls of a script on an allocator, one a line, and tells what each answers, as the recordings in
 * `test/data/traces` write it (their README tells the forms). Blocks are known by number.
 */
export class CallScript {
  readonly #malloc: Malloc;
  readonly #os: MallocOs;
  readonly #heapStart: VirtAddr;
  readonly #blocks: VirtAddr[] = [];

  constructor(malloc: Malloc, os: MallocOs) {
    this.#malloc = malloc;
    this.#os = os;
    this.#heapStart = os.sbrk(0);
  }

  /** Makes one call; returns its answer, '' for a call that has none. */
  call(line: string): string {
    const malloc = this.#malloc;
    const blocks = this.#blocks;
    const [op, ...words] = line.split(' ');
    const [, id = 0, a = 0, b = 0, c = 0] = words.map(Number);
    const block = blocks[id] ?? 0;
    switch (op) {
      case 'm':
        return this.#answer((blocks[id] = malloc.malloc(a)));
      case 'c':
        return this.#answer((blocks[id] = malloc.calloc(1, a)));
      case 'a':
        return this.#answer((blocks[id] = malloc.memalign(b, a)));
      case 'r':
        blocks[id] = 0;
        return this.#answer((blocks[a] = malloc.realloc(block, b)));
      case 'R':
        return this.#answer(malloc.realloc(block + a, b));
      case 'f':
        blocks[id] = 0;
        malloc.free(block);
        return '';
      case 'F':
        malloc.free(block);
        return '';
      case 'g':
        malloc.free(block + a);
        return '';
      case 'w':
        this.#os.mem.store64(block + a, BigInt.asUintN(64, BigInt(words[3])));
        return '';
      case 'p':
        this.#os.mem.store64(block + a, BigInt(blocks[b] + c));
        return '';
      case 'x':
        this.#os.mem.store64(block + a, (BigInt(block + a) >> 12n) ^ BigInt(blocks[b] + c));
        return '';
      case 't':
        return `trim ${malloc.mallocTrim(id)}`;
      case 'o':
        return `opt ${malloc.mallopt(id, a)}`;
      case 'k':
        return `sbrk ${this.#sbrk(id)}`;
      case 'i':
        return this.info();
      default:
        throw new Error(`no such call: ${line}`);
    }
  }

  /** `mallinfo2` in the recordings' order. */
  info(): string {
    const info = this.#malloc.mallinfo2();
    const { arena, ordblks, smblks, hblks, hblkhd, fsmblks, uordblks, fordblks, keepcost } = info;
    return ['info', arena, ordblks, smblks, hblks, hblkhd, fsmblks, uordblks, fordblks, keepcost].join(' ');
  }

  /** The length of the heap, and `mallinfo2`. */
  final(): string {
    return `final ${this.#os.sbrk(0) - this.#heapStart} ${this.info()}`;
  }

  #answer(block: VirtAddr): string {
    const inHeap = block >= this.#heapStart && block < this.#os.sbrk(0);
    const place = inHeap ? (block - this.#heapStart).toString(16) : block === 0 ? 'null' : 'mmap';
    return `${place} ${this.#malloc.mallocUsableSize(block)}`;
  }

  #sbrk(increment: number): string {
    try {
      return (this.#os.sbrk(increment) - this.#heapStart).toString(16);
    } catch (error) {
      if (error instanceof SyscallError) return 'ffffffffffffffff';
      throw error;
    }
  }
}
