export const arrows: Readonly<Record<string, readonly string[]>>;
export const appArrows: readonly string[];
export const exampleArrows: readonly string[];
export function forbiddenTo(allowed: readonly string[], own: string): string[];
