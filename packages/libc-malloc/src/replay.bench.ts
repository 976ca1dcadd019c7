/**
 * Replays traces on flat memory, so that the figures are the allocator's own: nanoseconds an event, medians of rounds.
 * Arguments are trace files, `.gz` or not; without any, the traces of the repository. Beside each figure stands that of
 * the bump allocator, as the floor that the replay itself sets.
 *
 *     npx tsx --conditions=source packages/libc-malloc/src/replay.bench.ts [TRACE…]
 */
/// <reference types="node" />
import { readFileSync, readdirSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { Bench } from 'tinybench';
import { mallocs } from './registry.ts';
import type { MallocName } from './registry.ts';
import { FlatOs } from './testing/flat-os.ts';
import type { MallocEvents } from './trace/malloc-events.ts';
import { parseMallocTrace } from './trace/malloc-trace-reader.ts';
import { replayMallocTrace } from './trace/replay-malloc-trace.ts';

const HERE = new URL('../../../test/data/traces/', import.meta.url);

function load(file: string | URL): MallocEvents {
  const bytes = readFileSync(file);
  return parseMallocTrace(bytes[0] === 0x1f ? gunzipSync(bytes) : bytes);
}

function traces(): Map<string, MallocEvents> {
  const files = process.argv.slice(2);
  if (files.length > 0) return new Map(files.map((file) => [file.replace(/.*\//, ''), load(file)]));
  const names = readdirSync(HERE).filter((name) => name.endsWith('.trace.gz'));
  return new Map(names.map((name) => [name, load(new URL(name, HERE))]));
}

const bench = new Bench({ time: 0, iterations: 9, warmupTime: 0, warmupIterations: 2 });
const all = traces();
for (const [trace, events] of all) {
  for (const name of Object.keys(mallocs) as MallocName[]) {
    let os: FlatOs;
    bench.add(
      `${trace} ${name}`,
      () => {
        replayMallocTrace(events, mallocs[name](os), os);
      },
      {
        beforeEach() {
          os = new FlatOs({ heapBytes: 512 * 1024 * 1024, areaBytes: 512 * 1024 * 1024 });
        },
      },
    );
  }
}
await bench.run();
for (const [trace, events] of all) {
  const nanoseconds = (name: string): number => {
    const result = bench.getTask(`${trace} ${name}`)?.result;
    return result !== undefined && 'latency' in result ? (result.latency.p50 * 1e6) / events.count : NaN;
  };
  const figures = Object.keys(mallocs).map((name) => `${name} ${nanoseconds(name).toFixed(1)}`);
  console.log(`${trace}: ${events.count} events, ns/event: ${figures.join(', ')}`);
}
