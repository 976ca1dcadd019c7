import { parseMallocTrace } from '@pagelab/libc-malloc';
import type { Mallinfo2 } from '@pagelab/libc-malloc';
import { describe, expect, it } from 'vitest';
import { MallocProfile } from './malloc-profile.ts';

const info = { arena: 4096, uordblks: 1024, hblkhd: 0 } as Mallinfo2;

describe('the profile of a malloc trace', () => {
  it('counts sizes, lifetimes, what is left, and what was most', () => {
    const profile = new MallocProfile({ mallinfo2: () => info, resident: () => 8192 });
    profile.add(parseMallocTrace('m 0 1 100\nm 0 2 16\nf 0 1\nr 0 2 3 0\nc 0 4 1000\nr 0 4 4 17\nf 0 9\n'));
    const { sizes, lifetimes, samples, ...sums } = profile.result();
    expect(sums).toEqual({
      events: 7, requestedBytes: 17, peakRequestedBytes: 1000, peakObtainedBytes: 4096, peakResidentBytes: 8192,
      internalFragmentation: 1 - 17 / 1024, externalFragmentation: 0.75, leftBlocks: 1,
    });
    expect(sizes.blocks).toEqual([0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1]);
    expect(sizes.bytes[10]).toBe(1000);
    // 100 bytes lived for 2 events, 16 for 2, 1000 for 1.
    expect(lifetimes).toEqual({ blocks: [1, 2], bytes: [1000, 116] });
    expect(samples.at(-1)).toEqual({ events: 7, requested: 17, obtained: 4096, inUse: 1024, resident: 8192 });
  });

  it('takes no more samples however long the trace', () => {
    let taken = 0;
    const profile = new MallocProfile({ mallinfo2: () => info, resident: () => ++taken });
    const events = parseMallocTrace(Array.from({ length: 64 }, (_, at) => `m 0 ${at + 1} 8`).join('\n'));
    for (let batch = 0; batch < 20_000; batch++) profile.add(events);
    const { samples } = profile.result();
    expect(samples.length).toBeLessThanOrEqual(512);
    expect(samples.length).toBeGreaterThan(200);
    expect(taken).toBeLessThan(5000);
    expect(samples.at(-1)!.events).toBe(64 * 20_000);
  });
});
