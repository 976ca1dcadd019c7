import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import { FlatOs } from '../testing/flat-os.ts';
import { protectPtr, revealPtr } from './safe-linking.ts';

function protectExactly(position: number, pointer: number): number {
  return Number((BigInt(position) >> 12n) ^ BigInt(pointer));
}

describe('safe linking', () => {
  it('is the XOR of 64 bits, for any two user addresses', () => {
    const random = new Prng(3);
    for (let i = 0; i < 20_000; i++) {
      const position = random.below(2 ** 47);
      const pointer = i % 10 === 0 ? 0 : random.below(2 ** 47);
      expect(protectPtr(position, pointer)).toBe(protectExactly(position, pointer));
    }
  });

  it('is undone where it was done', () => {
    const os = new FlatOs({ heapBytes: 2 ** 20, areaBytes: 4096 });
    const start = os.sbrk(2 ** 20);
    const random = new Prng(4);
    for (let i = 0; i < 5000; i++) {
      const position = start + 8 * random.below(2 ** 17);
      const pointer = random.below(2 ** 47);
      os.mem.storeAddress(position, protectPtr(position, pointer));
      expect(revealPtr(os.mem, position)).toBe(pointer);
    }
  });

  it('keeps the low bits of a pointer that is none', () => {
    const os = new FlatOs({ heapBytes: 2 ** 20, areaBytes: 4096 });
    const position = os.sbrk(4096);
    for (const stored of [0x4141_4141_4141_4141n, 0xffff_ffff_ffff_fff3n, 0x8000_0000_0000_0000n, 1n << 47n]) {
      os.mem.store64(position, stored);
      const exact = (BigInt(position) >> 12n) ^ stored;
      const revealed = revealPtr(os.mem, position);
      expect(revealed % 2 ** 32).toBe(Number(exact & 0xffff_ffffn));
      expect(revealed).toBeGreaterThan(2 ** 47);
    }
  });
});
