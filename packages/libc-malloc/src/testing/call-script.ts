import type { VirtAddr } from '@pagelab/abi';
import { SyscallError } from '@pagelab/abi';
import type { Malloc, MallocOs } from '../malloc.ts';
import { posixMemalign, pvalloc, valloc } from '../memalign-family.ts';

/** The TLS vector that `pthread_create` gets of the creating thread, with calloc, and that goes when it is joined. */
const TLS_VECTOR_BYTES = 272;

/** Thread arenas' heaps lie at multiples of this. */
const HEAP_MAX = 64 * 1024 * 1024;

/** What some allocators tell beyond the interface. */
interface TellingMalloc extends Malloc {
  mallocStats?(): string;
  mallocInfo?(): string;
  afterFork?(): void;
}

/**
 * Makes the calls of a script on an allocator, one a line, and tells what each answers, as the recordings in
 * `test/data/traces` write it (their README tells the forms). Blocks are known by number.
 */
export class CallScript {
  readonly #threads: TellingMalloc[];
  readonly #os: MallocOs;
  readonly #heapStart: VirtAddr;
  readonly #blocks: VirtAddr[] = [];
  readonly #tlsVectors: VirtAddr[] = [];
  /** Arenas and their heaps, in the order in which they were seen. */
  readonly #arenas: VirtAddr[] = [];
  readonly #heaps: VirtAddr[][] = [];

  constructor(malloc: Malloc, os: MallocOs) {
    this.#threads = [malloc];
    this.#os = os;
    this.#heapStart = os.sbrk(0);
  }

  /** Makes one call; returns its answer, '' for a call that has none. */
  call(line: string): string {
    const blocks = this.#blocks;
    const [op, ...words] = line.split(' ');
    const [thread, id = 0, a = 0, b = 0, c = 0] = words.map(Number);
    const main = this.#threads[0];
    const malloc = this.#threads[thread] ?? main;
    const block = blocks[id] ?? 0;
    switch (op) {
      case 'n':
        this.#tlsVectors[thread] = main.calloc(1, TLS_VECTOR_BYTES);
        this.#threads[thread] = main.thread!();
        return '';
      case 'e':
        malloc.threadExit!();
        main.free(this.#tlsVectors[thread]);
        return '';
      case 'K':
        main.afterFork!();
        return '';
      case 'm':
        return this.#answer((blocks[id] = malloc.malloc(a)));
      case 'c':
        return this.#answer((blocks[id] = malloc.calloc(1, a)));
      case 'a':
        return this.#answer((blocks[id] = malloc.memalign(b, a)));
      case 'v':
        return this.#answer((blocks[id] = valloc(malloc, this.#os, a)));
      case 'V':
        return this.#answer((blocks[id] = pvalloc(malloc, this.#os, a)));
      case 'P': {
        const got: number = posixMemalign(malloc, b, a);
        blocks[id] = Math.max(got, 0);
        return got < 0 ? `error ${-got}` : this.#answer(got);
      }
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
      case 's':
        return malloc.mallocStats!().replaceAll('\n', '|');
      case 'X':
        return malloc.mallocInfo!().replaceAll('\n', '|');
      default:
        throw new Error(`no such call: ${line}`);
    }
  }

  /** `mallinfo2` in the recordings' order. */
  info(): string {
    const info = this.#threads[0].mallinfo2();
    const { arena, ordblks, smblks, hblks, hblkhd, fsmblks, uordblks, fordblks, keepcost } = info;
    return ['info', arena, ordblks, smblks, hblks, hblkhd, fsmblks, uordblks, fordblks, keepcost].join(' ');
  }

  /** The length of the heap, and `mallinfo2`. */
  final(): string {
    return `final ${this.#os.sbrk(0) - this.#heapStart} ${this.info()}`;
  }

  #answer(block: VirtAddr): string {
    return `${this.#place(block)} ${this.#threads[0].mallocUsableSize(block)}`;
  }

  #place(block: VirtAddr): string {
    if (block === 0) return 'null';
    if (block >= this.#heapStart && block < this.#os.sbrk(0)) return (block - this.#heapStart).toString(16);
    const { mem } = this.#os;
    if ((mem.load32(block - 8) & 4) === 0) return 'mmap';
    const heap = block - (block % HEAP_MAX);
    const arena = numberOf(this.#arenas, mem.loadAddress(heap));
    const heaps = (this.#heaps[arena] ??= []);
    return `a${arena}.${numberOf(heaps, heap)}+${(block - heap).toString(16)}`;
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

function numberOf(list: VirtAddr[], address: VirtAddr): number {
  const at = list.indexOf(address);
  return at >= 0 ? at : list.push(address) - 1;
}
