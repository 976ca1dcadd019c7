/**
 * Random programs over several address spaces, against {@link ModelSpace}; everything is validated after each step.
 */
import {
  Errno,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_HUGEPAGE,
  MADV_KEEPONFORK,
  MADV_NOHUGEPAGE,
  MADV_WIPEONFORK,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import type { UserMemory } from '@pagelab/abi';
import type { UserMemoryPort } from '@pagelab/hw';
import { Prng } from '@pagelab/lib';
import {
  GFP_HIGHUSER_MOVABLE,
  GFP_TRANSHUGE,
  MIGRATE_SYNC,
  MR_COMPACTION,
  PG_LRU,
  __GFP_DIRECT_RECLAIM,
  __GFP_IO,
  compactNodes,
  OWNER_ANON,
  OWNER_PAGE_TABLE,
  OWNER_SHMEM,
  VM_EVENT,
  compoundHead,
} from '@pagelab/mm-core';
import { expect, test } from 'vitest';
import type { VmFile } from './file.ts';
import { populateRange } from './gup.ts';
import { doMadvise } from './madvise.ts';
import { isolateMovable, migratePages, migrationOps, putbackMovablePages } from './migrate.ts';
import { doMlock, doMunlock } from './mlock.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import { doMremap } from './mremap.ts';
import { vmMunmap } from './munmap.ts';
import { FAULT_ACCERR, FAULT_MAPERR, FAULT_SIGBUS } from './fault-flags.ts';
import { pageState } from './page-walk.ts';
import { shmemFallocate, shmemTruncate } from './shmem.ts';
import { ModelSpace } from './testing/page-model.ts';
import type { ModelFault, ModelObject } from './testing/page-model.ts';
import { TestFault, attachUser, testMm, testVm } from './testing/test-machine.ts';
import type { TestArch } from './testing/test-machine.ts';
import { copyFromUser, copyToUser } from './uaccess.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';
import { zapPageRange } from './zap.ts';

const WINDOW_PAGES = 16;
/** Windows that straddle the borders of each kind of table. */
const EDGES: Readonly<Record<TestArch, readonly number[]>> = {
  'x86-64': [0x4000_0000, 0x7f_8000_0000, 0x10_0000, 0x7fff_f7e0_0000],
  'x86-pae': [0x4000_0000, 0x8000_0000, 0x10_0000, 0xb7e0_0000],
  'x86-32': [0x4000_0000, 0x8040_0000, 0x10_0000, 0xbfc0_0000],
};
const HUGE_ADVICE = [MADV_COLLAPSE, MADV_COLLAPSE, MADV_HUGEPAGE, MADV_NOHUGEPAGE];
const PROTS = [PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_WRITE, 0, PROT_READ | PROT_EXEC];
const ADVICE = [
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_WIPEONFORK,
  MADV_KEEPONFORK,
  MADV_FREE,
  MADV_COLD,
];
const MAX_SPACES = 6;

interface Space {
  mm: MmStruct;
  model: ModelSpace;
  port: UserMemoryPort;
  memory: UserMemory;
}

class Player {
  readonly vm: Vm;
  readonly prng: Prng;
  readonly spaces: Space[] = [];
  /** Whether the windows are of the size of huge pages, and mappings want them. */
  readonly huge: boolean;
  readonly windows: readonly number[];
  readonly windowPages: number;
  lastRange: { addr: number; pages: number };
  readonly freeCpus = [5, 4, 3, 2, 1, 0];
  readonly cpuOf = new Map<MmStruct, number>();
  /** Model of each shared object, by its inode. */
  readonly objects = new Map<VmFile['inode'], ModelObject>();

  /** Pages of a huge page. */
  readonly block: number;

  /** What is in use before the first address space. */
  readonly idle: unknown;

  constructor(seed: number, arch: TestArch, huge: boolean) {
    this.vm = testVm({ arch, memoryBytes: (huge ? 256 : 96) * 2 ** 20, cpus: MAX_SPACES });
    this.block = this.vm.tables.ptrsPerPte;
    this.idle = usage(this.vm);
    this.huge = huge;
    if (huge) this.vm.thpMode = 'madvise';
    // Windows of three blocks, the last of which is at the end of a third-level table.
    this.windowPages = huge ? 3 * this.block : WINDOW_PAGES;
    this.windows = huge
      ? [0x4000_0000, 0x8000_0000 - this.windowPages * PAGE_SIZE]
      : EDGES[arch].map((edge) => edge - (WINDOW_PAGES / 2) * PAGE_SIZE);
    this.lastRange = { addr: this.windows[0], pages: 4 };
    this.prng = new Prng(seed);
    this.addSpace(testMm(this.vm), new ModelSpace());
    if (!huge) return;
    const { mm, model } = this.spaces[0];
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    for (const addr of this.windows) {
      const length = this.windowPages * PAGE_SIZE;
      expect(doMmap(mm, { file: null, addr, length, prot: PROTS[0], flags, pgoff: 0 })).toBe(addr);
      expect(doMadvise(mm, addr, length, MADV_HUGEPAGE)).toBe(0);
      model.map(addr, this.windowPages, PROTS[0], null, 0);
    }
  }

  addSpace(mm: MmStruct, model: ModelSpace): void {
    const cpu = this.freeCpus.pop()!;
    this.cpuOf.set(mm, cpu);
    const port = attachUser(mm, cpu);
    this.spaces.push({ mm, model, port, memory: port.memory });
  }

  pick<T>(items: readonly T[]): T {
    return items[this.prng.below(items.length)];
  }

  /** A page-aligned range in one of the windows; every other time the same again, so that things happen to it. */
  range(): { addr: number; pages: number } {
    if (this.prng.below(2) === 0) this.lastRange = this.newRange();
    return this.lastRange;
  }

  newRange(): { addr: number; pages: number } {
    if (this.huge && this.prng.below(3) !== 0) {
      // Whole blocks, or what is a few pages less.
      const block = this.prng.below(3);
      const off = this.prng.below(3) === 0 ? this.prng.below(5) : 0;
      return { addr: this.pick(this.windows) + (block * this.block + off) * PAGE_SIZE, pages: this.block * (1 + this.prng.below(3 - block)) - off };
    }
    const { windowPages } = this;
    const first = this.prng.below(windowPages);
    const pages = 1 + this.prng.below(Math.min(windowPages - first, this.prng.below(4) === 0 ? windowPages : 6));
    return { addr: this.pick(this.windows) + first * PAGE_SIZE, pages };
  }

  step(): string {
    const space = this.pick(this.spaces);
    const { mm, model } = space;
    const { addr, pages } = this.range();
    const length = pages * PAGE_SIZE;
    const at = `mm ${mm.id} 0x${addr.toString(16)} +${pages}`;
    if (this.huge && this.prng.below(30) === 0) {
      this.vm.deferredSplit.scan(null, 0, Infinity);
      return 'split what is partly unmapped';
    }
    if (this.prng.below(12) === 0) return this.migrate(mm, addr, pages);
    switch (this.prng.below(this.huge ? 20 : 28)) {
      case 0: {
        const prot = this.pick(PROTS);
        const shared = this.prng.below(3) === 0;
        const flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_FIXED;
        expect(doMmap(mm, { file: null, addr, length, prot, flags, pgoff: 0 })).toBe(addr);
        let object: ModelObject | null = null;
        if (shared) {
          object = { pages, words: new Map() };
          this.objects.set(mm.vmas.get(addr)!.file!.inode, object);
        }
        model.map(addr, pages, prot, object, 0);
        if (this.huge && !shared && this.prng.below(4) !== 0) expect(doMadvise(mm, addr, length, MADV_HUGEPAGE)).toBe(0);
        return `mmap ${at} prot ${prot} ${shared ? 'shared' : 'private'}`;
      }
      case 1:
        expect(vmMunmap(mm, addr, length)).toBe(0);
        model.unmap(addr, pages);
        return `munmap ${at}`;
      case 2:
      case 3: {
        const prot = this.pick(PROTS);
        expect(doMprotect(mm, addr, length, prot) === 0).toBe(model.protect(addr, pages, prot));
        return `mprotect ${at} prot ${prot}`;
      }
      case 4:
        mm.vmas.forEachIn(addr, addr + length, (vma) => {
          zapPageRange(vma, Math.max(addr, vma.start), Math.min(addr + length, vma.end));
        });
        model.discard(addr, pages);
        return `dontneed ${at}`;
      case 5:
        populateRange(mm, addr, addr + length);
        return `populate ${at}`;
      case 6: {
        if (this.spaces.length === MAX_SPACES || this.prng.below(2) === 0) return 'nothing';
        const child = dupMm(mm, mm.limits);
        if (typeof child === 'number') throw new Error(`fork: ${child}`);
        this.addSpace(child, model.fork());
        return `fork mm ${mm.id} to ${child.id}`;
      }
      case 7:
        if (this.spaces.length === 1 || this.prng.below(3) !== 0) return 'nothing';
        this.exit(space);
        return `exit mm ${mm.id}`;
      case 8:
        return this.resizeObject();
      case 9:
        return this.remap(space, addr, pages);
      case 10:
        return this.resizeMapping(space, addr);
      case 11:
      case 12:
        return this.advise(space, addr, pages);
      case 13:
        // Up to the first hole, all of it is locked or unlocked.
        if (this.prng.below(2) === 0) doMlock(mm, addr, length, this.prng.below(2));
        else doMunlock(mm, addr, length);
        return `mlock or munlock ${at}`;
      default:
        return this.accessRange(space, addr, pages);
    }
  }

  /** Moves what a range shows to other frames: to nobody does it make a difference. */
  migrate(mm: MmStruct, addr: number, pages: number): string {
    const { vm } = this;
    const heads = new Set<number>();
    for (let i = 0; i < pages; i++) {
      const { kind, pfn } = pageState(mm, addr + i * PAGE_SIZE);
      if (kind === 'anon' || kind === 'shmem') heads.add(compoundHead(vm.frames, pfn));
    }
    const list = [...heads].filter((pfn) => isolateMovable(vm, pfn));
    expect(list.length).toBe(heads.size);
    // Sometimes there are no blocks for huge pages.
    const most = this.prng.below(2) * vm.tables.hugeOrder;
    const getNewPage = (_: number, order: number): number =>
      order > most ? -Errno.ENOMEM : vm.pages.allocPages(order > 0 ? GFP_TRANSHUGE : GFP_HIGHUSER_MOVABLE, order);
    expect(migratePages(vm, list, getNewPage, MIGRATE_SYNC, MR_COMPACTION)).toBe(0);
    return `migrate mm ${mm.id} 0x${addr.toString(16)} +${pages}: ${heads.size}`;
  }

  /** A fixed move of the same size takes mappings and holes along. */
  remap(space: Space, addr: number, pages: number): string {
    const { mm, model } = space;
    const unit = this.huge && this.prng.below(2) === 0 ? this.block : 1;
    const first = this.prng.below(Math.floor((this.windowPages - pages) / unit) + 1) * unit;
    const to = this.pick(this.windows) + first * PAGE_SIZE;
    const length = pages * PAGE_SIZE;
    if (to < addr + length && addr < to + length) return 'nothing';
    const result = doMremap(mm, addr, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    const mapped = model.pages.has(addr);
    expect(result, `mremap 0x${addr.toString(16)}`).toBe(mapped ? to : -Errno.EFAULT);
    if (mapped) model.move(addr, to, pages);
    return `mremap mm ${mm.id} 0x${addr.toString(16)} +${pages} to 0x${to.toString(16)}`;
  }

  /** Grows or shrinks what is left of a mapping behind `addr`, wherever it ends up. */
  resizeMapping(space: Space, addr: number): string {
    const { mm, model } = space;
    const vma = mm.vmas.get(addr);
    if (vma === undefined) return 'nothing';
    const oldPages = (vma.end - addr) / PAGE_SIZE;
    const newPages = 1 + this.prng.below(oldPages + 4);
    const to = doMremap(mm, addr, oldPages * PAGE_SIZE, newPages * PAGE_SIZE, MREMAP_MAYMOVE, 0);
    expect(to).toBeGreaterThan(0);
    const kept = Math.min(oldPages, newPages);
    if (newPages < oldPages) model.unmap(addr + newPages * PAGE_SIZE, oldPages - newPages);
    if (to !== addr) model.move(addr, to, kept);
    if (newPages > oldPages) model.extend(to + (oldPages - 1) * PAGE_SIZE, newPages - oldPages);
    // What landed outside the windows would never be looked at again.
    if (to !== addr) {
      expect(vmMunmap(mm, to, newPages * PAGE_SIZE)).toBe(0);
      model.unmap(to, newPages);
    }
    return `mremap mm ${mm.id} 0x${addr.toString(16)} from ${oldPages} to ${newPages}`;
  }

  advise(space: Space, from: number, pages: number): string {
    const { mm, model } = space;
    const vma = mm.vmas.get(from);
    if (vma === undefined) return 'nothing';
    const nrPages = Math.min(pages, (vma.end - from) / PAGE_SIZE);
    const advice = this.pick(this.huge && this.prng.below(2) === 0 ? HUGE_ADVICE : ADVICE);
    const result = doMadvise(mm, from, nrPages * PAGE_SIZE, advice);
    if (result === 0) {
      model.each(from, nrPages, (page) => {
        if (advice === MADV_GUARD_INSTALL) {
          page.guard = true;
          page.word = 0;
        } else if (advice === MADV_GUARD_REMOVE) page.guard = false;
        else if (advice === MADV_WIPEONFORK) page.wiped = true;
        else if (advice === MADV_KEEPONFORK) page.wiped = false;
      });
    }
    return `madvise mm ${mm.id} 0x${from.toString(16)} +${nrPages} ${advice}: ${result}`;
  }

  exit(space: Space): void {
    const { mm } = space;
    space.port.detach();
    const cpu = this.cpuOf.get(mm)!;
    this.vm.smp.cpus[cpu].loadCr3(this.vm.kernelPgd * PAGE_SIZE);
    this.freeCpus.push(cpu);
    mmput(mm);
    this.spaces.splice(this.spaces.indexOf(space), 1);
  }

  resizeObject(): string {
    const inodes: VmFile['inode'][] = [];
    this.vm.mappings.forEach((mapping) => inodes.push(mapping.inode));
    if (inodes.length === 0) return 'nothing';
    const inode = this.pick(inodes);
    const object = this.objects.get(inode)!;
    const pgoff = this.prng.below(8);
    if (this.prng.below(2) === 0) {
      shmemFallocate(this.vm, inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pgoff * PAGE_SIZE, 2 * PAGE_SIZE);
      object.words.delete(pgoff);
      object.words.delete(pgoff + 1);
      return `punch ${inode.ino} at ${pgoff}`;
    }
    expect(shmemTruncate(this.vm, inode, pgoff * PAGE_SIZE)).toBe(0);
    object.pages = pgoff;
    for (const key of [...object.words.keys()]) if (key >= pgoff) object.words.delete(key);
    return `truncate ${inode.ino} to ${pgoff}`;
  }

  /** Loads from, or stores to, each page of a range. */
  accessRange(space: Space, addr: number, pages: number): string {
    const isLoad = this.prng.below(3) === 0;
    const bySyscall = this.prng.below(4) === 0;
    const step = pages > 64 && this.prng.below(4) !== 0 ? 61 : 1;
    for (let i = 0; i < pages; i += step) this.access(space, addr + i * PAGE_SIZE, isLoad, bySyscall);
    const how = `${isLoad ? 'load' : 'store'}${bySyscall ? ' by the kernel' : ''}`;
    return `${how} mm ${space.mm.id} 0x${addr.toString(16)} +${pages}`;
  }

  /** Whether the model cannot tell: beyond the end of shared memory its last folio may go on. */
  isOpen(expected: unknown): boolean {
    return this.huge && expected === 'BUS';
  }

  access(space: Space, addr: number, isLoad: boolean, bySyscall: boolean): void {
    const { mm, memory, model } = space;
    const where = `mm ${mm.id} 0x${addr.toString(16)}${bySyscall ? ' by the kernel' : ''}`;
    if (isLoad) {
      const expected = model.load(addr);
      if (this.isOpen(expected)) return;
      if (bySyscall) {
        const bytes = copyFromUser(mm, addr, 4);
        const word = typeof bytes === 'number' ? 'fault' : new DataView(bytes.buffer).getUint32(0, true);
        expect(word, `load ${where}`).toBe(typeof expected === 'number' ? expected : 'fault');
      } else {
        expect(outcome(() => memory.load32(addr)), `load ${where}`).toBe(expected);
      }
      return;
    }
    const word = this.prng.u32();
    const expected = model.store(addr, word);
    if (this.isOpen(expected)) return;
    if (bySyscall) {
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, word, true);
      expect(copyToUser(mm, addr, bytes) === 0, `store ${where}`).toBe(expected === null);
    } else {
      expect(outcome(() => (memory.store32(addr, word), null)), `store ${where}`).toBe(expected);
    }
  }

  /** Every page of every space holds what the model says. */
  compareAll(): void {
    for (const { mm, memory, model } of this.spaces) {
      for (const addr of model.pages.keys()) {
        const expected = model.load(addr);
        if (this.isOpen(expected)) continue;
        expect(outcome(() => memory.load32(addr)), `mm ${mm.id} 0x${addr.toString(16)}`).toBe(expected);
      }
      expect(mm.totalVm).toBe(model.pages.size);
    }
  }
}

function outcome<T>(access: () => T): T | ModelFault {
  try {
    return access();
  } catch (error) {
    if (!(error instanceof TestFault)) throw error;
    if (error.fault === FAULT_MAPERR) return 'MAPERR';
    if (error.fault === FAULT_ACCERR) return 'ACCERR';
    if (error.fault === FAULT_SIGBUS) return 'BUS';
    throw error;
  }
}

/** Frames by owner, slabs aside, and live objects by cache. */
function usage(vm: Vm): unknown {
  const frames = vm.pages.census();
  const objects = [...vm.slab.caches()].map((cache) => `${cache.name} ${cache.activeObjects}`);
  return { anon: frames[OWNER_ANON], shmem: frames[OWNER_SHMEM], tables: frames[OWNER_PAGE_TABLE], objects };
}

/** Moves pages, all there are in a zone or a few, whenever memory is asked for by who may sleep: as if each allocation compacted. */
function moveAtEachAllocation(vm: Vm, prng: Prng): void {
  const { pages } = vm;
  pages.hooks.migration = migrationOps(vm);
  let moving = false;
  const maybeMove = (gfp: number): void => {
    if (moving || (gfp & (__GFP_DIRECT_RECLAIM | __GFP_IO)) !== (__GFP_DIRECT_RECLAIM | __GFP_IO)) return;
    moving = true;
    pages.hooks.migration!.drain();
    if (prng.below(20) === 0) compactNodes(pages);
    else {
      const list: number[] = [];
      const { flags, nrFrames } = vm.frames;
      for (let pfn = 0; pfn < nrFrames; pfn++) if ((flags[pfn] & PG_LRU) !== 0 && prng.below(2) === 0 && isolateMovable(vm, pfn)) list.push(pfn);
      migratePages(vm, list, (_, order) => pages.allocPages(order > 0 ? GFP_TRANSHUGE : GFP_HIGHUSER_MOVABLE, order), MIGRATE_SYNC, MR_COMPACTION);
      putbackMovablePages(vm, list);
    }
    moving = false;
  };
  const allocPage = pages.allocPage.bind(pages);
  const allocPages = pages.allocPages.bind(pages);
  pages.allocPage = (gfp) => (maybeMove(gfp), allocPage(gfp));
  pages.allocPages = (gfp, order) => (maybeMove(gfp), allocPages(gfp, order));
}

function play(seed: number, steps: number, arch: TestArch, huge: boolean, moving = false): Vm {
  const player = new Player(seed, arch, huge);
  if (moving) moveAtEachAllocation(player.vm, new Prng(seed + 100));
  const log: string[] = [];
  try {
    for (let i = 0; i < steps; i++) {
      log.push(player.step());
      validateVm(player.vm);
    }
    player.compareAll();
    validateVm(player.vm);
    while (player.spaces.length > 0) player.exit(player.spaces[0]);
    validateVm(player.vm);
    player.vm.pages.validate();
    player.vm.slab.validate();
    expect(player.vm.committedAs).toBe(0);
    expect(player.vm.anonVmas.size + player.vm.mappings.size + player.vm.mms.size).toBe(0);
    expect(usage(player.vm)).toEqual(player.idle);
    return player.vm;
  } catch (error) {
    const last = log.slice(-12).join('\n  ');
    throw new Error(`seed ${seed}, step ${log.length}; last steps:\n  ${last}`, { cause: error });
  }
}

const SEEDS = Array.from({ length: 6 }, (_, i) => i + 1);

test.each(SEEDS)('seed %i', (seed) => {
  play(seed, 400, 'x86-64', false);
});

const SEEDS_32 = SEEDS.slice(0, 3);

test.each(SEEDS_32)('PAE, seed %i', (seed) => {
  play(seed, 400, 'x86-pae', false);
});

test.each(SEEDS_32)('two levels, seed %i', (seed) => {
  play(seed, 400, 'x86-32', false);
});

test.each([2, 3, 4])('pages that move whenever memory is allocated, seed %i', (seed) => {
  const { events } = play(seed, 400, 'x86-64', false, true).pages;
  expect(events[VM_EVENT.PGMIGRATE_SUCCESS]).toBeGreaterThan(100);
});

test('huge pages that move whenever memory is allocated', () => {
  const { events } = play(4, 25, 'x86-64', true, true).pages;
  expect(events[VM_EVENT.PGMIGRATE_SUCCESS]).toBeGreaterThan(100);
});

test.each([
  ['x86-64', 1],
  ['x86-64', 2],
  ['x86-64', 3],
  ['x86-pae', 4],
  ['x86-32', 5],
] as const)('huge pages of %s, seed %i', (arch, seed) => {
  const { events } = play(seed, 150, arch, true).pages;
  expect(Math.min(events[VM_EVENT.THP_FAULT_ALLOC], events[VM_EVENT.THP_SPLIT_PMD])).toBeGreaterThan(0);
});
