import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RbTree } from './rb-tree.ts';
import type { RbNode } from './rb-tree.ts';

describe('red-black tree', () => {
  it('keeps its order and its balance as values come and go', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 60 }), fc.boolean()), { maxLength: 200 }), (steps) => {
        const tree = new RbTree<number>();
        const nodes = new Map<number, RbNode<number>>();
        for (const [value, add] of steps) {
          const known = nodes.get(value);
          if (add && known === undefined) nodes.set(value, tree.insert(value, (other) => value - other));
          else if (!add && known !== undefined) {
            tree.remove(known);
            nodes.delete(value);
          }
          tree.validate();
        }
        const seen: number[] = [];
        tree.forEach((value) => seen.push(value));
        expect(seen).toEqual([...nodes.keys()].sort((a, b) => a - b));
        for (let value = 0; value <= 60; value++) expect(tree.find((other) => value - other)?.value).toBe(nodes.has(value) ? value : undefined);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  it('is no deeper than it has to be', () => {
    const tree = new RbTree<number>();
    for (let value = 0; value < 4096; value++) tree.insert(value, (other) => value - other);
    const depth = (node: RbNode<number> | null): number => (node === null ? 0 : 1 + Math.max(depth(node.left), depth(node.right)));
    expect(depth(tree.root)).toBeLessThanOrEqual(24);
    tree.clear();
    expect(tree.find(() => 0)).toBe(null);
    tree.validate();
  });
});
