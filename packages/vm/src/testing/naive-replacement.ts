/**
 * Page replacement policies with nothing but arrays and searches: what the fast ones are compared with.
 */

interface NaiveState {
  /** Resident pages in the order they came in. */
  resident: number[];
  readonly used: Map<number, boolean>;
  readonly lastUse: Map<number, number>;
}

function leastRecent({ resident, lastUse }: NaiveState): number {
  return resident.reduce((a, b) => (lastUse.get(b)! < lastUse.get(a)! ? b : a));
}

function furthest(resident: readonly number[], pages: readonly number[], now: number): number {
  const next = (page: number): number => {
    const at = pages.indexOf(page, now + 1);
    return at < 0 ? Infinity : at;
  };
  return resident.reduce((a, b) => (next(b) > next(a) ? b : a));
}

/** Rotates the queue until its first page has not been used. */
function secondChance(state: NaiveState): number {
  for (;;) {
    const [first] = state.resident;
    if (!state.used.get(first)) return first;
    state.used.set(first, false);
    state.resident = [...state.resident.slice(1), first];
  }
}

/** Figure 4 of the paper on ARC, line by line. */
function naiveArc(pages: readonly number[], c: number): { faults: number; evictions: number } {
  let t1: number[] = [];
  let t2: number[] = [];
  let b1: number[] = [];
  let b2: number[] = [];
  let p = 0;
  let faults = 0;
  let evictions = 0;
  const without = (list: number[], page: number): number[] => list.filter((other) => other !== page);
  const replace = (x: number): void => {
    evictions++;
    if (t1.length >= 1 && ((b2.includes(x) && t1.length === p) || t1.length > p)) b1.push(t1.shift()!);
    else b2.push(t2.shift()!);
  };
  for (const x of pages) {
    if (t1.includes(x) || t2.includes(x)) {
      t1 = without(t1, x);
      t2 = [...without(t2, x), x];
      continue;
    }
    faults++;
    if (b1.includes(x)) {
      p = Math.min(c, p + (b1.length >= b2.length ? 1 : b2.length / b1.length));
      replace(x);
      b1 = without(b1, x);
      t2.push(x);
    } else if (b2.includes(x)) {
      p = Math.max(0, p - (b2.length >= b1.length ? 1 : b1.length / b2.length));
      replace(x);
      b2 = without(b2, x);
      t2.push(x);
    } else {
      if (t1.length + b1.length === c) {
        if (t1.length < c) {
          b1.shift();
          replace(x);
        } else {
          t1.shift();
          evictions++;
        }
      } else if (t1.length + t2.length + b1.length + b2.length >= c) {
        if (t1.length + t2.length + b1.length + b2.length === 2 * c) b2.shift();
        replace(x);
      }
      t1.push(x);
    }
  }
  return { faults, evictions };
}

/** Faults and evictions of the policy `name` on a trace of single accesses. */
export function naiveFaults(name: string, pages: readonly number[], frames: number, window: number): { faults: number; evictions: number } {
  if (name === 'arc') return naiveArc(pages, frames);
  const state: NaiveState = { resident: [], used: new Map(), lastUse: new Map() };
  let faults = 0;
  let evictions = 0;
  const evict = (page: number): void => {
    state.resident = state.resident.filter((other) => other !== page);
    evictions++;
  };
  pages.forEach((page, now) => {
    if (!state.resident.includes(page)) {
      faults++;
      if (state.resident.length === frames) {
        if (name === 'fifo') evict(state.resident[0]);
        else if (name === 'opt') evict(furthest(state.resident, pages, now));
        else if (name === 'clock' || name === 'second-chance') evict(secondChance(state));
        else evict(leastRecent(state));
      }
      state.resident.push(page);
    }
    state.used.set(page, true);
    state.lastUse.set(page, now);
    if (name === 'working-set') {
      for (const old of state.resident.filter((other) => state.lastUse.get(other)! <= now - window)) evict(old);
    }
  });
  return { faults, evictions };
}
