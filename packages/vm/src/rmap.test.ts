/** From a frame back to its mappings: whom the walk finds, and whom it has to ask. */
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { PF_USER, PF_WRITE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { Prng } from '@pagelab/lib';
import { beforeEach, expect, test } from 'vitest';
import { doMmap } from './mmap.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMremap } from './mremap.ts';
import { vmMunmap } from './munmap.ts';
import { handlePageFault } from './page-fault.ts';
import { pageState } from './page-walk.ts';
import { pageMappings } from './rmap.ts';
import { testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const BASE = 0x1000_0000;
const RW = PROT_READ | PROT_WRITE;
const PAGES = 8;

let vm: Vm;
let root: MmStruct;

beforeEach(() => {
  vm = testVm();
  root = testMm(vm);
});

function map(mm: MmStruct, type: number): void {
  const request = { file: null, addr: BASE, length: PAGES * PAGE_SIZE, prot: RW, flags: type | MAP_ANONYMOUS | MAP_FIXED, pgoff: 0 };
  expect(doMmap(mm, request)).toBe(BASE);
}

function write(mm: MmStruct, page: number): void {
  expect(handlePageFault(mm, BASE + page * PAGE_SIZE, PF_USER | PF_WRITE)).toBe(0);
}

function fork(of: MmStruct): MmStruct {
  const child = dupMm(of, of.limits);
  if (typeof child === 'number') throw new Error(`fork: ${child}`);
  return child;
}

const frameAt = (mm: MmStruct, page: number): Pfn => pageState(mm, BASE + page * PAGE_SIZE).pfn;

/** Where page tables show a frame, looked for in all of them. */
function bruteForce(mms: readonly MmStruct[], pfn: Pfn): string[] {
  const found: string[] = [];
  for (const mm of mms) {
    for (const vma of mm.vmas) {
      for (let address = vma.start; address < vma.end; address += PAGE_SIZE) if (pageState(mm, address).pfn === pfn) found.push(`${mms.indexOf(mm)} ${address}`);
    }
  }
  return found.sort();
}

const walked = (mms: readonly MmStruct[], pfn: Pfn): string[] => pageMappings(vm, pfn).map(({ mm, address }) => `${mms.indexOf(mm)} ${address}`).sort();

/** Mappings that a walk for a private page has to look into. */
function asked(pfn: Pfn): number {
  let links = 0;
  vm.anonVmas.get(vm.frames.mapping[pfn])!.chains.forEachOverlap(vm.frames.index[pfn], vm.frames.index[pfn], () => links++);
  return links;
}

test('down a line of forks, a walk asks those below whom the page belongs to, and nobody above', () => {
  map(root, MAP_PRIVATE);
  for (let page = 0; page < PAGES; page++) write(root, page);
  const line = [root];
  const depth = 40;
  for (let level = 1; level <= depth; level++) {
    line.push(fork(line[level - 1]));
    write(line[level], level % PAGES);
  }
  for (let level = 1; level <= depth; level++) {
    const pfn = frameAt(line[level], level % PAGES);
    expect(walked(line, pfn)).toEqual(bruteForce(line, pfn));
    expect(asked(pfn), `level ${level}`).toBe(depth - level + 1);
  }
  // Of the root's pages, all may have kept one.
  expect(asked(frameAt(root, 0))).toBe(depth + 1);
  validateVm(vm);
  for (const mm of line.splice(1)) mmput(mm);
  // Whom all children have left has its pages to itself again.
  expect(asked(frameAt(root, 0))).toBe(1);
  validateVm(vm);
  mmput(root);
  validateVm(vm);
});

test('a child that forks many has them look for its own pages only: the others are not in their way', () => {
  map(root, MAP_PRIVATE);
  for (let page = 0; page < PAGES; page++) write(root, page);
  const worker = fork(root);
  write(worker, 0);
  const siblings = Array.from({ length: 30 }, () => fork(root));
  expect(asked(frameAt(worker, 0))).toBe(1);
  expect(asked(frameAt(root, 1))).toBe(32);
  for (const mm of [...siblings, worker, root]) mmput(mm);
  validateVm(vm);
});

test.each([1, 2, 3])('in a tree of forks, moves and unmappings every page is found wherever it is, seed %i', (seed) => {
  const prng = new Prng(seed);
  const below = (n: number): number => prng.below(n);
  map(root, MAP_PRIVATE);
  const mms = [root];
  for (let step = 0; step < 120; step++) {
    const mm = mms[below(mms.length)];
    const dice = below(10);
    if (dice < 2 && mms.length < 16) mms.push(fork(mm));
    else if (dice === 2 && mms.length > 2) mmput(mms.splice(1 + below(mms.length - 1), 1)[0]);
    else if (dice === 3) vmMunmap(mm, BASE + below(PAGES) * PAGE_SIZE, PAGE_SIZE);
    else if (dice === 4) doMremap(mm, BASE + below(PAGES) * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, 3, BASE + (16 + below(8)) * PAGE_SIZE);
    else handlePageFault(mm, BASE + below(PAGES) * PAGE_SIZE, PF_USER | PF_WRITE);
  }
  const frames = new Set<Pfn>();
  for (const mm of mms) for (let page = 0; page < 24; page++) if (pageState(mm, BASE + page * PAGE_SIZE).kind === 'anon') frames.add(frameAt(mm, page));
  expect(frames.size).toBeGreaterThan(4);
  for (const pfn of frames) expect(walked(mms, pfn)).toEqual(bruteForce(mms, pfn));
  validateVm(vm);
  for (const mm of mms) mmput(mm);
  validateVm(vm);
});

test('a shared page is found by the mappings of its file that cover it, and no others', () => {
  map(root, MAP_SHARED);
  for (let page = 0; page < PAGES; page++) write(root, page);
  const mms = [root];
  for (let child = 0; child < 20; child++) {
    const mm = fork(root);
    mms.push(mm);
    // Each keeps two pages of the eight.
    const kept = child % 4;
    if (kept > 0) vmMunmap(mm, BASE, kept * 2 * PAGE_SIZE);
    if (kept < 3) vmMunmap(mm, BASE + (kept + 1) * 2 * PAGE_SIZE, (3 - kept) * 2 * PAGE_SIZE);
    write(mm, kept * 2);
  }
  const { mapping } = root.vmas.get(BASE)!.file!.inode;
  for (let page = 0; page < PAGES; page++) {
    const pfn = frameAt(root, page);
    expect(walked(mms, pfn)).toEqual(bruteForce(mms, pfn));
    let links = 0;
    mapping.mmap.forEachOverlap(page, page, () => links++);
    expect(links).toBe(6);
  }
  for (const mm of mms) mmput(mm);
  validateVm(vm);
});
