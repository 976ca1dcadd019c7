/**
 * The lines of a trace, in memory that does not grow with its length; and what becomes of broken ones.
 */
import { CommandFailure } from '../errors.ts';
import type { Trace } from '../trace-file.ts';

/** No line of a trace is as long; of one that is, only the beginning is kept. */
const MAX_LINE = 1 << 20;

/** Takes a line, without its end, and its number from 1; answers what is wrong with it, `''` where nothing is. */
export type TakeLine = (line: string, number: number) => string;

/** What to do at a broken line. */
export interface BrokenLines {
  /** End there, instead of telling and going on. */
  readonly strict: boolean;
  /** Tells of a line that is skipped. */
  readonly report: (message: string) => void;
}

/** Broken lines that are told one by one; of more only the number is. */
const MAX_REPORTS = 20;

/**
 * Hands the lines of a trace on, one by one; empty ones and those that begin with `#` are none.
 *
 * @returns how many lines were skipped as broken
 * @throws CommandFailure at the first of them where that is wanted; UsageError where it cannot be read
 */
export async function forEachLine({ name, pieces }: Trace, take: TakeLine, broken: BrokenLines): Promise<number> {
  const decoder = new TextDecoder('latin1');
  let rest = '';
  let number = 0;
  let skipped = 0;
  const line = (text: string): void => {
    number++;
    if (text.endsWith('\r')) text = text.slice(0, -1);
    if (text === '' || text.startsWith('#')) return;
    const problem = take(text, number);
    if (problem === '') return;
    if (broken.strict) throw new CommandFailure(`${name}:${number}: ${problem}`);
    if (++skipped <= MAX_REPORTS) broken.report(`${name}:${number}: ${problem}; skipped`);
  };
  for await (const piece of pieces) {
    const lines = decoder.decode(piece, { stream: true }).split('\n');
    lines[0] = rest + lines[0]!;
    rest = lines.pop()!.slice(0, MAX_LINE);
    for (const text of lines) line(text);
  }
  if (rest !== '') line(rest);
  if (skipped > MAX_REPORTS) broken.report(`${name}: ${skipped - MAX_REPORTS} more broken lines; skipped`);
  return skipped;
}
