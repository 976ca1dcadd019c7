/**
 * `/sys/kernel/mm/numa`, `/sys/devices/virtual/memory_tiering` and `/sys/kernel/debug/sched/numa_balancing`: slower nodes, and
 * how fast NUMA balancing goes.
 *
 * @linux mm/memory-tiers.c, kernel/sched/debug.c
 */
import type { NumaBalancing } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { UINT_MAX, kstrtoul, trueFalse } from './kstrto.ts';
import { listText } from './node.ts';

/** The files, by path. Kernels of 32 bits are built without nodes. */
export function numaFiles({ config, vm }: Kernel): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  if (config.arch !== 'x86-64') return files;
  const { numa, tiers } = vm;
  files.set('/sys/kernel/mm/numa/demotion_enabled', trueFalse(() => tiers.demotionEnabled, (on) => {
    tiers.demotionEnabled = on;
  }));
  for (const tier of tiers.tiers()) {
    files.set(`/sys/devices/virtual/memory_tiering/memory_tier${tier}/nodelist`, {
      mode: 0o444,
      read: () => `${listText([...tiers.tierOf.keys()].filter((nid) => tiers.tierOf[nid] === tier))}\n`,
    });
  }
  const setting = (name: string, key: { [K in keyof NumaBalancing]: NumaBalancing[K] extends number ? K : never }[keyof NumaBalancing]): void => {
    files.set(`/sys/kernel/debug/sched/numa_balancing/${name}`, {
      mode: 0o644,
      read: () => `${numa[key]}\n`,
      write: (text) => {
        const value = kstrtoul(text, UINT_MAX);
        if (value < 0) return value;
        numa[key] = value;
        return text.length;
      },
    });
  };
  setting('scan_delay_ms', 'scanDelayMs');
  setting('scan_period_min_ms', 'scanPeriodMinMs');
  setting('scan_period_max_ms', 'scanPeriodMaxMs');
  setting('scan_size_mb', 'scanSizeMb');
  setting('hot_threshold_ms', 'hotThresholdMs');
  return files;
}
