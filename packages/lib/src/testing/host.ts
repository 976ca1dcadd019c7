/** What a benchmark needs of whatever runs it. */
interface Host {
  readonly console: { log(line: string): void };
  /** `now` returns milliseconds, with fractions. */
  readonly performance: { now(): number };
}

export const { console, performance } = globalThis as unknown as Host;
