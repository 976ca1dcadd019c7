/** Thrown where the emulator itself is wrong, never for what a user program may cause. */
export class KernelBug extends Error {
  override name = 'KernelBug';
}

/**
 * Stops the emulator when `condition` is true, as Linux's `BUG_ON` does. Write the message as a constant string where
 * the call is hot: it is built before the condition is looked at.
 *
 * @linux include/asm-generic/bug.h:BUG_ON
 * @throws KernelBug when `condition` is true
 */
export function bugOn(condition: boolean, message: string): void {
  if (condition) throw new KernelBug(message);
}
