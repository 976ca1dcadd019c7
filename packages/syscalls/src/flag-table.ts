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

/** The bits that a table allows. */
export function flagMask(table: FlagTable): number {
  let mask = 0;
  for (const row of table.flags) if (row.effect !== 'refused') mask |= row.value;
  return mask;
}

/** The values that a table allows. */
export function flagValues(table: FlagTable): ReadonlySet<number> {
  return new Set(table.flags.filter((row) => row.effect !== 'refused').map((row) => row.value));
}

/** What else a table may say. */
export interface FlagTableExtras {
  readonly refused?: Readonly<Record<string, number>>;
  /** By flag's name: where it differs from Linux, and why. */
  readonly notes?: Readonly<Record<string, string>>;
  readonly unknown?: string;
}

/** Builds a table out of the flags that act and those that are ignored. */
export function flagTable(
  syscall: string,
  argument: string,
  kind: 'bits' | 'values',
  acts: Readonly<Record<string, number>>,
  ignored: Readonly<Record<string, number>> = {},
  { refused = {}, notes = {}, unknown }: FlagTableExtras = {},
): FlagTable {
  const rows = (names: Readonly<Record<string, number>>, effect: FlagRow['effect']): FlagRow[] =>
    Object.entries(names).map(([name, value]) => {
      const note = notes[name];
      return note === undefined ? { name, value, effect } : { name, value, effect, note };
    });
  const flags = [...rows(acts, 'acts'), ...rows(ignored, 'ignored'), ...rows(refused, 'refused')];
  return unknown === undefined ? { syscall, argument, kind, flags } : { syscall, argument, kind, flags, unknown };
}
