/**
 * `/proc/sys`: settings that can be read and written.
 *
 * @linux kernel/sysctl.c, mm/util.c
 */
import { CAP_SYS_ADMIN, CAP_SYS_RAWIO, Errno } from '@pagelab/abi';
import { compactNodes } from '@pagelab/mm-core';
import { setMaxHugePages, dropPagecache, dropSlab } from '@pagelab/vm';
import type { VmSysctl } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { setNumaBalancing } from '../numa-setup.ts';
import type { Task } from '../task.ts';
import { PID_MAX } from '../task-table.ts';
import { unsignedText } from '../sys/kstrto.ts';
import type { ProcFile } from './proc-file.ts';

interface Setting {
  /** The value, as it is shown. Without, it cannot be read. */
  readonly get?: (kernel: Kernel) => string;
  /** Permissions; 0644 where it does not say. */
  readonly mode?: number;
  /** Whether a kernel has it; all have what does not say. */
  readonly has?: (kernel: Kernel) => boolean;
  /** Numbers it takes at most; 1 where it does not say. */
  readonly count?: (kernel: Kernel) => number;
  /** Of a setting that is no number: whether it takes a text. */
  readonly takesText?: (text: string) => boolean;
  /** Whether what is no number is taken, too, and left alone. */
  readonly lenient?: boolean;
  /** Whether a write of nothing at all is refused. */
  readonly takesNothing?: boolean;
  /** Sets it: 0 or -errno. Without, it cannot be written. */
  readonly set?: (kernel: Kernel, values: readonly number[], task: Task | null) => number;
}

/** A number of virtual memory's, within bounds. */
function vmNumber(key: keyof VmSysctl, min: number, max: number, after?: (kernel: Kernel, value: number) => void): Setting {
  return {
    get: (kernel) => unsignedText(kernel.vm.sysctl[key]),
    set: (kernel, [value]) => {
      if (value! < min || value! > max) return -Errno.EINVAL;
      kernel.vm.sysctl[key] = value!;
      after?.(kernel, value!);
      return 0;
    },
  };
}

/** What users may have of pipes, in pages. @linux fs/pipe.c:fs_pipe_sysctls */
function pipePages(key: 'softPages' | 'hardPages'): Setting {
  return {
    get: (kernel) => String(kernel.pipeLimits[key]),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > ULONG_MAX) return -Errno.EINVAL;
      kernel.pipeLimits[key] = value!;
      return 0;
    },
  };
}

const fixed = (value: string): Setting => ({ get: () => value });
const INT_MAX = 0x7fff_ffff;
const INT_MIN = -(2 ** 31);
/** As near as a double comes. */
const ULONG_MAX = 2 ** 64;

