/**
 * The machine's console: what programs print, a line at a time.
 */

/** Takes a line without its end. */
export type ConsoleSink = (line: string) => void;

/** Lines kept for whoever reads them later; the oldest give way. */
const MAX_LINES = 65_536;

/** Collects what is printed, and passes whole lines on. */
export class Console {
  /** Where lines go as they are printed; `undefined` only keeps them. */
  sink: ConsoleSink | undefined;
  private lines: string[] = [];
  private rest = '';

  /** Prints a line. */
  line(text: string): void {
    this.write(`${text}\n`);
  }

  /** Prints text, which need not end a line. */
  write(text: string): void {
    const parts = (this.rest + text).split('\n');
    this.rest = parts.pop()!;
    for (const line of parts) {
      this.lines.push(line);
      this.sink?.(line);
    }
    if (this.lines.length > 2 * MAX_LINES) this.lines = this.lines.slice(-MAX_LINES);
  }

  /** Everything printed, as text. */
  read(): string {
    return this.lines.map((line) => `${line}\n`).join('') + this.rest;
  }
}
