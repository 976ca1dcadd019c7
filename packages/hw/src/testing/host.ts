/** What a benchmark uses of the host that the language's own library does not list. */
export const { console, performance } = globalThis as unknown as {
  readonly console: { log(text: string): void };
  readonly performance: { now(): number };
};
