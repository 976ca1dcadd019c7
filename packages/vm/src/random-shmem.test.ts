/**
 * Random programs over files of shared memory that have folios of every size, against a model that knows only words;
 * everything is validated after each step.
 */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
  MADV_PAGEOUT,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import type { UserMemory } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { GFP_HIGHUSER_MOVABLE, GFP_TRANSHUGE, MIGRATE_SYNC, MR_COMPACTION, NODE_STAT, PG_LRU, VM_EVENT } from '@pagelab/mm-core';
import type { PageAllocHooks } from '@pagelab/mm-core';
import { expect, test } from 'vitest';
import type { VmFile } from './file.ts';
import { KernelBuffer, fileRead, fileWrite } from './filemap.ts';
import { khugepagedScan } from './khugepaged.ts';
import { doMadvise } from './madvise.ts';
import { isolateMovable, migratePages, migrationOps, putbackMovablePages } from './migrate.ts';
import { doMlock, doMunlock } from './mlock.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import { doMremap } from './mremap.ts';
import { vmMunmap } from './munmap.ts';
import { filePut } from './open-file.ts';
import { installReclaim } from './vmscan.ts';
import { shmemFallocate, shmemFileSetup, shmemTruncate } from './shmem.ts';
import { updateShmemThp } from './shmem-huge.ts';
import type { ShmemSizeEnabled, TmpfsHuge } from './shmem-huge.ts';
import { lruAddDrainAll } from './swap.ts';
import { MemorySwapDevice } from './swap-device.ts';
import { enableSwapArea } from './swapfile.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const BLOCK = 512;
const FILE_PAGES = 3 * BLOCK;
const WINDOW_PAGES = 4 * BLOCK;
const BASE = 0x4000_0000;
const RW = PROT_READ | PROT_WRITE;
const MAX_SPACES = 3;

/** A page of an address space: where its file has it, and its own word once a private mapping stored one. */
interface ModelPage {
  readonly pgoff: number;
  readonly shared: boolean;
  prot: number;
  own: number | undefined;
}

interface Space {
  readonly mm: MmStruct;
  readonly memory: UserMemory;
  readonly cpu: number;
  readonly pages: Map<number, ModelPage>;
}

class Player {
  readonly vm: Vm;
  readonly prng: Prng;
  readonly file: VmFile;
  readonly spaces: Space[] = [];
  /** Words of the file by page; its length in pages. */
  readonly words = new Map<number, number>();
  size = FILE_PAGES;
  nextWord = 1;

  constructor(seed: number, huge: TmpfsHuge, small: ShmemSizeEnabled) {
    const hooks: PageAllocHooks = {};
    this.vm = testVm({ memoryBytes: 64 * 2 ** 20, cpus: MAX_SPACES, hooks });
    installReclaim(this.vm, hooks);
    hooks.migration = migrationOps(this.vm);
    enableSwapArea(this.vm, new MemorySwapDevice(this.vm.ram, 8192), { path: '/swap', kind: 'file', inode: null, max: 8192, badPages: [] }, 0);
    const { shmemThp } = this.vm;
    shmemThp.enabled = huge;
    shmemThp.mount = huge;
    shmemThp.sizes[3] = small;
    updateShmemThp(this.vm);
    this.prng = new Prng(seed);
    this.file = shmemFileSetup(this.vm, '/memfd:random (deleted)', FILE_PAGES * PAGE_SIZE, false) as VmFile;
    const pages = new Map<number, ModelPage>();
    this.#addSpace(testMm(this.vm), pages);
    // Without this few of the first steps would find anything.
    expect(doMmap(this.spaces[0].mm, { file: this.file, addr: BASE, length: FILE_PAGES * PAGE_SIZE, prot: RW, flags: MAP_SHARED | MAP_FIXED, pgoff: 0 })).toBe(BASE);
    for (let pgoff = 0; pgoff < FILE_PAGES; pgoff++) pages.set(pgoff, { pgoff, shared: true, prot: RW, own: undefined });
  }

