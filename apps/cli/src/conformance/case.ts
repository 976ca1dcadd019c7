/**
 * The form of conformance cases. What each operation means is told beside the cases themselves; the fields here are
 * those the runner reads.
 */

/** A number, or an expression. */
export type Value = number | string | boolean;

export interface ExpectedMapping {
  readonly range: string;
  readonly perms: string;
  readonly offset?: Value;
  readonly name?: string;
}

/** One step: an operation, its arguments, and what it is expected to do. */
export interface Step {
  readonly op: string;
  readonly in?: string;
  readonly as?: string;
  readonly expect?: unknown;
  readonly [field: string]: unknown;
}

export interface ConformanceCase {
  readonly id: string;
  readonly area: string;
  readonly title?: string;
  readonly needs?: readonly string[];
  readonly note?: string;
  readonly steps: readonly Step[];
}

/** A case file that is not one. */
export class CaseFormatError extends Error {
  override readonly name = 'CaseFormatError';
}

/**
 * Reads a case file's text: a list of cases.
 *
 * @param name the file's name, for errors
 * @throws CaseFormatError where the text is not JSON or not a list of cases
 */
export function parseCases(text: string, name: string): ConformanceCase[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new CaseFormatError(`${name} is not JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(json)) throw new CaseFormatError(`${name} is not a list of cases`);
  return json.map((item: unknown, index) => {
    const candidate = item as Partial<ConformanceCase> | null;
    if (typeof candidate?.id !== 'string' || typeof candidate.area !== 'string' || !Array.isArray(candidate.steps)) {
      throw new CaseFormatError(`${name}: case ${index} needs "id", "area" and "steps"`);
    }
    return candidate as ConformanceCase;
  });
}
