/**
 * What `vmstat` shows: a line of memory, swap and faults, from files of `/proc`, in procps' columns as far as a machine that
 * does nothing but manage memory has something in them.
 */

/** What the line is made from, since boot. */
export interface VmstatSample {
  /** Virtual time since boot, in nanoseconds. */
  readonly timeNs: number;
  /** KiB. */
  readonly swapped: number;
  readonly free: number;
  readonly buffers: number;
  readonly cache: number;
  /** KiB that went to and came from swap, and pages that were paged in and out, in KiB; page faults; major ones. */
  readonly swapIn: number;
  readonly swapOut: number;
  readonly pagedIn: number;
  readonly pagedOut: number;
  readonly faults: number;
  readonly majorFaults: number;
  readonly switches: number;
}

function kilobytes(meminfo: string, name: string): number {
  return Number(new RegExp(`^${name}: *(\\d+) kB`, 'm').exec(meminfo)?.[1] ?? 0);
}

function counter(text: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1] ?? 0);
}

/** Reads what a line needs. */
export function readVmstat(read: (path: string) => string, timeNs: number): VmstatSample {
  const meminfo = read('/proc/meminfo');
  const vmstat = read('/proc/vmstat');
  return {
    timeNs,
    swapped: kilobytes(meminfo, 'SwapTotal') - kilobytes(meminfo, 'SwapFree'),
    free: kilobytes(meminfo, 'MemFree'),
    buffers: kilobytes(meminfo, 'Buffers'),
    cache: kilobytes(meminfo, 'Cached') + kilobytes(meminfo, 'SReclaimable'),
    swapIn: counter(vmstat, 'pswpin') * 4,
    swapOut: counter(vmstat, 'pswpout') * 4,
    pagedIn: counter(vmstat, 'pgpgin'),
    pagedOut: counter(vmstat, 'pgpgout'),
    faults: counter(vmstat, 'pgfault'),
    majorFaults: counter(vmstat, 'pgmajfault'),
    switches: counter(read('/proc/stat'), 'ctxt'),
  };
}

const HEAD = [
  '-----------memory---------- ---swap-- -----io---- ----faults---- ----',
  '  swpd   free   buff  cache   si   so    bi    bo  minor  major   cs',
];

/** A line each for what happened from one sample to the next; the first is since boot. */
export function formatVmstat(samples: readonly VmstatSample[]): string {
  const column = (value: number, width: number): string => String(value).padStart(width);
  const lines = samples.map((now, i) => {
    const was = samples[i - 1];
    const since = (key: keyof VmstatSample): number => now[key] - (was?.[key] ?? 0);
    return (
      `${column(now.swapped, 6)} ${column(now.free, 6)} ${column(now.buffers, 6)} ${column(now.cache, 6)} ` +
      `${column(since('swapIn'), 4)} ${column(since('swapOut'), 4)} ${column(since('pagedIn'), 5)} ${column(since('pagedOut'), 5)} ` +
      `${column(since('faults') - since('majorFaults'), 6)} ${column(since('majorFaults'), 6)} ${column(since('switches'), 4)}`
    );
  });
  return [...HEAD, ...lines].join('\n');
}
