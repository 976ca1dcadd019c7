/**
 * Failures that end the command with one line on standard error.
 */

/** The work failed: exit status 1. */
export class CommandFailure extends Error {
  override readonly name: string = 'CommandFailure';
  readonly exitCode: number = 1;
}

/** The command was used wrongly: exit status 2. */
export class UsageError extends CommandFailure {
  override readonly name = 'UsageError';
  override readonly exitCode = 2;
}
