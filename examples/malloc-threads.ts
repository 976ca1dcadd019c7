/**
 * Threads do not wait for one another in malloc: glibc gives each an arena of its own, in a heap of 64 MiB of reserved
 * addresses, of which only what is used can be written. A block goes back to the arena that it came from, whoever frees it.
 * When a thread ends, its arena is left to the next.
 */
import type { Os, ProgramGenerator } from '@pagelab/abi';
import { glibc } from '@pagelab/libc-malloc';

const HEAP_MAX = 64 * 1024 * 1024;

interface Worker {
  state: 'starting' | 'waiting' | 'told to end' | 'ended';
}

export default function* mallocThreads(os: Os): ProgramGenerator {
  const main = glibc(os);
  const heaps: number[] = [];
  const place = (block: number): string => {
    // Bit 2 of a chunk's size says that it is of a thread's arena.
    if ((os.mem.load32(block - 8) & 4) === 0) return 'the main heap';
    const heap = block - (block % HEAP_MAX);
    if (!heaps.includes(heap)) heaps.push(heap);
    return `arena ${heaps.indexOf(heap) + 1} + 0x${(block - heap).toString(16)}`;
  };
  const blocks: number[] = [];
  const begin = (name: string): Worker => {
    const worker: Worker = { state: 'starting' };
    os.thread(function* (me) {
      const malloc = main.thread(me);
      const block = malloc.malloc(100);
      blocks.push(block);
      os.print(`${name}: its first block is in ${place(block)}`);
      worker.state = 'waiting';
      while (worker.state === 'waiting') yield;
      malloc.threadExit();
      worker.state = 'ended';
    });
    return worker;
  };

  os.print(`the main thread: its first block is in ${place(main.malloc(100))}`);
  const first = begin('a thread');
  while (first.state === 'starting') yield;
  const second = begin('another');
  while (second.state === 'starting') yield;
  first.state = 'told to end';
  while (String(first.state) !== 'ended') yield;
  const third = begin('one that begins after the first has ended');
  while (third.state === 'starting') yield;

  for (const block of blocks) main.free(block);
  os.print('the main thread frees the blocks of all. malloc_stats:');
  os.print(main.mallocStats().trimEnd());
  second.state = third.state = 'told to end';
  while (String(second.state) !== 'ended' || String(third.state) !== 'ended') yield;
}
