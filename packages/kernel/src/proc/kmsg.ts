import type { Kernel } from '../kernel.ts';

/** The kernel's log. */
export function kmsg(kernel: Kernel): string {
  return kernel.log.read();
}
