/** What a benchmark uses of whatever runs it. */
interface Host {
  readonly console: { log(line: string): void };
  readonly performance: { now(): number };
}

export const { console, performance } = globalThis as unknown as Host;
