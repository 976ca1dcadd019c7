/**
 * How much memory is kept free, and for whom: as booted, and after each of the recorded writes to `/proc/sys/vm`.
 */
import type { MachineShape } from '@pagelab/kernel/layout';
import type { Checks } from './check.ts';
import { checkZones, ownZones, zoneName } from './check-shape.ts';
import { managedAtBoot } from './late-pages.ts';
import { parseZoneinfo, settingText } from './proc-text.ts';
import type { ZoneRow } from './proc-text.ts';
import { kernelOf } from './recorded-machine.ts';
import type { Recording } from './recording.ts';

const WATERMARKS = ['min', 'low', 'high', 'promo'];
const SYSCTL = '/proc/sys/vm/';
const THP_DIRECTORY = '/sys/kernel/mm/transparent_hugepage/';
const THP = `${THP_DIRECTORY}enabled`;

/** A write, and the file that shows what it did. */
interface Step {
  readonly file: string;
  readonly write: (set: (name: string, value: string | number) => void) => void;
}

function checkMarks(checks: Checks, state: string, recorded: readonly ZoneRow[], computed: readonly ZoneRow[]): void {
  for (const row of recorded) {
    const own = computed.find((zone) => zoneName(zone) === zoneName(row));
    for (const mark of WATERMARKS) {
      if (row.values[mark] !== undefined) checks.equal('watermarks', `${state}: ${zoneName(row)}.${mark}`, row.values[mark], own?.values[mark]);
    }
  }
}

function checkProtection(checks: Checks, state: string, recorded: readonly ZoneRow[], computed: readonly ZoneRow[]): void {
  for (const row of recorded) {
    const own = computed.find((zone) => zoneName(zone) === zoneName(row));
    checks.equal('protection', `${state}: ${zoneName(row)}`, row.protection, own?.protection);
  }
}

/** Sizes of the per-CPU lists. `high` of kernels that find it for themselves is not compared. */
function checkPagesets(checks: Checks, state: string, recorded: readonly ZoneRow[], computed: readonly ZoneRow[], highMoves: boolean): void {
  for (const row of recorded) {
    const own = computed.find((zone) => zoneName(zone) === zoneName(row));
    for (const { cpu, values } of row.pagesets) {
      const pageset = own?.pagesets.find((each) => each.cpu === cpu);
      for (const [name, value] of Object.entries(values)) {
        if (name === 'threshold' || (name === 'high' && highMoves)) continue;
        checks.equal('per-CPU lists', `${state}: ${zoneName(row)}.cpu${cpu}.${name}`, value, pageset?.values[name]);
      }
    }
  }
}

function checkThresholds(checks: Checks, state: string, recorded: readonly ZoneRow[], computed: readonly ZoneRow[]): void {
  for (const row of recorded) {
    const own = computed.find((zone) => zoneName(zone) === zoneName(row));
    for (const { cpu, values } of row.pagesets) {
      const pageset = own?.pagesets.find((each) => each.cpu === cpu);
      checks.equal('stats threshold', `${state}: ${zoneName(row)}.cpu${cpu}`, values['threshold'], pageset?.values['threshold']);
    }
  }
}

/**
 * Checks what holds when boot is over, and leaves the machine with the recorded managed pages.
 *
 * Boot works these figures out before it gives its last pages back. Whether the initial file system was among them by then
 * is chance, so that either will do.
 *
 * @returns whether `min_free_kbytes` came out as recorded
 */
export function checkAsBooted(checks: Checks, recording: Recording, shape: MachineShape, recorded: readonly ZoneRow[]): boolean {
  const settings = recording.text('sysctl-vm.txt');
  const minFree = Number(settingText(settings, 'min_free_kbytes'));
  const last = recorded.map(({ node, zone, values }) => ({ node, zone, pages: values['managed'] ?? 0 }));
  const early = [managedAtBoot(recording, recorded, false), managedAtBoot(recording, recorded, true)];
  const own = (): number => Number(shape.machine.readFile(`${SYSCTL}min_free_kbytes`));

  shape.setManaged(early[0]!);
  shape.startOver();
  checkProtection(checks, 'as booted', recorded, ownZones(shape));
  const first = own();
  if (first !== minFree) {
    shape.setManaged(early[1]!);
    shape.startOver();
  }
  const found = own() === minFree;
  checks.equal('min_free_kbytes', 'as booted', minFree, found ? minFree : first);
  checkHugePageSettings(checks, recording, shape);
  checkSettings(checks, recording, shape);

  const marks = (rows: readonly ZoneRow[], names: readonly string[]): string =>
    rows.map(({ values }) => names.map((mark) => values[mark]).join()).join(' ');
  const candidates = early.map((managed) => {
    shape.setManaged(managed);
    shape.setWatermarks(minFree);
    return ownZones(shape);
  });
  // Kernels show `promo` since 6.12.
  const names = WATERMARKS.filter((mark) => recorded[0]?.values[mark] !== undefined);
  const best = candidates.find((rows) => marks(rows, names) === marks(recorded, names));
  checkMarks(checks, 'as booted', recorded, best ?? candidates[0]!);
  if (recording.config.kind === 'boot') checkPagesets(checks, 'as booted', recorded, best ?? candidates[0]!, highMoves(recording));

  shape.setManaged(last);
  checkThresholds(checks, 'as booted', recorded, ownZones(shape));
  return found;
}

