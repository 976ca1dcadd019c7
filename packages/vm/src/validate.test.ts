/** Each count that can be wrong, made wrong: the validator names it. */
import { MAP_ANONYMOUS, MAP_LOCKED, MAP_PRIVATE, MAP_SHARED, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { PTE_RW } from '@pagelab/hw';
import { NODE_STAT, PG_ANON_EXCLUSIVE, PG_MLOCKED } from '@pagelab/mm-core';
import { beforeEach, expect, test } from 'vitest';
import { dupMm } from './mm-lifetime.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { pageState } from './page-walk.ts';
import { findPte } from './pgtable.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const AREA = { file: null, addr: 0, length: 4 * PAGE_SIZE, prot: PROT_READ | PROT_WRITE, pgoff: 0 };

interface Scene {
  readonly vm: Vm;
  readonly mm: MmStruct;
  readonly child: MmStruct;
  /** A private page that a child shares, one that is the parent's alone, a page of shared memory, a locked page. */
  readonly common: number;
  readonly own: number;
  readonly shared: number;
  readonly locked: number;
}

let scene: Scene;

beforeEach(() => {
  const vm = testVm();
  const mm = testMm(vm);
  const map = (flags: number): number =>
    doMmap(mm, { ...AREA, flags: flags | MAP_ANONYMOUS });
  const common = map(MAP_PRIVATE);
  const shared = map(MAP_SHARED);
  const locked = map(MAP_PRIVATE | MAP_LOCKED);
  const { memory } = attachUser(mm);
  memory.store8(common, 1);
  memory.store8(shared, 1);
  const child = dupMm(mm, mm.limits) as MmStruct;
  const own = common + PAGE_SIZE;
  memory.store8(own, 1);
  scene = { vm, mm, child, common, own, shared, locked };
  validateVm(vm);
});

const damages: [string, (scene: Scene) => void, RegExp][] = [
  ['resident set', ({ mm }) => { mm.rss[MM_ANONPAGES]++; }, /rss\[1\]/],
  ['pages mapped', ({ mm }) => { mm.totalVm--; }, /totalVm/],
  ['pages locked', ({ mm }) => { mm.lockedVm++; }, /lockedVm/],
  ['mappings', ({ mm }) => { mm.mapCount++; }, /mapCount/],
  ['page tables', ({ mm }) => { mm.pgtablesBytes += PAGE_SIZE; }, /pgtablesBytes/],
  ['map count', ({ vm, mm, own }) => { vm.frames.mapcount[pageState(mm, own).pfn]++; }, /mapcount 2, mapped 1 times/],
  ['references', ({ vm, mm, own }) => { vm.frames.refcount[pageState(mm, own).pfn]++; }, /refcount 2/],
  [
    'a shared page taken for one\'s own',
    ({ vm, mm, common }) => { vm.frames.flags[pageState(mm, common).pfn] |= PG_ANON_EXCLUSIVE; },
    /exclusive, mapped 2 times/,
  ],
  [
    'a shared page that can be written to',
    ({ vm, mm, common }) => { vm.ram.i32[findPte(mm, common)] |= PTE_RW; },
    /others may see/,
  ],
  ['way back to an anonymous page', ({ vm, mm, own }) => { vm.frames.index[pageState(mm, own).pfn]++; }, /found 0/],
  ['page cache', ({ vm, mm, shared }) => { vm.frames.index[pageState(mm, shared).pfn]++; }, /not in its file's cache/],
  ['locked page', ({ vm, mm, locked }) => { vm.frames.flags[pageState(mm, locked).pfn] &= ~PG_MLOCKED; }, /mlocked/],
  ['promises', ({ vm }) => { vm.committedAs++; }, /committed/],
  ['node counter', ({ vm }) => { vm.pages.modNodeState(vm.zeroPfn, NODE_STAT.NR_ANON_MAPPED, 1); }, /NR_ANON_MAPPED/],
  ['anon_vma', ({ mm, common }) => { mm.vmas.get(common)!.anonVma!.numChildren++; }, /numChildren/],
  ['anon_vma references', ({ mm, common }) => { mm.vmas.get(common)!.anonVma!.refcount--; }, /refcount/],
  ['interval', ({ child, common }) => { child.vmas.get(common)!.pgoff++; }, /stale/],
  ['rights', ({ mm, own }) => { mm.vmas.get(own)!.flags &= ~0x7; }, /execVm|dataVm|rights/],
  [
    'page outside every mapping',
    ({ vm, mm, own }) => {
      const from = findPte(mm, own);
      vm.ram.i32[from - 2 * 200] = vm.ram.i32[from];
    },
    /outside every mapping|more than|rss/,
  ],
  [
    'translation that was not flushed',
    ({ vm, mm, own }) => {
      vm.ram.i32[findPte(mm, own)] &= ~PTE_RW;
    },
    /stale translation/,
  ],
];

test.each(damages)('%s', (_, damage, message) => {
  damage(scene);
  expect(() => { validateVm(scene.vm); }).toThrow(message);
});
