/**
 * Reads the texts that kernels show: `/proc/zoneinfo`, tables of names and numbers, lists of ranges.
 */

/** A CPU's share of a zone. */
export interface PagesetRow {
  readonly cpu: number;
  /** `high`, `batch`, `high_min`, `high_max` as far as they are shown, and `vm stats threshold`. */
  readonly values: Readonly<Record<string, number>>;
}

/** A zone as `/proc/zoneinfo` shows it. */
export interface ZoneRow {
  readonly node: number;
  readonly zone: string;
  /** `free`, `boost`, `min`, `low`, `high`, `promo`, `spanned`, `present`, `managed`, `cma`, `start_pfn` as far as they are shown. Watermarks are without the boost. */
  readonly values: Readonly<Record<string, number>>;
  readonly protection: string;
  readonly pagesets: readonly PagesetRow[];
}

const BOOSTED: readonly string[] = ['min', 'low', 'high', 'promo'];

/** Zones of `/proc/zoneinfo`, or of an extract of it. */
export function parseZoneinfo(text: string): ZoneRow[] {
  const zones: { node: number; zone: string; values: Record<string, number>; protection: string; pagesets: { cpu: number; values: Record<string, number> }[] }[] = [];
  for (const line of text.split('\n')) {
    const head = /^Node (\d+), zone +(\S+)/.exec(line);
    if (head !== null) {
      zones.push({ node: Number(head[1]), zone: head[2]!, values: {}, protection: '', pagesets: [] });
      continue;
    }
    const zone = zones.at(-1);
    if (zone === undefined) continue;
    const words = line.trim().split(/\s+/);
    const pageset = zone.pagesets.at(-1);
    if (words[0] === 'pages' && words[1] === 'free') zone.values['free'] = Number(words[2]);
    else if (words[0] === 'protection:') zone.protection = words.slice(1).join(' ');
    else if (words[0] === 'cpu:') zone.pagesets.push({ cpu: Number(words[1]), values: {} });
    else if (words[0] === 'start_pfn:') zone.values['start_pfn'] = Number(words[1]);
    else if (words[0] === 'vm' && pageset !== undefined) pageset.values['threshold'] = Number(words[3]);
    else if (words.length === 2 && /^(high|batch|high_min|high_max):$/.test(words[0]!) && pageset !== undefined) {
      pageset.values[words[0]!.slice(0, -1)] = Number(words[1]);
    } else if (words.length === 2 && /^(boost|min|low|high|promo|spanned|present|managed|cma)$/.test(words[0]!)) {
      zone.values[words[0]!] = Number(words[1]);
    }
  }
  for (const { values } of zones) {
    for (const name of BOOSTED) if (values[name] !== undefined) values[name] -= values['boost'] ?? 0;
  }
  return zones;
}

/** Numbers by name, of lines such as `MemTotal: 1024 kB`, `vm = 3` or `nr_free_pages 12`; the first of a name counts. */
export function parseNumbers(text: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const [, name, number] of text.matchAll(/^(\S+?):?[ \t]*=?[ \t]*(-?\d+)\b/gm)) {
    if (!found.has(name!)) found.set(name!, Number(number));
  }
  return found;
}

/** The text behind `name = ` in a list of settings. */
export function settingText(text: string, name: string): string | undefined {
  return new RegExp(`^${name.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')} = (.*)$`, 'm').exec(text)?.[1]?.trim();
}

/** Numbers of a list such as `0-2,5`. */
export function parseList(text: string): number[] {
  return text
    .split(',')
    .filter((part) => part.trim() !== '')
    .flatMap((part) => {
      const [from, to = from] = part.split('-').map(Number);
      return Array.from({ length: to! - from! + 1 }, (_, i) => from! + i);
    });
}

/** A line with its numbers taken out: what is left is its form. */
export function formOf(line: string): string {
  return line.replace(/ *-?\b\d+\b/g, ' #');
}
