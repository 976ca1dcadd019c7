/** The console of whatever runs a benchmark. */
export const { console } = globalThis as unknown as { console: { log(line: string): void } };
