/**
 * The caches that the layers above make at boot: names, sizes and flags as Debian's kernels of each release and architecture
 * have them, read from `/sys/kernel/slab` where no cache shares another's slabs (`slab_nomerge`, `slub_debug=`).
 */
import type { KmemCache } from './kmem-cache.ts';
import {
  SLAB_ACCOUNT,
  SLAB_HWCACHE_ALIGN,
  SLAB_NO_MERGE,
  SLAB_PANIC,
  SLAB_RECLAIM_ACCOUNT,
  SLAB_TYPESAFE_BY_RCU,
} from './flags.ts';
import type { SlabKernelVersion } from './geometry.ts';
import type { Slab } from './slab.ts';

/** The kernels whose objects' sizes are known: releases of x86-64, and the 6.1 of 32 bits without and with PAE. */
export type KernelObjectSizes = SlabKernelVersion | 'x86-32' | 'x86-pae';

/** A cache of the kernel's own objects, of one kernel. */
export interface KernelCacheSpec {
  readonly name: string;
  /** Bytes of an object. */
  readonly size: number;
  /** Bytes; 0 where the type asks for none. */
  readonly align: number;
  /** SLAB_* */
  readonly flags: number;
  /** Objects are initialised when their slab is made, which moves the free pointer behind them. */
  readonly constructed: boolean;
  /** Bytes that may be copied to or from user space. */
  readonly userSize: number;
  readonly freePointerOffset?: number;
}

/** Bytes by kernel: 6.1, 6.12, 6.18, x86-32, x86-pae. */
type Bytes = readonly [number, number, number, number, number];
const COLUMNS: readonly KernelObjectSizes[] = ['6.1', '6.12', '6.18', 'x86-32', 'x86-pae'];

interface Row {
  readonly sizes: Bytes;
  readonly align?: number;
  readonly flags: number;
  readonly constructed?: boolean;
  readonly userSize?: number | Bytes;
  readonly freePointerOffset?: number;
  /** What a kernel has otherwise. */
  readonly except?: Partial<Record<KernelObjectSizes, Partial<KernelCacheSpec>>>;
}

const PANIC = SLAB_PANIC;
const ACCOUNT = SLAB_PANIC | SLAB_ACCOUNT;
const ALIGNED = SLAB_PANIC | SLAB_HWCACHE_ALIGN;
const ALIGNED_ACCOUNT = ALIGNED | SLAB_ACCOUNT;

/** The name that caches of credentials had. */
const CRED_JAR = { name: 'cred_jar' };
/** Objects that readers may still look at while they are freed, with the word for the free pointer inside. */
const filesByRcu = { flags: ALIGNED_ACCOUNT | SLAB_TYPESAFE_BY_RCU, freePointerOffset: 152 };

