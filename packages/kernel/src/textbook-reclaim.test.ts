/** The working set policy needs programs that run: its time is theirs. */
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';

const PAGE = 4096;
const SLEEPER = 3000;

function fill(os: Os, nrPages: number): number {
  const addr = os.mmap(0, nrPages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let page = 0; page < nrPages; page++) os.mem.store32(addr + page * PAGE, page);
  return addr;
}

/** Pages that a program which sleeps has lost when another has gone through more than there is. */
function lostAsleep(reclaim: 'clock' | 'working-set'): number {
  const machine = boot({ memory: '64M', reclaim, swap: [{ size: '256M' }] });
  const sleeper = machine.createProcess({ name: 'sleeper' });
  fill(sleeper.os, SLEEPER);
  const busy = machine.createProcess({ name: 'busy' });
  fill(busy.os, 20_000);
  machine.validate();
  const lost = Number(/VmSwap:\s+(\d+)/.exec(sleeper.os.readFile('/proc/self/status'))![1]) / 4;
  machine.dispose();
  return lost;
}

test('who sleeps keeps its working set from who does not', () => {
  expect(lostAsleep('clock')).toBe(SLEEPER);
  expect(lostAsleep('working-set')).toBeLessThan(SLEEPER / 20);
});
