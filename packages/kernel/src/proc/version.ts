import type { Kernel } from '../kernel.ts';

/** `/proc/version`: which rules this kernel follows. */
export function version(kernel: Kernel): string {
  return `Linux version ${kernel.config.kernel}.0-pagelab (pagelab) #1 SMP\n`;
}

/** `/proc/uptime`: seconds since boot, and idle seconds of all CPUs: none, as time passes only where there is work. */
export function uptime(kernel: Kernel): string {
  return `${(kernel.clock.now / 1e9).toFixed(2)} 0.00\n`;
}
