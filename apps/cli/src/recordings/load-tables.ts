/**
 * What came of a load, as two tables: values that have to be the same, and figures that are alike in shape only.
 */
import Table from 'cli-table3';
import { PLAIN } from '../plain-table.ts';
import type { LoadResult } from './verify-load.ts';

/** Both tables, each under a line that says what it is of; `''` where there is nothing to show. */
export function loadTables(id: string, { exacts, shapes }: Pick<LoadResult, 'exacts' | 'shapes'>): string {
  const exact = exacts.map(({ area, what, recorded, computed }) => [area, what, recorded, computed]);
  const shape = shapes.map(({ stage, what, recorded, computed }) => [stage, what, recorded, computed]);
  return [
    ...tableOf(`${id}: the same`, 'area', exact),
    ...tableOf(`${id}: alike in shape`, 'stage', shape),
  ].join('\n');
}

function tableOf(title: string, first: string, rows: readonly (readonly (string | number)[])[]): string[] {
  if (rows.length === 0) return [];
  const table = new Table({ ...PLAIN, colAligns: ['left', 'left', 'right', 'right'], head: [first, 'figure', 'recorded', 'computed'] });
  for (const row of rows) table.push([...row]);
  return [title, table.toString().replaceAll(/ +$/gm, '')];
}
