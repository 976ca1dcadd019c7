/**
 * Calls on mappings, in nanoseconds a round, against a `Map` that takes in and gives up an entry. Run with
 * `npx tsx --conditions=source`; every figure is a median of one run.
 */
import { MADV_DONTNEED, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { Bench } from 'tinybench';
import { doBrk } from './brk.ts';
import { execLayout } from './exec.ts';
import { doMadvise } from './madvise.ts';
import { dupMm, mmAlloc, mmput } from './mm-lifetime.ts';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import { vmMunmap } from './munmap.ts';
import { console } from './testing/console.ts';
import { NO_LIMITS, attachUser, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';

const RW = PROT_READ | PROT_WRITE;
/** Rounds in one measured run: a round is shorter than a clock's tick. */
const ROUNDS = 200;

const vm = testVm({ memoryBytes: 512 * 2 ** 20, cpus: 1 });
const made = mmAlloc(vm, { ...NO_LIMITS, rlimit: (resource) => (resource === 3 ? 2 ** 23 : -1) });
if (typeof made === 'number' || execLayout(made) !== 0) throw new Error('no address space');
const mm = made;
const { memory } = attachUser(mm);

function map(pages: number, prot = RW): number {
  return doMmap(mm, {
    file: null, addr: 0, length: pages * PAGE_SIZE, prot, flags: MAP_PRIVATE | MAP_ANONYMOUS, pgoff: 0,
  });
}

const bench = new Bench({ time: 400, warmupTime: 200 });

function add(name: string, round: () => void): void {
  bench.add(name, () => {
    for (let i = 0; i < ROUNDS; i++) round();
  });
}

function toggle(addr: number): void {
  doMprotect(mm, addr, PAGE_SIZE, PROT_READ);
  doMprotect(mm, addr, PAGE_SIZE, RW);
}

const entries = new Map<number, object>();
const untouched = map(8);
// A page without rights keeps the two apart.
map(1, 0);
const touched = map(8);
memory.fill(touched, 8 * PAGE_SIZE, 1);
const heap = mm.brk;
doBrk(mm, heap + PAGE_SIZE);

add('Map: set and delete', () => {
  entries.set(untouched, entries);
  entries.delete(untouched);
});
add('mmap + munmap, merging', () => {
  vmMunmap(mm, map(1), PAGE_SIZE);
});
add('mmap + munmap, on its own', () => {
  vmMunmap(mm, map(1, PROT_READ), PAGE_SIZE);
});
add('mmap + touch + munmap', () => {
  const addr = map(1);
  memory.store8(addr, 1);
  vmMunmap(mm, addr, PAGE_SIZE);
});
add('mprotect that splits, then merges', () => {
  toggle(untouched + 3 * PAGE_SIZE);
});
add('the same, with pages', () => {
  toggle(touched + 3 * PAGE_SIZE);
});
add('brk up and down a page', () => {
  doBrk(mm, heap + 2 * PAGE_SIZE);
  doBrk(mm, heap + PAGE_SIZE);
});
add('store + madvise(DONTNEED)', () => {
  memory.store8(touched, 1);
  doMadvise(mm, touched, PAGE_SIZE, MADV_DONTNEED);
});
add('fork + exit of a small program', () => {
  const child = dupMm(mm, mm.limits);
  if (typeof child !== 'number') mmput(child);
});

await bench.run();
let base = 0;
for (const task of bench.tasks) {
  const { result } = task;
  if (!('latency' in result)) throw new Error(`${task.name}: ${JSON.stringify(result)}`);
  const ns = (result.latency.p50 * 1e6) / ROUNDS;
  if (base === 0) base = ns;
  console.log(`${task.name.padEnd(36)} ${ns.toFixed(1).padStart(8)} ns   ${(ns / base).toFixed(1).padStart(6)} x`);
}
validateVm(vm);
