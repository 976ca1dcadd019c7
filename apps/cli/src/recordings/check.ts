/**
 * Checks of a recording: each compares one value.
 */
import type { CaseResult } from '../conformance/run-case.ts';

type Value = string | number | undefined;

/** Collects the checks of a recording. */
export class Checks {
  readonly results: CaseResult[] = [];
  readonly #recording: string;

  constructor(recording: string) {
    this.#recording = recording;
  }

  /** Compares what was recorded with what this machine has. */
  equal(area: string, what: string, recorded: Value, computed: Value): void {
    this.add(area, what, recorded === computed ? null : `recorded ${show(recorded)}, computed ${show(computed)}`);
  }

  /** Notes a check's result: `failure` has both values, or is null. */
  add(area: string, what: string, failure: string | null): void {
    this.results.push({ id: `${this.#recording}: ${what}`, area, failure });
  }
}

function show(value: Value): string {
  if (value === undefined) return 'nothing';
  return typeof value === 'number' ? `${value}` : `'${value}'`;
}
