/** One flag of a system call: what the call checks its argument against, and what the documentation lists. */
export interface FlagRow {
  /** As the C headers name it. */
  readonly name: string;
  /** Its bit or bits; for a choice such as `advice`, its value. */
  readonly value: number;
  /** `acts`: has Linux's effect. `ignored`: taken and without effect, as on Linux or because its subject is not there. */
  readonly effect: 'acts' | 'ignored';
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
}

/** The bits that a table allows. */
export function flagMask(table: FlagTable): number {
  let mask = 0;
  for (const row of table.flags) mask |= row.value;
  return mask;
}

/** The values that a table allows. */
export function flagValues(table: FlagTable): ReadonlySet<number> {
  return new Set(table.flags.map((row) => row.value));
}

/** Builds a table whose flags all act. */
export function flagTable(
  syscall: string,
  argument: string,
  kind: 'bits' | 'values',
  acts: Readonly<Record<string, number>>,
  ignored: Readonly<Record<string, number>> = {},
): FlagTable {
  const rows = (names: Readonly<Record<string, number>>, effect: 'acts' | 'ignored'): FlagRow[] =>
    Object.entries(names).map(([name, value]) => ({ name, value, effect }));
  return { syscall, argument, kind, flags: [...rows(acts, 'acts'), ...rows(ignored, 'ignored')] };
}
