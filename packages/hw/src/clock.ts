/** The machine's time: it passes only where something advances it. */
export class VirtualClock {
  /** Nanoseconds since the machine was switched on. Not always whole. */
  now = 0;

  /** Lets `ns` nanoseconds pass. */
  advance(ns: number): void {
    this.now += ns;
  }
}
