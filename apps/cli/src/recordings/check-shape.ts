/**
 * Nodes and zones: what follows from the memory map and the command line alone.
 */
import type { MachineShape } from '@pagelab/kernel/layout';
import type { Checks } from './check.ts';
import { formOf, parseZoneinfo, settingText } from './proc-text.ts';
import type { ZoneRow } from './proc-text.ts';
import type { Recording } from './recording.ts';

const NODES = '/sys/devices/system/node/';

/** `N0.DMA32` */
export function zoneName({ node, zone }: { readonly node: number; readonly zone: string }): string {
  return `N${node}.${zone}`;
}

/** Where each zone begins, what it spans and what of it is there. */
export function checkZones(checks: Checks, recorded: readonly ZoneRow[], computed: readonly ZoneRow[], state = ''): void {
  const area = 'zones';
  checks.equal(area, `${state}zones`, recorded.map(zoneName).join(' '), computed.map(zoneName).join(' '));
  for (const row of recorded) {
    const own = computed.find((zone) => zoneName(zone) === zoneName(row));
    for (const value of ['spanned', 'present', 'cma', 'start_pfn']) {
      if (row.values[value] === undefined && own?.values[value] === undefined) continue;
      checks.equal(area, `${state}${zoneName(row)}.${value}`, row.values[value], own?.values[value]);
    }
  }
}

/** The lines of a file, numbers aside. */
export function checkLines(checks: Checks, file: string, recorded: string, computed: string): void {
  const want = recorded.split('\n').map(formOf);
  const got = computed.split('\n').map(formOf);
  const at = want.findIndex((line, i) => line !== got[i]);
  const differs = at >= 0 || want.length !== got.length;
  const line = at >= 0 ? at : want.length;
  checks.add('lines', file, differs ? `line ${line + 1}: recorded '${want[line] ?? ''}', computed '${got[line] ?? ''}'` : null);
}

/** The first MiB is always reserved; what else boot takes is known for the stock kernel on a plain machine. */
export function checkManaged(checks: Checks, recording: Recording, recorded: readonly ZoneRow[], booted: readonly ZoneRow[]): void {
  const area = 'managed';
  const dma = (rows: readonly ZoneRow[]): number | undefined => rows[0]?.values['managed'];
  if (recording.config.kind === 'boot') checks.equal(area, `${zoneName(recorded[0]!)}.managed`, dma(recorded), dma(booted));
  if (!isPlain(recording)) return;
  const reserved = (rows: readonly ZoneRow[]): number =>
    rows.reduce((pages, { values }) => pages + values['present']! - values['managed']!, 0);
  const off = Math.abs(reserved(recorded) - reserved(booted));
  const exact = recording.config.memory_mib <= 4096 && !/q35|maxcpus/.test(recording.config.qemu!);
  const failure = off <= (exact ? 0 : 10) ? null : `recorded ${reserved(recorded)} pages, computed ${reserved(booted)}${exact ? '' : ', 10 more or fewer are as good'}`;
  checks.add(area, 'present - managed', failure);
}

/** Where the region of `cma=` lies, and how large it is, as the kernels' logs say; or that both have none. */
export function checkCma(checks: Checks, recording: Recording, { machine }: MachineShape): void {
  const placeIn = (log: string): string => /cma: Reserved (\d+ MiB at 0x[0-9a-f]+)/.exec(log)?.[1] ?? 'none';
  const recorded = placeIn(recording.text('dmesg.txt'));
  const computed = placeIn(machine.dmesg());
  if (recorded !== 'none' || computed !== 'none') checks.equal('cma', 'region', recorded, computed);
}

/** The kernel whose image and early allocations the machine has. */
const FITTED_KERNEL = '6.1.0-56-amd64';

/** Whether the formula for what boot takes was fitted to machines of this kind. */
function isPlain({ config }: Recording): boolean {
  if (config.kind !== 'boot' || config.qemu === undefined || config.kernel !== FITTED_KERNEL) return false;
  const words = config.cmdline.split(/\s+/).filter((word) => !/^(console|panic|init_on_alloc|mmrec|nokaslr)(=|$)/.test(word));
  return words.length === 0 && config.numa.length === 0 && !/maxmem=|-drive|-device/.test(config.qemu);
}

