/**
 * `/proc/meminfo`: what of it follows from other figures.
 */
import { availableFrom } from '@pagelab/kernel/layout';
import type { MachineShape } from '@pagelab/kernel/layout';
import type { Checks } from './check.ts';
import { checkLines } from './check-shape.ts';
import { parseNumbers } from './proc-text.ts';
import type { ZoneRow } from './proc-text.ts';
import type { Recording } from './recording.ts';

const PAGE_KIB = 4;

/** What follows from the machine's shape. With 64 bits vmalloc has as much as the page tables have levels for. */
const SAME: readonly string[] = ['MemTotal', 'HighTotal', 'LowTotal', 'CmaTotal', 'Hugepagesize'];

/**
 * Checks the sums and limits. The machine has the recorded managed pages.
 *
 * @param state goes before the name of each check
 */
export function checkMeminfo(checks: Checks, recording: Recording, shape: MachineShape, recorded: readonly ZoneRow[], state = ''): void {
  const area = 'meminfo';
  const text = recording.text('meminfo.txt');
  const figures = parseNumbers(text);
  const kib = (name: string): number => figures.get(name) ?? 0;
  const ownText = shape.machine.readFile('/proc/meminfo');
  const own = parseNumbers(ownText);
  // A machine that was not initialised to the end counts pages that no zone has yet.
  if (recording.config.kind === 'boot') {
    const names = recording.config.arch.startsWith('i386') ? [...SAME, 'VmallocTotal'] : SAME;
    for (const name of names) if (figures.has(name)) checks.equal(area, name, kib(name), own.get(name));
  }

  const settings = parseNumbers(recording.text('sysctl-vm.txt'));
  const hugetlb = kib('HugePages_Total') * kib('Hugepagesize');
  const ratio = settings.get('overcommit_ratio') ?? 50;
  const limit = Math.floor((((kib('MemTotal') - hugetlb) / PAGE_KIB) * ratio) / 100) * PAGE_KIB + kib('SwapTotal');
  const plain = hugetlb === 0 && kib('SwapTotal') === 0 && ratio === 50 && recording.config.kind === 'boot';
  // A load that sets the limit says itself what it is.
  if (recording.config.load !== 'overcommit') checks.equal(area, `${state}CommitLimit`, kib('CommitLimit'), plain ? own.get('CommitLimit') : limit);

  const available = availableFrom({
    free: kib('MemFree') / PAGE_KIB,
    totalReserve: recorded.reduce((pages, zone) => pages + reserveOf(zone), 0),
    low: recorded.reduce((pages, { values }) => pages + (values['low'] ?? 0) + (values['boost'] ?? 0), 0),
    files: (kib('Active(file)') + kib('Inactive(file)')) / PAGE_KIB,
    reclaimable: kib('KReclaimable') / PAGE_KIB,
  });
  checks.equal(area, `${state}MemAvailable`, kib('MemAvailable'), available * PAGE_KIB);
  checks.equal(area, `${state}Active`, kib('Active'), kib('Active(anon)') + kib('Active(file)'));
  checks.equal(area, `${state}Inactive`, kib('Inactive'), kib('Inactive(anon)') + kib('Inactive(file)'));
  checks.equal(area, `${state}Hugetlb`, kib('Hugetlb'), hugetlb);
  checks.equal(area, `${state}Slab`, kib('Slab'), kib('SReclaimable') + kib('SUnreclaim'));
  if (recording.config.kind === 'boot' && recording.config.arch !== 'arm64') checkLines(checks, 'meminfo', text, ownText);
}

/** Pages of a zone that user programs cannot hope for. */
function reserveOf({ protection, values }: ZoneRow): number {
  const kept = Math.max(0, ...[...protection.matchAll(/\d+/g)].map(Number));
  return Math.min(values['managed'] ?? 0, kept + (values['high'] ?? 0));
}
