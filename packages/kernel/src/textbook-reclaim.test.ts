/** Policies that need programs that run: the working set's time is theirs, and OPT knows what they will do. */
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { optReclaim, reclaimPolicies } from '@pagelab/vm';
import type { ReclaimPolicyFactory } from '@pagelab/vm';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import { recordReferences } from './record-references.ts';
import { ReplacementRun, replacementPolicies } from './replacement.ts';

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

const WANDERED = 24_000;

/** Goes through half of its memory a few times, each time from where chance says. */
function wander(os: Os): number {
  const prng = new Prng(0x0975);
  const addr = fill(os, WANDERED);
  for (let round = 0; round < 4; round++) {
    const first = prng.below(WANDERED);
    for (let i = 0; i < WANDERED / 2; i++) {
      const page = (first + i) % WANDERED;
      if (os.mem.load32(addr + page * PAGE) !== page) return 1;
    }
  }
  return 0;
}

/** Faults beyond the first to each page that a textbook's OPT has. */
function textbookFaults(references: readonly number[], frames: number): number {
  const numbers = new Map<number, number>();
  const pages = references.map((vpn) => {
    if (!numbers.has(vpn)) numbers.set(vpn, numbers.size);
    return numbers.get(vpn)!;
  });
  const last = new Map<number, number>();
  const nextUse = new Array<number>(pages.length);
  for (let at = pages.length - 1; at >= 0; at--) {
    nextUse[at] = last.get(pages[at]!) ?? Infinity;
    last.set(pages[at]!, at);
  }
  const run = new ReplacementRun(replacementPolicies.find(({ name }) => name === 'opt')!, { frames });
  for (const [at, page] of pages.entries()) run.reference(page, 1, false, nextUse[at]);
  return run.result().faults - numbers.size;
}

test('with the references of a first run, OPT reads from swap what a textbook says, and others more', () => {
  const config = { memory: '64M', swap: [{ size: '256M' }], sysctl: { 'vm.page-cluster': 0 } };
  let references: readonly number[] = [];
  let resident = 0;
  const swapIns = (reclaimPolicy: ReclaimPolicyFactory, records: boolean): number => {
    const machine = boot(config, { reclaimPolicy });
    const { status } = machine.run((os) => {
      const recorded = recordReferences(os);
      ({ references } = recorded);
      const outcome = wander(records ? recorded.os : os);
      resident = Number(/VmRSS:\s+(\d+)/.exec(os.readFile('/proc/self/status'))![1]) / 4;
      return outcome;
    });
    expect(status).toBe(0);
    machine.validate();
    const [, read] = /pswpin (\d+)/.exec(machine.readFile('/proc/vmstat'))!;
    machine.dispose();
    return Number(read);
  };
  const lru = swapIns(reclaimPolicies.lru, true);
  const recorded = references;
  expect(recorded.length).toBe(3 * WANDERED);
  const opt = swapIns(optReclaim(recorded), false);
  // Memory is taken some pages before it runs out, so that a few less are there.
  const textbook = textbookFaults(recorded, resident);
  expect(opt).toBeGreaterThan(0.97 * textbook);
  expect(opt).toBeLessThan(1.05 * textbook);
  expect(opt).toBeLessThan(lru / 2);
});
