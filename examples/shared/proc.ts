/** Reading `/proc` as any program does. */
import type { Os } from '@pagelab/abi';

/** A field of `/proc/self/status`, in KiB: `statusKb(os, 'VmRSS')`. */
export function statusKb(os: Os, field: string): number {
  const line = os.readFile('/proc/self/status').split('\n').find((text) => text.startsWith(`${field}:`));
  return Number(line?.replace(/\D/g, '') ?? 0);
}

/** The lines of `/proc/self/maps` that match, without the columns that say nothing here (device, inode). */
export function mapsLines(os: Os, pattern: RegExp): string[] {
  return os
    .readFile('/proc/self/maps')
    .split('\n')
    .filter((line) => line !== '' && pattern.test(line))
    .map((line) => line.replace(/^(\S+ \S+) \S+ \S+ \d+\s*/, '$1  ').trimEnd());
}

/** Free pages of each zone, by name, from `/proc/zoneinfo`; zones without pages are left out. */
export function zonesFree(os: Os): Map<string, number> {
  const free = new Map<string, number>();
  let zone = '';
  for (const line of os.readFile('/proc/zoneinfo').split('\n')) {
    const header = /^Node \d+, zone +(\w+)/.exec(line);
    if (header) zone = header[1]!;
    const pages = /^ +pages free +(\d+)/.exec(line);
    if (pages && Number(pages[1]) > 0) free.set(zone, Number(pages[1]));
  }
  return free;
}
