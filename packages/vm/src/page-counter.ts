/**
 * Counting pages against limits, up a hierarchy: what a group uses, its parent uses as well.
 *
 *     usage of a counter >= sum of its children's usage
 *     childrenMinUsage   === sum over its children of min(usage, min); the same for low
 *
 * @linux mm/page_counter.c
 */
import { bugOn } from '@pagelab/lib';

/** No limit: pages of which the bytes fill a signed 64-bit number. @linux include/linux/page_counter.h:PAGE_COUNTER_MAX */
export const PAGE_COUNTER_MAX = 2 ** 51 - 1;

/** Pages used, and what they are held to and protected by. All values in pages. @linux include/linux/page_counter.h:page_counter */
export class PageCounter {
  readonly parent: PageCounter | null;
  usage = 0;
  /** Above `max` nothing can be charged; above `high` whoever charges is slowed down. */
  max = PAGE_COUNTER_MAX;
  high = PAGE_COUNTER_MAX;
  /** What reclaim leaves alone: always, and while there is other memory to be had. */
  min = 0;
  low = 0;
  /** What of that is in force, the parents' being shared out: recomputed by {@link calculateProtection}. */
  emin = 0;
  elow = 0;
  /** What of the usage is protected, as the parent has added it up; and what of the children's. */
  minUsage = 0;
  lowUsage = 0;
  childrenMinUsage = 0;
  childrenLowUsage = 0;
  /** The largest usage so far, and in each of the spans that watchers began; the last one goes on. */
  watermark = 0;
  readonly #spans: number[] = [];
  /** Charges that `max` refused. */
  failcnt = 0;

  constructor(parent: PageCounter | null) {
    this.parent = parent;
  }

  /** Takes a charge back here alone. @linux mm/page_counter.c:page_counter_cancel */
  cancel(nrPages: number): void {
    this.usage -= nrPages;
    bugOn(this.usage < 0, 'page_counter: uncharged more than was charged');
    this.propagate();
  }

  /** Somebody watches the largest usage from now on. @returns what {@link peakSince} is asked with */
  beginSpan(): number {
    return this.#spans.push(this.usage) - 1;
  }

  /** The largest usage since a span began. */
  peakSince(span: number): number {
    return Math.max(...this.#spans.slice(span));
  }

  /** Charges pages here alone, whatever the limit says. */
  add(nrPages: number): void {
    this.usage += nrPages;
    this.propagate();
    const span = this.#spans.length - 1;
    if (span >= 0 && this.usage > this.#spans[span]) this.#spans[span] = this.usage;
    if (this.usage > this.watermark) this.watermark = this.usage;
  }

  /** Tells the parent what of the usage is protected. @linux mm/page_counter.c:propagate_protected_usage */
  propagate(): void {
    const { parent, usage, min, low } = this;
    if (parent === null) return;
    const minUsage = Math.min(usage, min);
    if (minUsage !== this.minUsage) {
      parent.childrenMinUsage += minUsage - this.minUsage;
      this.minUsage = minUsage;
    }
    const lowUsage = Math.min(usage, low);
    if (lowUsage !== this.lowUsage) {
      parent.childrenLowUsage += lowUsage - this.lowUsage;
      this.lowUsage = lowUsage;
    }
  }
}

/**
 * Charges pages to a counter and to all above.
 *
 * @returns `null`, or the counter whose limit was in the way: then nothing is charged
 * @linux mm/page_counter.c:page_counter_try_charge
 */
export function pageCounterTryCharge(counter: PageCounter, nrPages: number): PageCounter | null {
  for (let each: PageCounter | null = counter; each !== null; each = each.parent) {
    if (each.usage + nrPages <= each.max) {
      each.add(nrPages);
      continue;
    }
    each.failcnt++;
    for (let undo = counter; undo !== each; undo = undo.parent!) undo.cancel(nrPages);
    return each;
  }
  return null;
}

/** Charges pages whatever the limits say. @linux mm/page_counter.c:page_counter_charge */
export function pageCounterCharge(counter: PageCounter, nrPages: number): void {
  for (let each: PageCounter | null = counter; each !== null; each = each.parent) each.add(nrPages);
}

/** Takes a charge back, from a counter and from all above. @linux mm/page_counter.c:page_counter_uncharge */
export function pageCounterUncharge(counter: PageCounter, nrPages: number): void {
  for (let each: PageCounter | null = counter; each !== null; each = each.parent) each.cancel(nrPages);
}

/** Sets what reclaim leaves alone always. @linux mm/page_counter.c:page_counter_set_min */
export function pageCounterSetMin(counter: PageCounter, nrPages: number): void {
  counter.min = nrPages;
  counter.propagate();
}

/** Sets what reclaim leaves alone while there is other memory to be had. @linux mm/page_counter.c:page_counter_set_low */
export function pageCounterSetLow(counter: PageCounter, nrPages: number): void {
  counter.low = nrPages;
  counter.propagate();
}

/**
 * What a group's protection comes to when its siblings claim theirs, too: all of it, or its share of what the parent has.
 *
 * @linux mm/page_counter.c:effective_protection
 */
function effectiveProtection(usage: number, setting: number, parentEffective: number, siblingsProtected: number): number {
  const claimed = Math.min(usage, setting);
  return siblingsProtected > parentEffective ? Math.floor((claimed * parentEffective) / siblingsProtected) : claimed;
}

/**
 * Recomputes `emin` and `elow` of a counter for reclaim of all below `root`. Its parent's must have been.
 *
 * @linux mm/page_counter.c:page_counter_calculate_protection
 */
export function calculateProtection(root: PageCounter, counter: PageCounter): void {
  const { parent, usage } = counter;
  if (root === counter || usage === 0 || parent === null) return;
  if (parent === root) {
    counter.emin = counter.min;
    counter.elow = counter.low;
    return;
  }
  counter.emin = effectiveProtection(usage, counter.min, parent.emin, parent.childrenMinUsage);
  counter.elow = effectiveProtection(usage, counter.low, parent.elow, parent.childrenLowUsage);
}

/**
 * Reads a limit as groups' files take it: a number of bytes, with a suffix K, M, G, T, P or E or in another base, or `max`.
 *
 * @returns pages, rounded down; −1 where it is none
 * @linux mm/page_counter.c:page_counter_memparse, lib/cmdline.c:memparse
 */
export function parsePages(text: string): number {
  const word = text.trim();
  if (word === 'max') return PAGE_COUNTER_MAX;
  const match = /^(0[xX][0-9a-fA-F]+|\d*)([kKmMgGtTpPeE]?)$/.exec(word);
  if (match === null) return -1;
  const digits = match[1];
  const octal = /^0[0-7]+$/.test(digits);
  if (!octal && /^0\d/.test(digits)) return -1;
  const value = digits === '' ? 0n : BigInt(octal ? `0o${digits.slice(1)}` : digits);
  const shift = match[2] === '' ? 0 : ('kmgtpe'.indexOf(match[2].toLowerCase()) + 1) * 10;
  const bytes = BigInt.asUintN(64, value << BigInt(shift));
  return Math.min(Number(bytes / 4096n), PAGE_COUNTER_MAX);
}
