import { Prng } from '@pagelab/lib';
import { GFP_KERNEL, __GFP_HIGHMEM } from '@pagelab/mm-core';
import { expect, it } from 'vitest';
import { testVm } from './testing/test-machine.ts';
import { minAllocSize, sizeClassIndex, sizeClasses } from './zsmalloc-classes.ts';
import { ZsPool } from './zsmalloc.ts';
import type { ZsHandle } from './zsmalloc.ts';

const SEED = 0x5eed;
const GFP = GFP_KERNEL | __GFP_HIGHMEM;

it('has classes in which less than an eighth is lost at the end, and neighbours alike are one', () => {
  const classes = sizeClasses(minAllocSize(36, 8));
  expect(classes.length).toBe(255);
  for (const [i, { size, pagesPerZspage, objectsPerZspage }] of classes.entries()) {
    expect(objectsPerZspage).toBe(Math.floor((pagesPerZspage * 4096) / size));
    if (classes[i + 1] === classes[i]) continue;
    expect(size).toBe(32 + i * 16);
    if (size < 3500) expect((pagesPerZspage * 4096) % size).toBeLessThan((pagesPerZspage * 4096) / 8);
  }
  // An object takes no less than it needs, whatever its size.
  for (let size = 1; size <= 4096; size++) expect(classes[sizeClassIndex(32, size)].size).toBeGreaterThanOrEqual(size);
  expect(classes[254]).toEqual({ size: 4096, pagesPerZspage: 1, objectsPerZspage: 1 });
  expect(sizeClasses(minAllocSize(36, 4)).length).toBe(241);
});

it(`keeps what objects hold while they come, go and are moved together (seed ${SEED})`, () => {
  const vm = testVm();
  const pool = ZsPool.create(vm, 'test') as ZsPool;
  const prng = new Prng(SEED);
  const objects = new Map<ZsHandle, Uint8Array>();
  const wrong = (): number => [...objects].filter(([handle, bytes]) => {
    const read = new Uint8Array(bytes.length);
    pool.read(handle, read);
    return !read.every((byte, i) => byte === bytes[i]);
  }).length;
  let freedByCompaction = 0;
  for (let step = 0; step < 3000; step++) {
    const grows = step % 1000 < 600;
    if (prng.below(10) < (grows ? 8 : 2)) {
      // Few sizes, so that classes hold many objects.
      const bytes = Uint8Array.from({ length: [24, 100, 1300, 3000, 4096][prng.below(5)] }, () => prng.below(256));
      const handle = pool.malloc(bytes.length, GFP, 0);
      if (typeof handle === 'number') throw new Error(`no memory at step ${step}`);
      pool.write(handle, bytes);
      objects.set(handle, bytes);
    } else if (objects.size > 0) {
      const handle = [...objects.keys()][prng.below(objects.size)];
      pool.free(handle);
      objects.delete(handle);
    }
    if (step % 250 === 249) {
      freedByCompaction += pool.compact();
      pool.validate();
      expect(wrong()).toBe(0);
    }
  }
  expect(freedByCompaction).toBeGreaterThan(0);
  for (const handle of objects.keys()) pool.free(handle);
  expect(pool.pages).toBe(0);
  pool.destroy();
});

it('refuses sizes that no page has', () => {
  const vm = testVm();
  const pool = ZsPool.create(vm, 'test') as ZsPool;
  expect([pool.malloc(0, GFP, 0), pool.malloc(4097, GFP, 0)]).toEqual([-22, -22]);
  pool.destroy();
});
