import { Errno } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';
import { posixMemalign, pvalloc, reallocarray, valloc } from './memalign-family.ts';
import { mallocs } from './registry.ts';
import { FlatOs } from './testing/flat-os.ts';

describe.each(Object.entries(mallocs))('the functions around memalign, on %s', (_name, create) => {
  it('reallocarray refuses a product beyond 64 bits and keeps the block', () => {
    const malloc = create(new FlatOs());
    const block = reallocarray(malloc, 0, 10, 10);
    expect(malloc.mallocUsableSize(block)).toBeGreaterThanOrEqual(100);
    expect(reallocarray(malloc, block, 2 ** 40, 2 ** 30)).toBe(0);
    malloc.free(block);
  });

  it('posix_memalign takes powers of two from 8 on', () => {
    const malloc = create(new FlatOs());
    expect(posixMemalign(malloc, 4096, 100) % 4096).toBe(0);
    for (const alignment of [0, 4, 24, 100, NaN]) expect(posixMemalign(malloc, alignment, 1)).toBe(-Errno.EINVAL);
    expect(posixMemalign(malloc, 64, 2 ** 50)).toBe(-Errno.ENOMEM);
  });

  it('valloc and pvalloc begin at a page, pvalloc fills whole ones', () => {
    const os = new FlatOs();
    const malloc = create(os);
    expect(valloc(malloc, os, 10) % 4096).toBe(0);
    const pages = pvalloc(malloc, os, 5000);
    expect(pages % 4096).toBe(0);
    expect(malloc.mallocUsableSize(pages)).toBeGreaterThanOrEqual(8192);
  });
});
