import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  PTE_HI_FRAME_MASK,
  PTE_LO_FRAME_MASK,
  PTE_NX_HI,
  PTE_SOFT_DIRTY_HI,
  pgdIndex,
  pmdIndex,
  pteHi,
  pteIndex,
  pteLo,
  ptePfn,
  pudIndex,
} from './index.ts';

const address = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 47n) - 1n }),
  fc.bigInt({ min: -(1n << 47n), max: -1n }),
  fc.constantFrom(0n, -1n, 1n << 31n, (1n << 32n) - 1n, 1n << 32n, 0x7fffffffffffn, -0x800000000000n, -0x778000000000n),
);

test('the indices of an address are its bits, for user and kernel addresses', () => {
  fc.assert(
    fc.property(address, (wide) => {
      const bits = BigInt.asUintN(64, wide);
      const va = Number(wide);
      expect([pgdIndex(va), pudIndex(va), pmdIndex(va), pteIndex(va)]).toEqual(
        [39n, 30n, 21n, 12n].map((shift) => Number((bits >> shift) & 511n)),
      );
    }),
    { numRuns: 2000 },
  );
});

test('an entry holds the frame and the flags it was made of', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 40 - 1 }),
      fc.integer({ min: 0, max: 0xfff }),
      fc.integer({ min: 0, max: 0xfff }),
      (pfn, flagsLo, flagsHi) => {
        const lo = pteLo(pfn, flagsLo);
        const hi = pteHi(pfn, flagsHi << 20);
        const entry = (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
        expect(entry).toBe((BigInt(flagsHi) << 52n) | (BigInt(pfn) << 12n) | BigInt(flagsLo));
        expect(ptePfn(lo, hi)).toBe(pfn);
      },
    ),
    { numRuns: 2000 },
  );
});

test('the masks cover the bits they are named for', () => {
  const frame = (BigInt(PTE_HI_FRAME_MASK) << 32n) | BigInt(PTE_LO_FRAME_MASK >>> 0);
  expect(frame).toBe((1n << 52n) - 0x1000n);
  expect(BigInt(PTE_NX_HI >>> 0) << 32n).toBe(1n << 63n);
  expect(BigInt(PTE_SOFT_DIRTY_HI) << 32n).toBe(1n << 58n);
});