  #addSpace(mm: MmStruct, pages: Map<number, ModelPage>): void {
    const cpu = [0, 1, 2].find((id) => this.spaces.every((space) => space.cpu !== id))!;
    this.spaces.push({ mm, memory: attachUser(mm, cpu).memory, cpu, pages });
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.prng.below(from.length)];
  }

  /** A range of the window, in pages: often whole blocks. */
  #range(): [first: number, count: number] {
    const { prng } = this;
    if (prng.below(2) === 0) {
      const first = prng.below(4);
      return [first * BLOCK, (1 + prng.below(4 - first)) * BLOCK];
    }
    const first = prng.below(WINDOW_PAGES);
    return [first, 1 + prng.below(Math.min(prng.below(3) === 0 ? BLOCK : 20, WINDOW_PAGES - first))];
  }

  #addr(page: number): number {
    return BASE + page * PAGE_SIZE;
  }

  /** What the model has at a page of the window that may be touched; `undefined` for others, and beyond the end of the file, which a folio may cover. */
  #touchable({ pages }: Space, page: number): ModelPage | undefined {
    const known = pages.get(page);
    return known === undefined || known.prot === 0 || known.pgoff >= this.size ? undefined : known;
  }

  step(): void {
    const { prng, vm, file } = this;
    const space = this.#pick(this.spaces);
    const { mm, pages } = space;
    const [first, count] = this.#range();
    const addr = this.#addr(first);
    const length = count * PAGE_SIZE;
    switch (prng.below(22)) {
      case 0:
      case 1: {
        const shared = prng.below(3) > 0;
        const pgoff = prng.below(3) > 0 ? (first + BLOCK * prng.below(3)) % FILE_PAGES : prng.below(FILE_PAGES);
        expect(doMmap(mm, { file, addr, length, prot: RW, flags: (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, pgoff })).toBe(addr);
        for (let i = 0; i < count; i++) pages.set(first + i, { pgoff: pgoff + i, shared, prot: RW, own: undefined });
        break;
      }
      case 2:
        vmMunmap(mm, addr, length);
        for (let i = 0; i < count; i++) pages.delete(first + i);
        break;
      case 3: {
        const prot = this.#pick([PROT_READ, RW, 0]);
        const whole = doMprotect(mm, addr, length, prot) === 0;
        for (let i = 0; i < count; i++) {
          const page = pages.get(first + i);
          if (page === undefined) {
            expect(whole).toBe(false);
            break;
          }
          page.prot = prot;
        }
        break;
      }
      case 4:
        doMadvise(mm, addr, length, MADV_DONTNEED);
        for (let i = 0; i < count; i++) {
          const page = pages.get(first + i);
          if (page !== undefined) page.own = undefined;
        }
        break;
      case 5:
        this.#move(space, first, count);
        break;
      case 6:
      case 7:
      case 8:
        doMadvise(mm, addr, length, MADV_COLLAPSE);
        break;
      case 9:
        doMadvise(mm, addr, length, this.#pick([MADV_COLD, MADV_PAGEOUT, MADV_HUGEPAGE, MADV_NOHUGEPAGE]));
        break;
      case 10:
        this.#truncate(this.#pick([FILE_PAGES, FILE_PAGES, 2 * BLOCK, BLOCK + prng.below(BLOCK), prng.below(FILE_PAGES)]));
        break;
      case 11:
        this.#punch(prng.below(FILE_PAGES) * PAGE_SIZE + (prng.below(2) === 0 ? 0 : 8), (1 + prng.below(prng.below(2) === 0 ? 4 : 600)) * PAGE_SIZE);
        break;
      case 12: {
        const pgoff = prng.below(this.size + 1);
        if (pgoff < this.size) expect(shmemFallocate(vm, file.inode, 0, pgoff * PAGE_SIZE, Math.min(BLOCK + 7, this.size - pgoff) * PAGE_SIZE)).toBe(0);
        break;
      }
      case 13:
        this.#write(prng.below(FILE_PAGES), 1 + prng.below(prng.below(2) === 0 ? 3 : 40));
        break;
      case 14:
        this.#readBack();
        break;
      case 15:
        if (prng.below(2) === 0) doMlock(mm, addr, length, 0);
        else doMunlock(mm, addr, length);
        break;
      case 16:
        this.#fork(space);
        break;
      case 17:
        this.#migrate();
        break;
      case 18:
        vm.khugepaged.maxPtesNone = this.#pick([511, 511, 300]);
        khugepagedScan(vm);
        break;
      default:
        for (let i = 0; i < 6; i++) this.#touch(space, prng.below(2) === 0 ? first + prng.below(count) : prng.below(WINDOW_PAGES));
    }
    validateVm(vm);
    for (const each of this.spaces) for (let i = 0; i < 3; i++) this.#check(each, prng.below(WINDOW_PAGES));
  }

  #touch(space: Space, page: number): void {
    const known = this.#touchable(space, page);
    if (known === undefined) return;
    if (this.prng.below(2) === 0 || (known.prot & PROT_WRITE) === 0) {
      this.#check(space, page);
      return;
    }
    const word = this.nextWord++;
    space.memory.store32(this.#addr(page), word);
    if (known.shared) this.words.set(known.pgoff, word);
    else known.own = word;
  }

  #check(space: Space, page: number): void {
    const known = this.#touchable(space, page);
    if (known === undefined) return;
    expect(space.memory.load32(this.#addr(page)), `page ${page}`).toBe(known.own ?? this.words.get(known.pgoff) ?? 0);
  }

  /** Moves a piece of one mapping over what is elsewhere in the window. */
  #move({ mm, pages }: Space, first: number, count: number): void {
    const vma = mm.vmas.get(this.#addr(first));
    const to = this.prng.below(2) === 0 ? this.prng.below(4) * BLOCK : this.prng.below(WINDOW_PAGES);
    if (vma === undefined) return;
    const size = Math.min(count, (vma.end - this.#addr(first)) / PAGE_SIZE, WINDOW_PAGES - to);
    if (to < first + size && first < to + size) return;
    const moved = doMremap(mm, this.#addr(first), size * PAGE_SIZE, size * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, this.#addr(to));
    expect(moved).toBe(this.#addr(to));
    for (let i = 0; i < size; i++) {
      pages.set(to + i, pages.get(first + i)!);
      pages.delete(first + i);
    }
  }

  #truncate(size: number): void {
    expect(shmemTruncate(this.vm, this.file.inode, size * PAGE_SIZE)).toBe(0);
    for (const pgoff of [...this.words.keys()]) if (pgoff >= size) this.words.delete(pgoff);
    for (const { pages } of this.spaces) for (const page of pages.values()) if (page.pgoff >= size) page.own = undefined;
    this.size = size;
  }

  #punch(offset: number, length: number): void {
    expect(shmemFallocate(this.vm, this.file.inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)).toBe(0);
    // A word lies in the first four bytes of its page.
    for (const pgoff of [...this.words.keys()]) {
      if (pgoff * PAGE_SIZE >= offset && pgoff * PAGE_SIZE < offset + length) this.words.delete(pgoff);
    }
  }

  #write(pgoff: number, count: number): void {
    const bytes = new Uint8Array(count * PAGE_SIZE);
    const words = new Int32Array(bytes.buffer);
    for (let i = 0; i < count; i++) {
      words[i * (PAGE_SIZE / 4)] = this.nextWord;
      this.words.set(pgoff + i, this.nextWord++);
    }
    expect(fileWrite(this.vm, this.file.inode, pgoff * PAGE_SIZE, bytes.length, new KernelBuffer(bytes))).toBe(bytes.length);
    this.size = Math.max(this.size, pgoff + count);
  }

  #readBack(): void {
    const bytes = new Uint8Array(this.size * PAGE_SIZE);
    expect(fileRead(this.vm, this.file, 0, bytes.length, new KernelBuffer(bytes))).toBe(bytes.length);
    const words = new Int32Array(bytes.buffer);
    for (let pgoff = 0; pgoff < this.size; pgoff++) expect(words[pgoff * (PAGE_SIZE / 4)], `page ${pgoff} of the file`).toBe(this.words.get(pgoff) ?? 0);
  }

  #fork(space: Space): void {
    if (this.spaces.length > 1 && this.prng.below(2) === 0) {
      this.spaces.splice(this.spaces.indexOf(space), 1);
      mmput(space.mm);
    } else if (this.spaces.length < MAX_SPACES) {
      const pages = new Map([...space.pages].map(([page, known]) => [page, { ...known }]));
      this.#addSpace(dupMm(space.mm, space.mm.limits) as MmStruct, pages);
    }
  }

  #migrate(): void {
    const { vm, prng } = this;
    const { flags, nrFrames } = vm.frames;
    lruAddDrainAll(vm);
    const list: number[] = [];
    const odds = prng.below(2) === 0 ? 200 : 3;
    for (let pfn = 0; pfn < nrFrames; pfn++) if ((flags[pfn] & PG_LRU) !== 0 && prng.below(odds) === 0 && isolateMovable(vm, pfn)) list.push(pfn);
    migratePages(vm, list, (_, order) => vm.pages.allocPages(order > 0 ? GFP_TRANSHUGE : GFP_HIGHUSER_MOVABLE, order), MIGRATE_SYNC, MR_COMPACTION);
    putbackMovablePages(vm, list);
  }

  finish(): void {
    this.#readBack();
    for (const { mm } of this.spaces) mmput(mm);
    filePut(this.vm, this.file);
    const { pages } = this.vm;
    validateVm(this.vm);
    pages.validate();
    for (const item of [NODE_STAT.NR_SHMEM, NODE_STAT.NR_SHMEM_THPS, NODE_STAT.NR_SHMEM_PMDMAPPED, NODE_STAT.NR_FILE_MAPPED]) expect(pages.nodeState(item)).toBe(0);
  }
}

/** `PAGELAB_SHMEM_STEPS` makes it longer. */
const ROUNDS = Number((globalThis as { process?: { env: Record<string, string | undefined> } }).process?.env['PAGELAB_SHMEM_STEPS'] ?? 45);

/** Folios that were shown by one entry, entries that were cut, and folios that were split, in all runs. */
const seen = [0, 0, 0];

test.each([
  ['never', 'never', 1],
  ['always', 'never', 2],
  ['within_size', 'never', 3],
  ['advise', 'always', 4],
  ['never', 'within_size', 5],
] as const)('files whose folios are %s huge, and %s of eight pages, seed %i', (huge, small, seed) => {
  const player = new Player(seed, huge, small);
  for (let i = 0; i < ROUNDS; i++) player.step();
  player.finish();
  const { events } = player.vm.pages;
  for (const [i, event] of [VM_EVENT.THP_FILE_MAPPED, VM_EVENT.THP_SPLIT_PMD, VM_EVENT.THP_SPLIT_PAGE].entries()) seen[i] += events[event];
});

test('the runs above have shown, cut and split folios', () => {
  expect(Math.min(...seen), seen.join()).toBeGreaterThan(5);
});
