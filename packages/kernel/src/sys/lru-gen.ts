/**
 * `/sys/kernel/mm/lru_gen`: the multi-generational LRU, switched on and off while the machine runs, and what it has in
 * `/sys/kernel/debug`. As in a kernel without it, none of this is there where the machine has a reclaim policy of one's own.
 *
 * @linux mm/vmscan.c:lru_gen_attr_group
 */
import { Errno } from '@pagelab/abi';
import { classicReclaim, lruGenCommand, lruGenReclaim, lruGenReclaimBefore614, lruGenText, setReclaimPolicy } from '@pagelab/vm';
import type { ReclaimPolicyFactory } from '@pagelab/vm';
import type { MachineConfig } from '../config.ts';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { UINT_MAX, kstrtoul } from './kstrto.ts';

/** Of a kernel of 250 Hz. */
const MS_PER_TICK = 4;
/** What stands for ever, in milliseconds. @linux include/linux/jiffies.h:MAX_JIFFY_OFFSET */
const MAX_MS = 2 ** 32 - 8;
const DIRECTORY = '/sys/kernel/mm/lru_gen/';
/** Bits of `enabled`. @linux include/linux/mmzone.h:LRU_GEN_CORE */
const CORE = 1;
const MM_WALK = 2;
const NONLEAF_YOUNG = 4;

/** The multi-generational LRU that a kernel has. */
export function lruGenOf(kernel: MachineConfig['kernel']): ReclaimPolicyFactory {
  return kernel === '6.18' ? lruGenReclaim : lruGenReclaimBefore614;
}

/** The files, by path. */
export function lruGenFiles(kernel: Kernel): Map<string, ProcFile> {
  const { vm } = kernel;
  const { reclaim } = vm;
  const files = new Map<string, ProcFile>();
  const isOn = (): boolean => reclaim.policy.name === lruGenReclaim.name;
  if (!isOn() && reclaim.policy.name !== classicReclaim.name) return files;
  files.set(`${DIRECTORY}enabled`, {
    mode: 0o644,
    read: () => {
      const { walksMmu, clearsNonleaf } = reclaim.lruGen;
      const caps = (isOn() ? CORE : 0) | (walksMmu ? MM_WALK : 0) | (clearsNonleaf ? NONLEAF_YOUNG : 0);
      return `0x${caps.toString(16).padStart(4, '0')}\n`;
    },
    write: (text) => {
      const caps = capsOf(text);
      if (caps < 0) return -Errno.EINVAL;
      if (((caps & CORE) !== 0) !== isOn()) setReclaimPolicy(vm, isOn() ? classicReclaim : lruGenOf(kernel.config.kernel));
      reclaim.lruGen.walksMmu = (caps & MM_WALK) !== 0;
      reclaim.lruGen.clearsNonleaf = (caps & NONLEAF_YOUNG) !== 0;
      return text.length;
    },
  });
  files.set(`${DIRECTORY}min_ttl_ms`, {
    mode: 0o644,
    read: () => `${reclaim.lruGen.minTtlMs}\n`,
    write: (text) => {
      const value = unsignedOf(text);
      if (value < 0) return -Errno.EINVAL;
      // Kept in ticks.
      reclaim.lruGen.minTtlMs = value >= 2 ** 31 ? MAX_MS : Math.ceil(value / MS_PER_TICK) * MS_PER_TICK;
      return text.length;
    },
  });
  files.set('/sys/kernel/debug/lru_gen', {
    mode: 0o644,
    read: () => lruGenText(vm, false),
    write: (text) => {
      const error = lruGenCommand(vm, text);
      return error < 0 ? error : text.length;
    },
  });
  files.set('/sys/kernel/debug/lru_gen_full', { mode: 0o444, read: () => lruGenText(vm, true) });
  return files;
}

/** What `enabled` takes: `y` and `n`, or bits. @linux mm/vmscan.c:enabled_store */
function capsOf(text: string): number {
  if (/^n/i.test(text)) return 0;
  if (/^y/i.test(text)) return CORE | MM_WALK | NONLEAF_YOUNG;
  return unsignedOf(text);
}

/** A number as `kstrtouint` takes it, decimal, octal or hexadecimal; −1 for what is none. */
function unsignedOf(text: string): number {
  return Math.max(kstrtoul(text, UINT_MAX, 0), -1);
}
