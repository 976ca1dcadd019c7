/**
 * Parses the extracts of `/sys/kernel/slab` in `testdata`. They come from boots of Debian kernels under QEMU
 * (linux-image 6.1 amd64, 686, 686-pae and 6.12 amd64) and from one host with 6.18; each file says what its columns are.
 */
import {
  SLAB_ACCOUNT,
  SLAB_CACHE_DMA,
  SLAB_CONSISTENCY_CHECKS,
  SLAB_HWCACHE_ALIGN,
  SLAB_KMALLOC,
  SLAB_NO_MERGE,
  SLAB_POISON,
  SLAB_RECLAIM_ACCOUNT,
  SLAB_RED_ZONE,
  SLAB_STORE_USER,
  SLAB_TYPESAFE_BY_RCU,
} from '../flags.ts';
import type { SlabMachine, SlabKernelVersion } from '../geometry.ts';

/** What the letters of the extracts stand for; `c` and `i` are no flags. */
const LETTERS: Readonly<Record<string, number>> = {
  r: SLAB_TYPESAFE_BY_RCU,
  k: SLAB_KMALLOC,
  Z: SLAB_RED_ZONE,
  P: SLAB_POISON,
  U: SLAB_STORE_USER,
  F: SLAB_CONSISTENCY_CHECKS,
  h: SLAB_HWCACHE_ALIGN,
  a: SLAB_RECLAIM_ACCOUNT,
  d: SLAB_CACHE_DMA,
  A: SLAB_ACCOUNT,
  n: SLAB_NO_MERGE,
};

function flagsOf(letters: string): number {
  return [...letters].reduce((flags, letter) => flags | (LETTERS[letter] ?? 0), 0);
}

/** The lines of an extract under their `@` line, comments left out. */
function sections(text: string): { head: string[]; rows: string[][] }[] {
  const found: { head: string[]; rows: string[][] }[] = [];
  for (const line of text.trimEnd().split('\n')) {
    if (line.startsWith('@')) found.push({ head: line.split(' ').slice(1), rows: [] });
    else if (!line.startsWith('#')) found.at(-1)!.rows.push(line.split(' '));
  }
  return found;
}

/** A recorded layout. */
export interface RecordedLayout {
  readonly objectSize: number;
  readonly align: number;
  readonly flags: number;
  readonly hasConstructor: boolean;
  readonly innerFreePointer: boolean;
  readonly size: number;
  readonly order: number;
  readonly objectsPerSlab: number;
  readonly cpuPartial: number;
  readonly minPartial: number;
}

/** Every distinct layout in `slab-layouts.tsv`, by the machine that had it. */
export function recordedLayouts(text: string): { machine: SlabMachine; rows: RecordedLayout[] }[] {
  return sections(text).map(({ head, rows }) => {
    const [wordBytes, presentCpus, possibleCpus, maxOrder, minObjects] = head.slice(1).map(Number);
    const kernel = head[0] as SlabKernelVersion;
    return {
      machine: { kernel, wordBytes: wordBytes as 4 | 8, presentCpus, possibleCpus, maxOrder, minObjects, minOrder: 0 },
      rows: rows.map(([objectSize, align, letters, ...values]) => {
        const [size, order, objectsPerSlab, cpuPartial, minPartial] = values.map(Number);
        return {
          objectSize: Number(objectSize),
          align: Number(align),
          flags: flagsOf(letters),
          hasConstructor: letters.includes('c'),
          innerFreePointer: letters.includes('i'),
          ...{ size, order, objectsPerSlab, cpuPartial, minPartial },
        };
      }),
    };
  });
}

/** A cache and what it was merged into. */
export interface RecordedMerge {
  readonly name: string;
  readonly size: number;
  readonly align: number;
  readonly flags: number;
  readonly hasConstructor: boolean;
  readonly userSize: number;
  /** The id of the cache shared, or `-`. */
  readonly link: string;
}

/** The caches of a boot in the order they were made, from `slab-merging.tsv`. */
export function recordedMerges(text: string): { kernel: SlabKernelVersion; rows: RecordedMerge[] }[] {
  return sections(text).map(({ head, rows }) => ({
    kernel: head[0] as SlabKernelVersion,
    rows: rows.map(([name, size, align, letters, userSize, link]) => ({
      name,
      size: Number(size),
      align: Number(align),
      flags: flagsOf(letters),
      hasConstructor: letters.includes('c'),
      userSize: Number(userSize),
      link,
    })),
  }));
}
