/**
 * Two kinds of work measured in turn, so that what disturbs the machine disturbs both.
 */
import { Bench } from 'tinybench';

/** A piece of work, done many times by one call. */
export interface Work {
  /** How many operations one call of `run` does. */
  readonly operations: number;
  /** Prepares a call, off the clock. */
  readonly before?: () => void;
  run(): void;
}

const WARMUP_MS = 400;
/** Works whose calls are long are compiled by their number, not by their time. */
const WARMUP_CALLS = 25;
const ROUND_MS = 60;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Nanoseconds an operation of each piece of work takes: medians over the rounds, each of which times every piece once. */
export async function measure(works: readonly Work[], rounds: number): Promise<number[]> {
  const samples = works.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    const bench = new Bench({ time: ROUND_MS, iterations: 3, warmup: round === 0, warmupTime: WARMUP_MS, warmupIterations: WARMUP_CALLS });
    works.forEach((work, i) => {
      bench.add(String(i), () => work.run(), work.before === undefined ? {} : { beforeEach: work.before });
    });
    await bench.run();
    bench.tasks.forEach((task, i) => {
      if (task.result.state === 'errored') throw task.result.error;
      if (!('latency' in task.result)) throw new Error(`no result for '${task.name}'`);
      samples[i]!.push((task.result.latency.p50 * 1e6) / works[i]!.operations);
    });
  }
  return samples.map(median);
}
