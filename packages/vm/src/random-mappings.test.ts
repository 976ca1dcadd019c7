/**
 * Random calls on mappings against a model that knows of pages only: what is mapped, with what rights and of which kind.
 * The list of mappings must say the same, and two neighbours in it that could be one must be.
 */
import {
  MADV_DONTDUMP,
  MADV_DODUMP,
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
} from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { expect, test } from 'vitest';
import { doMadvise } from './madvise.ts';
import { doMlock, doMunlock } from './mlock.ts';
import { doMprotect } from './mprotect.ts';
import { doMremap } from './mremap.ts';
import { vmMunmap } from './munmap.ts';
import { testVm } from './testing/test-machine.ts';
import { TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';
import { VM_DONTDUMP, VM_LOCKED, VM_NORESERVE } from './vma.ts';

const PAGES = 40;
const ANON = MAP_PRIVATE | MAP_ANONYMOUS;

/** A page as the model sees it: its rights and the flags that tell mappings apart. */
interface ModelPage {
  prot: number;
  locked: boolean;
  noReserve: boolean;
  noDump: boolean;
}

type Model = (ModelPage | undefined)[];

/** Pages of a range up to the first hole. */
function upToHole(model: Model, first: number, pages: number): ModelPage[] {
  const found: ModelPage[] = [];
  for (let page = first; page < first + pages; page++) {
    const known = model[page];
    if (known === undefined) break;
    found.push(known);
  }
  return found;
}

function step(space: TestSpace, model: Model, prng: Prng): void {
  const { mm } = space;
  const first = prng.below(PAGES - 8);
  const pages = 1 + prng.below(8);
  const at = space.at(first);
  const length = pages * PAGE_SIZE;
  const prot = [0, 1, 3, 5, 3][prng.below(5)];
  switch (prng.below(9)) {
    case 0:
    case 1: {
      const noReserve = prng.below(4) === 0;
      expect(space.fixed(first, pages, prot, noReserve ? ANON | MAP_NORESERVE : ANON)).toBe(at);
      for (let i = 0; i < pages; i++) model[first + i] = { prot, locked: false, noReserve, noDump: false };
      break;
    }
    case 2:
      expect(vmMunmap(mm, at, length)).toBe(0);
      for (let i = 0; i < pages; i++) model[first + i] = undefined;
      break;
    case 3:
    case 4: {
      const touched = upToHole(model, first, pages);
      expect(doMprotect(mm, at, length, prot) === 0).toBe(touched.length === pages);
      for (const page of touched) page.prot = prot;
      break;
    }
    case 5: {
      const touched = upToHole(model, first, pages);
      if (prng.below(2) === 0) doMlock(mm, at, length, 1);
      else if (doMunlock(mm, at, length) !== 0) expect(touched.length).toBeLessThan(pages);
      for (const page of touched) page.locked = mm.vmas.get(at) !== undefined && (mm.vmas.get(at)!.flags & VM_LOCKED) !== 0;
      break;
    }
    case 6: {
      const noDump = prng.below(2) === 0;
      doMadvise(mm, at, length, noDump ? MADV_DONTDUMP : MADV_DODUMP);
      for (let i = 0; i < pages; i++) {
        const page = model[first + i];
        if (page !== undefined) page.noDump = noDump;
      }
      break;
    }
    case 7: {
      const to = prng.below(PAGES - 8);
      const result = doMremap(mm, at, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, space.at(to));
      if (result < 0) break;
      // Where the source has a hole, the target keeps what it has.
      for (let i = 0; i < pages; i++) {
        model[to + i] = model[first + i] ?? model[to + i];
        model[first + i] = undefined;
      }
      break;
    }
    default: {
      const page = model[first];
      if (page !== undefined && (page.prot & 2) !== 0) space.touch(first);
    }
  }
}

function check(space: TestSpace, model: Model): void {
  const { mm } = space;
  for (let page = 0; page < PAGES; page++) {
    const vma = mm.vmas.get(space.at(page));
    const known = model[page];
    expect(vma !== undefined, `page ${page}`).toBe(known !== undefined);
    if (vma === undefined || known === undefined) continue;
    expect(vma.flags & 7, `rights of page ${page}`).toBe(known.prot);
    expect((vma.flags & VM_LOCKED) !== 0, `lock of page ${page}`).toBe(known.locked);
    expect((vma.flags & VM_NORESERVE) !== 0).toBe(known.noReserve);
    expect((vma.flags & VM_DONTDUMP) !== 0).toBe(known.noDump);
  }
}

/** How often a run found two neighbours of one kind, both untouched: there should be none. */
function splitForNothing(space: TestSpace): number {
  let found = 0;
  for (const vma of space.mm.vmas) {
    const next = space.mm.vmas.next(vma.start);
    if (next === undefined || next.start !== vma.end || vma.start < space.at(0) || next.end > space.at(PAGES)) continue;
    const same = vma.flags === next.flags && vma.anonVma === null && next.anonVma === null;
    if (same && vma.pgoff + (vma.end - vma.start) / PAGE_SIZE === next.pgoff) found++;
  }
  return found;
}

test.each([
  ['x86-64', 1],
  ['x86-64', 2],
  ['x86-64', 3],
  ['x86-64', 4],
  ['x86-pae', 5],
  ['x86-32', 6],
] as const)('%s, seed %d', (arch, seed) => {
  const prng = new Prng(seed);
  const space = new TestSpace({ vm: testVm({ arch }) });
  const model: Model = [];
  for (let i = 0; i < 400; i++) {
    step(space, model, prng);
    check(space, model);
    validateVm(space.vm);
    expect(splitForNothing(space), `step ${i}`).toBe(0);
  }
});

