/**
 * `memory.*`: what a group uses, what it is held to and protected by, and what happened.
 *
 * @linux mm/memcontrol.c:memory_files, swap_files
 */
import { Errno } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { MEMCG_EVENT, MEMCG_STAT, PAGE_COUNTER_MAX, memcgEvent, memcgPageState, pageCounterSetLow, pageCounterSetMin, parsePages, tryToFreeMemCgroupPages } from '@pagelab/vm';
import type { MemCgroup, PageCounter } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { memcgOutOfMemory } from '../oom-kill.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import type { Cgroup } from './cgroup.ts';
import { parseInt32, readOnly, writable } from './cgroup-files.ts';
import { memcgsOf } from './memory-controller.ts';
import { memoryNumaStat, memoryStat } from './memory-stat.ts';
import { MAX_RECLAIM_RETRIES, proactiveReclaim } from './proactive-reclaim.ts';


/** The files of a group's memory controller, by name; those of the root are fewer; none where there is no controller. */
export function memoryFiles(kernel: Kernel, cgroup: Cgroup): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  const { memcg } = cgroup;
  const isRoot = cgroup.parent === null;
  if (!isRoot && memcg === null) return files;
  if (memcg !== null) {
    const { memory } = memcg;
    files.set('memory.current', readOnly(() => bytes(memory.usage)));
    files.set('memory.events', readOnly(() => memoryEvents(memcg.events)));
    files.set('memory.events.local', readOnly(() => memoryEvents(memcg.eventsLocal)));
    files.set('memory.high', limit(() => memory.high, (pages) => {
      setHigh(kernel, memcg, pages);
    }));
    files.set('memory.low', limit(() => memory.low, (pages) => {
      pageCounterSetLow(memory, pages);
    }));
    files.set('memory.max', limit(() => memory.max, (pages) => {
      setMax(kernel, memcg, pages);
    }));
    files.set('memory.min', limit(() => memory.min, (pages) => {
      pageCounterSetMin(memory, pages);
    }));
  }
  files.set('memory.numa_stat', readOnly(() => memoryNumaStat(kernel, memcg)));
  if (memcg !== null) {
    files.set('memory.oom.group', writable(0o644, () => `${memcg.oomGroup ? 1 : 0}\n`, (text) => {
      const value = parseInt32(text);
      if (value !== 0 && value !== 1) return -Errno.EINVAL;
      memcg.oomGroup = value === 1;
      return 0;
    }));
    files.set('memory.peak', new PeakFile(memcg.memory));
  }
  files.set('memory.reclaim', writable(0o200, undefined, (text) => proactiveReclaim(kernel, text, (nrPages, swappiness) =>
    tryToFreeMemCgroupPages(kernel.vm, memcg ?? memcgsOf(kernel).root, nrPages, GFP_KERNEL, { maySwap: true, proactive: true, swappiness }))));
  files.set('memory.stat', readOnly(() => `${memoryStat(kernel, memcg).join('\n')}\n`));
  if (memcg === null) {
    files.set('memory.zswap.writeback', zswapWriteback(() => kernel.vm.memcgs?.root, () => memcgsOf(kernel).root));
    return files;
  }
  const { swap } = memcg;
  files.set('memory.swap.current', readOnly(() => bytes(swap.usage)));
  files.set('memory.swap.events', readOnly(() => `high ${memcg.events[MEMCG_EVENT.SWAP_HIGH]}\nmax ${memcg.events[MEMCG_EVENT.SWAP_MAX]}\nfail ${memcg.events[MEMCG_EVENT.SWAP_FAIL]}\n`));
  files.set('memory.swap.high', limit(() => swap.high, (pages) => {
    swap.high = pages;
  }));
  files.set('memory.swap.max', limit(() => swap.max, (pages) => {
    swap.max = pages;
  }));
  files.set('memory.swap.peak', new PeakFile(swap));
  files.set('memory.zswap.current', readOnly(() => `${memcgPageState(memcg, MEMCG_STAT.ZSWAP_B)}\n`));
  files.set('memory.zswap.max', limit(() => memcg.zswapMax, (pages) => {
    memcg.zswapMax = pages;
  }));
  files.set('memory.zswap.writeback', zswapWriteback(() => memcg, () => memcg));
  return files;
}

