/**
 * What a process has in memory, and what for: the sums of its mappings by what they are.
 */

export interface ResidentPart {
  readonly what: string;
  readonly residentKb: number;
  readonly sizeKb: number;
}

const HEADER = /^[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ (\d+) *(.*)$/;

function partOf(permissions: string, inode: string, name: string): string {
  if (name === '[heap]') return 'the heap that brk made';
  if (name.startsWith('[')) return name.slice(1, -1);
  if (name !== '') return permissions.includes('w') ? 'data of programs and files' : permissions.includes('x') ? 'code' : 'constants of programs and files';
  if (permissions.endsWith('s')) return 'shared anonymous mappings';
  return permissions.startsWith('---') ? 'reserved mappings' : 'private anonymous mappings: blocks of their own, arenas, stacks of threads';
}

/** The parts of an `smaps` text that are mapped, most resident first. */
export function residentParts(smaps: string): ResidentPart[] {
  const parts = new Map<string, { residentKb: number; sizeKb: number }>();
  let part = { residentKb: 0, sizeKb: 0 };
  for (const line of smaps.split('\n')) {
    const header = HEADER.exec(line);
    if (header !== null) {
      const what = partOf(header[1]!, header[2]!, header[3]!);
      part = parts.get(what) ?? { residentKb: 0, sizeKb: 0 };
      parts.set(what, part);
    }
    const [, name, kb] = /^(Size|Rss): +(\d+) kB$/.exec(line) ?? [];
    if (name === 'Size') part.sizeKb += Number(kb);
    else if (name === 'Rss') part.residentKb += Number(kb);
  }
  return [...parts].map(([what, sizes]) => ({ what, ...sizes })).sort((a, b) => b.residentKb - a.residentKb || b.sizeKb - a.sizeKb);
}
