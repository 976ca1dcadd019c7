/**
 * What every reclaim policy must do. An author of one runs this suite in their own tests:
 *
 *     import { reclaimPolicyContract } from '@pagelab/vm/contract';
 *     reclaimPolicyContract(myPolicy);
 */
import { MADV_COLD, MADV_FREE, MADV_PAGEOUT, MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { UserMemory } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { GFP_KERNEL, LRU_UNEVICTABLE, VM_EVENT, WMARK_MIN } from '@pagelab/mm-core';
import type { NodeConfig, PageAllocHooks } from '@pagelab/mm-core';
import { describe, expect, it } from 'vitest';
import { doMadvise } from './madvise.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMlock } from './mlock.ts';
import { doMmap } from './mmap.ts';
import { vmMunmap } from './munmap.ts';
import { pageState } from './page-walk.ts';
import { setReclaimPolicy } from './reclaim.ts';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { RECLAIMER_DIRECT, ScanControl } from './scan-control.ts';
import { classicReclaim } from './shrink-lists.ts';
import { isolateLru, lruAddDrainAll, putbackLru } from './swap.ts';
import { MemorySwapDevice } from './swap-device.ts';
import { enableSwapArea } from './swapfile.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';
import { installReclaim, tryToFreePages } from './vmscan.ts';

const SEED = 0x5eed;
const MIB = 2 ** 20;
const MEMORY = 24 * MIB;
const PAGES = MEMORY / PAGE_SIZE;

interface Rig {
  readonly vm: Vm;
  readonly mm: MmStruct;
  readonly memory: UserMemory;
}

function rig(factory: ReclaimPolicyFactory, swapPages = 4 * PAGES, nodes: readonly NodeConfig[] = []): Rig {
  const hooks: PageAllocHooks = {};
  const vm = testVm({ memoryBytes: MEMORY, cpus: 1, hooks, reclaimPolicy: factory, nodes });
  installReclaim(vm, hooks);
  if (swapPages > 0) enableSwapArea(vm, new MemorySwapDevice(vm.ram, swapPages), { path: '/swap', kind: 'file', inode: null, max: swapPages, badPages: [] }, 0);
  const mm = testMm(vm);
  return { vm, mm, memory: attachUser(mm).memory };
}

function map(mm: MmStruct, nrPages: number, flags = MAP_PRIVATE): number {
  return doMmap(mm, { file: null, addr: 0, length: nrPages * PAGE_SIZE, prot: PROT_READ | PROT_WRITE, flags: flags | MAP_ANONYMOUS, pgoff: 0 });
}

/** Memory with a number in each page, and what the numbers are. */
class Region {
  readonly addr: number;
  readonly words: Uint32Array;
  readonly #memory: UserMemory;

  constructor({ mm, memory }: Rig, nrPages: number, flags = MAP_PRIVATE) {
    this.addr = map(mm, nrPages, flags);
    this.words = new Uint32Array(nrPages);
    this.#memory = memory;
  }

  store(page: number, word: number): void {
    this.#memory.store32(this.addr + page * PAGE_SIZE + 8, word);
    this.words[page] = word;
  }

  fill(): this {
    for (let page = 0; page < this.words.length; page++) this.store(page, page * 7 + 1);
    return this;
  }

  /** Pages that do not hold what was stored. */
  wrong(first = 0, end = this.words.length): number {
    let wrong = 0;
    for (let page = first; page < end; page++) if (this.#memory.load32(this.addr + page * PAGE_SIZE + 8) !== this.words[page]) wrong++;
    return wrong;
  }
}

function validate(vm: Vm): void {
  validateVm(vm);
  vm.pages.validate();
}

/** Pages on lists, of all kinds. */
function onLists({ pages }: Vm): number {
  let sum = 0;
  for (const lruvec of pages.lru.lruvecs) for (let list = 0; list <= LRU_UNEVICTABLE; list++) sum += lruvec.size(list);
  return sum;
}

/** Runs the suite: a `describe` block named after the policy. */
export function reclaimPolicyContract(factory: ReclaimPolicyFactory): void {
  describe(`reclaim policy ${factory.name}`, () => {
    it('loses nothing where programs have more than there is', () => {
      const { vm, mm, memory } = rig(factory);
      const regions = [new Region({ vm, mm, memory }, PAGES), new Region({ vm, mm, memory }, PAGES / 2, MAP_SHARED)];
      for (const region of regions) region.fill();
      validate(vm);
      const prng = new Prng(SEED);
      for (let step = 0; step < 100; step++) {
        const region = regions[prng.below(2)];
        const first = prng.below(region.words.length);
        const end = Math.min(first + 1 + prng.below(60), region.words.length);
        if (prng.below(2) === 0) for (let page = first; page < end; page++) region.store(page, 1 + prng.below(2 ** 31));
        else expect(region.wrong(first, end)).toBe(0);
      }
      validate(vm);
      for (const region of regions) expect(region.wrong()).toBe(0);
      for (const region of regions) vmMunmap(mm, region.addr, region.words.length * PAGE_SIZE);
      expect(vm.swap.nrFree).toBe(vm.totalSwapPages);
      validate(vm);
    });

    it('keeps its lists through all that happens to pages', () => {
      const set = rig(factory);
      const { vm, mm } = set;
      const prng = new Prng(SEED + 1);
      const region = new Region(set, PAGES / 4).fill();
      for (let step = 0; step < 120; step++) {
        const first = prng.below(region.words.length - 64);
        const count = 1 + prng.below(63);
        const [addr, bytes] = [region.addr + first * PAGE_SIZE, count * PAGE_SIZE];
        switch (prng.below(8)) {
          case 0:
            doMadvise(mm, addr, bytes, MADV_COLD);
            break;
          case 1:
            doMadvise(mm, addr, bytes, MADV_PAGEOUT);
            break;
          case 2:
            doMlock(mm, addr, bytes, 0);
            break;
          case 3: {
            const child = dupMm(mm, mm.limits);
            if (typeof child === 'number') break;
            region.store(first, step);
            mmput(child);
            break;
          }
          case 4: {
            lruAddDrainAll(vm);
            const { pfn } = pageState(mm, addr);
            if (pfn < 0 || !isolateLru(vm, pfn)) break;
            if (prng.below(2) === 0) tryToFreePages(vm, GFP_KERNEL, 0, 32, 1);
            putbackLru(vm, pfn);
            break;
          }
          case 5:
            tryToFreePages(vm, GFP_KERNEL, 0, 1 + prng.below(200), 1);
            break;
          default:
            for (let page = first; page < first + count; page++) region.store(page, 1 + prng.below(2 ** 31));
        }
        if (step % 10 === 0) validate(vm);
      }
      expect(region.wrong()).toBe(0);
      // What is given up reads as it was, or as zero.
      doMadvise(mm, region.addr, 256 * PAGE_SIZE, MADV_FREE);
      tryToFreePages(vm, GFP_KERNEL, 0, 64, 1);
      validate(vm);
      vmMunmap(mm, region.addr, region.words.length * PAGE_SIZE);
      lruAddDrainAll(vm);
      expect(onLists(vm)).toBe(0);
      validate(vm);
    });

    it('gives about as much as is asked for', () => {
      const set = rig(factory);
      const { vm } = set;
      new Region(set, PAGES / 4).fill();
      lruAddDrainAll(vm);
      for (const wanted of [32, 100, 700]) {
        // Pages that were written have to be looked at again before they go.
        let freed = 0;
        for (let tries = 0; tries < 20 && freed < wanted; tries++) freed += tryToFreePages(vm, GFP_KERNEL, 0, wanted - freed, 1);
        expect(freed).toBeGreaterThanOrEqual(wanted);
        expect(freed).toBeLessThanOrEqual(2 * wanted + 64);
      }
      validate(vm);
    });

    it('gives up where there is nothing to take', () => {
      const set = rig(factory, 0);
      const { vm } = set;
      const region = new Region(set, PAGES / 4).fill();
      lruAddDrainAll(vm);
      const before = onLists(vm);
      expect(tryToFreePages(vm, GFP_KERNEL, 0, 32, 1)).toBe(0);
      lruAddDrainAll(vm);
      expect(onLists(vm)).toBe(before);
      expect(region.wrong()).toBe(0);
      validate(vm);
    });

    it('leaves locked pages and zones that do not help alone', () => {
      const set = rig(factory);
      const { vm, mm } = set;
      const region = new Region(set, 512).fill();
      doMlock(mm, region.addr, 256 * PAGE_SIZE, 0);
      lruAddDrainAll(vm);
      // Zone 0 is DMA, which has none of these.
      const [lruvec] = vm.pages.lru.lruvecs;
      const sc = new ScanControl(64, GFP_KERNEL, 0, 0, RECLAIMER_DIRECT);
      for (sc.priority = 12; sc.priority >= 0; sc.priority--) vm.reclaim.policy.shrink(lruvec, sc);
      expect(sc.nrReclaimed).toBe(0);
      for (let tries = 0; tries < 40; tries++) tryToFreePages(vm, GFP_KERNEL, 0, 256, 1);
      for (let page = 0; page < 256; page++) expect(pageState(mm, region.addr + page * PAGE_SIZE).kind).toBe('anon');
      expect(region.wrong()).toBe(0);
      validate(vm);
    });

    it('keeps enough free that nobody has to fail', () => {
      const set = rig(factory);
      const { vm } = set;
      const region = new Region(set, (3 * PAGES) / 2);
      for (let page = 0; page < region.words.length; page++) {
        region.store(page, page + 1);
        if (page % 512 !== 0) continue;
        for (const zone of vm.pages.zones) if (zone.managed > 4096) expect(zone.nrFree).toBeGreaterThan(zone.wmarkPages(WMARK_MIN) / 2);
      }
      expect(vm.pages.events[VM_EVENT.PGSTEAL_KSWAPD] + vm.pages.events[VM_EVENT.PGSTEAL_DIRECT]).toBeGreaterThan(PAGES / 2);
    });

    it('takes over from another policy, and gives way to one', () => {
      const set = rig(factory);
      const { vm } = set;
      const region = new Region(set, (5 * PAGES) / 4).fill();
      for (const next of [classicReclaim, factory, classicReclaim, factory]) {
        lruAddDrainAll(vm);
        const before = onLists(vm);
        setReclaimPolicy(vm, next);
        expect(onLists(vm)).toBe(before);
        validate(vm);
        expect(region.wrong(0, PAGES / 4)).toBe(0);
        region.store(1, 4711);
      }
      expect(region.wrong()).toBe(0);
    });

    it('keeps nodes apart', () => {
      const half = MEMORY / 2;
      const set = rig(factory, 4 * PAGES, [{ memoryBytes: half, cpus: [0] }, { memoryBytes: half, cpus: [] }]);
      const { vm } = set;
      const region = new Region(set, PAGES).fill();
      validate(vm);
      expect(region.wrong()).toBe(0);
      expect(vm.pages.lru.lruvecs.every((lruvec) => lruvec.zonePages.some((pages) => pages > 0))).toBe(true);
      validate(vm);
    });

    it('does the same again', () => {
      const run = (): number[] => {
        const set = rig(factory);
        const region = new Region(set, PAGES).fill();
        region.wrong();
        return [...set.vm.pages.events];
      };
      expect(run()).toEqual(run());
    });
  });
}