/** Whether compressed pages may go to their slots; the root's is there before there are groups. @linux mm/memcontrol.c:zswap_writeback_write */
function zswapWriteback(get: () => MemCgroup | undefined, make: () => MemCgroup): ProcFile {
  return writable(0o644, () => `${get()?.zswapWriteback === false ? 0 : 1}\n`, (text) => {
    const value = parseInt32(text);
    if (value !== 0 && value !== 1) return -Errno.EINVAL;
    make().zswapWriteback = value === 1;
    return 0;
  });
}

function bytes(pages: number): string {
  return `${BigInt(pages) * 4096n}\n`;
}

/** A number of bytes, or `max`. */
function limit(get: () => number, set: (pages: number) => void): ProcFile {
  return writable(0o644, () => (get() >= PAGE_COUNTER_MAX ? 'max\n' : bytes(get())), (text) => {
    const pages = parsePages(text);
    if (pages < 0) return -Errno.EINVAL;
    set(pages);
    return 0;
  });
}

function memoryEvents(events: Float64Array): string {
  const { LOW, HIGH, MAX, OOM, OOM_KILL, OOM_GROUP_KILL } = MEMCG_EVENT;
  return `low ${events[LOW]}\nhigh ${events[HIGH]}\nmax ${events[MAX]}\noom ${events[OOM]}\noom_kill ${events[OOM_KILL]}\noom_group_kill ${events[OOM_GROUP_KILL]}\n`;
}

/**
 * The largest usage: since the group was made, or, for who has written to the file, since then.
 *
 * @linux mm/memcontrol.c:peak_show, peak_write
 */
class PeakFile implements ProcFile {
  readonly mode = 0o644;
  readonly #counter: PageCounter;
  /** Which of the counter's spans this one watches from on; −1 for the whole life. */
  #since = -1;

  constructor(counter: PageCounter) {
    this.#counter = counter;
  }

  read(): string {
    return bytes(this.#since < 0 ? this.#counter.watermark : this.#counter.peakSince(this.#since));
  }

  write(text: string): number {
    if (text !== '') this.#since = this.#counter.beginSpan();
    return text.length;
  }
}

/** Sets `memory.max`: what is beyond it is reclaimed, or somebody is killed. @linux mm/memcontrol.c:memory_max_write */
function setMax(kernel: Kernel, memcg: MemCgroup, pages: number): void {
  const { memory } = memcg;
  memory.max = pages;
  let retries = MAX_RECLAIM_RETRIES;
  for (let drained = false; memory.usage > pages; drained = true) {
    if (!drained) {
      kernel.vm.memcgs!.drainStockOf(memcg);
    } else if (retries > 0) {
      if (tryToFreeMemCgroupPages(kernel.vm, memcg, memory.usage - pages, GFP_KERNEL, { maySwap: true }) === 0) retries--;
    } else {
      memcgEvent(memcg, MEMCG_EVENT.OOM);
      if (!memcgOutOfMemory(kernel, memcg, GFP_KERNEL, 0)) return;
    }
  }
}

/** Sets `memory.high`: what is beyond it is reclaimed, as far as that goes. @linux mm/memcontrol.c:memory_high_write */
function setHigh(kernel: Kernel, memcg: MemCgroup, pages: number): void {
  const { memory } = memcg;
  memory.high = pages;
  let retries = MAX_RECLAIM_RETRIES;
  for (let drained = false; memory.usage > pages; drained = true) {
    if (!drained) {
      kernel.vm.memcgs!.drainStockOf(memcg);
      continue;
    }
    const reclaimed = tryToFreeMemCgroupPages(kernel.vm, memcg, memory.usage - pages, GFP_KERNEL, { maySwap: true });
    if (reclaimed === 0 && retries-- === 0) return;
  }
}
