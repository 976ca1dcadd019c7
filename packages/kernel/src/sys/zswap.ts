/**
 * `/sys/module/zswap/parameters` and `/sys/kernel/debug/zswap`: swapped pages that stay in memory, compressed.
 *
 * @linux mm/zswap.c
 */
import { Errno } from '@pagelab/abi';
import type { Zswap } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { UINT_MAX, kstrtobool, kstrtoul } from './kstrto.ts';

const PARAMETERS = '/sys/module/zswap/parameters/';
const DEBUG = '/sys/kernel/debug/zswap/';

/** The files, by path. Counters are there once it has been set up. */
export function zswapFiles({ vm }: Kernel): Map<string, ProcFile> {
  const { zswap } = vm;
  const files = new Map<string, ProcFile>();
  const parameter = (name: string, get: () => string, set: (text: string) => number): void => {
    files.set(`${PARAMETERS}${name}`, {
      mode: 0o644,
      read: () => `${get()}\n`,
      write: (text) => {
        const error = set(text);
        return error === 0 ? text.length : error;
      },
    });
  };
  parameter('enabled', () => shown(zswap.enabled), (text) => {
    const enabled = kstrtobool(text);
    return enabled === undefined ? -Errno.EINVAL : zswap.setEnabled(enabled);
  });
  parameter('shrinker_enabled', () => shown(zswap.shrinkerEnabled), (text) => {
    const enabled = kstrtobool(text);
    if (enabled === undefined) return -Errno.EINVAL;
    zswap.shrinkerEnabled = enabled;
    return 0;
  });
  parameter('compressor', () => zswap.compressor, (text) => zswap.setCompressor(text.trim()));
  const percent = (name: string, key: 'maxPoolPercent' | 'acceptThresholdPercent'): void => {
    parameter(name, () => String(zswap[key]), (text) => {
      const value = kstrtoul(text, UINT_MAX, 0);
      if (value < 0) return value;
      zswap[key] = value;
      return 0;
    });
  };
  percent('max_pool_percent', 'maxPoolPercent');
  percent('accept_threshold_percent', 'acceptThresholdPercent');
  if (zswap.state === 'uninit') return files;
  for (const [name, read] of counters(zswap)) files.set(`${DEBUG}${name}`, { mode: 0o444, read: () => `${read()}\n` });
  return files;
}

/** @linux mm/zswap.c:zswap_debugfs_init */
function counters(zswap: Zswap): readonly (readonly [string, () => number])[] {
  const { stats } = zswap;
  return [
    ['pool_limit_hit', () => stats.poolLimitHit],
    ['reject_reclaim_fail', () => stats.rejectReclaimFail],
    ['reject_alloc_fail', () => stats.rejectAllocFail],
    ['reject_kmemcache_fail', () => stats.rejectKmemcacheFail],
    ['reject_compress_fail', () => stats.rejectCompressFail],
    ['reject_compress_poor', () => stats.rejectCompressPoor],
    ['decompress_fail', () => stats.decompressFail],
    ['written_back_pages', () => stats.writtenBackPages],
    ['pool_total_size', () => zswap.totalPages * 4096],
    ['stored_pages', () => zswap.storedPages],
    ['stored_incompressible_pages', () => zswap.storedIncompressible],
  ];
}

function shown(value: boolean): string {
  return value ? 'Y' : 'N';
}
