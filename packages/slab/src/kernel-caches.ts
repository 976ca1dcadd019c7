/**
 * The caches that the layers above make at boot: names, sizes and flags as Linux 6.12 on x86-64 has them (Debian's
 * configuration, read from `/sys/kernel/slab` with `slab_nomerge`).
 */
import type { KmemCache } from './kmem-cache.ts';
import {
  SLAB_ACCOUNT,
  SLAB_HWCACHE_ALIGN,
  SLAB_PANIC,
  SLAB_RECLAIM_ACCOUNT,
  SLAB_TYPESAFE_BY_RCU,
} from './flags.ts';
import type { Slab } from './slab.ts';

/** A cache of the kernel's own objects. */
export interface KernelCacheSpec {
  /** Bytes of an object. */
  readonly size: number;
  /** Bytes; 0 where the type asks for none. */
  readonly align: number;
  /** SLAB_* */
  readonly flags: number;
  /** Objects are initialised when their slab is made, which moves the free pointer behind them. */
  readonly constructed?: boolean;
  /** Bytes that may be copied to or from user space. */
  readonly userSize?: number;
  readonly freePointerOffset?: number;
}

const PANIC = SLAB_PANIC;
const ACCOUNT = SLAB_PANIC | SLAB_ACCOUNT;
const ALIGNED = SLAB_PANIC | SLAB_HWCACHE_ALIGN;
const ALIGNED_ACCOUNT = ALIGNED | SLAB_ACCOUNT;

/** The kernel's caches, in the order in which Linux makes them, which decides who shares whose slabs. */
export const KERNEL_CACHES = {
  vmap_area: { size: 72, align: 0, flags: PANIC },
  mm_struct: { size: 1360, align: 64, flags: ALIGNED_ACCOUNT, userSize: 416 },
  task_group: { size: 640, align: 64, flags: PANIC },
  radix_tree_node: { size: 576, align: 0, flags: SLAB_PANIC | SLAB_RECLAIM_ACCOUNT, constructed: true },
  maple_node: { size: 256, align: 256, flags: PANIC },
  numa_policy: { size: 272, align: 0, flags: PANIC },
  shared_policy_node: { size: 48, align: 0, flags: PANIC },
  pid: { size: 128, align: 0, flags: ALIGNED_ACCOUNT },
  anon_vma: { size: 96, align: 0, flags: ACCOUNT | SLAB_TYPESAFE_BY_RCU, constructed: true },
  anon_vma_chain: { size: 64, align: 0, flags: ACCOUNT },
  cred: { size: 184, align: 0, flags: ALIGNED_ACCOUNT },
  task_struct: { size: 8392, align: 64, flags: ACCOUNT, userSize: 2696 },
  sighand_cache: { size: 2080, align: 0, flags: ALIGNED_ACCOUNT | SLAB_TYPESAFE_BY_RCU, constructed: true },
  signal_cache: { size: 1104, align: 0, flags: ALIGNED_ACCOUNT },
  files_cache: { size: 704, align: 0, flags: ALIGNED_ACCOUNT },
  fs_cache: { size: 56, align: 0, flags: ALIGNED_ACCOUNT },
  vm_area_struct: { size: 176, align: 0, flags: ACCOUNT },
  vma_lock: { size: 40, align: 0, flags: ACCOUNT },
  names_cache: { size: 4096, align: 0, flags: ALIGNED, userSize: 4096 },
  dentry: { size: 192, align: 0, flags: ACCOUNT | SLAB_RECLAIM_ACCOUNT, userSize: 40 },
  inode_cache: { size: 624, align: 0, flags: ACCOUNT | SLAB_RECLAIM_ACCOUNT, constructed: true },
  filp: { size: 184, align: 0, flags: ALIGNED_ACCOUNT | SLAB_TYPESAFE_BY_RCU, freePointerOffset: 152 },
  shmem_inode_cache: { size: 752, align: 0, flags: ACCOUNT, constructed: true },
  sigqueue: { size: 80, align: 0, flags: ACCOUNT },
  ksm_rmap_item: { size: 64, align: 0, flags: 0 },
  ksm_stable_node: { size: 64, align: 0, flags: 0 },
  ksm_mm_slot: { size: 48, align: 0, flags: 0 },
} as const satisfies Readonly<Record<string, KernelCacheSpec>>;

/** The name of one of {@link KERNEL_CACHES}. */
export type KernelCacheName = keyof typeof KERNEL_CACHES;

/**
 * Makes all of {@link KERNEL_CACHES}. Those that are alike share one cache, as under Linux.
 *
 * @throws KernelBug where there is no memory
 */
export function createKernelCaches(slab: Slab): Record<KernelCacheName, KmemCache> {
  const made: Partial<Record<KernelCacheName, KmemCache>> = {};
  for (const name of Object.keys(KERNEL_CACHES) as KernelCacheName[]) {
    const { constructed = false, ...spec }: KernelCacheSpec = KERNEL_CACHES[name];
    // With SLAB_PANIC a failure does not return.
    made[name] = slab.kmemCacheCreate({ name, ...spec, ...(constructed ? { ctor: constructNothing } : {}) }) as KmemCache;
  }
  return made as Record<KernelCacheName, KmemCache>;
}

/** What the objects hold is the business of the host objects that stand for them. */
function constructNothing(): void {}
