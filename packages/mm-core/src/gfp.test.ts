import { describe, expect, it } from 'vitest';
import {
  GFP_ATOMIC,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_NOFS,
  GFP_NOIO,
  GFP_NOWAIT,
  GFP_TRANSHUGE,
  GFP_TRANSHUGE_LIGHT,
  GFP_USER,
  GFP_ZONEMASK,
  __GFP_BITS_MASK,
  __GFP_COMP,
  __GFP_DIRECT_RECLAIM,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_HIGHMEM,
  __GFP_KSWAPD_RECLAIM,
  __GFP_MOVABLE,
  __GFP_NOWARN,
  __GFP_RECLAIMABLE,
  __GFP_ZERO,
  gfpAllowsBlocking,
  gfpMigratetype,
  gfpRefusal,
  gfpTable,
  gfpText,
  gfpZone,
} from './gfp.ts';
import { ALLOC_KSWAPD, ALLOC_MIN_RESERVE } from './alloc-flags.ts';
import { __GFP_HIGH } from './gfp.ts';
import { MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE } from './migratetype.ts';
import { X86_64_ZONES, ZONE_DMA, ZONE_DMA32, ZONE_HIGHMEM, ZONE_MOVABLE, ZONE_NORMAL, x86Zones } from './zone-types.ts';

describe('GFP masks', () => {
  it('have the values that kernels print in their reports', () => {
    // "invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO)"
    expect(GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_ZERO).toBe(0x140dca);
    expect(gfpText(0x140dca)).toBe('GFP_HIGHUSER_MOVABLE|__GFP_ZERO|__GFP_COMP');
    expect([GFP_KERNEL, GFP_ATOMIC, GFP_NOWAIT, GFP_NOIO, GFP_NOFS, GFP_USER]).toEqual([0xcc0, 0x820, 0x2800, 0xc00, 0xc40, 0x100cc0]);
    expect(GFP_HIGHUSER_MOVABLE).toBe(0x100cca);
    expect(GFP_TRANSHUGE_LIGHT).toBe(0x1c20ca);
    expect(GFP_TRANSHUGE).toBe(0x1c24ca);
  });

  it('share the values of the allocator flags they become', () => {
    expect([__GFP_HIGH, __GFP_KSWAPD_RECLAIM]).toEqual([ALLOC_MIN_RESERVE, ALLOC_KSWAPD]);
  });

  it('tell the migrate type', () => {
    expect([GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_KERNEL | __GFP_RECLAIMABLE].map(gfpMigratetype)).toEqual([
      MIGRATE_UNMOVABLE,
      MIGRATE_MOVABLE,
      MIGRATE_RECLAIMABLE,
    ]);
  });

  it('tell who may sleep', () => {
    expect([GFP_KERNEL, GFP_NOIO, GFP_ATOMIC, GFP_NOWAIT, GFP_TRANSHUGE_LIGHT].map(gfpAllowsBlocking)).toEqual([true, true, false, false, false]);
    expect(GFP_TRANSHUGE & __GFP_DIRECT_RECLAIM).not.toBe(0);
  });

  it('tell the zone, by architecture', () => {
    const on64 = (gfp: number): number => gfpZone(gfp, X86_64_ZONES.kinds);
    const on32 = (gfp: number): number => gfpZone(gfp, x86Zones(true, 0).kinds);
    expect([0, __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM, __GFP_MOVABLE, __GFP_HIGHMEM | __GFP_MOVABLE].map(on64)).toEqual([
      ZONE_NORMAL,
      ZONE_DMA,
      ZONE_DMA32,
      ZONE_NORMAL,
      ZONE_NORMAL,
      ZONE_MOVABLE,
    ]);
    expect([0, __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM].map(on32)).toEqual([ZONE_NORMAL, ZONE_DMA, ZONE_NORMAL, ZONE_HIGHMEM]);
  });

  it('are refused in exactly the combinations of GFP_ZONE_BAD', () => {
    const bad = [];
    for (let low = 0; low <= GFP_ZONEMASK; low++) if (gfpZone(low, X86_64_ZONES.kinds) < 0) bad.push(low);
    expect(bad).toEqual([0x3, 0x5, 0x6, 0x7, 0xb, 0xd, 0xe, 0xf]);
    expect(gfpRefusal(GFP_KERNEL | __GFP_ZERO)).toBe('');
    expect(gfpRefusal(__GFP_DMA | __GFP_HIGHMEM)).toContain('__GFP_DMA|__GFP_HIGHMEM');
    expect(gfpRefusal(__GFP_BITS_MASK + 1)).toBe('unknown bits 0x200');
    const table = gfpTable(X86_64_ZONES.kinds);
    for (let low = 0; low < 32; low++) expect(table[low] < 0).toBe(gfpRefusal(low) !== '');
  });

  it('print as the kernel prints them', () => {
    expect(gfpText(GFP_KERNEL | __GFP_ZERO)).toBe('GFP_KERNEL|__GFP_ZERO');
    expect(gfpText(GFP_KERNEL | __GFP_COMP | __GFP_NOWARN)).toBe('GFP_KERNEL|__GFP_NOWARN|__GFP_COMP');
    expect(gfpText(0)).toBe('none');
  });
});
