/**
 * How SLAB lays out a cache: pure functions of the object. A slab is one of three kinds, by where its *free list*, an array
 * of the numbers of its objects, one byte each, lies:
 *
 *     in an object   | colour | object | object | … | object |    left over, the free list in an object that is free
 *     on the slab    | colour | object | … | object |    left over | free list |
 *     off the slab   | colour | object | … | object |    the free list in a kmalloc block
 *
 * What is left over is spent on *colours*: the first object of each slab lies `colourOff` further in than that of the slab
 * before, so that the same field of many objects does not fall into the same cache lines.
 *
 * @linux mm/slab.c:__kmem_cache_create (up to 6.7)
 */
import { Errno } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { MAX_PAGE_ORDER } from '@pagelab/mm-core';
import { SLAB_NOLEAKTRACE, SLAB_RECLAIM_ACCOUNT, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import type { SlabMachine } from './geometry.ts';

/** Objects a slab can number with a byte. @linux mm/slab.c:SLAB_OBJ_MAX_NUM */
const SLAB_OBJ_MAX_NUM = 255;
/** Bytes of the smallest object, so that a page of them can be numbered. @linux mm/slab.c:SLAB_OBJ_MIN_SIZE */
const SLAB_OBJ_MIN_SIZE = 16;
/** Slabs grow up to this order to waste less; larger ones only hold what needs them. @linux mm/slab.c:SLAB_MAX_ORDER_HI */
const SLAB_MAX_ORDER = 1;
const CACHE_LINE_SIZE = 64;

/** Where the free list of a slab lies. */
export type FreeListPlace = 'object' | 'slab' | 'off-slab';

/** What a cache of SLAB was asked to hold. */
export interface ClassicShape {
  /** Bytes. */
  readonly objectSize: number;
  /** Bytes: a power of two of at least 8. */
  readonly align: number;
  /** SLAB_* */
  readonly flags: number;
  readonly hasConstructor: boolean;
  /** Of a debugged cache: where in its place an object begins, and the bytes that come on top. 0 without. */
  readonly objectOffset?: number;
  readonly extraBytes?: number;
}

/** The layout of a cache of SLAB. */
export interface ClassicGeometry {
  /** Bytes from one object to the next. */
  readonly size: number;
  /** Bytes from where its place begins to an object: those of a red zone, or 0. */
  readonly objectOffset: number;
  readonly order: number;
  readonly objectsPerSlab: number;
  readonly freeList: FreeListPlace;
  /** Colours there are: 0 or 1 where nothing is left over. */
  readonly colours: number;
  /** Bytes from a colour to the next. */
  readonly colourOff: number;
  /** Objects a CPU may hold; how many move at a time; by how many times `batchcount` a node's shared array may hold. */
  readonly limit: number;
  readonly batchcount: number;
  readonly shared: number;
}

interface Fit {
  readonly order: number;
  readonly num: number;
  readonly leftOver: number;
}

/**
 * The smallest order that wastes at most an eighth.
 *
 * @param perObject bytes an object takes, its number in the free list included where that is on the slab
 * @param accepts whether so many objects can be managed
 * @returns `undefined` where there is none
 * @linux mm/slab.c:calculate_slab_order
 */
export function calculateSlabOrder(perObject: number, flags: number, accepts: (num: number) => boolean = () => true): Fit | undefined {
  let found: Fit | undefined;
  for (let order = 0; order <= MAX_PAGE_ORDER; order++) {
    const bytes = PAGE_SIZE * 2 ** order;
    const num = Math.floor(bytes / perObject);
    if (num === 0) continue;
    if (num > SLAB_OBJ_MAX_NUM) break;
    if (!accepts(num)) continue;
    const leftOver = bytes % perObject;
    found = { order, num, leftOver };
    // What reclaim allocates itself should not take large blocks.
    if ((flags & SLAB_RECLAIM_ACCOUNT) !== 0 || order >= SLAB_MAX_ORDER || leftOver * 8 <= bytes) break;
  }
  return found;
}

/** How many objects a CPU may hold, by their size. @linux mm/slab.c:enable_cpucache */
export function cpuCacheLimits(size: number, possibleCpus: number): Pick<ClassicGeometry, 'limit' | 'batchcount' | 'shared'> {
  const limit = size > 131_072 ? 1 : size > PAGE_SIZE ? 8 : size > 1024 ? 24 : size > 256 ? 54 : 120;
  return { limit, batchcount: Math.floor((limit + 1) / 2), shared: size <= PAGE_SIZE && possibleCpus > 1 ? 8 : 0 };
}

/**
 * Lays out a cache.
 *
 * @param freeListCache bytes of the kmalloc class for a free list of so many bytes; `undefined` where there is none, or where
 *   its own slabs have their free lists off the slab
 * @returns the layout, or -E2BIG where no slab can hold one object
 */
export function classicGeometry(
  shape: ClassicShape,
  { possibleCpus, wordBytes }: Pick<SlabMachine, 'possibleCpus' | 'wordBytes'>,
  freeListCache: (bytes: number) => number | undefined,
): ClassicGeometry | number {
  const { objectSize, align, flags, hasConstructor, objectOffset = 0, extraBytes = 0 } = shape;
  const colourOff = Math.max(CACHE_LINE_SIZE, align);
  // Red zones have 8 bytes, and lie at multiples of that.
  const unit = objectOffset > 0 ? 8 : wordBytes;
  let size = Math.ceil((Math.ceil(objectSize / unit) * unit + extraBytes) / align) * align;
  if (size < SLAB_OBJ_MIN_SIZE) size = Math.ceil(SLAB_OBJ_MIN_SIZE / align) * align;
  const made = (freeList: FreeListPlace, { order, num, leftOver }: Fit): ClassicGeometry => ({
    size,
    objectOffset,
    order,
    objectsPerSlab: num,
    freeList,
    colours: Math.floor(leftOver / colourOff),
    colourOff,
    ...cpuCacheLimits(size, possibleCpus),
  });
  // A constructed object, or one that may still be looked at, has no room for the list.
  if (!hasConstructor && (flags & SLAB_TYPESAFE_BY_RCU) === 0) {
    const fit = calculateSlabOrder(size, flags);
    if (fit !== undefined && fit.num <= objectSize) return made('object', fit);
  }
  if ((flags & SLAB_NOLEAKTRACE) === 0) {
    const fit = calculateSlabOrder(size, flags, (num) => {
      const cache = freeListCache(num);
      return cache !== undefined && cache <= Math.floor(objectSize / 2);
    });
    // Where what is left over holds the list, it need not be elsewhere.
    if (fit !== undefined && fit.leftOver < fit.num) return made('off-slab', fit);
  }
  const fit = calculateSlabOrder(size + 1, flags);
  return fit === undefined ? -Errno.E2BIG : made('slab', fit);
}
