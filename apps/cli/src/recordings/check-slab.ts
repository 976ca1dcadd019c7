/**
 * Slab caches: each that the machine has against its row of `/sys/kernel/slab`, as the machine's own files show it; of the
 * others the layout that follows from the size and the flags of their objects.
 */
import {
  SLAB_CONSISTENCY_CHECKS,
  SLAB_HWCACHE_ALIGN,
  SLAB_KMALLOC,
  SLAB_POISON,
  SLAB_RED_ZONE,
  SLAB_STORE_USER,
  SLAB_TYPESAFE_BY_RCU,
  calculateSizes,
} from '@pagelab/kernel/layout';
import type { SlabMachine } from '@pagelab/kernel/layout';
import type { Machine } from '@pagelab/kernel';
import type { Checks } from './check.ts';
import { architectureOf, kernelOf, possibleCpusOf } from './recorded-machine.ts';
import type { Recording } from './recording.ts';

/** Columns of flags. */
const FLAGS: Readonly<Record<string, number>> = {
  hwcache_align: SLAB_HWCACHE_ALIGN,
  destroy_by_rcu: SLAB_TYPESAFE_BY_RCU,
  red_zone: SLAB_RED_ZONE,
  poison: SLAB_POISON,
  store_user: SLAB_STORE_USER,
  sanity_checks: SLAB_CONSISTENCY_CHECKS,
};
const KMALLOC = /^(dma-)?kmalloc(-rcl|-cg|-dma|-rnd-\d+)?-\d+[kM]?$/;
/** Caches whose free pointer stays inside the object although readers may still look at it, since 6.12. */
const INNER_FREE_POINTER: readonly string[] = ['filp', 'vm_area_struct'];
/** What a layout consists of. */
const LAYOUT: readonly string[] = ['slab_size', 'order', 'objs_per_slab', 'cpu_partial', 'min_partial'];
/** What the users of a cache that is shared have in common. */
const SHARED: readonly string[] = ['reclaim_account', 'cache_dma', 'destroy_by_rcu', 'red_zone', 'poison', 'store_user', 'sanity_checks', 'usersize'];
/** What the first of them, or the largest, decides. */
const OWN: readonly string[] = ['object_size', 'align', 'hwcache_align', 'aliases'];
const DIRECTORY = '/sys/kernel/slab/';

/** A row of `slab-sysfs.tsv`, by column. */
type Row = ReadonlyMap<string, string>;

function slabMachine(recording: Recording): SlabMachine {
  const { config } = recording;
  const word = (name: string): number | undefined => {
    const value = new RegExp(`\\bslu?a?b_${name}=(\\d+)`).exec(config.cmdline)?.[1];
    return value === undefined ? undefined : Number(value);
  };
  return {
    wordBytes: architectureOf(recording) === 'x86-64' ? 8 : 4,
    presentCpus: config.cpus,
    possibleCpus: possibleCpusOf(recording),
    kernel: kernelOf(recording),
    maxOrder: word('max_order') ?? 3,
    minOrder: word('min_order') ?? 0,
    minObjects: word('min_objects') ?? 0,
  };
}

/** The caches of a recording, by name. */
function recordedCaches(recording: Recording): Map<string, Row> {
  const [head = '', ...lines] = recording.text('slab-sysfs.tsv').trimEnd().split('\n');
  const names = head.split('\t');
  const rows = new Map<string, Row>();
  for (const line of lines) {
    const words = line.split('\t');
    const row = new Map(names.map((name, i) => [name, words[i] ?? '']));
    if (/^\d+$/.test(row.get('slab_size') ?? '')) rows.set(row.get('name')!, row);
  }
  return rows;
}

/** Checks a recording's caches against the machine's, and against formulas where the machine has none of the name. */
export function checkSlabs(checks: Checks, recording: Recording, machine: Machine): void {
  const rows = recordedCaches(recording);
  const own = ownCaches(machine);
  const shape = slabMachine(recording);
  const layouts = new Map<string, Layout | undefined>();
  for (const [name, row] of rows) {
    const isOwn = own.has(name) && !name.startsWith(':');
    const layout = isOwn ? ownLayout(machine, name) : computedLayout(name, row, shape);
    layouts.set(name, layout);
    const area = isOwn ? 'slab' : 'slab layouts';
    for (const column of LAYOUT) checks.equal(area, `${name}.${column}`, Number(row.get(column)), layout?.[column]);
    if (isOwn) checkOwn(checks, machine, own, name, row);
    else checkLink(checks, name, row, rows, layout);
  }
  checkSlabinfo(checks, recording, machine, rows, layouts);
}

type Layout = Readonly<Record<string, number>>;

/** Directories of the machine's `/sys/kernel/slab`, and the files of one. */
function ownCaches(machine: Machine): Set<string> {
  const paths = machine.listFiles().filter((path) => path.startsWith(DIRECTORY));
  return new Set(paths.map((path) => path.slice(DIRECTORY.length).split('/')[0]!));
}

