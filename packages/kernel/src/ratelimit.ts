/**
 * How often the kernel says the same.
 *
 * @linux lib/ratelimit.c
 */
import type { VirtualClock } from '@pagelab/hw';
import type { KernelLog } from './kernel-log.ts';

/** At most so many lines in a time. @linux include/linux/ratelimit_types.h:ratelimit_state */
export class RateLimit {
  readonly #clock: VirtualClock;
  readonly #name: string;
  readonly #intervalNs: number;
  readonly #burst: number;
  #begin = -Infinity;
  #printed = 0;
  #missed = 0;

  /** @param name of the function that says it */
  constructor(clock: VirtualClock, name: string, intervalNs: number, burst: number) {
    this.#clock = clock;
    this.#name = name;
    this.#intervalNs = intervalNs;
    this.#burst = burst;
  }

  /** Whether it may be said now; tells how often it was not, before. @linux lib/ratelimit.c:___ratelimit */
  allows(log: KernelLog): boolean {
    const { now } = this.#clock;
    if (now - this.#begin >= this.#intervalNs) {
      if (this.#missed > 0) log.print(`${this.#name}: ${this.#missed} callbacks suppressed`);
      this.#begin = now;
      this.#printed = 0;
      this.#missed = 0;
    }
    if (this.#printed < this.#burst) {
      this.#printed++;
      return true;
    }
    this.#missed++;
    return false;
  }
}
