import { describe, expect, it } from 'vitest';
import { Prng } from './prng.ts';

describe('Prng', () => {
  it('repeats itself by its seed and goes on from a saved state', () => {
    const one = new Prng(42);
    const two = new Prng(42);
    const other = new Prng(43);
    const drawn = Array.from({ length: 5 }, () => one.u32());
    expect(Array.from({ length: 5 }, () => two.u32())).toEqual(drawn);
    expect(Array.from({ length: 5 }, () => other.u32())).not.toEqual(drawn);
    const saved = JSON.parse(JSON.stringify(one.save())) as ReturnType<Prng['save']>;
    const ahead = [one.u32(), one.float(), one.below(7)];
    const again = Prng.from(saved);
    expect([again.u32(), again.float(), again.below(7)]).toEqual(ahead);
    one.restore(saved);
    expect(one.u32()).toBe(ahead[0]);
  });

  it('stays what it is: recorded traces depend on it', () => {
    const prng = new Prng(1);
    expect([prng.u32(), prng.u32(), prng.u32()]).toMatchInlineSnapshot(`
      [
        2012149540,
        1872316204,
        1707632675,
      ]
    `);
  });

  it('spreads evenly', () => {
    for (const n of [4, 8, 100, 2 ** 33, 2 ** 47]) {
      const prng = new Prng(n);
      const counts = [0, 0, 0, 0];
      for (let i = 0; i < 40_000; i++) {
        const drawn = prng.below(n);
        if (!(Number.isInteger(drawn) && drawn >= 0 && drawn < n)) throw new Error(`drew ${drawn} below ${n}`);
        counts[Math.floor((drawn / n) * 4)]++;
      }
      for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
    }
  });

  it('tells seeds wider than 32 bits and negative ones apart', () => {
    const firsts = [0, 1, -1, 2 ** 32, 2 ** 32 + 1, -(2 ** 40)].map((seed) => new Prng(seed).u32());
    expect(new Set(firsts).size).toBe(firsts.length);
  });
});
