/**
 * A line that counts up while work goes on: on a terminal only.
 */
const INTERVAL = 100;

export class Progress {
  readonly #what: string;
  readonly #total: number;
  readonly #stream: NodeJS.WriteStream;
  #done = 0;
  #shownAt = 0;

  /** @param total how many there will be; 0 where that is not known */
  constructor(what: string, total: number, stream: NodeJS.WriteStream = process.stderr) {
    this.#what = what;
    this.#total = total;
    this.#stream = stream;
  }

  advance(by = 1): void {
    this.#done += by;
    if (!this.#stream.isTTY || Date.now() - this.#shownAt < INTERVAL) return;
    this.#shownAt = Date.now();
    const total = this.#total > 0 ? ` of ${this.#total}` : '';
    this.#stream.write(`\r${this.#done}${total} ${this.#what}\u001b[K`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#stream.isTTY && this.#shownAt > 0) this.#stream.write('\r\u001b[K');
  }
}
