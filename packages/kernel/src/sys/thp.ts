/**
 * `/sys/kernel/mm/transparent_hugepage`: what huge pages are used for. Memory is kept free for them, so that a write moves
 * `vm.min_free_kbytes` and all watermarks.
 *
 * @linux mm/huge_memory.c, mm/khugepaged.c
 */
import { Errno } from '@pagelab/abi';
import { updateShmemThp } from '@pagelab/vm';
import type { Khugepaged, ShmemEnabled, ShmemSizeEnabled, ThpDefrag, Vm } from '@pagelab/vm';
import type { Kernel, TransparentHugepage } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { UINT_MAX, kstrtoul, onOff } from './kstrto.ts';

const DIRECTORY = '/sys/kernel/mm/transparent_hugepage/';
const MODES: readonly TransparentHugepage[] = ['always', 'madvise', 'never'];
const DEFRAG: readonly ThpDefrag[] = ['always', 'defer', 'defer+madvise', 'madvise', 'never'];
const SHMEM: readonly ShmemEnabled[] = ['always', 'within_size', 'advise', 'never', 'deny', 'force'];
const SHMEM_SIZES: readonly ShmemSizeEnabled[] = ['always', 'inherit', 'within_size', 'advise', 'never'];
const NS_PER_MS = 1e6;

/** The files, by path. */
export function thpFiles(kernel: Kernel): Map<string, ProcFile> {
  const { vm } = kernel;
  const files = new Map<string, ProcFile>();
  files.set(`${DIRECTORY}enabled`, choice(MODES, () => kernel.transparentHugepage, (mode) => {
    kernel.transparentHugepage = mode;
    vm.thpMode = mode;
    kernel.pages.sysctl.setTransparentHugepage(mode !== 'never');
  }));
  addShmemFiles(files, vm, kernel.config.kernel !== '6.1');
  files.set(`${DIRECTORY}defrag`, choice(DEFRAG, () => vm.thpDefrag, (defrag) => {
    vm.thpDefrag = defrag;
  }));
  files.set(`${DIRECTORY}use_zero_page`, number(() => (vm.usesHugeZero ? 1 : 0), 1, (value) => {
    vm.usesHugeZero = value === 1;
  }));
  const { deferredSplit } = vm;
  if (kernel.config.kernel !== '6.1') {
    files.set(`${DIRECTORY}shrink_underused`, onOff(() => deferredSplit.splitsUnderused, (on) => {
      deferredSplit.splitsUnderused = on;
    }));
  }
  files.set(`${DIRECTORY}hpage_pmd_size`, { mode: 0o444, read: () => `${vm.tables.pmdSize}\n` });
  const { khugepaged } = vm;
  const own = `${DIRECTORY}khugepaged/`;
  const most = vm.tables.ptrsPerPte - 1;
  const setting = (name: string, key: { [K in keyof Khugepaged]: Khugepaged[K] extends number ? K : never }[keyof Khugepaged], max: number, min = 0): void => {
    files.set(`${own}${name}`, number(() => khugepaged[key], max, (value) => {
      khugepaged[key] = value;
    }, min));
  };
  const sleep = (name: string, key: 'scanSleepMs' | 'allocSleepMs'): void => {
    files.set(`${own}${name}`, number(() => khugepaged[key], UINT_MAX, (value) => {
      khugepaged[key] = value;
      // It wakes to look at the new setting. @linux mm/khugepaged.c:__sleep_millisecs_store
      kernel.daemons.wake(kernel, 'khugepaged', value * NS_PER_MS);
    }));
  };
  files.set(`${own}defrag`, number(() => (khugepaged.defrag ? 1 : 0), 1, (value) => {
    khugepaged.defrag = value === 1;
  }));
  setting('pages_to_scan', 'pagesToScan', UINT_MAX, 1);
  setting('max_ptes_none', 'maxPtesNone', most);
  setting('max_ptes_swap', 'maxPtesSwap', most);
  setting('max_ptes_shared', 'maxPtesShared', most);
  sleep('scan_sleep_millisecs', 'scanSleepMs');
  sleep('alloc_sleep_millisecs', 'allocSleepMs');
  files.set(`${own}pages_collapsed`, { mode: 0o444, read: () => `${khugepaged.pagesCollapsed}\n` });
  files.set(`${own}full_scans`, { mode: 0o444, read: () => `${khugepaged.fullScans}\n` });
  return files;
}

/** @linux mm/shmem.c:shmem_enabled_store, thpsize_shmem_enabled_store */
function addShmemFiles(files: Map<string, ProcFile>, vm: Vm, bySize: boolean): void {
  const { shmemThp, tables } = vm;
  const { sizes } = shmemThp;
  files.set(`${DIRECTORY}shmem_enabled`, choice(SHMEM, () => shmemThp.enabled, (word) => {
    // What forces huge pages leaves no say to smaller sizes.
    if (word === 'force' && sizes.some((said, order) => (said === 'inherit') !== (order === tables.hugeOrder))) return -Errno.EINVAL;
    shmemThp.enabled = word;
    if (word !== 'deny' && word !== 'force') shmemThp.mount = word;
    updateShmemThp(vm);
    return 0;
  }));
  for (let order = 1; bySize && order <= tables.hugeOrder; order++) {
    files.set(`${DIRECTORY}hugepages-${4 << order}kB/shmem_enabled`, choice(SHMEM_SIZES, () => sizes[order]!, (word) => {
      if (word === 'inherit' && shmemThp.enabled === 'force' && order !== tables.hugeOrder) return -Errno.EINVAL;
      sizes[order] = word;
      updateShmemThp(vm);
      return 0;
    }));
  }
}

/** One word of several, the one in force between brackets. `set` may refuse one by −errno. */
function choice<T extends string>(words: readonly T[], get: () => T, set: (word: T) => number | void): ProcFile {
  return {
    mode: 0o644,
    read: () => `${words.map((word) => (word === get() ? `[${word}]` : word)).join(' ')}\n`,
    write: (text) => {
      const word = words.find((each) => each === text.replace(/\n$/, ''));
      if (word === undefined) return -Errno.EINVAL;
      const refused = set(word) ?? 0;
      return refused === 0 ? text.length : refused;
    },
  };
}

/** A number from `min` to `max`. */
function number(get: () => number, max: number, set: (value: number) => void, min = 0): ProcFile {
  return {
    mode: 0o644,
    read: () => `${get()}\n`,
    write: (text) => {
      const value = kstrtoul(text);
      // Whoever takes a switch tells what is too large for a number from what is no switch.
      if (value === -Errno.ERANGE && max === 1) return value;
      if (value < min || value > max) return -Errno.EINVAL;
      set(value);
      return text.length;
    },
  };
}