/**
 * Checks what holds when a load begins: watermarks, reserves and per-CPU lists, that follow from the recorded managed pages as
 * boot found them. See {@link checkAsBooted}: what boot gave back last may or may not have been counted.
 */
export function checkLoadedZones(checks: Checks, recording: Recording, shape: MachineShape, recorded: readonly ZoneRow[]): void {
  const last = recorded.map(({ node, zone, values }) => ({ node, zone, pages: values['managed'] ?? 0 }));
  const asBooted = (managed: typeof last): ZoneRow[] => {
    shape.setManaged(managed);
    shape.startOver();
    return ownZones(shape);
  };
  const candidates = [managedAtBoot(recording, recorded, true), managedAtBoot(recording, recorded, false), last].map(asBooted);
  const alike = (of: (row: ZoneRow) => string): readonly ZoneRow[] | undefined =>
    candidates.find((rows) => rows.map(of).join() === recorded.map(of).join());
  const marks = ({ values }: ZoneRow): string => `${values['min']} ${values['low']} ${values['high']}`;
  if (alike(marks) === undefined) {
    // The log of a load does not say how many pages came late: as many as make the zones' shares what they are.
    for (const managed of lateBy(recorded)) {
      candidates.push(asBooted(managed));
      if (alike(marks) !== undefined) break;
    }
  }
  const best = alike(marks) ?? candidates[0]!;
  checkMarks(checks, 'before', recorded, best);
  // Whoever reads /proc/sys/vm/lowmem_reserve_ratio has the reserves worked out anew.
  checkProtection(checks, 'before', recorded, alike(({ protection }) => protection) ?? candidates[0]!);
  checkPagesets(checks, 'before', recorded, best, highMoves(recording));
  shape.setManaged(last);
  checkThresholds(checks, 'before', recorded, ownZones(shape));
}

/** Managed pages without those that one zone got late, judged by the zones' shares of what is kept free: a number of guesses. */
function* lateBy(recorded: readonly ZoneRow[]): Generator<{ node: number; zone: string; pages: number }[]> {
  const rows = recorded.map(({ node, zone, values }) => ({ node, zone, pages: values['managed'] ?? 0, min: values['min'] ?? 0 }));
  // Of an empty zone a kernel shows what it would keep.
  const total = rows.reduce((sum, { pages, min }) => sum + (pages > 0 ? min : 0), 0);
  const pages = rows.reduce((sum, row) => sum + row.pages, 0);
  for (const late of rows) {
    const share = late.min / total;
    if (late.pages * share === 0 || share >= 1) continue;
    const guess = late.pages - (share * (pages - late.pages)) / (1 - share);
    // A share is known to one part in `min`.
    const doubt = (late.pages / late.min) * 2;
    for (let by = Math.max(0, Math.floor(guess - doubt)); by <= guess + doubt; by += 16) {
      yield rows.map((row) => ({ node: row.node, zone: row.zone, pages: row === late ? row.pages - by : row.pages }));
    }
  }
}

/** Settings that follow from how much memory is free, or concern programs of 32 bits. */
const OTHER_SETTINGS: readonly string[] = ['admin_reserve_kbytes', 'user_reserve_kbytes', 'min_free_kbytes', 'mmap_rnd_bits'];

/** What `/proc/sys/vm` begins with. */
function checkSettings(checks: Checks, recording: Recording, shape: MachineShape): void {
  if (recording.config.kind !== 'boot') return;
  const words = (text: string): string => text.trim().replaceAll(/\s+/g, ' ');
  const own = new Set(shape.machine.listFiles());
  for (const [, name, value] of recording.text('sysctl-vm.txt').matchAll(/^(\S+) = (.*)$/gm)) {
    if (OTHER_SETTINGS.includes(name!) || (name === 'mmap_min_addr' && recording.config.arch === 'arm64') || !own.has(`${SYSCTL}${name}`)) continue;
    checks.equal('settings', name!, words(value!), words(shape.machine.readFile(`${SYSCTL}${name}`)));
  }
}

