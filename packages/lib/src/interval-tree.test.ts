import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KernelBug } from './assert.ts';
import { IntervalTree } from './interval-tree.ts';
import type { IntervalNode } from './interval-tree.ts';
import { Prng } from './prng.ts';

describe('IntervalTree', () => {
  it('agrees with a list after every step of random runs', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 2, max: 200 }), (seed, space) => {
        const prng = new Prng(seed);
        const tree = new IntervalTree<number>();
        const nodes: IntervalNode<number>[] = [];
        for (let step = 0; step < 200; step++) {
          if (nodes.length === 0 || prng.below(5) < 3) {
            const first = prng.below(space);
            nodes.push(tree.insert(first, first + prng.below(1 + prng.below(space)), step));
          } else {
            tree.remove(nodes.splice(prng.below(nodes.length), 1)[0]);
          }
          tree.validate();
          expect(tree.size).toBe(nodes.length);
          const first = prng.below(space);
          const last = first + prng.below(10);
          const seen: number[] = [];
          tree.forEachOverlap(first, last, (value, node) => {
            seen.push(value);
            expect(node.value).toBe(value);
          });
          const expected = nodes.filter((node) => node.first <= last && node.last >= first);
          expected.sort((a, b) => a.first - b.first || a.value - b.value);
          expect(seen).toEqual(expected.map((node) => node.value));
        }
      }),
      { numRuns: 60 },
    );
  });

  it('lets the one who walks it remove', () => {
    const tree = new IntervalTree<number>();
    for (let i = 0; i < 100; i++) tree.insert(i, i + 10, i);
    tree.forEachOverlap(20, 29, (_, node) => tree.remove(node));
    tree.validate();
    const left: number[] = [];
    tree.forEach((value) => left.push(value));
    expect(left).toEqual(Array.from({ length: 100 }, (_, i) => i).filter((i) => i < 10 || i > 29));
    tree.clear();
    expect(tree.firstOverlap(-Infinity, Infinity)).toBeUndefined();
  });

  it('stops on a handle that is not in the tree and on an empty interval', () => {
    const tree = new IntervalTree<string>();
    const node = tree.insert(1, 1, 'a');
    tree.remove(node);
    expect(() => tree.remove(node)).toThrow(KernelBug);
    expect(() => tree.insert(2, 1, 'b')).toThrow(KernelBug);
  });
});
