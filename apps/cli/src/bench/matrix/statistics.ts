/**
 * What can be said of times that scatter.
 */
import { binomialDistribution, median, permutationTest } from 'simple-statistics';
import { randomNumbers } from './workloads.ts';

export interface Spread {
  readonly median: number;
  /** Ends of an interval that holds the true median with the probability `confidence`. */
  readonly low: number;
  readonly high: number;
  /** 0.95 or more where there are six rounds or more; else what the whole range of them gives. */
  readonly confidence: number;
}

const CONFIDENCE = 0.95;

/**
 * The median of samples and an interval for it, from their order alone: whatever the distribution.
 *
 * Source: the number of samples below the true median is binomial.
 */
export function spreadOf(samples: readonly number[]): Spread {
  const sorted = [...samples].sort((a, b) => a - b);
  const n = sorted.length;
  if (n < 2) return { median: sorted[0] ?? 0, low: sorted[0] ?? 0, high: sorted[0] ?? 0, confidence: 0 };
  const probability = binomialDistribution(n, 0.5) ?? [];
  const tails = (rank: number): number => 2 * (probability[rank] ?? 0);
  let rank = 0;
  let outside = tails(0);
  while (2 * (rank + 1) < n - 1 && outside + tails(rank + 1) <= 1 - CONFIDENCE) outside += tails(++rank);
  return { median: median(sorted), low: sorted[rank]!, high: sorted[n - 1 - rank]!, confidence: 1 - outside };
}

/** How two sets of samples compare. */
export interface Difference {
  /** Median of the second by the median of the first. */
  readonly ratio: number;
  /** How probable a difference this large would be if there were none. */
  readonly p: number;
  readonly withinNoise: boolean;
}

const SIGNIFICANCE = 0.05;
const PERMUTATIONS = 10_000;

/** Compares by permuting the samples, from a fixed seed. */
export function differenceOf(first: readonly number[], second: readonly number[]): Difference {
  const ratio = median([...second]) / median([...first]);
  if (first.length < 2 || second.length < 2) return { ratio, p: 1, withinNoise: true };
  const random = randomNumbers(1);
  const p = permutationTest([...first], [...second], 'two_side', PERMUTATIONS, () => random(2 ** 30) / 2 ** 30);
  return { ratio, p, withinNoise: p > SIGNIFICANCE };
}
