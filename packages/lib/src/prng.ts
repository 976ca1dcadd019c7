/** The whole state of a {@link Prng}: four integers of 32 bits. */
export type PrngState = readonly [number, number, number, number];

/**
 * A seeded source of pseudo-random numbers that runs the same everywhere. The algorithm is sfc32 (Chris Doty-Humphrey's
 * PractRand): 128 bits of state, one of them a counter, so that no seed has a short cycle.
 */
export class Prng {
  private a: number;
  private b: number;
  private c: number;
  private counter: number;

  /** Takes any integer a double holds exactly; each seed gives a sequence of its own. */
  constructor(seed: number) {
    this.a = 0;
    this.b = seed | 0;
    this.c = Math.floor(seed / 2 ** 32) | 0;
    this.counter = 1;
    // Neighbouring seeds differ in one bit; a dozen rounds spread it over the whole state.
    for (let round = 0; round < 12; round++) this.u32();
  }

  /** Makes a generator that goes on where the saved one stood. */
  static from(state: PrngState): Prng {
    const prng = new Prng(0);
    prng.restore(state);
    return prng;
  }

  /** Returns an integer in 0 … 2^32 - 1. */
  u32(): number {
    const mixed = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + mixed) | 0;
    return mixed >>> 0;
  }

  /** Returns an integer in 0 … n - 1; `n` is an integer in 1 … 2^53. Up to 2^37 none is likelier by more than 2^-16. */
  below(n: number): number {
    if (n <= 0x1_0000) return Math.floor((this.u32() * n) / 2 ** 32);
    return Math.floor(this.float() * n);
  }

  /** Returns a number in [0, 1) with 53 random bits. */
  float(): number {
    const high = this.u32() >>> 5;
    const low = this.u32() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** Returns the state as plain numbers. */
  save(): PrngState {
    return [this.a, this.b, this.c, this.counter];
  }

  /** Goes back to a state that {@link Prng.save} returned. */
  restore(state: PrngState): void {
    [this.a, this.b, this.c, this.counter] = state;
  }
}
