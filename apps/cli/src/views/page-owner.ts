/**
 * Who has pages, most first: `/sys/kernel/debug/page_owner` with like blocks counted together.
 *
 * @linux tools/mm/page_owner_sort.c
 */

/** Blocks that were allocated in the same way from the same place. */
export interface PageOwnerRow {
  readonly times: number;
  readonly pages: number;
  readonly order: number;
  /** As the kernel prints it: `GFP_KERNEL|__GFP_ZERO`. */
  readonly mask: string;
  /** Functions that were being called, the innermost first. */
  readonly trace: readonly string[];
}

/** Counts the blocks of the file, those with the most pages first. */
export function countOwners(text: string): PageOwnerRow[] {
  const rows = new Map<string, { times: number; pages: number; order: number; mask: string; trace: string[] }>();
  for (const block of text.split('\n\n')) {
    const [, order, mask] = /^Page allocated via order (\d+), mask 0x[0-9a-f]+\(([^)]*)\)/.exec(block) ?? [];
    if (order === undefined) continue;
    const trace = block.split('\n').slice(2).map((line) => line.trim());
    const key = `${order} ${mask} ${trace.join('<')}`;
    let row = rows.get(key);
    if (row === undefined) {
      row = { times: 0, pages: 0, order: Number(order), mask: mask!, trace };
      rows.set(key, row);
    }
    row.times += 1;
    row.pages += 2 ** Number(order);
  }
  return [...rows.values()].sort((a, b) => b.pages - a.pages);
}

/** The rows as page_owner_sort writes them, what is the same for all of a row in one line. */
export function formatOwners(rows: readonly PageOwnerRow[]): string {
  return rows
    .map(({ times, pages, order, mask, trace }) =>
      [`${times} times, ${pages} pages:`, `Page allocated via order ${order}, mask ${mask}`, ...trace.map((name) => ` ${name}`), ''].join('\n'))
    .join('\n')
    .trimEnd();
}
