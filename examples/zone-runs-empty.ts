/**
 * A zone running empty: user memory comes from the highest zone that has some left above its watermark. When it is
 * down to that, the next zone below helps out, except for what it keeps back for those who cannot use any other.
 */
import { MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { zonesFree } from './shared/proc.ts';

/** Small enough for its zones to be seen running dry. */
export const machine = { memory: '128M', cpus: 1 };

const MIB = 1 << 20;
const STEP = 8 * MIB;
/** On a large machine the story ends before its zones do. */
const AT_MOST = 256 * MIB;

export default function zoneRunsEmpty(os: Os): void {
  const area = os.mmap(0, AT_MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  const report = (taken: number): void => {
    const zones = [...zonesFree(os)].map(([zone, pages]) => `${zone} ${Math.round((pages * PAGE_SIZE) / MIB)}`);
    os.print(`${String(taken / MIB).padStart(4)} MiB taken, free MiB: ${zones.join(', ')}`);
  };
  const free = (): number => [...zonesFree(os).values()].reduce((sum, pages) => sum + pages * PAGE_SIZE, 0);

  let taken = 0;
  report(taken);
  while (taken < AT_MOST && free() > 2 * STEP) {
    for (let offset = 0; offset < STEP; offset += PAGE_SIZE) os.mem.store8(area + taken + offset, 1);
    taken += STEP;
    report(taken);
  }
  os.munmap(area, AT_MOST);
  report(0);
}