/** The kernel's caches, in the order in which Linux makes them, which decides who shares whose slabs. */
const ROWS = {
  vmap_area: { sizes: [64, 72, 72, 32, 32], flags: PANIC },
  mm_struct: { sizes: [1104, 1360, 1568, 564, 564], align: 64, flags: ALIGNED_ACCOUNT, userSize: [384, 416, 448, 192, 192] },
  task_group: { sizes: [640, 640, 704, 384, 384], align: 64, flags: PANIC },
  radix_tree_node: { sizes: [576, 576, 576, 300, 300], flags: SLAB_PANIC | SLAB_RECLAIM_ACCOUNT, constructed: true },
  // Since 6.18 CPUs keep free ones apart, which nobody may share.
  maple_node: { sizes: [256, 256, 256, 256, 256], align: 256, flags: PANIC, except: { '6.18': { flags: PANIC | SLAB_NO_MERGE } } },
  // Kernels of 32 bits know one node, and have a node mask of one word.
  numa_policy: { sizes: [272, 272, 288, 24, 24], flags: PANIC },
  shared_policy_node: { sizes: [48, 48, 48, 28, 28], flags: PANIC },
  pid: { sizes: [112, 128, 184, 60, 60], flags: ALIGNED_ACCOUNT },
  anon_vma: { sizes: [96, 96, 96, 52, 52], flags: ACCOUNT | SLAB_TYPESAFE_BY_RCU, constructed: true },
  anon_vma_chain: { sizes: [64, 64, 64, 32, 32], flags: ACCOUNT },
  cred: {
    sizes: [176, 184, 184, 128, 128],
    flags: ALIGNED_ACCOUNT,
    except: { '6.1': CRED_JAR, 'x86-32': CRED_JAR, 'x86-pae': CRED_JAR },
  },
  // What of it is the state of the processor's registers, the processor says.
  task_struct: { sizes: [8392, 8392, 5840, 5128, 5192], align: 64, flags: ACCOUNT, userSize: [2696, 2696, 2448, 2696, 2696] },
  sighand_cache: { sizes: [2080, 2080, 2080, 1300, 1300], flags: ALIGNED_ACCOUNT | SLAB_TYPESAFE_BY_RCU, constructed: true },
  signal_cache: { sizes: [1112, 1104, 1104, 728, 728], flags: ALIGNED_ACCOUNT },
  files_cache: { sizes: [704, 704, 704, 256, 256], flags: ALIGNED_ACCOUNT },
  fs_cache: { sizes: [56, 56, 56, 36, 36], flags: ALIGNED_ACCOUNT },
  vm_area_struct: {
    sizes: [152, 176, 192, 72, 76],
    flags: ACCOUNT,
    except: { '6.18': { align: 64, flags: ALIGNED_ACCOUNT | SLAB_TYPESAFE_BY_RCU | SLAB_NO_MERGE, freePointerOffset: 0 } },
  },
  // A part of `vm_area_struct` before and after.
  vma_lock: { sizes: [0, 40, 0, 0, 0], flags: ACCOUNT },
  names_cache: { sizes: [4096, 4096, 4096, 4096, 4096], flags: ALIGNED, userSize: 4096 },
  dentry: { sizes: [192, 192, 192, 128, 128], flags: ACCOUNT | SLAB_RECLAIM_ACCOUNT, userSize: [32, 40, 40, 36, 36] },
  inode_cache: { sizes: [632, 624, 616, 408, 408], flags: ACCOUNT | SLAB_RECLAIM_ACCOUNT, constructed: true },
  filp: { sizes: [232, 184, 184, 160, 160], flags: ALIGNED_ACCOUNT, except: { '6.12': filesByRcu, '6.18': filesByRcu } },
  shmem_inode_cache: { sizes: [776, 752, 744, 480, 480], flags: ACCOUNT, constructed: true },
  sigqueue: { sizes: [80, 80, 80, 48, 48], flags: ACCOUNT },
  hugetlbfs_inode_cache: { sizes: [656, 632, 624, 416, 416], flags: SLAB_ACCOUNT, constructed: true },
  userfaultfd_ctx_cache: { sizes: [128, 176, 176, 76, 76], flags: ALIGNED, constructed: true },
  ksm_rmap_item: { sizes: [64, 64, 64, 32, 32], flags: 0 },
  ksm_stable_node: { sizes: [64, 64, 64, 32, 32], flags: 0 },
  ksm_mm_slot: { sizes: [48, 48, 48, 24, 24], flags: 0 },
} as const satisfies Readonly<Record<string, Row>>;

/** What a cache is called here, whatever a kernel calls it. */
export type KernelCacheName = keyof typeof ROWS;

/** The caches of one kernel, in the order in which it makes them; one that it has not is left out. */
export function kernelCaches(kernel: KernelObjectSizes): readonly (readonly [KernelCacheName, KernelCacheSpec])[] {
  const column = COLUMNS.indexOf(kernel);
  const specs: [KernelCacheName, KernelCacheSpec][] = [];
  for (const name of Object.keys(ROWS) as KernelCacheName[]) {
    const { sizes, align = 0, flags, constructed = false, userSize = 0, except }: Row = ROWS[name];
    const size = sizes[column];
    if (size === 0) continue;
    const user = typeof userSize === 'number' ? userSize : userSize[column];
    specs.push([name, { name, size, align, flags, constructed, userSize: user, ...except?.[kernel] }]);
  }
  return specs;
}

/**
 * Makes the caches of {@link kernelCaches}. Those that are alike share one, as under Linux.
 *
 * @throws KernelBug where there is no memory
 */
export function createKernelCaches(slab: Slab, kernel: KernelObjectSizes): KernelCaches {
  const made: Partial<Record<KernelCacheName, KmemCache>> = {};
  for (const [key, { constructed, ...spec }] of kernelCaches(kernel)) {
    // With SLAB_PANIC a failure does not return.
    made[key] = slab.kmemCacheCreate({ ...spec, ...(constructed ? { ctor: constructNothing } : {}) }) as KmemCache;
  }
  return made as KernelCaches;
}

/** The caches that every kernel has, and those that some have. */
export type KernelCaches = Readonly<Record<Exclude<KernelCacheName, 'vma_lock'>, KmemCache> & { vma_lock?: KmemCache }>;

/** What the objects hold is the business of the host objects that stand for them. */
function constructNothing(): void {}