/** How many blocks each zone has, of whatever type. Where a machine was not initialised to the end, not all are counted. */
export function checkPageblocks(checks: Checks, recording: Recording, shape: MachineShape): void {
  if (recording.config.kind !== 'boot') return;
  const own = pageblocks(shape.machine.readFile('/proc/pagetypeinfo'));
  for (const [zone, blocks] of pageblocks(recording.text('pagetypeinfo.txt'))) checks.equal('pageblocks', zone, blocks, own.get(zone));
}

/** Blocks by zone, out of the last table of `/proc/pagetypeinfo`. */
function pageblocks(text: string): Map<string, number> {
  const counts = text.slice(text.indexOf('Number of blocks type'));
  const rows = [...counts.matchAll(/^Node (\d+), zone +(\S+) +([\d ]+)$/gm)];
  return new Map(rows.map(([, node, zone, numbers]) => [zoneName({ node: Number(node), zone: zone! }), sum(numbers!)]));
}

function sum(numbers: string): number {
  return numbers.trim().split(/ +/).reduce((total, number) => total + Number(number), 0);
}

/** Fallback order and start of movable memory, as the kernel said when it booted; and what each node says of itself. */
export function checkNodes(checks: Checks, recording: Recording, shape: MachineShape, computed: readonly ZoneRow[]): void {
  const log = recording.text('dmesg.txt');
  const orders = new Map([...log.matchAll(/Fallback order for Node (\d+): ([\d ]+)/g)].map(([, node, order]) => [Number(node), order!.trim()]));
  // A kernel that knows no nodes says nothing.
  if (orders.size > 0) {
    shape.fallbackOrders.forEach((order, node) => checks.equal('fallback order', `node ${node}`, orders.get(node), order.join(' ')));
  }
  const starts = new Map([...log.matchAll(/ {2}Node (\d+): 0x([0-9a-f]+)$/gm)].map(([, node, start]) => [Number(node), parseInt(start!, 16) / 4096]));
  for (const row of computed) {
    if (row.zone !== 'Movable') continue;
    const own = row.values['present']! > 0 ? row.values['start_pfn'] : undefined;
    const said = starts.get(row.node);
    // Of most nodes the kernel says nothing, and there is nothing.
    if (said !== undefined || own !== undefined) checks.equal('movable start', `node ${row.node}`, said, own);
  }
  const nodes = recording.text('nodes.txt');
  if (nodes === '') return;
  const [summary, ...sections] = nodes.split(/^== /m);
  for (const name of ['has_cpu', 'has_memory', 'has_normal_memory', 'online']) {
    const said = settingText(summary!, name);
    if (said !== undefined) checks.equal('nodes', name, said, shape.machine.readFile(`${NODES}${name}`).trim());
  }
  for (const section of sections) {
    const name = /^\w+/.exec(section)![0];
    for (const file of ['cpulist', 'distance']) {
      checks.equal('nodes', `${name}/${file}`, settingText(section, file), shape.machine.readFile(`${NODES}${name}/${file}`).trim());
    }
    const parts = section.split(/^-- (?:meminfo|numastat)\n/m);
    checkLines(checks, `${name}/meminfo`, parts[1] ?? '', shape.machine.readFile(`${NODES}${name}/meminfo`));
    checkLines(checks, `${name}/numastat`, parts[2] ?? '', shape.machine.readFile(`${NODES}${name}/numastat`));
    const total = /MemTotal: +(\d+)/.exec(parts[1] ?? '')?.[1];
    checks.equal('nodes', `${name} MemTotal`, total, /MemTotal: +(\d+)/.exec(shape.machine.readFile(`${NODES}${name}/meminfo`))?.[1]);
  }
}

/** The machine's own zones, as it shows them. */
export function ownZones(shape: MachineShape): ZoneRow[] {
  return parseZoneinfo(shape.machine.readFile('/proc/zoneinfo'));
}
