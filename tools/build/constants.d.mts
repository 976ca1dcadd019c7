export function withConstants(code: string, load: (specifier: string) => Promise<Record<string, unknown> | null>): Promise<string>;
