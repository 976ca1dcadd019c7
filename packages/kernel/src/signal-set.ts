/** Sets of signals: plain values, a bit a signal. @linux include/linux/signal.h */
import { SIGKILL, SIGRTMAX, SIGSTOP } from '@pagelab/abi';
import type { SignalSet } from '@pagelab/syscalls';

export const EMPTY_SIGNALS: SignalSet = Object.freeze({ low: 0, high: 0 });
export const ALL_SIGNALS: SignalSet = Object.freeze({ low: -1, high: -1 });

/** The set of some signals; numbers that no signal has are left out. */
export function signalSet(signals: Iterable<number>): SignalSet {
  let low = 0;
  let high = 0;
  for (const signal of signals) {
    if (!(signal >= 1 && signal <= SIGRTMAX)) continue;
    if (signal <= 32) low |= 1 << (signal - 1);
    else high |= 1 << (signal - 33);
  }
  return { low, high };
}

export function hasSignal({ low, high }: SignalSet, signal: number): boolean {
  return ((signal <= 32 ? low >>> (signal - 1) : high >>> (signal - 33)) & 1) === 1;
}

/** The signals of both sets. */
export function uniteSignals(a: SignalSet, b: SignalSet): SignalSet {
  return { low: a.low | b.low, high: a.high | b.high };
}

/** The signals of `a` that are not in `b`. */
export function subtractSignals(a: SignalSet, b: SignalSet): SignalSet {
  return { low: a.low & ~b.low, high: a.high & ~b.high };
}

/** The signals of a set, ascending. */
export function signalsOf(set: SignalSet): number[] {
  const signals: number[] = [];
  for (let signal = 1; signal <= SIGRTMAX; signal++) if (hasSignal(set, signal)) signals.push(signal);
  return signals;
}

/** What nobody can hold back. */
export const UNBLOCKABLE: SignalSet = signalSet([SIGKILL, SIGSTOP]);
