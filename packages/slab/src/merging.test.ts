/// <reference types="node" />
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { KmemCache } from './kmem-cache.ts';
import { createKernelCaches } from './kernel-caches.ts';
import { Slab } from './slab.ts';
import { PAGE_OFFSET } from '@pagelab/hw';
import { FakePages } from './testing/fake-pages.ts';
import { pick } from './testing/pick.ts';
import { recordedMerges } from './testing/recordings.ts';

const MERGES = recordedMerges(gunzipSync(readFileSync(new URL('./testdata/slab-merging.tsv.gz', import.meta.url))).toString());

function bareSlab(slubOptions = {}) {
  const pages = new FakePages(64 * 2 ** 20, 1, PAGE_OFFSET);
  return new Slab({ pages: pages.asPageAlloc(), ram: pages.ram, smp: { cpus: { length: 4 }, processorId: 0 }, slubOptions });
}

/** What /sys/kernel/slab would call the cache behind a name. */
function linkOf(cache: KmemCache): string {
  return cache.unmergeable ? '-' : cache.uniqueId;
}

describe.each(MERGES)('the caches of Linux $kernel', ({ kernel, rows }) => {
  test('merge as they do there', () => {
    const slab = bareSlab({ kernel });
    for (const { name, size, align, flags, hasConstructor, userSize, link } of rows) {
      const ctor = hasConstructor ? { ctor: () => {} } : {};
      const cache = slab.kmemCacheCreate({ name, size, align, flags, userSize, ...ctor });
      if (typeof cache === 'number') throw new Error(`${name}: ${cache}`);
      expect(`${name} ${linkOf(cache)}`).toBe(`${name} ${link}`);
    }
    slab.validate();
  });

  test('stay alone with slab_nomerge', () => {
    const slab = bareSlab({ kernel, noMerge: true });
    for (const { name, size, align, flags } of rows) {
      expect(pick(slab.kmemCacheCreate({ name, size, align, flags }), 'name', 'refcount')).toEqual({ name, refcount: 1 });
    }
  });
});

test('the caches made at boot are those of Linux 6.12', () => {
  const slab = bareSlab({ kernel: '6.12' });
  const caches = createKernelCaches(slab, '6.12');
  const recorded = MERGES.find(({ kernel }) => kernel === '6.12')!;
  for (const [name, cache] of Object.entries(caches)) {
    const row = recorded.rows.find((other) => other.name === name)!;
    expect(`${name} ${linkOf(cache)}`).toBe(`${name} ${row.link}`);
  }
  expect(caches.vm_area_struct.size).toBe(176);
  expect(pick(caches.anon_vma, 'objectSize', 'size')).toEqual({ objectSize: 96, size: 104 });
  expect(pick(caches.filp, 'objectSize', 'size')).toEqual({ objectSize: 184, size: 192 });
  expect(caches.fs_cache === caches.anon_vma_chain).toBe(true);
  slab.validate();
});
