export function withoutEmptyFields(code: string): string;
