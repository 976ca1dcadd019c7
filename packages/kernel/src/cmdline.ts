/**
 * The kernel's command line: the words of Linux's that shape memory.
 *
 * @linux Documentation/admin-guide/kernel-parameters.txt
 */
import type { CmaRequest } from '@pagelab/mm-core';
import type { ShmemEnabled, TmpfsHuge } from '@pagelab/vm';
import { parseSize } from './size.ts';

/** An amount of memory: bytes, or a share of all there is. */
export type MemoryAmount = { readonly bytes: number } | { readonly percent: number };

/** What `numa=` asks for. @linux arch/x86/mm/numa.c:numa_setup */
export type NumaWord =
  | { readonly kind: 'off' }
  /** So many nodes of about the same size, out of memory that has none. */
  | { readonly kind: 'fake-nodes'; readonly nodes: number }
  /** As many nodes of this size as there is memory for. */
  | { readonly kind: 'fake-size'; readonly bytes: number };

/** A range that `memmap=` takes out of memory, in bytes; with `usable` one that it says is memory. */
export interface MemmapRange {
  readonly start: number;
  readonly bytes: number;
  readonly usable?: true;
}

/** What the command line asks for; `undefined` where it is silent. */
export interface CommandLine {
  /** `mem=` or `memmap=SIZE`: memory above this address is not used, in bytes. */
  readonly mem?: number;
  /** `memmap=SIZE$START` and `memmap=SIZE@START`, any number of times. */
  readonly memmap?: readonly MemmapRange[];
  /** `memmap=exactmap`: the firmware's map is not believed; memory is what the other words say. */
  readonly exactmap?: true;
  /** `kernelcore=`: memory that is not to be ZONE_MOVABLE; `mirror` asks for memory that no machine here has. */
  readonly kernelcore?: MemoryAmount | 'mirror';
  /** `movablecore=`: memory that is to be ZONE_MOVABLE. */
  readonly movablecore?: MemoryAmount;
  /** `cma=SIZE[@START[-END]]`: a region that can be had in one piece. */
  readonly cma?: CmaRequest;
  /** `numa=` */
  readonly numa?: NumaWord;
  /** `vmalloc=`: address space for vmalloc on 32 bits, in bytes. */
  readonly vmalloc?: number;
  /** `nohugevmalloc`: areas of vmalloc are never made of large pages. */
  readonly nohugevmalloc?: boolean;
  /** `slab_nomerge`: caches of the same shape are not merged. */
  readonly slabNomerge?: boolean;
  /** `slub_max_order=` */
  readonly slubMaxOrder?: number;
  /** `slub_min_order=` */
  readonly slubMinOrder?: number;
  /** `slub_min_objects=` */
  readonly slubMinObjects?: number;
  /** `slub_debug=`: letters of the checks, and the caches they are for. */
  readonly slubDebug?: string;
  /** `hugepages=`: pages of 2 MiB that are set aside; by node, or −1 for all nodes in turn. */
  readonly hugepages?: readonly { readonly nid: number; readonly pages: number }[];
  /** `kmemleak=`: whether unreachable kernel memory is searched for. */
  readonly kmemleak?: boolean;
  /** `page_owner=`: whether it is noted who allocates each page. */
  readonly pageOwner?: boolean;
  /** `swiotlb=`: every transfer by bounce buffers, or none. */
  readonly swiotlb?: 'force' | 'noforce';
  /** `transparent_hugepage=` */
  readonly transparentHugepage?: 'always' | 'madvise' | 'never';
  /** `transparent_hugepage_shmem=`: of memory that is shared without a name; `transparent_hugepage_tmpfs=`: of files in `/dev/shm`. */
  readonly hugeShmem?: ShmemEnabled;
  readonly hugeTmpfs?: TmpfsHuge;
  /** `numa_balancing=`: whether pages go to the nodes where they are used. */
  readonly numaBalancing?: boolean;
  /** `zswap.PARAMETER=`: names and values of its parameters, in their order. */
  readonly zswap?: readonly (readonly [parameter: string, value: string])[];
}

interface Word {
  readonly name: string;
  readonly takes: string;
  /** Reads the text behind `=`; `undefined` where it is wrong. `before` is what the words so far asked for. */
  read(text: string, before: CommandLine): CommandLine | undefined;
}

/** Nodes that fit a machine here. */
const MAX_NODES = 64;

const number = (text: string): number | undefined => (/^\d+$/.test(text) ? Number(text) : undefined);

/** @linux mm/mm_init.c:cmdline_parse_core */
function amount(text: string): MemoryAmount | undefined {
  const share = /^(\d+)%$/.exec(text);
  if (share !== null) return Number(share[1]) <= 100 ? { percent: Number(share[1]) } : undefined;
  const bytes = parseSize(text);
  return bytes === undefined ? undefined : { bytes };
}

