/**
 * Which kernel functions are being called, as far as kernel code says so: who asked for memory, in reports.
 *
 * @linux kernel/stacktrace.c:stack_trace_save
 */

/** Calls under way, the outermost first. */
export class CallTrace {
  readonly #names: string[] = [];

  /** Enters a function: its name, and the module it is of where it is none of the kernel's own. */
  enter(name: string, module = ''): void {
    this.#names.push(module === '' ? name : `${name} [${module}]`);
  }

  leave(): void {
    this.#names.pop();
  }

  /** The innermost function; `undefined` where there is none. */
  get innermost(): string | undefined {
    return this.#names.at(-1);
  }

  /** The functions, the innermost first. */
  save(): string[] {
    return [...this.#names].reverse();
  }
}
