/**
 * What memory is to a program, without page tables: for each page of each address space its rights, and what it holds.
 * No code in common with the emulator.
 */
import { PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE } from '@pagelab/abi';

/** A shared object: words by page offset; what is missing is zero. */
export interface ModelObject {
  pages: number;
  readonly words: Map<number, number>;
}

export interface ModelPage {
  prot: number;
  /** Where a shared page is kept; a private one keeps its own word. */
  readonly object: ModelObject | null;
  readonly pgoff: number;
  word: number;
  /** May not be touched, whatever its rights. */
  guard: boolean;
  /** Empty in a child. */
  wiped: boolean;
}

/** Outcomes of an access beside a word: the signal's code. */
export type ModelFault = 'MAPERR' | 'ACCERR' | 'BUS';

/** One address space. Each page holds one word. */
export class ModelSpace {
  readonly pages = new Map<number, ModelPage>();

  map(addr: number, nrPages: number, prot: number, object: ModelObject | null, pgoff: number): void {
    for (let i = 0; i < nrPages; i++) {
      this.pages.set(addr + i * PAGE_SIZE, { prot, object, pgoff: pgoff + i, word: 0, guard: false, wiped: false });
    }
  }

  unmap(addr: number, nrPages: number): void {
    for (let i = 0; i < nrPages; i++) this.pages.delete(addr + i * PAGE_SIZE);
  }

  /** Up to the first hole. Returns whether there was none. */
  protect(addr: number, nrPages: number, prot: number): boolean {
    for (let i = 0; i < nrPages; i++) {
      const page = this.pages.get(addr + i * PAGE_SIZE);
      if (page === undefined) return false;
      page.prot = prot;
    }
    return true;
  }

  /** Private pages are zero again; shared ones keep what they hold. */
  discard(addr: number, nrPages: number): void {
    for (let i = 0; i < nrPages; i++) {
      const page = this.pages.get(addr + i * PAGE_SIZE);
      if (page !== undefined && page.object === null) page.word = 0;
    }
  }

  /** Moves pages, over what is there; where there is a hole, the other end keeps what it has. */
  move(from: number, to: number, nrPages: number): void {
    for (let i = 0; i < nrPages; i++) {
      const page = this.pages.get(from + i * PAGE_SIZE);
      if (page === undefined) continue;
      this.pages.delete(from + i * PAGE_SIZE);
      this.pages.set(to + i * PAGE_SIZE, page);
    }
  }

  /** Adds pages behind a mapped one that continue it. */
  extend(last: number, nrPages: number): void {
    const model = this.pages.get(last)!;
    for (let i = 1; i <= nrPages; i++) {
      this.pages.set(last + i * PAGE_SIZE, { ...model, pgoff: model.pgoff + i, word: 0, guard: false });
    }
  }

  each(addr: number, nrPages: number, change: (page: ModelPage) => void): void {
    for (let i = 0; i < nrPages; i++) {
      const page = this.pages.get(addr + i * PAGE_SIZE);
      if (page !== undefined) change(page);
    }
  }

  load(addr: number): number | ModelFault {
    const page = this.pages.get(addr - (addr % PAGE_SIZE));
    if (page === undefined) return 'MAPERR';
    // x86: whatever may be written or executed can be read.
    if ((page.prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) === 0) return 'ACCERR';
    if (page.guard) return 'MAPERR';
    if (page.object === null) return page.word;
    if (page.pgoff >= page.object.pages) return 'BUS';
    return page.object.words.get(page.pgoff) ?? 0;
  }

  store(addr: number, word: number): ModelFault | null {
    const page = this.pages.get(addr - (addr % PAGE_SIZE));
    if (page === undefined) return 'MAPERR';
    if ((page.prot & PROT_WRITE) === 0) return 'ACCERR';
    if (page.guard) return 'MAPERR';
    if (page.object === null) {
      page.word = word;
      return null;
    }
    if (page.pgoff >= page.object.pages) return 'BUS';
    page.object.words.set(page.pgoff, word);
    return null;
  }

  fork(): ModelSpace {
    const child = new ModelSpace();
    for (const [addr, page] of this.pages) {
      child.pages.set(addr, page.wiped ? { ...page, word: 0, guard: false } : { ...page });
    }
    return child;
  }
}
