/**
 * The caches behind `kmalloc`: one of each size class for each kind of memory.
 */
import { __GFP_ACCOUNT, __GFP_DMA, __GFP_RECLAIMABLE } from '@pagelab/mm-core';
import { SLAB_ACCOUNT, SLAB_CACHE_DMA, SLAB_RECLAIM_ACCOUNT } from './flags.ts';
import type { SlabKernelVersion } from './geometry.ts';

/** Largest size served from a cache: two pages, in bytes. @linux include/linux/slab.h:KMALLOC_MAX_CACHE_SIZE */
export const KMALLOC_MAX_CACHE_SIZE = 8192;
/** Largest size of all: the largest block of the page allocator, in bytes. @linux include/linux/slab.h:KMALLOC_MAX_SIZE */
export const KMALLOC_MAX_SIZE = 4 * 1024 * 1024;
/** What `kmalloc(0)` returns: neither 0 nor an object. @linux include/linux/slab.h:ZERO_SIZE_PTR */
export const ZERO_SIZE_PTR = 16;

/** The kinds of memory `kmalloc` can be asked for. @linux include/linux/slab.h:kmalloc_cache_type */
export const KMALLOC_NORMAL = 0;
export const KMALLOC_CGROUP = 1;
export const KMALLOC_RECLAIM = 2;
export const KMALLOC_DMA = 3;
export const NR_KMALLOC_TYPES = 4;

/** Size classes in bytes, ascending. */
export const KMALLOC_SIZES: readonly number[] = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192];

/** Any of these takes `kmalloc` out of KMALLOC_NORMAL. */
export const KMALLOC_NOT_NORMAL_BITS = __GFP_DMA | __GFP_RECLAIMABLE | __GFP_ACCOUNT;

/** The kind of memory that `gfp` asks for. @linux include/linux/slab.h:kmalloc_type */
export function kmallocType(gfp: number): number {
  if ((gfp & KMALLOC_NOT_NORMAL_BITS) === 0) return KMALLOC_NORMAL;
  if ((gfp & __GFP_DMA) !== 0) return KMALLOC_DMA;
  return (gfp & __GFP_RECLAIMABLE) !== 0 ? KMALLOC_RECLAIM : KMALLOC_CGROUP;
}

const PREFIX: readonly string[] = ['kmalloc', 'kmalloc-cg', 'kmalloc-rcl', 'dma-kmalloc'];
const TYPE_FLAGS: readonly number[] = [0, SLAB_ACCOUNT, SLAB_RECLAIM_ACCOUNT, SLAB_CACHE_DMA];

/** A kmalloc cache to be made at boot. */
export interface KmallocCacheSpec {
  readonly type: number;
  /** Bytes. */
  readonly size: number;
  readonly name: string;
  /** SLAB_* */
  readonly flags: number;
  /** Bytes. */
  readonly align: number;
}

/**
 * The kmalloc caches in the order in which the kernel makes them at boot.
 *
 * @linux mm/slab_common.c:create_kmalloc_caches
 */
export function kmallocCaches(kernel: SlabKernelVersion): KmallocCacheSpec[] {
  const old = kernel === '6.1';
  const types = old
    ? [KMALLOC_NORMAL, KMALLOC_CGROUP, KMALLOC_RECLAIM, KMALLOC_DMA]
    : [KMALLOC_NORMAL, KMALLOC_RECLAIM, KMALLOC_DMA, KMALLOC_CGROUP];
  const sizes = old ? KMALLOC_SIZES : [96, 192, ...KMALLOC_SIZES.filter((size) => size !== 96 && size !== 192)];
  // 6.1 aligns powers of two to themselves; later kernels every size to its largest power of two that divides it.
  const align = (size: number): number => (old && !Number.isInteger(Math.log2(size)) ? 8 : size & -size);
  return types.flatMap((type) =>
    sizes.map((size) => ({
      type,
      size,
      name: `${PREFIX[type]}-${size >= 1024 ? `${size / 1024}k` : size}`,
      flags: TYPE_FLAGS[type],
      align: align(size),
    })),
  );
}
