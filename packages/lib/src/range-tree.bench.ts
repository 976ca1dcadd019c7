import { Bench } from 'tinybench';
import { console, performance } from './testing/host.ts';
import { Prng } from './prng.ts';
import { RangeTree } from './range-tree.ts';

/** Finding, changing and searching gaps in range trees of several sizes; figures are medians of one run. */

const PAGE = 4096;
const OPS = 1024;

interface Mapping {
  start: number;
  end: number;
}

/** A tree of ranges of one to eight pages with holes between, inserted in random order. */
function build(nrRanges: number, seed: number): { tree: RangeTree<Mapping>; mappings: Mapping[]; top: number } {
  const prng = new Prng(seed);
  const tree = new RangeTree<Mapping>();
  const mappings: Mapping[] = [];
  let addr = 0x10000;
  for (let i = 0; i < nrRanges; i++) {
    addr += (1 + prng.below(8)) * PAGE;
    const start = addr;
    addr += (1 + prng.below(8)) * PAGE;
    mappings.push({ start, end: addr });
  }
  const shuffled = [...mappings];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = prng.below(i + 1);
    [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
  }
  for (const mapping of shuffled) tree.insert(mapping.start, mapping.end, mapping);
  return { tree, mappings, top: addr };
}

const bench = new Bench({ time: 500, warmupTime: 200 });
let sink = 0;

for (const nrRanges of [8, 40, 1_000, 1_000_000]) {
  const { tree, mappings, top } = build(nrRanges, 1);
  const prng = new Prng(2);
  // Drawn beforehand; as many as lie in each leaf of the large tree once or twice.
  const addresses = Float64Array.from({ length: 2 ** 17 }, () => 0x10000 + Math.floor(prng.float() * (top - 0x10000)));
  const picks = Int32Array.from({ length: 2 ** 16 }, () => prng.below(nrRanges));
  let at = 0;
  bench.add(`find, ${nrRanges} ranges`, () => {
    for (let i = 0; i < OPS; i++) {
      const found = tree.find(addresses[at++ & 0x1_ffff]);
      if (found !== undefined) sink++;
    }
  });
  bench.add(`find and read the value, ${nrRanges} ranges`, () => {
    for (let i = 0; i < OPS; i++) {
      const found = tree.find(addresses[at++ & 0x1_ffff]);
      if (found !== undefined) sink += found.start;
    }
  });
  bench.add(`insert + remove, ${nrRanges} ranges`, () => {
    for (let i = 0; i < OPS; i++) {
      const mapping = mappings[picks[at++ & 0xffff]];
      tree.insert(mapping.end, mapping.end + PAGE / 2, mapping);
      tree.remove(mapping.end);
    }
  });
  bench.add(`top-down gap, insert + remove, ${nrRanges} ranges`, () => {
    for (let i = 0; i < OPS; i++) {
      const start = tree.findGapTopDown(PAGE, top, 9 * PAGE);
      const place = start < 0 ? top : start;
      tree.insert(place, place + PAGE, mappings[0]);
      tree.remove(place);
    }
  });
  bench.add(`resize, ${nrRanges} ranges`, () => {
    for (let i = 0; i < OPS; i++) {
      const mapping = mappings[picks[at++ & 0xffff]];
      tree.resize(mapping.start, mapping.start, mapping.end - 1);
      tree.resize(mapping.start, mapping.start, mapping.end);
    }
  });
  if (nrRanges <= 1_000) {
    bench.add(`clone, ${nrRanges} ranges, each`, () => {
      for (let i = 0; i < OPS; i += nrRanges) sink += tree.clone((value) => value).size;
    });
  }
}

await bench.run();
for (const task of bench.tasks) {
  const { result } = task;
  if (result.state !== 'completed') continue;
  const ns = (result.latency.p50 * 1e6) / OPS;
  console.log(`${task.name.padEnd(50)} ${ns.toFixed(1).padStart(8)} ns`);
}

// The ratio of large to small, round by round in turn so that both see the same machine; and beside it what the memory
// alone costs, measured by itself so as not to empty the caches: one read of an end and one of a value, the second waiting
// for the first, at random places of arrays as large as the tree's.
const LOOKUPS = 2 ** 15;

function lookups(nrRanges: number): () => void {
  const { tree, top } = build(nrRanges, 3);
  const prng = new Prng(4);
  const addresses = Float64Array.from({ length: LOOKUPS }, () => Math.floor(prng.float() * top));
  return () => {
    for (let i = 0; i < LOOKUPS; i++) if (tree.find(addresses[i]) !== undefined) sink++;
  };
}

function bareReads(nrRanges: number): () => void {
  const length = Math.ceil(nrRanges / 0.67);
  const prng = new Prng(5);
  const ends = new Float64Array(length + 1);
  const values: Mapping[] = [];
  const mapping = { start: 0, end: 1 };
  for (let i = 0; i <= length; i++) values.push(mapping);
  const places = Int32Array.from({ length: LOOKUPS }, () => prng.below(length));
  return () => {
    for (let i = 0; i < LOOKUPS; i++) if (values[places[i] + +(ends[places[i]] < 0)] === mapping) sink++;
  };
}

function nanoseconds(work: () => void): number {
  const start = performance.now();
  work();
  return ((performance.now() - start) * 1e6) / LOOKUPS;
}

function median(numbers: number[]): number {
  return numbers.sort((a, b) => a - b)[numbers.length >> 1];
}

const [small, large, bare] = [lookups(1_000), lookups(1_000_000), bareReads(1_000_000)];
const rounds = Array.from({ length: 120 }, () => [nanoseconds(small), nanoseconds(large)]).slice(20);
const bareRounds = Array.from({ length: 120 }, () => nanoseconds(bare)).slice(20);
console.log(`\nfind among 1,000: ${median(rounds.map((round) => round[0])).toFixed(1)} ns`);
console.log(`find among 1,000,000: ${median(rounds.map((round) => round[1])).toFixed(1)} ns`);
console.log(`two bare reads in memory as large: ${median(bareRounds).toFixed(1)} ns`);
console.log(`ratio of large to small: ${median(rounds.map((round) => round[1] / round[0])).toFixed(2)} (at most 2.5)`);
if (sink === 0) console.log('nothing was found');