const SETTINGS: Readonly<Record<string, Setting>> = {
  'vm/overcommit_memory': vmNumber('overcommitMemory', 0, 2),
  // Writing the ratio clears the amount, and the other way round.
  'vm/overcommit_ratio': vmNumber('overcommitRatio', INT_MIN, INT_MAX, (kernel) => {
    kernel.vm.sysctl.overcommitKbytes = 0;
  }),
  'vm/overcommit_kbytes': vmNumber('overcommitKbytes', 0, ULONG_MAX, (kernel) => {
    kernel.vm.sysctl.overcommitRatio = 0;
  }),
  'vm/max_map_count': vmNumber('maxMapCount', 0, INT_MAX),
  'vm/admin_reserve_kbytes': vmNumber('adminReserveKbytes', 0, ULONG_MAX),
  'vm/user_reserve_kbytes': vmNumber('userReserveKbytes', 0, ULONG_MAX),
  'vm/mmap_min_addr': {
    get: (kernel) => unsignedText(kernel.vm.sysctl.mmapMinAddr),
    set: (kernel, [value], task) => {
      if (task !== null && !task.capable(CAP_SYS_RAWIO)) return -Errno.EPERM;
      if (value! < 0 || value! > ULONG_MAX) return -Errno.EINVAL;
      kernel.vm.sysctl.mmapMinAddr = value!;
      return 0;
    },
  },
  'vm/min_free_kbytes': {
    get: (kernel) => String(kernel.pages.sysctl.minFreeKbytes),
    set: (kernel, [value]) => kernel.pages.sysctl.setMinFreeKbytes(value!),
  },
  'vm/watermark_scale_factor': {
    get: (kernel) => String(kernel.pages.sysctl.watermarkScaleFactor),
    set: (kernel, [value]) => kernel.pages.sysctl.setWatermarkScaleFactor(value!),
  },
  'vm/watermark_boost_factor': {
    get: (kernel) => String(kernel.pages.sysctl.watermarkBoostFactor),
    set: (kernel, [value]) => (value! > INT_MAX ? -Errno.EINVAL : kernel.pages.sysctl.setWatermarkBoostFactor(value!)),
  },
  'vm/lowmem_reserve_ratio': {
    // One for each kind of zone that the architecture has.
    count: (kernel) => kernel.pages.sysctl.lowmemReserveRatio.length,
    get: (kernel) => kernel.pages.sysctl.lowmemReserveRatio.join('\t'),
    // What cannot be read, or is too large, ends the list; nobody is told. @linux mm/page_alloc.c:lowmem_reserve_ratio_sysctl_handler
    lenient: true,
    set: (kernel, values) => {
      const bad = values.findIndex((value) => Math.abs(value) > INT_MAX);
      const good = bad < 0 ? values : values.slice(0, bad);
      if (good.length > 0) kernel.pages.sysctl.setLowmemReserveRatio(good);
      return 0;
    },
  },
  'vm/percpu_pagelist_high_fraction': {
    get: (kernel) => String(kernel.pages.sysctl.percpuPagelistHighFraction),
    set: (kernel, [value]) => (value! > INT_MAX ? -Errno.EINVAL : kernel.pages.sysctl.setPercpuPagelistHighFraction(value!)),
  },
  'vm/defrag_mode': {
    get: (kernel) => (kernel.pages.sysctl.defragMode ? '1' : '0'),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > 1) return -Errno.EINVAL;
      kernel.pages.sysctl.defragMode = value === 1;
      return 0;
    },
    has: ({ config }) => config.kernel === '6.18',
  },
  'vm/numa_stat': {
    get: (kernel) => (kernel.pages.sysctl.numaStat ? '1' : '0'),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > 1) return -Errno.EINVAL;
      kernel.pages.sysctl.setNumaStat(value === 1);
      return 0;
    },
    // Kernels of 32 bits know no nodes.
    has: ({ config }) => config.arch === 'x86-64',
  },
  'vm/stat_interval': {
    get: (kernel) => String(kernel.pages.sysctl.statInterval),
    set: (kernel, [value]) => {
      // Kept in ticks of 4 ms.
      if (Math.abs(value!) > INT_MAX / 250) return -Errno.EINVAL;
      kernel.pages.sysctl.statInterval = value!;
      kernel.daemons.wake(kernel, 'vmstat', Math.max(value!, 0) * 1e9);
      return 0;
    },
  },
  'vm/compact_memory': {
    mode: 0o200,
    takesNothing: true,
    set: (kernel, [value]) => {
      if (value !== 1) return -Errno.EINVAL;
      compactNodes(kernel.pages);
      return 0;
    },
  },
  'vm/compaction_proactiveness': {
    get: (kernel) => String(kernel.pages.compaction.proactiveness),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > 100) return -Errno.EINVAL;
      kernel.pages.compaction.proactiveness = value!;
      if (value === 0) return 0;
      for (const kcompactd of kernel.pages.kcompactd) kcompactd.trigger();
      kernel.daemons.wake(kernel, 'kcompactd', 0);
      return 0;
    },
  },
  'vm/compact_unevictable_allowed': {
    get: (kernel) => (kernel.pages.compaction.unevictableAllowed ? '1' : '0'),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > 1) return -Errno.EINVAL;
      kernel.pages.compaction.unevictableAllowed = value === 1;
      return 0;
    },
  },
  'vm/extfrag_threshold': {
    get: (kernel) => String(kernel.pages.compaction.extfragThreshold),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > 1000) return -Errno.EINVAL;
      kernel.pages.compaction.extfragThreshold = value!;
      return 0;
    },
  },
  // Writing a share clears the amount, and the other way round.
  'vm/dirty_ratio': vmNumber('dirtyRatio', 0, 100, ({ vm }) => {
    vm.sysctl.dirtyBytes = 0;
  }),
  'vm/dirty_background_ratio': vmNumber('dirtyBackgroundRatio', 0, 100, ({ vm }) => {
    vm.sysctl.dirtyBackgroundBytes = 0;
  }),
  'vm/dirty_bytes': vmNumber('dirtyBytes', 2 * 4096, ULONG_MAX, ({ vm }) => {
    vm.sysctl.dirtyRatio = 0;
  }),
  'vm/dirty_background_bytes': vmNumber('dirtyBackgroundBytes', 1, ULONG_MAX, ({ vm }) => {
    vm.sysctl.dirtyBackgroundRatio = 0;
  }),
  'vm/dirty_writeback_centisecs': vmNumber('dirtyWritebackCentisecs', INT_MIN, INT_MAX, (kernel) => {
    kernel.daemons.wake(kernel, 'flusher', kernel.vm.sysctl.dirtyWritebackCentisecs * 1e7 || Infinity);
  }),
  'vm/dirty_expire_centisecs': vmNumber('dirtyExpireCentisecs', 0, INT_MAX),
  'vm/panic_on_oom': vmNumber('panicOnOom', 0, 2),
  'vm/oom_kill_allocating_task': vmNumber('oomKillAllocatingTask', -INT_MAX - 1, INT_MAX),
  'vm/oom_dump_tasks': vmNumber('oomDumpTasks', -INT_MAX - 1, INT_MAX),
  'vm/memory_failure_early_kill': vmNumber('memoryFailureEarlyKill', 0, 1),
  'vm/memory_failure_recovery': vmNumber('memoryFailureRecovery', 0, 1),
  'vm/enable_soft_offline': vmNumber('enableSoftOffline', 0, 1),
  'vm/memfd_noexec': { ...vmNumber('memfdNoexec', 0, 2), has: ({ config }) => config.kernel !== '6.1' },
  'vm/swappiness': vmNumber('swappiness', 0, 200),
  'vm/page-cluster': vmNumber('pageCluster', 0, 31),
  'vm/drop_caches': {
    mode: 0o200,
    set: (kernel, [value]) => {
      if (value! < 1 || value! > 4) return -Errno.EINVAL;
      if ((value! & 1) !== 0) dropPagecache(kernel.vm);
      if ((value! & 2) !== 0) dropSlab(kernel.vm);
      return 0;
    },
  },
  // What there is nothing for yet can be read, with Linux's value, and not be written.
  'vm/nr_hugepages': {
    get: (kernel) => String(kernel.vm.hugetlb.nrHugePages),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > ULONG_MAX) return -Errno.EINVAL;
      setMaxHugePages(kernel.vm, value!);
      return 0;
    },
  },
  'vm/nr_hugepages_mempolicy': {
    get: (kernel) => String(kernel.vm.hugetlb.nrHugePages),
    set: (kernel, [value], task) => {
      if (value! < 0 || value! > ULONG_MAX) return -Errno.EINVAL;
      setMaxHugePages(kernel.vm, value!, task?.memPolicy.policy?.nodes.nodes[0] ?? -1);
      return 0;
    },
  },
  'vm/nr_overcommit_hugepages': {
    get: (kernel) => unsignedText(kernel.vm.hugetlb.nrOvercommit),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > ULONG_MAX) return -Errno.EINVAL;
      kernel.vm.hugetlb.nrOvercommit = value!;
      return 0;
    },
  },
  'vm/vfs_cache_pressure_denom': {
    get: (kernel) => String(kernel.names.dcaches[0]!.vfsCachePressureDenom),
    set: (kernel, [value]) => {
      if (value! < 100 || value! > INT_MAX) return -Errno.EINVAL;
      for (const dcache of kernel.names.dcaches) dcache.vfsCachePressureDenom = value!;
      return 0;
    },
    has: ({ config }) => config.kernel === '6.18',
  },
  'vm/vfs_cache_pressure': {
    get: (kernel) => String(kernel.names.dcaches[0]!.vfsCachePressure),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > INT_MAX) return -Errno.EINVAL;
      for (const dcache of kernel.names.dcaches) dcache.vfsCachePressure = value!;
      return 0;
    },
  },
  'vm/legacy_va_layout': vmNumber('legacyVaLayout', 0, INT_MAX),
  'vm/mmap_rnd_bits': fixed('28'),
  // There is one order left, by any of its names. @linux mm/page_alloc.c:__parse_numa_zonelist_order
  'vm/numa_zonelist_order': { ...fixed('Node'), takesText: (text) => /^[dn]/i.test(text) },
  'vm/unprivileged_userfaultfd': vmNumber('unprivilegedUserfaultfd', 0, 1),
  'vm/min_slab_ratio': vmNumber('minSlabRatio', 0, 100),
  'vm/min_unmapped_ratio': vmNumber('minUnmappedRatio', 0, 100),
  'vm/zone_reclaim_mode': {
    get: (kernel) => String(kernel.pages.nodeReclaimMode),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > INT_MAX) return -Errno.EINVAL;
      kernel.pages.nodeReclaimMode = value!;
      return 0;
    },
  },
  'kernel/numa_balancing': {
    get: (kernel) => String(kernel.vm.numa.mode),
    set: (kernel, [value], task) => {
      if (task !== null && !task.capable(CAP_SYS_ADMIN)) return -Errno.EPERM;
      if (value! < 0 || value! > 4) return -Errno.EINVAL;
      setNumaBalancing(kernel, value!);
      return 0;
    },
  },
  'kernel/numa_balancing_promote_rate_limit_MBps': {
    get: (kernel) => String(kernel.vm.numa.promoteRateLimitMbps),
    set: (kernel, [value]) => {
      if (value! < 0 || value! > INT_MAX) return -Errno.EINVAL;
      kernel.vm.numa.promoteRateLimitMbps = value!;
      return 0;
    },
  },
  'fs/pipe-max-size': {
    get: (kernel) => String(kernel.pipeLimits.maxSize),
    // Rounded up to pages by a power of 2.
    set: (kernel, [value]) => {
      if (value! < 1 || value! > 2 ** 31) return -Errno.EINVAL;
      kernel.pipeLimits.maxSize = 2 ** Math.ceil(Math.log2(Math.max(value!, 4096)));
      return 0;
    },
  },
  'fs/pipe-user-pages-hard': pipePages('hardPages'),
  'fs/pipe-user-pages-soft': pipePages('softPages'),
  'kernel/pid_max': fixed(String(PID_MAX)),
  'kernel/randomize_va_space': vmNumber('randomizeVaSpace', 0, INT_MAX),
};

