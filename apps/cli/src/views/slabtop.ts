/**
 * What `slabtop -o` shows of `/proc/slabinfo`, in procps' words and columns.
 */

/** A line of `/proc/slabinfo`. */
export interface SlabRow {
  readonly name: string;
  readonly activeObjects: number;
  readonly objects: number;
  /** Bytes of an object. */
  readonly objectSize: number;
  readonly objectsPerSlab: number;
  readonly pagesPerSlab: number;
  readonly activeSlabs: number;
  readonly slabs: number;
}

/** Keys that rows can be sorted by, as `slabtop --sort` has them. */
const SORT: Readonly<Record<string, (row: SlabRow) => number | string>> = {
  a: (row) => row.activeObjects,
  b: (row) => row.objectsPerSlab,
  c: (row) => row.pagesPerSlab * row.slabs,
  l: (row) => row.slabs,
  n: (row) => row.name,
  o: (row) => row.objects,
  p: (row) => row.pagesPerSlab,
  s: (row) => row.objectSize,
  u: (row) => (row.objects === 0 ? 0 : row.activeObjects / row.objects),
};

/** The letters of {@link SORT}. */
export const SORT_KEYS = Object.keys(SORT);

export function parseSlabinfo(text: string): SlabRow[] {
  return [...text.matchAll(/^(\S+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) : tunables .*: slabdata +(\d+) +(\d+)/gm)].map(([, name, ...numbers]) => {
    const [activeObjects, objects, objectSize, objectsPerSlab, pagesPerSlab, activeSlabs, slabs] = numbers.map(Number) as [number, number, number, number, number, number, number];
    return { name: name!, activeObjects, objects, objectSize, objectsPerSlab, pagesPerSlab, activeSlabs, slabs };
  });
}

/** Rows with objects, the first by `key` on top; names ascend. */
export function sortRows(rows: readonly SlabRow[], key: string): SlabRow[] {
  const by = SORT[key]!;
  return rows
    .filter((row) => row.objects > 0)
    .sort((a, b) => {
      const [x, y] = [by(a), by(b)];
      return typeof x === 'string' ? (x < String(y) ? -1 : 1) : Number(y) - x;
    });
}

const kib = (bytes: number): string => `${(bytes / 1024).toFixed(2)}K`;

/** The whole screen. `caches` counts those without objects too. */
export function formatSlabtop(rows: readonly SlabRow[], caches: number): string {
  const sum = (of: (row: SlabRow) => number): number => rows.reduce((total, row) => total + of(row), 0);
  const share = (part: number, whole: number): string => (whole === 0 ? '0.0%' : `${((part / whole) * 100).toFixed(1)}%`);
  const line = (label: string, values: string): string => ` ${label.padEnd(35)}: ${values}`;
  const objects = sum((row) => row.objects);
  const active = sum((row) => row.activeObjects);
  const slabs = sum((row) => row.slabs);
  const activeSlabs = sum((row) => row.activeSlabs);
  const bytes = sum((row) => row.objects * row.objectSize);
  const activeBytes = sum((row) => row.activeObjects * row.objectSize);
  const sizes = rows.map((row) => row.objectSize);
  const count = (part: number, whole: number): string => `${part} / ${whole} (${share(part, whole)})`;
  return [
    line('Active / Total Objects (% used)', count(active, objects)),
    line('Active / Total Slabs (% used)', count(activeSlabs, slabs)),
    line('Active / Total Caches (% used)', count(rows.length, caches)),
    line('Active / Total Size (% used)', `${kib(activeBytes)} / ${kib(bytes)} (${share(activeBytes, bytes)})`),
    line('Minimum / Average / Maximum Object', `${kib(Math.min(...sizes))} / ${kib(objects === 0 ? 0 : bytes / objects)} / ${kib(Math.max(...sizes))}`),
    '',
    '  OBJS ACTIVE  USE OBJ SIZE  SLABS OBJ/SLAB CACHE SIZE NAME',
    ...rows.map(
      (row) =>
        `${String(row.objects).padStart(6)} ${String(row.activeObjects).padStart(6)} ` +
        `${String(Math.floor((row.activeObjects * 100) / row.objects)).padStart(3)}% ${(row.objectSize / 1024).toFixed(2).padStart(7)}K ` +
        `${String(row.slabs).padStart(6)} ${String(row.objectsPerSlab).padStart(8)} ${String(row.slabs * row.pagesPerSlab * 4).padStart(9)}K ${row.name}`,
    ),
  ].join('\n');
}
