/** A worker of a sweep: runs what it is handed. */
import { runCombination } from './run-combination.ts';
import type { RunRecord, RunTask } from './run-combination.ts';

export default function run(task: RunTask): Promise<RunRecord> {
  return runCombination(task);
}