/** Names of all settings, as paths below `/proc/sys`. */
export const SYSCTL_NAMES: readonly string[] = Object.keys(SETTINGS);

/** The file of a setting, `undefined` where there is none. */
export function sysctlFile(kernel: Kernel, name: string): ProcFile | undefined {
  if (!Object.hasOwn(SETTINGS, name)) return undefined;
  const setting = SETTINGS[name]!;
  if (setting.has?.(kernel) === false) return undefined;
  const { get, set } = setting;
  const shown = get === undefined ? {} : { read: () => `${get(kernel)}\n` };
  const { takesText } = setting;
  if (takesText !== undefined) return { mode: 0o644, ...shown, write: (text) => (takesText(text) ? text.length : -Errno.EINVAL) };
  if (set === undefined) return { mode: 0o444, ...shown };
  return {
    mode: setting.mode ?? 0o644,
    firstWriteOnly: true,
    ...shown,
    write: (text, task) => {
      if (text === '') return setting.takesNothing === true ? -Errno.EINVAL : 0;
      const { values, length } = parseNumbers(text, setting.count?.(kernel) ?? 1);
      if (values.length === 0) return setting.lenient === true ? text.length : -Errno.EINVAL;
      const result = set(kernel, values, task);
      return result < 0 ? result : length;
    },
  };
}

