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

interface ModelPage {
  prot: number;
  /** Where a shared page is kept; a private one keeps its own word. */
  readonly object: ModelObject | null;
  readonly pgoff: number;
  word: number;
}

/** Outcomes of an access beside a word: the signal's code. */
export type ModelFault = 'MAPERR' | 'ACCERR' | 'BUS';

/** One address space. Each page holds one word. */
export class ModelSpace {
  readonly pages = new Map<number, ModelPage>();

  map(addr: number, nrPages: number, prot: number, object: ModelObject | null, pgoff: number): void {
    for (let i = 0; i < nrPages; i++) {
      this.pages.set(addr + i * PAGE_SIZE, { prot, object, pgoff: pgoff + i, word: 0 });
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

  /** Moves pages to where nothing is. */
  move(from: number, to: number, nrPages: number): void {
    const moved: (ModelPage | undefined)[] = [];
    for (let i = 0; i < nrPages; i++) {
      moved.push(this.pages.get(from + i * PAGE_SIZE));
      this.pages.delete(from + i * PAGE_SIZE);
    }
    moved.forEach((page, i) => {
      if (page !== undefined) this.pages.set(to + i * PAGE_SIZE, page);
    });
  }

  load(addr: number): number | ModelFault {
    const page = this.pages.get(addr - (addr % PAGE_SIZE));
    if (page === undefined) return 'MAPERR';
    // x86: whatever may be written or executed can be read.
    if ((page.prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) === 0) return 'ACCERR';
    if (page.object === null) return page.word;
    if (page.pgoff >= page.object.pages) return 'BUS';
    return page.object.words.get(page.pgoff) ?? 0;
  }

  store(addr: number, word: number): ModelFault | null {
    const page = this.pages.get(addr - (addr % PAGE_SIZE));
    if (page === undefined) return 'MAPERR';
    if ((page.prot & PROT_WRITE) === 0) return 'ACCERR';
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
    for (const [addr, page] of this.pages) child.pages.set(addr, { ...page });
    return child;
  }
}
