/**
 * OPT as reclaim has it: what is used again latest goes. The kernel cannot know; so the program is run twice. The first time its
 * references are recorded (`recordReferences` of the kernel package), the second time they are the oracle.
 *
 * How far the program has got in them follows from its faults. A page that comes in was not there when memory was last taken, and
 * from then on nothing was taken: so the reference that brought it in is the first to this page since. All references up to that one
 * are past.
 *
 *     nextUse[page] is the first reference to it behind `past`; at their end, of one that is not used any more
 *     numberOf[pfn] === page + 1 ⟺ frameOf[page] === pfn
 *
 * The oracle speaks of one address space: the first one that has a page where the first reference is. Other pages have a second
 * chance, huge ones among them, and go before those that the oracle knows.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { LazyColumns, PG_HEAD, PG_REFERENCED } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import type { MmStruct } from './mm-struct.ts';
import { findLeaf } from './pgtable.ts';
import { PTE_MAPS } from './pte.ts';
import { FOLIOREF_RECLAIM } from './reclaim.ts';
import type { ReclaimPolicy, ReclaimPolicyFactory } from './reclaim.ts';
import { Opt } from './replacement/opt.ts';
import { pageMappings } from './rmap.ts';
import type { ScanControl } from './scan-control.ts';
import { LOCKED, SingleList, UNUSED, shrinkPages, takeUse } from './single-list.ts';
import type { PageChooser, SingleListState } from './single-list.ts';
import { lruAddDrain } from './swap.ts';
import type { Vm } from './vm.ts';

/** References to pages in the order in which a program makes them. */
class Oracle {
  /** Numbers of pages by their virtual page number. */
  readonly #numbers = new Map<number, number>();
  /** By reference: the page, and the reference that uses it next. */
  readonly #pages: Int32Array;
  readonly #next: Float64Array;
  /** By page. */
  readonly nextUse: Float64Array;
  /** The last reference that is known to be past; −1 for none. */
  past = -1;