/** Applies one setting of a configuration, named `vm.overcommit_memory`. @returns 0 or -errno */
export function applySysctl(kernel: Kernel, name: string, value: string | number): number {
  const file = sysctlFile(kernel, name.replace(/\./g, '/'));
  if (file?.write === undefined) return -Errno.ENOENT;
  return file.write(String(value), null);
}

/**
 * Up to `count` integers, decimal, octal or hexadecimal, between blanks; and how many characters they and the blanks
 * take. None where the text does not begin with one, or goes on with what is no blank.
 *
 * @linux kernel/sysctl.c:proc_get_long
 */
function parseNumbers(text: string, count: number): { values: number[]; length: number } {
  const values: number[] = [];
  const number = /\s*(-?)(0x[0-9a-f]+|\d+)(?=[\s\0]|$)\s*/iy;
  let length = 0;
  while (values.length < count) {
    number.lastIndex = length;
    const match = number.exec(text);
    if (match === null) break;
    const digits = match[2]!;
    const value = BigInt(/^0[0-7]+$/.test(digits) ? `0o${digits}` : digits);
    // What no word holds is more than any bound.
    values.push(value >= 2n ** 64n ? Infinity : match[1] === '-' ? -Number(value) : Number(value));
    length = number.lastIndex;
  }
  return { values, length };
}