/** What `/sys/kernel/mm/transparent_hugepage` begins with. Of a machine that runs, somebody may have set it. */
function checkHugePageSettings(checks: Checks, recording: Recording, shape: MachineShape): void {
  if (recording.config.kind !== 'boot') return;
  const own = new Set(shape.machine.listFiles());
  let directory = '';
  for (const line of recording.text('thp.txt').split('\n')) {
    const section = /^\[(\w+)\]$/.exec(line);
    if (section !== null) directory = section[1] === 'khugepaged' ? 'khugepaged/' : '';
    const [, name, value] = /^(\w+) = (.*)$/.exec(line) ?? [];
    const path = `${THP_DIRECTORY}${directory}${name}`;
    if (own.has(path)) checks.equal('settings', `transparent_hugepage/${directory}${name}`, value!.trim(), shape.machine.readFile(path).trim());
  }
}

/** Whether a CPU's lists find their size for themselves, within bounds that are not always shown. */
function highMoves(recording: Recording): boolean {
  return kernelOf(recording) !== '6.1';
}

/** Checks the per-CPU lists of a machine that runs: they follow from its watermarks as they are. */
export function checkRunning(checks: Checks, recording: Recording, shape: MachineShape, recorded: readonly ZoneRow[]): void {
  shape.setWatermarks(Number(settingText(recording.text('sysctl-vm.txt'), 'min_free_kbytes')));
  checkPagesets(checks, 'as found', recorded, ownZones(shape), true);
}

/**
 * Makes the recorded writes one after another and checks what each did.
 *
 * @param minFreeFollows whether the machine has come to the recorded `min_free_kbytes` by itself; without, it is written
 */
export function checkResponses(checks: Checks, recording: Recording, shape: MachineShape, base: readonly ZoneRow[], minFreeFollows: boolean): void {
  const settings = recording.text('sysctl-vm.txt');
  const responses = recording.text('sysctl-responses.txt');
  if (responses === '') return;
  const said = (name: string): number | undefined => {
    const text = new RegExp(`^${name}.*= (\\d+)`, 'm').exec(responses)?.[1];
    return text === undefined ? undefined : Number(text);
  };
  const ratio = settingText(settings, 'lowmem_reserve_ratio') ?? '';
  const otherRatio = /^4-lowmemratio lowmem_reserve_ratio = ([\d ]+)/m.exec(responses)?.[1] ?? ratio;
  const minFree = Number(settingText(settings, 'min_free_kbytes'));
  const set = (name: string, value: string | number): void => shape.machine.writeFile(`${SYSCTL}${name}`, `${value}`);
  const hugePages = (mode: string, after: number | undefined): void => {
    if (minFreeFollows) shape.machine.writeFile(THP, mode);
    else set('min_free_kbytes', after!);
  };
  const never = said('5-thp-never');
  const always = said('6-thp-always');
  const steps: readonly Step[] = [
    { file: '1-rewrite-wsf10', write: () => set('watermark_scale_factor', 10) },
    { file: '2-wsf200', write: () => set('watermark_scale_factor', 200) },
    {
      file: '3-pcphighfraction8',
      write: () => {
        set('watermark_scale_factor', 10);
        set('percpu_pagelist_high_fraction', 8);
      },
    },
    {
      file: '4-lowmemratio',
      write: () => {
        set('percpu_pagelist_high_fraction', 0);
        set('lowmem_reserve_ratio', otherRatio);
      },
    },
    {
      file: '5-thp-never',
      write: () => {
        set('lowmem_reserve_ratio', ratio);
        hugePages('never', never);
      },
    },
    { file: '6-thp-always', write: () => hugePages('always', always) },
    { file: '7-minfree-doubled', write: () => set('min_free_kbytes', minFree * 2) },
    { file: '8-minfree-halved', write: () => set('min_free_kbytes', Math.floor(minFree / 2)) },
  ];
  if (!minFreeFollows) set('min_free_kbytes', minFree);
  set('lowmem_reserve_ratio', ratio);
  for (const { file, write } of steps) {
    const recorded = parseZoneinfo(recording.text(`sysctl-${file}.zones.txt`));
    write(set);
    const computed = ownZones(shape);
    if (/^[5-8]/.test(file)) {
      checks.equal('min_free_kbytes', file, said(file), Number(shape.machine.readFile(`${SYSCTL}min_free_kbytes`)));
    }
    checkZones(checks, recorded, base, `${file}: `);
    recorded.forEach((row, i) => checks.equal('managed', `${file}: ${zoneName(row)}`, row.values['managed'], base[i]?.values['managed']));
    checkMarks(checks, file, recorded, computed);
    checkProtection(checks, file, recorded, computed);
    checkPagesets(checks, file, recorded, computed, highMoves(recording));
    checkThresholds(checks, file, recorded, computed);
  }
}
