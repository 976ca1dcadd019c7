/** One flag of a system call: what the call checks its argument against, and what the documentation lists. */
export interface FlagRow {
  /** As the C headers name it. */
  readonly name: string;
  /** Its bit or bits; for a choice such as `advice`, its value. */
  readonly value: number;
  /**
   * `acts`: has Linux's effect. `ignored`: taken and without effect, as on Linux or because its subject is not there.
   * `refused`: Linux knows it, and here it is an error.
   */
  readonly effect: 'acts' | 'ignored' | 'refused';
  /** Where it differs from Linux, and why. */
  readonly note?: string;
  /** The release that brought it, of those that came after 6.1: before, it is unknown. */
  readonly since?: Release;
}

/** A release of Linux, as `6.13`. */
export type Release = `6.${number}`;

/** A release as a number that compares: 613. */
export function releaseNumber(release: Release): number {
  return 600 + Number(release.slice(2));
}

/** The flags of one argument. */
export interface FlagTable {
  /** The call. */
  readonly syscall: string;
  /** The argument's name in its manual page. */
  readonly argument: string;
  /** `bits` combine; of `values` one is given. */
  readonly kind: 'bits' | 'values';
  readonly flags: readonly FlagRow[];
  /** What becomes of what is not in the table; where it does not say: EINVAL. */
  readonly unknown?: string;
}

/** The bits that a table allows, in the newest release or in one that `releaseNumber` gives. */
export function flagMask(table: FlagTable, release = Infinity): number {
  let mask = 0;
  for (const row of table.flags) if (isTaken(row, release)) mask |= row.value;
  return mask;
}

/** The values that a table allows, in the newest release or in one that `releaseNumber` gives. */
export function flagValues(table: FlagTable, release = Infinity): ReadonlySet<number> {
  return new Set(table.flags.filter((row) => isTaken(row, release)).map((row) => row.value));
}

function isTaken({ effect, since }: FlagRow, release: number): boolean {
  return effect !== 'refused' && (since === undefined || releaseNumber(since) <= release);
}

/** The bits that a table allows, by release: each is worked out once. */
export function flagMaskByRelease(table: FlagTable): (release: number) => number {
  return byRelease((release) => flagMask(table, release));
}

/** The values that a table allows, by release: each set is made once. */
export function flagValuesByRelease(table: FlagTable): (release: number) => ReadonlySet<number> {
  return byRelease((release) => flagValues(table, release));
}

function byRelease<T>(make: (release: number) => T): (release: number) => T {
  const made = new Map<number, T>();
  return (release) => {
    let value = made.get(release);
    if (value === undefined) made.set(release, (value = make(release)));
    return value;
  };
}

/** What else a table may say. */
export interface FlagTableExtras {
  readonly refused?: Readonly<Record<string, number>>;
  /** By flag's name: where it differs from Linux, and why. */
  readonly notes?: Readonly<Record<string, string>>;
  readonly unknown?: string;
  /** By flag's name: the release that brought it, where that is after 6.1. */
  readonly since?: Readonly<Record<string, Release>>;
}

/** Builds a table out of the flags that act and those that are ignored. */
export function flagTable(
  syscall: string,
  argument: string,
  kind: 'bits' | 'values',
  acts: Readonly<Record<string, number>>,
  ignored: Readonly<Record<string, number>> = {},
  { refused = {}, notes = {}, unknown, since = {} }: FlagTableExtras = {},
): FlagTable {
  const rows = (names: Readonly<Record<string, number>>, effect: FlagRow['effect']): FlagRow[] =>
    Object.entries(names).map(([name, value]) => {
      const note = notes[name];
      const release = since[name];
      return { name, value, effect, ...(note === undefined ? {} : { note }), ...(release === undefined ? {} : { since: release }) };
    });
  const flags = [...rows(acts, 'acts'), ...rows(ignored, 'ignored'), ...rows(refused, 'refused')];
  return unknown === undefined ? { syscall, argument, kind, flags } : { syscall, argument, kind, flags, unknown };
}
