import { Bench } from 'tinybench';
import { console } from './testing/console.ts';
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
const medians = new Map<string, number>();
for (const task of bench.tasks) {
  const { result } = task;
  if (result.state !== 'completed') continue;
  const ns = (result.latency.p50 * 1e6) / OPS;
  medians.set(task.name, ns);
  console.log(`${task.name.padEnd(50)} ${ns.toFixed(1).padStart(8)} ns`);
}
const ratio = medians.get('find, 1000000 ranges')! / medians.get('find, 1000 ranges')!;
console.log(`\nfind among 1,000,000 against among 1,000: ${ratio.toFixed(2)} (at most 2.5)`);
if (sink === 0) console.log('nothing was found');
