/** Pages that can be moved, as a layer above would have them: each has an owner that finds it again wherever it is. */
import type { Pfn } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, __GFP_NOWARN } from '../gfp.ts';
import type { MigrationOps } from '../migration-ops.ts';
import { PG_ANON, PG_LRU } from '../page.ts';
import type { PageAlloc } from '../page-alloc.ts';

/** What an owner writes into its page, to be found there after a move. */
const MARK = PG_ANON | PG_LRU;

export class MovablePages {
  /** Frame of each owner. */
  readonly pfnOf = new Map<number, Pfn>();
  /** Frames that somebody holds besides: they cannot be moved. */
  readonly pinned = new Set<Pfn>();
  moved = 0;
  readonly #pages: PageAlloc;
  #nextOwner = 1;

  constructor(pages: PageAlloc) {
    this.#pages = pages;
    pages.hooks.migration = this.ops();
  }

  /** Allocates a page; its owner, or −1. */
  alloc(gfp = GFP_HIGHUSER_MOVABLE | __GFP_NOWARN): number {
    const pfn = this.#pages.allocPage(gfp);
    if (pfn < 0) return -1;
    const owner = this.#nextOwner++;
    this.#own(pfn, owner);
    return owner;
  }

  free(owner: number): void {
    const pfn = this.pfnOf.get(owner)!;
    this.pfnOf.delete(owner);
    this.#disown(pfn);
    this.#pages.freePage(pfn);
  }

  freeAll(): void {
    for (const owner of [...this.pfnOf.keys()]) this.free(owner);
  }

  /** Every owner has a page that knows it, and no two the same. */
  isConsistent(): boolean {
    const { index, flags } = this.#pages.frames;
    const frames = new Set(this.pfnOf.values());
    return frames.size === this.pfnOf.size && [...this.pfnOf].every(([owner, pfn]) => index[pfn] === owner && (flags[pfn] & MARK) === MARK);
  }

  ops(): MigrationOps {
    const { flags, index, refcount } = this.#pages.frames;
    return {
      drain: () => {},
      isolate: (pfn) => {
        if ((flags[pfn] & PG_LRU) === 0 || this.pinned.has(pfn)) return false;
        flags[pfn] &= ~PG_LRU;
        refcount[pfn]++;
        return true;
      },
      putback: (list) => {
        for (const pfn of list) {
          flags[pfn] |= PG_LRU;
          refcount[pfn]--;
        }
        list.length = 0;
      },
      migrate: (list, getNewPage) => {
        while (list.length > 0) {
          const from = list[0];
          const to = getNewPage(from, 0);
          if (to < 0) return to;
          list.shift();
          const owner = index[from];
          this.#disown(from);
          refcount[from] = 1;
          this.#pages.freePage(from);
          this.#own(to, owner);
          this.moved++;
        }
        return 0;
      },
    };
  }

  #own(pfn: Pfn, owner: number): void {
    const { flags, index, mapcount, mapping } = this.#pages.frames;
    flags[pfn] |= MARK;
    index[pfn] = owner;
    mapcount[pfn] = 1;
    mapping[pfn] = 1;
    this.pfnOf.set(owner, pfn);
  }

  #disown(pfn: Pfn): void {
    const { flags, mapcount, mapping } = this.#pages.frames;
    flags[pfn] &= ~MARK;
    mapcount[pfn] = 0;
    mapping[pfn] = 0;
  }
}
