/**
 * A sweep's results in a file: written run by run while it goes on, so that an interrupted one can go on, then as one JSON object.
 */
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { CommandFailure } from '../../errors.ts';
import { AXES, combinationKey } from './combination.ts';
import type { RunRecord } from './run-combination.ts';

const combination = z.object(Object.fromEntries(AXES.map((axis) => [axis, z.string()])) as Record<(typeof AXES)[number], z.ZodString>);
const counts = z.object({
  operations: z.number(), requestedBytes: z.number(), obtainedBytes: z.number(), residentBytes: z.number(), machineBytes: z.number(),
  slabBytes: z.number(), pageTableBytes: z.number(), fragmentation: z.number(), faults: z.number(), majorFaults: z.number().default(0), tlbMisses: z.number(), cycles: z.number(),
  virtualNs: z.number(), unusable: z.number(),
});
const record = z.object({ combination, counts, hostNs: z.array(z.number()).readonly() });
const results = z.object({
  format: z.literal('pagelab-bench-1'),
  /** Names the sweep that this is a part of, or all of. */
  plan: z.string(),
  /** Combinations of the whole sweep. */
  total: z.int(),
  seed: z.int(),
  rounds: z.int(),
  host: z.object({ node: z.string(), platform: z.string(), cpus: z.int() }),
  runs: z.array(record).readonly(),
});

export type SweepResults = z.infer<typeof results>;
export type SweepHeader = Omit<SweepResults, 'runs'>;

function problemOf(error: z.ZodError): string {
  const [issue] = error.issues;
  return issue === undefined ? 'it has another form' : `${issue.path.join('.') || 'it'}: ${issue.message}`;
}

/** Reads a file of results. @throws CommandFailure where it is none */
export function readResults(file: string): SweepResults {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new CommandFailure(`cannot read ${file}: ${(error as Error).message}`);
  }
  const parsed = results.safeParse(json);
  if (!parsed.success) throw new CommandFailure(`${file} holds no results of 'bench matrix': ${problemOf(parsed.error)}`);
  return parsed.data;
}

/** @throws CommandFailure where it cannot be written */
export function writeResults(file: string, sweep: SweepResults): void {
  try {
    writeFileSync(file, `${JSON.stringify(sweep, null, 1)}\n`);
  } catch (error) {
    throw new CommandFailure(`cannot write ${file}: ${(error as Error).message}`);
  }
}

/** The runs of a sweep that is under way: beside the file of its results, a line a run. */
export class Journal {
  readonly #file: string;
  readonly #plan: string;

  constructor(resultsFile: string, plan: string) {
    this.#file = `${resultsFile}.partial`;
    this.#plan = plan;
  }

  /** What an earlier run of the same sweep came to. A line that was cut off is left out. */
  read(): RunRecord[] {
    if (!existsSync(this.#file)) return [];
    const [head, ...lines] = readFileSync(this.#file, 'utf8').split('\n');
    if (head !== this.#plan) {
      throw new CommandFailure(`${this.#file} belongs to another sweep, with other values, seed or rounds: finish that one, or remove the file`);
    }
    const runs = new Map<string, RunRecord>();
    for (const line of lines) {
      let json: unknown;
      try {
        json = JSON.parse(line);
      } catch {
        continue;
      }
      const parsed = record.safeParse(json);
      if (parsed.success) runs.set(combinationKey(parsed.data.combination), parsed.data);
    }
    return [...runs.values()];
  }

  /** @throws CommandFailure where it cannot be written */
  add(run: RunRecord): void {
    try {
      if (!existsSync(this.#file)) writeFileSync(this.#file, `${this.#plan}\n`);
      // A line that was cut off ends here.
      appendFileSync(this.#file, `\n${JSON.stringify(run)}\n`);
    } catch (error) {
      throw new CommandFailure(`cannot write ${this.#file}: ${(error as Error).message}`);
    }
  }

  remove(): void {
    rmSync(this.#file, { force: true });
  }
}

/**
 * Joins parts of a sweep.
 *
 * @throws CommandFailure where they are of different sweeps
 */
export function mergeResults(parts: readonly { readonly file: string; readonly sweep: SweepResults }[]): SweepResults {
  const [first] = parts;
  if (first === undefined) throw new CommandFailure('nothing to join');
  const runs = new Map<string, RunRecord>();
  for (const { file, sweep } of parts) {
    if (sweep.plan !== first.sweep.plan) throw new CommandFailure(`${file} is of another sweep than ${first.file}: other values, seed or rounds`);
    for (const run of sweep.runs) runs.set(combinationKey(run.combination), run);
  }
  return { ...first.sweep, runs: [...runs.values()] };
}
