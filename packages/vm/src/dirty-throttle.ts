/**
 * How fast pages may be made dirty: as fast as the device has proved to take them, and more slowly the closer the limit is.
 *
 * @linux mm/page-writeback.c
 */
import { NODE_STAT } from '@pagelab/mm-core';
import type { Vm } from './vm.ts';

/** What a device is taken for until it has shown what it can do: 100 MiB, in pages a second. @linux mm/page-writeback.c:INIT_BW */
const INIT_BW = 25600;
/** Between two estimates. @linux mm/page-writeback.c:BANDWIDTH_INTERVAL */
const BANDWIDTH_INTERVAL_NS = 2e8;
/** The time that an estimate of the device's speed is about: 2^12 ms. @linux mm/page-writeback.c:wb_update_write_bandwidth */
const BANDWIDTH_PERIOD_NS = 4.096e9;

/** Speeds are in pages a second, times in ns of the virtual clock. @linux include/linux/backing-dev-defs.h:bdi_writeback */
export interface DirtyThrottle {
  /** When the last estimate was made; −1 before the first. */
  stampNs: number;
  /** NR_WRITTEN and NR_DIRTIED then. */
  written: number;
  dirtied: number;
  /** The device's speed, lately and smoothed. */
  writeBandwidth: number;
  avgWriteBandwidth: number;
  /** As fast as pages may be made dirty, and the estimate that it follows. */
  dirtyRatelimit: number;
  balancedDirtyRatelimit: number;
  /** Until when what was made dirty is paid for. @linux include/linux/sched.h:task_struct.dirty_paused_when */
  pausedAt: number;
  /** Sleeps so far, and how long they were in all. */
  pauses: number;
  pausedNs: number;
}

/** Nothing is known yet. @linux mm/backing-dev.c:wb_init */
export function newDirtyThrottle(): DirtyThrottle {
  return {
    stampNs: -1,
    written: 0,
    dirtied: 0,
    writeBandwidth: INIT_BW,
    avgWriteBandwidth: INIT_BW,
    dirtyRatelimit: INIT_BW,
    balancedDirtyRatelimit: INIT_BW,
    pausedAt: 0,
    pauses: 0,
    pausedNs: 0,
  };
}

/**
 * By what the speed is multiplied with `dirty` pages dirty: 2 at `freerun` and below, 1 half way to the limit, 0 there.
 *
 * @linux mm/page-writeback.c:pos_ratio_polynom
 */
export function positionRatio(dirty: number, freerun: number, limit: number): number {
  if (dirty >= limit) return 0;
  const setpoint = (freerun + limit) / 2;
  const x = (setpoint - dirty) / (limit - setpoint + 1);
  return Math.min(2, Math.max(0, 1 + x * x * x));
}

/**
 * Looks at what the device has done since the last look, if that is long enough ago.
 *
 * @param position {@link positionRatio}
 * @param rising fewer pages are dirty than would be best: the speed may only rise, else only fall
 * @linux mm/page-writeback.c:__wb_update_bandwidth
 */
export function noteBandwidth(vm: Vm, position: number, rising: boolean): void {
  const { throttle } = vm.writeback;
  const written = vm.pages.nodeState(NODE_STAT.NR_WRITTEN);
  const dirtied = vm.pages.nodeState(NODE_STAT.NR_DIRTIED);
  const elapsed = vm.clock.now - throttle.stampNs;
  if (throttle.stampNs >= 0 && elapsed < BANDWIDTH_INTERVAL_NS) return;
  if (throttle.stampNs >= 0) {
    noteDirtyRate(throttle, ((dirtied - throttle.dirtied) * 1e9) / elapsed, position, rising);
    noteWriteBandwidth(throttle, written - throttle.written, elapsed);
  }
  throttle.stampNs = vm.clock.now;
  throttle.written = written;
  throttle.dirtied = dirtied;
}

/** @linux mm/page-writeback.c:wb_update_write_bandwidth */
function noteWriteBandwidth(throttle: DirtyThrottle, written: number, elapsed: number): void {
  if (elapsed > BANDWIDTH_PERIOD_NS) {
    throttle.writeBandwidth = throttle.avgWriteBandwidth = Math.max(1, (written * 1e9) / elapsed);
    return;
  }
  const old = throttle.writeBandwidth;
  const bandwidth = (written * 1e9 + old * (BANDWIDTH_PERIOD_NS - elapsed)) / BANDWIDTH_PERIOD_NS;
  let avg = throttle.avgWriteBandwidth;
  // Changes that go on count; what goes up and down does not.
  if (avg > old && old >= bandwidth) avg -= (avg - old) / 8;
  if (avg < old && old <= bandwidth) avg += (old - avg) / 8;
  throttle.writeBandwidth = bandwidth;
  throttle.avgWriteBandwidth = Math.max(1, avg);
}

/** @linux mm/page-writeback.c:wb_update_dirty_ratelimit */
function noteDirtyRate(throttle: DirtyThrottle, dirtyRate: number, position: number, rising: boolean): void {
  const limit = throttle.dirtyRatelimit;
  const task = limit * position + 1;
  const balanced = Math.min(throttle.avgWriteBandwidth, (task * throttle.avgWriteBandwidth) / Math.max(1, dirtyRate));
  const seen = rising
    ? Math.min(throttle.balancedDirtyRatelimit, balanced, task)
    : Math.max(throttle.balancedDirtyRatelimit, balanced, task);
  let step = rising ? Math.max(0, seen - limit) : Math.max(0, limit - seen);
  // Small differences are chance.
  const shift = Math.floor(limit / (2 * step + 1));
  step = shift < 64 ? Math.ceil(step / 2 ** shift / 8) : 0;
  throttle.dirtyRatelimit = Math.max(1, rising ? limit + step : limit - step);
  throttle.balancedDirtyRatelimit = balanced;
}
