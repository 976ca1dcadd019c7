/**
 * What the kernel says: lines with the virtual time, as `dmesg` shows them.
 *
 * @linux kernel/printk/printk.c
 */
import type { VirtualClock } from '@pagelab/hw';

/** Lines kept; the oldest give way. */
const MAX_LINES = 4096;

/** The kernel's log. */
export class KernelLog {
  private readonly clock: VirtualClock;
  private lines: string[] = [];

  constructor(clock: VirtualClock) {
    this.clock = clock;
  }

  /** Adds a line. @linux kernel/printk/printk.c:_printk */
  print(text: string): void {
    this.lines.push(`[${(this.clock.now / 1e9).toFixed(6).padStart(12)}] ${text}`);
    if (this.lines.length > 2 * MAX_LINES) this.lines = this.lines.slice(-MAX_LINES);
  }

  /** The lines so far, oldest first. */
  read(): string {
    return this.lines
      .slice(-MAX_LINES)
      .map((line) => `${line}\n`)
      .join('');
  }
}
