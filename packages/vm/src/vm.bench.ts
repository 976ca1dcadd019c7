/**
 * Page faults, copy on write, fork and unmapping, in nanoseconds a page, against filling a page with zeros. Run with
 * `node --conditions=source --import tsx`; every figure is a median of one run.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { UserMemory } from '@pagelab/abi';
import { Bench } from 'tinybench';
import { changeProtection } from './change-protection.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { vmMunmap } from './munmap.ts';
import { console } from './testing/console.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import { VM_WRITE } from './vma.ts';
import { zapPageRange } from './zap.ts';

const PAGES = 2048;
const LENGTH = PAGES * PAGE_SIZE;

const vm = testVm({ memoryBytes: 512 * 2 ** 20, cpus: 1 });
const mm = testMm(vm);
const { memory } = attachUser(mm);

function map(flags: number, length = LENGTH): number {
  const prot = PROT_READ | PROT_WRITE;
  return doMmap(mm, { file: null, addr: 0, length, prot, flags: flags | MAP_ANONYMOUS, pgoff: 0 });
}

const addr = map(MAP_PRIVATE);
const vma = mm.vmas.get(addr)!;

function touch(mem: UserMemory, at: number): void {
  for (let page = at; page < at + LENGTH; page += PAGE_SIZE) mem.store8(page, 1);
}

function read(mem: UserMemory, at: number): number {
  let sum = 0;
  for (let page = at; page < at + LENGTH; page += PAGE_SIZE) sum += mem.load8(page);
  return sum;
}

function drop(): void {
  zapPageRange(vma, addr, addr + LENGTH);
}

let child: MmStruct | number = 0;

function fork(): void {
  child = dupMm(mm, mm.limits);
}

function endChild(): void {
  if (typeof child !== 'number') mmput(child);
}

// A neighbour, so that a page that comes and goes takes no page table along.
memory.store8(map(MAP_PRIVATE, PAGE_SIZE), 1);

const zeros = new Uint32Array(1024 * PAGES);
const shared = map(MAP_SHARED);
const bench = new Bench({ time: 600, warmupTime: 300 });
const perPage = new Map<string, number>();

function add(name: string, pages: number, fn: () => void, beforeEach?: () => void, afterEach?: () => void): void {
  perPage.set(name, pages);
  bench.add(name, fn, { ...(beforeEach ? { beforeEach } : {}), ...(afterEach ? { afterEach } : {}) });
}

add('zero 4 KiB (typed array)', PAGES, () => {
  for (let page = 0; page < PAGES; page++) zeros.fill(0, page * 1024, page * 1024 + 1024);
});
add('anonymous write fault', PAGES, () => { touch(memory, addr); }, drop);
add('zero-page read fault', PAGES, () => { read(memory, addr); }, drop);
add('write fault after zero page', PAGES, () => { touch(memory, addr); }, () => { drop(); read(memory, addr); });
add('madvise(DONTNEED) in bulk', PAGES, drop, () => { touch(memory, addr); });
add('madvise(DONTNEED) page by page', PAGES, () => {
  for (let page = addr; page < addr + LENGTH; page += PAGE_SIZE) zapPageRange(vma, page, page + PAGE_SIZE);
}, () => { touch(memory, addr); });
add('fork', PAGES, fork, () => { touch(memory, addr); }, endChild);
add('exit of the child', PAGES, endChild, () => { touch(memory, addr); fork(); });
add('copy-on-write fault', PAGES, () => { touch(memory, addr); }, () => { touch(memory, addr); fork(); }, endChild);
add('last sharer reuses', PAGES, () => { touch(memory, addr); }, () => { touch(memory, addr); fork(); endChild(); });
add('shared write fault, new page', PAGES, () => { touch(memory, shared); }, () => {
  const area = mm.vmas.get(shared)!;
  zapPageRange(area, shared, shared + LENGTH);
});
add('mprotect to read-only and back', 2 * PAGES, () => {
  vma.flags &= ~VM_WRITE;
  changeProtection(vma, addr, addr + LENGTH);
  vma.flags |= VM_WRITE;
  changeProtection(vma, addr, addr + LENGTH);
}, () => { touch(memory, addr); });
add('mmap + touch + munmap of a page', 256, () => {
  for (let i = 0; i < 256; i++) {
    const page = map(MAP_PRIVATE | 0, PAGE_SIZE);
    memory.store8(page, 1);
    vmMunmap(mm, page, PAGE_SIZE);
  }
});

await bench.run();
let zero = 0;
for (const task of bench.tasks) {
  const { result } = task;
  if (!('latency' in result)) throw new Error(`${task.name}: ${JSON.stringify(result)}`);
  const ns = (result.latency.p50 * 1e6) / perPage.get(task.name)!;
  if (zero === 0) zero = ns;
  console.log(`${task.name.padEnd(34)} ${ns.toFixed(1).padStart(8)} ns   ${(ns / zero).toFixed(2).padStart(6)} x`);
}
validateVm(vm);
vm.pages.validate();
