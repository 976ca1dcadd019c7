/**
 * The size classes of a pool of compressed pages: what sizes objects have, and how many frames are put together so that
 * little is lost at their end.
 *
 * @linux mm/zsmalloc.c
 */
import { PAGE_SIZE } from '@pagelab/abi';

/** Most frames of a zspage. @linux mm/Kconfig:ZSMALLOC_CHAIN_SIZE */
const CHAIN_SIZE = 8;
/** From one class to the next, in bytes. @linux mm/zsmalloc.c:ZS_SIZE_CLASS_DELTA */
const SIZE_CLASS_DELTA = PAGE_SIZE >> 8;
const MIN_ALLOC_SIZE = 32;
/** Where an object's place has to fit 31 bits beside its frame's number, objects are larger. @linux mm/zsmalloc.c:ZS_MIN_ALLOC_SIZE */
const MIN_ALLOC_SIZE_PAE = 256;

/** Objects of one size. */
export interface SizeClass {
  /** Bytes of an object, the header with its handle included. */
  readonly size: number;
  readonly pagesPerZspage: number;
  readonly objectsPerZspage: number;
}

/**
 * The frames, at most eight, at whose end the least is lost.
 *
 * @linux mm/zsmalloc.c:calculate_zspage_chain_size
 */
function chainSize(size: number): number {
  if ((size & (size - 1)) === 0) return 1;
  let best = 1;
  let least = Infinity;
  for (let pages = 1; pages <= CHAIN_SIZE; pages++) {
    const waste = (pages * PAGE_SIZE) % size;
    if (waste >= least) continue;
    least = waste;
    best = pages;
  }
  return best;
}

/** Smallest object of a machine's pools, in bytes. */
export function minAllocSize(physicalBits: number, wordBytes: number): number {
  return wordBytes === 4 && physicalBits > 32 ? MIN_ALLOC_SIZE_PAE : MIN_ALLOC_SIZE;
}

/**
 * All classes, by index: neighbours that hold as many objects in as many frames are one, the larger.
 *
 * @linux mm/zsmalloc.c:zs_create_pool
 */
export function sizeClasses(minSize: number): readonly SizeClass[] {
  const count = Math.ceil((PAGE_SIZE - minSize) / SIZE_CLASS_DELTA) + 1;
  const classes: SizeClass[] = [];
  let larger: SizeClass | null = null;
  for (let i = count - 1; i >= 0; i--) {
    const size = Math.min(minSize + i * SIZE_CLASS_DELTA, PAGE_SIZE);
    const pagesPerZspage = chainSize(size);
    const objectsPerZspage = Math.floor((pagesPerZspage * PAGE_SIZE) / size);
    if (larger === null || larger.pagesPerZspage !== pagesPerZspage || larger.objectsPerZspage !== objectsPerZspage) {
      larger = { size, pagesPerZspage, objectsPerZspage };
    }
    classes[i] = larger;
  }
  return classes;
}

/** The class for objects of a size, the header included. @linux mm/zsmalloc.c:get_size_class_index */
export function sizeClassIndex(minSize: number, size: number): number {
  return size <= minSize ? 0 : Math.ceil((Math.min(size, PAGE_SIZE) - minSize) / SIZE_CLASS_DELTA);
}
