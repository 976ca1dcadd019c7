import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evaluate, ExpressionError, namesIn } from './expression.ts';

const names = new Map([['PAGE', 4096n], ['m.VmSize', 7n], ['UMAX', 2n ** 64n - 1n]]);

describe('expressions', () => {
  it.each([
    ['1+2*3', 7n],
    ['(1+2)*3', 9n],
    ['-PAGE', -4096n],
    ['2*-3', -6n],
    ['0x10 + 1', 17n],
    ['m.VmSize == 7 && 1 < 2', 1n],
    ['1 > 2 || 3 != 3', 0n],
    ['-7 / 2', -4n],
    ['-7 % 2', 1n],
    ['UMAX - 1', 2n ** 64n - 2n],
    ['10 - 3 - 2', 5n],
  ])('%s', (text, value) => {
    expect(evaluate(text, names)).toBe(value);
  });

  it.each(['', '1 +', '(1', '1 2', 'A', '1 / 0', '$', '*'])('refuses %j', (text) => {
    expect(() => evaluate(text, names)).toThrow(ExpressionError);
  });

  it('is exact on integers of any size', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 70n }), fc.bigInt({ min: 1n, max: 2n ** 70n }), (a, b) => {
        expect(evaluate(`${a} * ${b} + ${a} % ${b} - ${a} / ${b}`, names)).toBe(a * b + (a % b) - a / b);
      }),
    );
  });

  it('lists names', () => {
    expect(namesIn('A + m.VmSize * A < 0x1f')).toEqual(expect.arrayContaining(['A', 'm.VmSize']));
  });
});