function read(machine: Machine, name: string, column: string): number {
  return Number(machine.readFile(`${DIRECTORY}${name}/${column}`));
}

function ownLayout(machine: Machine, name: string): Layout {
  return Object.fromEntries(LAYOUT.map((column) => [column, read(machine, name, column)]));
}

/** What the machine shows of a cache beyond its layout. */
function checkOwn(checks: Checks, machine: Machine, own: ReadonlySet<string>, name: string, row: Row): void {
  const link = row.get('link')!;
  for (const column of SHARED) checks.equal('slab', `${name}.${column}`, Number(row.get(column)), read(machine, name, column));
  if (link === '-') {
    for (const column of OWN) if (row.has(column)) checks.equal('slab', `${name}.${column}`, Number(row.get(column)), read(machine, name, column));
  } else {
    // A cache that may be shared is known by its flags and size.
    checks.add('slab', `${name}.link`, own.has(link) ? null : `recorded '${link}', the machine has no such cache`);
  }
}

/** The layout that follows from what a cache holds. */
function computedLayout(name: string, row: Row, machine: SlabMachine): Layout | undefined {
  let flags = KMALLOC.test(name) ? SLAB_KMALLOC : 0;
  for (const [column, flag] of Object.entries(FLAGS)) if (row.get(column) === '1') flags |= flag;
  const debugged = (flags & (SLAB_POISON | SLAB_RED_ZONE)) !== 0;
  const inner = machine.kernel !== '6.1' && INNER_FREE_POINTER.includes(name) && !debugged;
  const sizes = calculateSizes(
    {
      objectSize: Number(row.get('object_size')),
      align: Number(row.get('align')),
      flags,
      hasConstructor: !['-', ''].includes(row.get('ctor') ?? ''),
      freePointerOffset: inner ? 0 : undefined,
    },
    machine,
  );
  if (typeof sizes === 'number') return undefined;
  const { size, order, objectsPerSlab, cpuPartial, minPartial } = sizes;
  return { slab_size: size, order, objs_per_slab: objectsPerSlab, cpu_partial: cpuPartial, min_partial: minPartial };
}

/** The name and the number of users of a cache that is shared. */
function checkLink(checks: Checks, name: string, row: Row, rows: ReadonlyMap<string, Row>, layout: Layout | undefined): void {
  const link = row.get('link')!;
  const id = link === '-' ? name : link;
  const users = [...rows.values()].filter((other) => other.get('link') === id).length;
  // A cache counts its users but one; one that is nobody else's has no name but its own.
  if (row.has('aliases')) checks.equal('slab layouts', `${name}.aliases`, Number(row.get('aliases')), Math.max(1, users) - 1);
  if (link === '-') return;
  const kind = `${row.get('reclaim_account') === '1' ? 'a' : ''}${row.get('sanity_checks') === '1' ? 'F' : ''}`;
  const letters = `${row.get('cache_dma') === '1' ? 'd' : ''}${kind}${link.includes('A') ? 'A' : ''}`;
  checks.equal('slab layouts', `${name}.link`, link, `:${letters}${letters === '' ? '' : '-'}${String(layout?.['slab_size']).padStart(7, '0')}`);
}

/** A line of `/proc/slabinfo`: name, size, objects and pages of a slab. */
const SLABINFO = /^(\S+) +\d+ +\d+ +(\d+) +(\d+) +(\d+) : tunables/gm;

/** The same once more as `/proc/slabinfo` has it, recorded and of the machine, pages in place of an order. */
function checkSlabinfo(checks: Checks, recording: Recording, machine: Machine, rows: ReadonlyMap<string, Row>, layouts: ReadonlyMap<string, Layout | undefined>): void {
  for (const [, name, size, objects, pages] of recording.text('slabinfo.txt').matchAll(SLABINFO)) {
    const layout = layouts.get(name!);
    checks.equal('slab', `slabinfo ${name}.objsize`, Number(size), layout?.['slab_size']);
    checks.equal('slab', `slabinfo ${name}.objperslab`, Number(objects), layout?.['objs_per_slab']);
    checks.equal('slab', `slabinfo ${name}.pagesperslab`, Number(pages), layout === undefined ? undefined : 2 ** layout['order']!);
  }
  for (const [, name, size, objects, pages] of machine.readFile('/proc/slabinfo').matchAll(SLABINFO)) {
    const row = rows.get(name!);
    if (row === undefined) continue;
    checks.equal('slab', `own slabinfo ${name}.objsize`, Number(row.get('slab_size')), Number(size));
    checks.equal('slab', `own slabinfo ${name}.objperslab`, Number(row.get('objs_per_slab')), Number(objects));
    checks.equal('slab', `own slabinfo ${name}.pagesperslab`, 2 ** Number(row.get('order')), Number(pages));
  }
}
