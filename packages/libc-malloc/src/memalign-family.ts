/** The functions of C that are others in disguise: they work with any allocator. */
import type { VirtAddr } from '@pagelab/abi';
import { Errno } from '@pagelab/abi';
import type { Malloc, MallocOs } from './malloc.ts';

/**
 * As `realloc`, for `n` elements of `size` bytes; 0 where the product is beyond 64 bits.
 *
 * @linux glibc malloc/reallocarray.c:__libc_reallocarray
 */
export function reallocarray(malloc: Malloc, ptr: VirtAddr, n: number, size: number): VirtAddr {
  const bytes = n * size;
  return bytes < 2 ** 64 ? malloc.realloc(ptr, bytes) : 0;
}

/**
 * Gets a block at a multiple of `alignment`, a power of two times the size of a pointer.
 *
 * @returns the block, or -EINVAL for another alignment, or -ENOMEM
 * @linux glibc malloc/malloc.c:__posix_memalign
 */
export function posixMemalign(malloc: Malloc, alignment: number, size: number): VirtAddr {
  if (!(alignment >= 8) || !Number.isInteger(Math.log2(alignment))) return -Errno.EINVAL;
  const block = malloc.memalign(alignment, size);
  return block === 0 ? -Errno.ENOMEM : block;
}

/** Gets a block at the start of a page. @linux glibc malloc/malloc.c:__libc_valloc */
export function valloc(malloc: Malloc, os: Pick<MallocOs, 'getpagesize'>, size: number): VirtAddr {
  return malloc.memalign(os.getpagesize(), size);
}

/** Gets whole pages. @linux glibc malloc/malloc.c:__libc_pvalloc */
export function pvalloc(malloc: Malloc, os: Pick<MallocOs, 'getpagesize'>, size: number): VirtAddr {
  const pageSize = os.getpagesize();
  return malloc.memalign(pageSize, Math.ceil(size / pageSize) * pageSize);
}
