/**
 * Slab layouts: each cache of `/sys/kernel/slab`, from the size and the flags of its objects.
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
import type { SlabGeometry, SlabMachine } from '@pagelab/kernel/layout';
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

/** Checks five values of each cache, and of one that shares another's slabs that it has that one's name. */
export function checkSlabs(checks: Checks, recording: Recording): void {
  const [head = '', ...lines] = recording.text('slab-sysfs.tsv').trimEnd().split('\n');
  const names = head.split('\t');
  const machine = slabMachine(recording);
  const users = new Map<string, number>();
  for (const line of lines) {
    const link = line.split('\t')[names.indexOf('link')]!;
    users.set(link, (users.get(link) ?? 0) + 1);
  }
  const computed = new Map<string, SlabGeometry | undefined>();
  for (const line of lines) {
    const words = line.split('\t');
    const row = new Map(names.map((name, i) => [name, words[i] ?? '']));
    const number = (column: string): number => Number(row.get(column));
    const name = row.get('name')!;
    if (!/^\d+$/.test(row.get('slab_size') ?? '')) continue;
    let flags = KMALLOC.test(name) ? SLAB_KMALLOC : 0;
    for (const [column, flag] of Object.entries(FLAGS)) if (row.get(column) === '1') flags |= flag;
    const debugged = (flags & (SLAB_POISON | SLAB_RED_ZONE)) !== 0;
    const inner = machine.kernel !== '6.1' && INNER_FREE_POINTER.includes(name) && !debugged;
    const sizes = calculateSizes(
      {
        objectSize: number('object_size'),
        align: number('align'),
        flags,
        hasConstructor: !['-', ''].includes(row.get('ctor') ?? ''),
        freePointerOffset: inner ? 0 : undefined,
      },
      machine,
    );
    const own = typeof sizes === 'number' ? undefined : sizes;
    const compare = (column: string, value: number | undefined): void => checks.equal('slab', `${name}.${column}`, number(column), value);
    compare('slab_size', own?.size);
    compare('order', own?.order);
    compare('objs_per_slab', own?.objectsPerSlab);
    compare('cpu_partial', own?.cpuPartial);
    compare('min_partial', own?.minPartial);
    const link = row.get('link')!;
    computed.set(name, own);
    const id = link === '-' ? name : link;
    // A cache counts its users but one; one that is nobody else's has no name but its own.
    if (row.has('aliases')) compare('aliases', Math.max(1, users.get(id) ?? 0) - 1);
    if (link === '-') continue;
    const kind = `${row.get('reclaim_account') === '1' ? 'a' : ''}${row.get('sanity_checks') === '1' ? 'F' : ''}`;
    const accounted = link.includes('A') ? 'A' : '';
    const letters = `${row.get('cache_dma') === '1' ? 'd' : ''}${kind}${accounted}`;
    checks.equal('slab', `${name}.link`, link, `:${letters}${letters === '' ? '' : '-'}${String(own?.size).padStart(7, '0')}`);
  }
  // The same once more as `/proc/slabinfo` has it, pages in place of an order.
  for (const [, name, size, objects, pages] of recording.text('slabinfo.txt').matchAll(/^(\S+) +\d+ +\d+ +(\d+) +(\d+) +(\d+) : tunables/gm)) {
    const own = computed.get(name!);
    checks.equal('slab', `slabinfo ${name}.objsize`, Number(size), own?.size);
    checks.equal('slab', `slabinfo ${name}.objperslab`, Number(objects), own?.objectsPerSlab);
    checks.equal('slab', `slabinfo ${name}.pagesperslab`, Number(pages), own === undefined ? undefined : 2 ** own.order);
  }
}
