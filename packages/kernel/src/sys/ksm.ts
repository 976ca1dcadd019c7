/**
 * `/sys/kernel/mm/ksm`: merging of pages of the same contents.
 *
 * @linux mm/ksm.c
 */
import { Errno } from '@pagelab/abi';
import { ksmUnmergeAll } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { INT_MAX, UINT_MAX, kstrtoul, onOff } from './kstrto.ts';

const DIRECTORY = '/sys/kernel/mm/ksm/';
const PAGE_SIZE = 4096;
/** Bytes of what is kept for each page that is looked at. @linux mm/ksm.c:ksm_rmap_item */
const ITEM_BYTES = 64;

/** The files, by path. */
export function ksmFiles(kernel: Kernel): Map<string, ProcFile> {
  const { vm } = kernel;
  const { ksm } = vm;
  const files = new Map<string, ProcFile>();
  const file = (name: string, get: () => number, set?: (value: number) => number, max?: number): void => {
    files.set(`${DIRECTORY}${name}`, number(get, set, max));
  };
  file('run', () => ksm.run, (value) => {
    if (value > 2) return -Errno.EINVAL;
    const before = ksm.run;
    ksm.run = value;
    if (value === 2 && before !== 2) {
      const error = ksmUnmergeAll(vm);
      if (error !== 0) ksm.run = 0;
      return error;
    }
    if (value === 1) kernel.daemons.wake(kernel, 'ksmd', 0);
    return 0;
  });
  file('pages_to_scan', () => ksm.pagesToScan, (value) => {
    ksm.pagesToScan = value;
    return 0;
  });
  file('sleep_millisecs', () => ksm.sleepMs, (value) => {
    ksm.sleepMs = value;
    kernel.daemons.wake(kernel, 'ksmd', value * 1e6);
    return 0;
  });
  file('merge_across_nodes', () => ksm.mergeAcrossNodes, (value) => {
    if (value > 1) return -Errno.EINVAL;
    if (value !== ksm.mergeAcrossNodes && ksm.pagesShared > 0) return -Errno.EBUSY;
    ksm.mergeAcrossNodes = value;
    return 0;
  }, Infinity);
  file('max_page_sharing', () => ksm.maxPageSharing, (value) => {
    // Of a limit of 2 and less nothing is gained.
    if (value < 2) return -Errno.EINVAL;
    if (value !== ksm.maxPageSharing && ksm.pagesShared > 0) return -Errno.EBUSY;
    ksm.maxPageSharing = value;
    return 0;
  }, INT_MAX);
  files.set(`${DIRECTORY}smart_scan`, onOff(() => ksm.smartScan === 1, (on) => {
    ksm.smartScan = on ? 1 : 0;
  }));
  file('pages_shared', () => ksm.pagesShared);
  file('pages_sharing', () => ksm.pagesSharing);
  file('pages_unshared', () => ksm.pagesUnshared);
  file('pages_volatile', () => ksm.pagesVolatile);
  file('pages_skipped', () => ksm.pagesSkipped);
  file('pages_scanned', () => ksm.pagesScanned);
  file('full_scans', () => ksm.fullScans);
  file('stable_node_chains', () => ksm.chains().length);
  file('stable_node_dups', () => ksm.chains().reduce((sum, pages) => sum + pages, 0));
  file('general_profit', () => (ksm.pagesSharing + ksm.zeroPages) * PAGE_SIZE - ksm.nrItems * ITEM_BYTES);
  files.set(`${DIRECTORY}use_zero_pages`, onOff(() => ksm.useZeroPages === 1, (on) => {
    ksm.useZeroPages = on ? 1 : 0;
  }));
  // Counted since 6.6.
  if (kernel.config.kernel !== '6.1') file('ksm_zero_pages', () => ksm.zeroPages);
  return files;
}

function number(get: () => number, set?: (value: number) => number, max = UINT_MAX): ProcFile {
  const read = (): string => `${get()}\n`;
  if (set === undefined) return { mode: 0o444, read };
  return {
    mode: 0o644,
    read,
    write: (text) => {
      const value = kstrtoul(text, max);
      if (value < 0) return max === UINT_MAX ? -Errno.EINVAL : value;
      const result = set(value);
      return result < 0 ? result : text.length;
    },
  };
}