function numaWord(text: string): NumaWord | undefined {
  if (text === 'off') return { kind: 'off' };
  const fake = /^fake=(\d+[kmgt]?)$/i.exec(text)?.[1];
  if (fake === undefined) return undefined;
  const value = parseSize(fake);
  if (value === undefined || value === 0) return undefined;
  if (/[kmgt]$/i.test(fake)) return { kind: 'fake-size', bytes: value };
  return value <= MAX_NODES ? { kind: 'fake-nodes', nodes: value } : undefined;
}

/** @linux kernel/dma/contiguous.c:early_cma */
function cmaWord(text: string): CmaRequest | undefined {
  const match = /^(\w+)(?:@(\w+)(?:-(\w+))?)?$/.exec(text);
  if (match === null) return undefined;
  const [size, base, limit] = match.slice(1).map((part) => (part === undefined ? 0 : address(part)));
  if (size === undefined || base === undefined || limit === undefined) return undefined;
  return { bytes: size, ...(match[2] === undefined ? {} : { base }), ...(match[3] === undefined ? {} : { limit }) };
}

function address(text: string): number | undefined {
  return parseSize(/^0x[0-9a-f]+$/i.test(text) ? Number(text) : text);
}

/** @linux arch/x86/kernel/e820.c:parse_memmap_one */
function memmapWord(text: string, before: CommandLine): CommandLine | undefined {
  // Ranges that were named before go with the firmware's.
  if (text === 'exactmap') return { exactmap: true, memmap: [] };
  const [, size = '', kind, place = ''] = /^(\w+)(?:([@$#!])(\w+))?$/.exec(text) ?? [];
  const bytes = parseSize(size);
  if (bytes === undefined || bytes === 0) return undefined;
  if (kind === undefined) return { mem: Math.min(bytes, before.mem ?? Infinity) };
  const start = address(place);
  if (start === undefined) return undefined;
  const range: MemmapRange = kind === '@' ? { start, bytes, usable: true } : { start, bytes };
  return { memmap: [...(before.memmap ?? []), range] };
}

/** What each parameter of zswap takes, and reads it. */
const ZSWAP_PARAMETERS: Readonly<Record<string, readonly [takes: string, pattern: RegExp]>> = {
  enabled: ['0 or 1', /^[01ynYN]$/],
  shrinker_enabled: ['0 or 1', /^[01ynYN]$/],
  compressor: ['the name of one that the host hands in', /^[\w-]+$/],
  max_pool_percent: ['a percentage', /^\d+$/],
  accept_threshold_percent: ['a percentage', /^\d+$/],
};

/** Words that are acted on. */
const WORDS: readonly Word[] = [
  {
    name: 'mem',
    takes: 'a size, such as 512M',
    read: (text) => {
      const mem = parseSize(text);
      return mem === undefined ? undefined : { mem };
    },
  },
  {
    name: 'memmap',
    takes: 'ranges to reserve, such as 128M$512M, ranges of memory, such as 128M@512M, a limit, such as 512M, or exactmap',
    read: (text, before) =>
      text.split(',').reduce<CommandLine | undefined>((so, part) => {
        const more = so === undefined ? undefined : memmapWord(part, { ...before, ...so });
        return more === undefined ? undefined : { ...so, ...more };
      }, {}),
  },
  {
    name: 'kernelcore',
    takes: 'a size, a percentage, or mirror',
    read: (text) => {
      const kernelcore = text === 'mirror' ? text : amount(text);
      return kernelcore === undefined ? undefined : { kernelcore };
    },
  },
  {
    name: 'movablecore',
    takes: 'a size or a percentage',
    read: (text) => {
      const movablecore = amount(text);
      return movablecore === undefined ? undefined : { movablecore };
    },
  },
  {
    name: 'cma',
    takes: 'a size, and perhaps where: 64M, 64M@512M or 64M@512M-1G',
    read: (text) => {
      const cma = cmaWord(text);
      return cma === undefined ? undefined : { cma };
    },
  },
  {
    name: 'numa',
    takes: 'off, fake=NODES (1 to 64) or fake=SIZE',
    read: (text) => {
      const numa = numaWord(text);
      return numa === undefined ? undefined : { numa };
    },
  },
  {
    name: 'vmalloc',
    takes: 'a size, such as 256M',
    read: (text) => {
      const vmalloc = parseSize(text);
      return vmalloc === undefined ? undefined : { vmalloc };
    },
  },
  {
    name: 'page_owner',
    takes: 'on or off',
    read: (text) => (text === 'on' || text === 'off' ? { pageOwner: text === 'on' } : undefined),
  },
  {
    name: 'kmemleak',
    takes: 'on or off',
    read: (text) => (text === 'on' || text === 'off' ? { kmemleak: text === 'on' } : undefined),
  },
  { name: 'nohugevmalloc', takes: 'no value', read: (text) => (text === '' ? { nohugevmalloc: true } : undefined) },
  { name: 'slab_nomerge', takes: 'no value', read: (text) => (text === '' ? { slabNomerge: true } : undefined) },
  ...(['slub_max_order', 'slub_min_order'] as const).map(
    (name): Word => ({
      name,
      takes: 'an order from 0 to 10',
      read: (text) => {
        const order = number(text);
        if (order === undefined || order > 10) return undefined;
        return name === 'slub_max_order' ? { slubMaxOrder: order } : { slubMinOrder: order };
      },
    }),
  ),
  {
    name: 'slub_min_objects',
    takes: 'a number of objects',
    read: (text) => {
      const slubMinObjects = number(text);
      return slubMinObjects === undefined ? undefined : { slubMinObjects };
    },
  },
  {
    name: 'slub_debug',
    takes: 'blocks apart by ;, each letters out of FZPUTAO, or -, and the caches it is for, such as FZ,kmalloc-*;PU,dentry',
    read: (text) => (/^([FZPUTAO]*|-)(,[^\s,;]+)*(;([FZPUTAO]*|-)(,[^\s,;]+)*)*$/i.test(text) ? { slubDebug: text === '' ? 'FZPU' : text } : undefined),
  },
  {
    name: 'hugepages',
    takes: 'a number of huge pages, or numbers by node such as 0:4,1:8',
    read: (text) => {
      const hugepages = text.split(',').map((part) => {
        const [, nid, pages] = /^(?:(\d+):)?(\d+)$/.exec(part) ?? [];
        return pages === undefined ? undefined : { nid: nid === undefined ? -1 : Number(nid), pages: Number(pages) };
      });
      return hugepages.includes(undefined) ? undefined : { hugepages: hugepages as { nid: number; pages: number }[] };
    },
  },
  {
    name: 'hugepagesz',
    takes: '2M: other pools stay empty',
    read: (text) => (parseSize(text) === 2 ** 21 ? {} : undefined),
  },
  {
    name: 'swiotlb',
    takes: 'force or noforce',
    read: (text) => (text === 'force' || text === 'noforce' ? { swiotlb: text } : undefined),
  },
  {
    name: 'transparent_hugepage',
    takes: 'always, madvise or never',
    read: (text) => (text === 'always' || text === 'madvise' || text === 'never' ? { transparentHugepage: text } : undefined),
  },
  {
    name: 'transparent_hugepage_shmem',
    takes: 'always, within_size, advise, never, deny or force',
    read: (text) => (/^(always|within_size|advise|never|deny|force)$/.test(text) ? { hugeShmem: text as ShmemEnabled } : undefined),
  },
  {
    name: 'transparent_hugepage_tmpfs',
    takes: 'always, within_size, advise or never',
    read: (text) => (/^(always|within_size|advise|never)$/.test(text) ? { hugeTmpfs: text as TmpfsHuge } : undefined),
  },
  {
    name: 'numa_balancing',
    takes: 'enable or disable',
    read: (text) => (text === 'enable' || text === 'disable' ? { numaBalancing: text === 'enable' } : undefined),
  },
  ...Object.entries(ZSWAP_PARAMETERS).map(
    ([parameter, [takes, pattern]]): Word => ({
      name: `zswap.${parameter}`,
      takes,
      read: (text, before) => (pattern.test(text) ? { zswap: [...(before.zswap ?? []), [parameter, text]] } : undefined),
    }),
  ),
];

/** Words that have two names: those of SLUB's own became the slab allocator's with 6.9. @linux mm/slub.c:setup_slub_debug */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  slub_nomerge: 'slab_nomerge',
  slab_debug: 'slub_debug',
  slab_max_order: 'slub_max_order',
  slab_min_order: 'slub_min_order',
  slab_min_objects: 'slub_min_objects',
};

/** Why a command line cannot be used, or what it asks for. */
export function parseCommandLine(text: string): CommandLine | { readonly error: string } {
  let result: CommandLine = {};
  for (const word of text.split(/\s+/).filter((part) => part !== '')) {
    const equals = word.indexOf('=');
    const written = equals < 0 ? word : word.slice(0, equals);
    const name = OTHER_NAMES[written] ?? written;
    const value = equals < 0 ? '' : word.slice(equals + 1);
    const known = WORDS.find((candidate) => candidate.name === name);
    if (known === undefined) {
      return { error: `unknown word "${name}"; known: ${WORDS.map((each) => each.name).join(', ')}` };
    }
    const read = known.read(value, result);
    if (read === undefined) return { error: `"${name}" takes ${known.takes}, not "${value}"` };
    result = { ...result, ...read };
  }
  return result;
}