  /** @param pages virtual page numbers */
  constructor(pages: readonly number[]) {
    this.#pages = new Int32Array(pages.length);
    this.#next = new Float64Array(pages.length);
    pages.forEach((vpn, at) => {
      if (!this.#numbers.has(vpn)) this.#numbers.set(vpn, this.#numbers.size);
      this.#pages[at] = this.#numbers.get(vpn)!;
    });
    this.nextUse = new Float64Array(this.#numbers.size).fill(Infinity);
    for (let at = pages.length - 1; at >= 0; at--) {
      this.#next[at] = this.nextUse[this.#pages[at]];
      this.nextUse[this.#pages[at]] = at;
    }
  }

  get nrPages(): number {
    return this.#numbers.size;
  }

  /** The page of the last reference that is past; −1 for none. */
  get current(): number {
    return this.past < 0 ? -1 : this.#pages[this.past];
  }

  /** The number of a page; −1 for one that is not referred to. */
  numberOf(vpn: number): number {
    return this.#numbers.get(vpn) ?? -1;
  }

  /** A page that was not there is used: all references up to the next one to it are past. @param touched is told of each page of these */
  uses(page: number, touched: (page: number) => void): void {
    const until = this.nextUse[page];
    if (until === Infinity || page === this.current) return;
    while (this.past < until) {
      const other = this.#pages[++this.past];
      this.nextUse[other] = this.#next[this.past];
      touched(other);
    }
  }
}

interface OptState extends SingleListState {
  /** Pages that the oracle knows of, by when they are used; their list is `row`, that of the others follows. */
  readonly heap: Opt;
  /** By page: it is in the heap. And how many are. */
  readonly inHeap: Uint8Array;
  heapSize: number;
  /** Pages of the other list, those of them that were looked at in this run, and known ones that cannot be taken in it. */
  others: number;
  looked: number;
  readonly passed: number[];
}

const stateOf = (lruvec: Lruvec): OptState => lruvec.policyState as OptState;

/** Two lists: of pages that the oracle knows of, and of the others. */
class KnownAndOthers extends SingleList {
  readonly oracle: Oracle;
  readonly numberOf: Int32Array;
  readonly frameOf: Int32Array;
  /** By page: its fault was seen while it was served, the page has not entered yet. */
  readonly #awaited: Uint8Array;
  /** Whose pages the oracle speaks of; −1 as long as that is open. */
  #pgd = -1;
  readonly #first: number;
  /** What enters was isolated to be taken, and stays: it was there all the time. */
  entersAgain = false;

  constructor(vm: Vm, pages: readonly number[]) {
    super(vm);
    this.oracle = new Oracle(pages);
    this.#first = pages[0] ?? -1;
    const { nrFrames } = vm.frames;
    this.numberOf = new LazyColumns(nrFrames * 4, 1).int32(nrFrames);
    this.frameOf = new Int32Array(this.oracle.nrPages);
    this.#awaited = new Uint8Array(this.oracle.nrPages);
  }

  override enter(lruvec: Lruvec, pfn: Pfn, atTail: boolean): number {
    if (atTail || !this.identify(lruvec, pfn)) stateOf(lruvec).others++;
    return super.enter(lruvec, pfn, atTail);
  }

  override leave(lruvec: Lruvec, pfn: Pfn): void {
    super.leave(lruvec, pfn);
    const page = this.numberOf[pfn] - 1;
    if (page < 0) {
      stateOf(lruvec).others--;
      return;
    }
    this.numberOf[pfn] = 0;
    this.frameOf[page] = 0;
  }

  override split(lruvec: Lruvec, _head: Pfn, _pfn: Pfn): void {
    stateOf(lruvec).others++;
  }

  override rowOf(lruvec: Lruvec, pfn: Pfn): number {
    const { row } = stateOf(lruvec);
    return this.numberOf[pfn] > 0 ? row : row + 1;
  }

  override rows(lruvec: Lruvec): Iterable<number> {
    const { row } = stateOf(lruvec);
    return [row + 1, row];
  }

  override mayLieOn(lruvec: Lruvec, pfn: Pfn, row: number): boolean {
    return row === this.rowOf(lruvec, pfn);
  }

  /** Looks what page of the oracle's a frame has; if it came in, the program has got as far as that. @returns whether it is one */
  identify(lruvec: Lruvec, pfn: Pfn): boolean {
    if (this.#first < 0 || (this.vm.frames.flags[pfn] & PG_HEAD) !== 0) return false;
    for (const { mm, address } of pageMappings(this.vm, pfn)) {
      if (!this.#isProgram(mm, address / PAGE_SIZE)) continue;
      const page = this.oracle.numberOf(address / PAGE_SIZE);
      if (page < 0 || this.frameOf[page] !== 0) continue;
      if (!this.entersAgain && this.#awaited[page] === 0) this.#reached(page);
      this.#awaited[page] = 0;
      this.numberOf[pfn] = page + 1;
      this.frameOf[page] = pfn;
      this.load(lruvec, page);
      return true;
    }
    return false;
  }

  /** The fault under way, if it is one of the program's: it is that far. */
  faults(): void {
    const cpu = this.vm.smp.cpus[this.vm.smp.processorId];
    if (cpu.cr3 !== this.#pgd * PAGE_SIZE) return;
    const page = this.oracle.numberOf(Math.floor(cpu.faultAddress / PAGE_SIZE));
    if (page < 0 || this.frameOf[page] !== 0) return;
    const mm = this.#mm();
    if (mm === undefined || this.#isMapped(mm, cpu.faultAddress)) return;
    this.#awaited[page] = 1;
    this.#reached(page);
  }

  /** Puts a page into the heap. */
  load(lruvec: Lruvec, page: number): void {
    const state = stateOf(lruvec);
    const nextUse = this.oracle.nextUse[page];
    if (state.inHeap[page] === 0) {
      state.inHeap[page] = 1;
      state.heapSize++;
      state.heap.loaded(page, 1, nextUse);
    } else {
      state.heap.touched(page, 1, nextUse);
    }
  }

  readonly #touched = (page: number): void => {
    const pfn = this.frameOf[page];
    if (pfn !== 0) this.load(this.vm.pages.lru.lruvecOf(pfn), page);
  };

  #reached(page: number): void {
    this.oracle.uses(page, this.#touched);
  }

  #isProgram(mm: MmStruct, vpn: number): boolean {
    if (this.#pgd < 0 && vpn === this.#first) this.#pgd = mm.pgd;
    return mm.pgd === this.#pgd;
  }

  #mm(): MmStruct | undefined {
    let found: MmStruct | undefined;
    this.vm.mms.forEach((mm) => {
      if (mm.pgd === this.#pgd) found = mm;
    });
    return found;
  }

  #isMapped(mm: MmStruct, address: number): boolean {
    const entry = findLeaf(mm, address - (address % PAGE_SIZE));
    return entry >= 0 && (this.vm.ram.i32[entry] & PTE_MAPS) !== 0;
  }
}

class OptReclaim implements ReclaimPolicy, PageChooser {
  readonly name = 'opt';
  readonly placement: KnownAndOthers;
  readonly activatesFaulted = false;
  readonly #vm: Vm;

  constructor(vm: Vm, pages: readonly number[]) {
    this.#vm = vm;
    this.placement = new KnownAndOthers(vm, pages);
  }

  initLruvec(lruvec: Lruvec): void {
    const { nrPages } = this.placement.oracle;
    const row = this.#vm.frames.allocListHeads(2);
    const state: OptState = { row, heap: new Opt(), inHeap: new Uint8Array(nrPages), heapSize: 0, others: 0, looked: 0, passed: [] };
    lruvec.policyState = state;
  }

  exitLruvec(lruvec: Lruvec): void {
    this.#vm.frames.freeListHeads(stateOf(lruvec).row, 2);
    lruvec.policyState = null;
  }

  markAccessed(pfn: Pfn): void {
    this.#vm.frames.flags[pfn] |= PG_REFERENCED;
  }

  age(): void {}

  shrink(lruvec: Lruvec, sc: ScanControl): void {
    const state = stateOf(lruvec);
    const { placement } = this;
    lruAddDrain(this.#vm);
    placement.faults();
    state.looked = 0;
    placement.entersAgain = true;
    shrinkPages(this.#vm, lruvec, sc, this);
    placement.entersAgain = false;
    for (const page of state.passed) if (placement.frameOf[page] !== 0) placement.load(lruvec, page);
    state.passed.length = 0;
  }

  next(lruvec: Lruvec): Pfn {
    const { lists } = this.#vm.frames;
    const state = stateOf(lruvec);
    if (state.looked < state.others) return lists.last(state.row + 1);
    while (state.heapSize > 0) {
      const page = state.heap.victim();
      state.heapSize--;
      state.inHeap[page] = 0;
      const pfn = this.placement.frameOf[page];
      // What was brought in last is about to be used.
      if (page === this.placement.oracle.current) state.passed.push(page);
      else if (pfn !== 0 && this.#vm.pages.lru.lruvecOf(pfn) === lruvec) return pfn;
    }
    return lists.last(state.row + 1);
  }

  goes(lruvec: Lruvec, pfn: Pfn): boolean {
    const { placement } = this;
    if (placement.numberOf[pfn] > 0) return true;
    const use = takeUse(this.#vm, pfn);
    if (use === UNUSED) return true;
    const state = stateOf(lruvec);
    if (use === LOCKED) return false;
    if (placement.identify(lruvec, pfn)) {
      state.others--;
      this.#vm.frames.lists.moveTo(state.row, pfn);
    } else this.pass(lruvec, pfn);
    return false;
  }

  pass(lruvec: Lruvec, pfn: Pfn): void {
    const state = stateOf(lruvec);
    const page = this.placement.numberOf[pfn] - 1;
    if (page >= 0) {
      state.passed.push(page);
      return;
    }
    state.looked++;
    this.#vm.frames.lists.moveTo(state.row + 1, pfn);
  }

  checkReferences(): number {
    return FOLIOREF_RECLAIM;
  }

  eviction(): number {
    return 0;
  }

  refault(): void {}

  validate(lruvec: Lruvec): void {
    const { placement } = this;
    const { row, heapSize, others } = stateOf(lruvec);
    const { lists } = this.#vm.frames;
    for (const pfn of lists.iterate(row)) bugOn(placement.frameOf[placement.numberOf[pfn] - 1] !== pfn, `opt: frame ${pfn} is not the oracle's page`);
    let found = 0;
    for (const pfn of lists.iterate(row + 1)) {
      bugOn(placement.numberOf[pfn] !== 0, `opt: frame ${pfn} is on the wrong list`);
      found++;
    }
    bugOn(found > others || heapSize < 0, `opt: ${found} pages that the oracle does not know of, ${others} counted`);
  }
}

/**
 * OPT, for a run whose references are known.
 *
 * @param references virtual page numbers in the order in which the program uses them, as `recordReferences` gives them
 */
export function optReclaim(references: readonly number[]): ReclaimPolicyFactory {
  return { name: 'opt', create: (vm) => new OptReclaim(vm, references) };
}
