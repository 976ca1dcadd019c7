/**
 * `/sys/kernel/slab`: each cache's layout, what debugging it has, and what can be done with it. A cache that may be shared has
 * a directory by its flags and size, `:A-0000192`, and each of its users one of the same contents. Below `/sys/kernel/debug/slab` lie the calls that allocated and freed its objects.
 *
 * @linux mm/slub.c:slab_sysfs_init, slab_debugfs_init
 */
import { Errno } from '@pagelab/abi';
import {
  SLAB_CACHE_DMA,
  SLAB_CONSISTENCY_CHECKS,
  SLAB_HWCACHE_ALIGN,
  SLAB_POISON,
  SLAB_RECLAIM_ACCOUNT,
  SLAB_RED_ZONE,
  SLAB_STORE_USER,
  SLAB_TRACE,
  SLAB_TYPESAFE_BY_RCU,
} from '@pagelab/slab';
import type { KmemCache, SlabTrack } from '@pagelab/slab';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';

const DIRECTORY = '/sys/kernel/slab/';
const DEBUG_DIRECTORY = '/sys/kernel/debug/slab/';

/** The files below `/sys/kernel/slab`, by path. */
export function slabFiles(kernel: Kernel): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  for (const cache of kernel.slab.caches()) {
    const names = [...Object.keys(ATTRIBUTES), ...Object.keys(cache.attributes()), ...Object.keys(ACTIONS)];
    for (const directory of directories(kernel, cache)) {
      for (const name of names) files.set(`${DIRECTORY}${directory}/${name}`, attributeFile(cache, name)!);
    }
    if ((cache.flags & SLAB_STORE_USER) === 0) continue;
    const calls = (attribute: string, what: 'allocated' | 'freed'): void => {
      files.set(`${DEBUG_DIRECTORY}${cache.name}/${attribute}`, { mode: 0o400, read: () => callsText(kernel, cache.tracks()?.[what] ?? []) });
    };
    calls('alloc_traces', 'allocated');
    calls('free_traces', 'freed');
  }
  return files;
}

/** The file of a path below `/sys/kernel/slab`, without a list of all there are; `undefined` where there is none. */
export function slabFile(kernel: Kernel, path: string): ProcFile | undefined {
  if (!path.startsWith(DIRECTORY)) return undefined;
  const [directory = '', name = '', ...rest] = path.slice(DIRECTORY.length).split('/');
  if (rest.length > 0) return undefined;
  for (const cache of kernel.slab.caches()) if (directories(kernel, cache).includes(directory)) return attributeFile(cache, name);
  return undefined;
}

function directories(kernel: Kernel, cache: KmemCache): string[] {
  const id = kernel.slab.mayBeShared(cache) ? [cache.uniqueId] : [];
  return [...id, cache.name, ...cache.aliases];
}

function attributeFile(cache: KmemCache, name: string): ProcFile | undefined {
  const act = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (act !== undefined) return { mode: 0o600, read: () => '', write: (text) => act(cache, text) };
  const show = Object.hasOwn(ATTRIBUTES, name) ? ATTRIBUTES[name] : undefined;
  if (show !== undefined) return { mode: 0o400, read: () => `${show(cache)}\n` };
  return Object.hasOwn(cache.attributes(), name) ? { mode: 0o400, read: () => `${cache.attributes()[name]}\n` } : undefined;
}

/** 1 where the cache has a flag. */
const flag = (bit: number) => (cache: KmemCache): number => ((cache.flags & bit) === 0 ? 0 : 1);

const ATTRIBUTES: Readonly<Record<string, (cache: KmemCache) => number | string>> = {
  align: (cache) => cache.align,
  aliases: (cache) => Math.max(0, cache.refcount - 1),
  cache_dma: flag(SLAB_CACHE_DMA),
  destroy_by_rcu: flag(SLAB_TYPESAFE_BY_RCU),
  hwcache_align: flag(SLAB_HWCACHE_ALIGN),
  object_size: (cache) => cache.objectSize,
  objs_per_slab: (cache) => cache.objectsPerSlab,
  order: (cache) => cache.order,
  poison: flag(SLAB_POISON),
  reclaim_account: flag(SLAB_RECLAIM_ACCOUNT),
  red_zone: flag(SLAB_RED_ZONE),
  sanity_checks: flag(SLAB_CONSISTENCY_CHECKS),
  slab_size: (cache) => cache.size,
  slabs: (cache) => cache.activeSlabs,
  store_user: flag(SLAB_STORE_USER),
  total_objects: (cache) => cache.totalObjects,
  trace: flag(SLAB_TRACE),
  usersize: (cache) => cache.userSize,
};

/** What writing `1` does: what it takes of the text, or -errno. */
const ACTIONS: Readonly<Record<string, (cache: KmemCache, text: string) => number>> = {
  shrink: (cache, text) => {
    if (!text.startsWith('1')) return -Errno.EINVAL;
    cache.shrink();
    return text.length;
  },
  validate: (cache, text) => {
    const checked = text.startsWith('1') ? cache.check() : -Errno.EINVAL;
    return checked < 0 ? checked : text.length;
  },
};

/** One line a call: how often, how long ago, by which processes on which CPUs. @linux mm/slub.c:slab_debugfs_show */
function callsText(kernel: Kernel, tracks: readonly SlabTrack[]): string {
  const calls = new Map<string, SlabTrack[]>();
  for (const track of tracks) {
    const same = calls.get(track.call);
    if (same === undefined) calls.set(track.call, [track]);
    else same.push(track);
  }
  if (calls.size === 0) return 'No data\n';
  const jiffies = kernel.slab.jiffies;
  const range = (values: readonly number[]): string => {
    const low = Math.min(...values);
    const high = Math.max(...values);
    return low === high ? `${low}` : `${low}-${high}`;
  };
  let text = '';
  for (const [call, same] of [...calls].sort(([, a], [, b]) => b.length - a.length)) {
    const ages = same.map(({ when }) => jiffies - when);
    const mean = Math.floor(ages.reduce((sum, age) => sum + age, 0) / ages.length);
    const age = ages.length === 1 ? `${ages[0]}` : `${Math.min(...ages)}/${mean}/${Math.max(...ages)}`;
    const cpus = [...new Set(same.map(({ cpu }) => cpu))].sort((a, b) => a - b).join(',');
    text += `${String(same.length).padStart(7)} ${call} age=${age} pid=${range(same.map(({ pid }) => pid))} cpus=${cpus}\n`;
  }
  return text;
}
