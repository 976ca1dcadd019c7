import fc from 'fast-check';
import { expect, test } from 'vitest';
import { foldFlags, int32, reg, unsigned, unsignedAbove } from './registers.ts';

const register = fc.oneof(
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
  fc.bigInt({ min: 0n, max: 2n ** 52n }).map((page) => page * 4096n),
  fc.constantFrom(0n, -1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 4096n, 2n ** 64n - 1n, 2n ** 53n + 1n),
);

test('a bigint is read as a signed register, exactly where a double can', () => {
  fc.assert(
    fc.property(register, (value) => {
      const signed = BigInt.asIntN(64, value);
      const result = BigInt(reg(value));
      // Its page, its alignment and its sign survive; the value itself where it is small or page-aligned.
      expect(result >> 12n).toBe(signed >> 12n);
      expect(result % 4096n === 0n).toBe(signed % 4096n === 0n);
      if (Number.isSafeInteger(Number(signed)) || signed % 4096n === 0n) expect(result).toBe(signed);
    }),
  );
});

test('a number is reduced as the bigint of the same value', () => {
  fc.assert(
    fc.property(fc.oneof(fc.maxSafeInteger(), fc.double({ min: -(2 ** 70), max: 2 ** 70, noNaN: true }).map(Math.trunc)), (value) => {
      expect(reg(value)).toBe(reg(BigInt(value)));
    }),
  );
  expect(Object.is(reg(-0), 0)).toBe(true);
  expect(reg(undefined)).toBe(0);
});

test('what is no register is refused', () => {
  for (const value of [0.5, NaN, Infinity]) expect(() => reg(value)).toThrow(RangeError);
  for (const value of ['1', null, {}, true]) expect(() => reg(value as unknown as number)).toThrow(TypeError);
});

test('a register read as int, as unsigned, as flags', () => {
  fc.assert(
    fc.property(register, (value) => {
      const held = reg(value);
      const bits = BigInt.asUintN(64, BigInt(held));
      expect(int32(held)).toBe(Number(BigInt.asIntN(32, bits)));
      expect(unsigned(held)).toBe(Number(bits));
      expect(foldFlags(held, 1 << 30)).toBe(bits < 2n ** 32n ? Number(BigInt.asIntN(32, bits)) : Number(BigInt.asIntN(32, bits)) | (1 << 30));
    }),
  );
});

test('unsigned comparison', () => {
  fc.assert(
    fc.property(register, register, (a, b) => {
      const [x, y] = [reg(a), reg(b)];
      expect(unsignedAbove(x, y)).toBe(BigInt.asUintN(64, BigInt(x)) > BigInt.asUintN(64, BigInt(y)));
    }),
  );
});
