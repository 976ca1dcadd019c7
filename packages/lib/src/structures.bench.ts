import { Bench } from 'tinybench';
import { Bitmap } from './bitmap.ts';
import { ColumnList } from './column-list.ts';
import { IdTable } from './id-table.ts';
import { IntervalTree } from './interval-tree.ts';
import { Prng } from './prng.ts';
import { console } from './testing/host.ts';
import { TraceRing } from './trace-ring.ts';
import { XArray } from './xarray.ts';
import { XArrayInt } from './xarray-int.ts';

/**
 * The everyday operation of each structure beside the plain array operation it is measured against; medians of one run.
 */

const OPS = 4096;
const bench = new Bench({ time: 300, warmupTime: 100 });
let sink = 0;

const prng = new Prng(1);
const picks = Int32Array.from({ length: OPS }, () => prng.below(OPS));

const array: number[] = [];
bench.add('array push + pop', () => {
  for (let i = 0; i < OPS; i++) {
    array.push(i);
    sink += array.pop()!;
  }
});

const lists = ColumnList.create(OPS + 1, 2);
for (let node = 1; node <= OPS; node++) lists.pushBack(lists.head(node & 1), node);
bench.add('list: move a random node', () => {
  const head = lists.head(0);
  for (let i = 0; i < OPS; i++) lists.moveTo(head, picks[i] + 1);
});
const pool = ColumnList.create(64, 1);
for (let node = 1; node < 64; node++) pool.pushBack(pool.head(0), node);
bench.add('list: pop + push at the front', () => {
  const head = pool.head(0);
  for (let i = 0; i < OPS; i++) pool.pushFront(head, pool.popFront(head));
});

class ListNode {
  next: ListNode = this;
  prev: ListNode = this;
}
const headNode = new ListNode();
const nodes = Array.from({ length: OPS }, () => new ListNode());
bench.add('objects: move a random node', () => {
  for (let i = 0; i < OPS; i++) {
    const node = nodes[picks[i]];
    node.prev.next = node.next;
    node.next.prev = node.prev;
    const behind = headNode.next;
    node.next = behind;
    node.prev = headNode;
    behind.prev = node;
    headNode.next = node;
  }
});

const map = new Map<number, number>();
const ints = new XArrayInt();
const values = new XArray<ListNode>();
for (let i = 0; i < OPS; i++) {
  map.set(i, i);
  ints.set(i, i);
  values.set(i, headNode);
}
bench.add('Map: get', () => {
  for (let i = 0; i < OPS; i++) sink += map.get(picks[i])!;
});
bench.add('XArrayInt: get', () => {
  for (let i = 0; i < OPS; i++) sink += ints.get(picks[i]);
});
bench.add('XArrayInt: set', () => {
  for (let i = 0; i < OPS; i++) ints.set(picks[i], i);
});
bench.add('XArrayInt: delete + set', () => {
  for (let i = 0; i < OPS; i++) {
    ints.delete(picks[i]);
    ints.set(picks[i], i);
  }
});
bench.add('XArray: get', () => {
  for (let i = 0; i < OPS; i++) if (values.get(picks[i]) === headNode) sink++;
});

const tree = new IntervalTree<number>();
for (let i = 0; i < 1_000; i++) tree.insert(i * 8, i * 8 + 15, i);
bench.add('IntervalTree: insert + remove, 1,000 intervals', () => {
  for (let i = 0; i < OPS; i++) tree.remove(tree.insert(picks[i], picks[i] + 15, i));
});
bench.add('IntervalTree: the two or three over a number', () => {
  for (let i = 0; i < OPS; i++) {
    for (let node = tree.firstOverlap(i, i); node !== undefined; node = tree.nextOverlap(node, i, i)) sink++;
  }
});
const lone = new IntervalTree<number>();
bench.add('IntervalTree: insert + remove, alone', () => {
  for (let i = 0; i < OPS; i++) lone.remove(lone.insert(i, i + 15, i));
});

const bitmap = new Bitmap(OPS);
bench.add('Bitmap: set + clear', () => {
  for (let i = 0; i < OPS; i++) {
    bitmap.set(picks[i]);
    bitmap.clear(picks[i]);
  }
});
const ids = new IdTable<number>();
for (let i = 0; i < 100; i++) ids.alloc(i);
bench.add('IdTable: alloc + free', () => {
  for (let i = 0; i < OPS; i++) ids.free(ids.alloc(i));
});

const trace = new TraceRing(1024, { now: 0 });
const event = trace.define('tick', ['n']);
bench.add('trace: off', () => {
  for (let i = 0; i < OPS; i++) if (trace.enabled) trace.emit(event, i);
});
const tracing = new TraceRing(1024, { now: 0 });
tracing.define('tick', ['n']);
tracing.enable();
bench.add('trace: on', () => {
  for (let i = 0; i < OPS; i++) if (tracing.enabled) tracing.emit(event, i);
});
const draws = new Prng(3);
bench.add('Prng: below', () => {
  for (let i = 0; i < OPS; i++) sink += draws.below(100);
});

await bench.run();
for (const task of bench.tasks) {
  const { result } = task;
  if (result.state !== 'completed') continue;
  console.log(`${task.name.padEnd(50)} ${((result.latency.p50 * 1e6) / OPS).toFixed(1).padStart(8)} ns`);
}
if (sink === 0) console.log('nothing was done');
