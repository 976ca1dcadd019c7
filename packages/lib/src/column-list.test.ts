import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KernelBug } from './assert.ts';
import { ColumnList } from './column-list.ts';
import { Prng } from './prng.ts';

describe('ColumnList', () => {
  it('agrees with arrays after every step of random runs', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const prng = new Prng(seed);
        const nrLists = 3;
        const lists = ColumnList.create(20, nrLists);
        const model: number[][] = Array.from({ length: nrLists }, () => []);
        for (let step = 0; step < 200; step++) {
          const to = prng.below(nrLists);
          const other = (to + 1 + prng.below(nrLists - 1)) % nrLists;
          const head = lists.head(to);
          const node = 1 + prng.below(19);
          const on = model.find((list) => list.includes(node));
          expect(lists.isLinked(node)).toBe(on !== undefined);
          const kind = prng.below(8);
          if (kind === 0) {
            expect(lists.popFront(head)).toBe(model[to].shift() ?? 0);
          } else if (kind === 1) {
            expect(lists.popBack(head)).toBe(model[to].pop() ?? 0);
          } else if (kind === 2) {
            lists.splice(head, lists.head(other));
            model[to].unshift(...model[other].splice(0));
          } else if (kind === 3) {
            lists.spliceBack(head, lists.head(other));
            model[to].push(...model[other].splice(0));
          } else if (on === undefined) {
            if (kind < 6) {
              lists.pushFront(head, node);
              model[to].unshift(node);
            } else {
              lists.pushBack(head, node);
              model[to].push(node);
            }
          } else {
            on.splice(on.indexOf(node), 1);
            if (kind === 4) {
              lists.remove(node);
            } else if (kind < 6) {
              lists.moveTo(head, node);
              model[to].unshift(node);
            } else {
              lists.moveToBack(head, node);
              model[to].push(node);
            }
          }
          model.forEach((list, index) => {
            const at = lists.head(index);
            expect(lists.validate(at)).toBe(list.length);
            expect([...lists.iterate(at)]).toEqual(list);
            expect([lists.first(at), lists.last(at)]).toEqual([list[0] ?? 0, list.at(-1) ?? 0]);
            expect([lists.isEmpty(at), lists.length(at)]).toEqual([list.length === 0, list.length]);
          });
        }
      }),
      { numRuns: 40 },
    );
  });

  it('lets the one who walks it remove', () => {
    const lists = ColumnList.create(10, 1);
    const head = lists.head(0);
    for (let node = 1; node < 10; node++) lists.pushBack(head, node);
    lists.forEach(head, (node) => {
      if (node % 2 === 0) lists.remove(node);
    });
    expect([...lists.iterate(head)]).toEqual([1, 3, 5, 7, 9]);
  });

  it('works on columns handed in and finds a broken link', () => {
    const next = new Int32Array(12);
    const prev = new Int32Array(12);
    const lists = new ColumnList(next, prev, 10);
    lists.pushBack(10, 4);
    lists.pushBack(10, 5);
    expect([next[10], next[4], next[5], prev[10]]).toEqual([4, 5, 10, 5]);
    prev[5] = 3;
    expect(() => lists.validate(10)).toThrow(KernelBug);
    expect(() => new ColumnList(next, new Int32Array(3), 2)).toThrow(KernelBug);
  });
});
