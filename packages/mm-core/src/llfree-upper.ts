/**
 * LLFree's upper allocator: which tree an allocation goes to.
 *
 * Each CPU keeps trees *reserved* for itself, one for each kind of allocation, and allocates from them alone until they
 * are used up; so CPUs do not meet, and what is alike lies together. There are no lists: trees are found by looking at
 * their entries, from where the last one was found.
 *
 * A tree's entry is what is free in it and its kind. The free frames of a reserved tree are counted in the reservation,
 * what other CPUs give back meanwhile in the entry:
 *
 *     entry's free + (reserved ? reservation's free : 0) === free frames of the tree's areas
 *
 * When a reservation is used up, the next tree is one of the same kind that is partly used; if there is none, one all of
 * which is free, which takes any kind; if there is none, one that is nearly full. Then the other CPUs' reservations of the
 * kind are dissolved; then trees of other kinds are looked at, and the policy says what may be done to one: to *demote* it,
 * which makes it of the new kind, or only to *steal* from it.
 *
 * After Wrenger et al., "LLFree: Scalable and Optionally-Persistent Page-Frame Allocation", USENIX ATC 2023. What is lock
 * free there is plain here: the machine runs one CPU at a time.
 */
import { bugOn } from '@pagelab/lib';
import { int32Columns } from './free-bits.ts';
import { AREA_ORDER, LlfreeLower, TREE_AREAS, TREE_FRAMES, TREE_ORDER } from './llfree-lower.ts';
import { MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE } from './migratetype.ts';
import { MAX_PAGE_ORDER } from './page.ts';
import { PristineRanges } from './pristine.ts';
import type { BlockFrames } from './set-apart.ts';

/** The first three kinds are migrate types; this one is for blocks of whole areas, of whatever type. */
export const KIND_HUGE = 3;
const NR_KINDS = 4;

/** What an allocation may do to a tree of another kind. */
const STEAL = 1;
const DEMOTE = 2;

/**
 * What an allocation of a kind may do to a tree of a kind, row by row. What stays where it is spoils a tree for all else, so
 * that the tree becomes of its kind; what can be moved or given back does no lasting harm.
 */
const POLICY = Uint8Array.of(
  // of kind  UNMOVABLE  MOVABLE  RECLAIMABLE  HUGE
  /* UNMOVABLE   */ 0, DEMOTE, DEMOTE, DEMOTE,
  /* MOVABLE     */ STEAL, 0, STEAL, DEMOTE,
  /* RECLAIMABLE */ STEAL, DEMOTE, 0, DEMOTE,
  /* HUGE        */ STEAL, STEAL, STEAL, 0,
);

/** Whose trees to look at when an allocation's own kind has none left, in order. Three for each kind. */
const FALLBACKS = Uint8Array.of(
  /* UNMOVABLE   */ KIND_HUGE, MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE,
  /* MOVABLE     */ KIND_HUGE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE,
  /* RECLAIMABLE */ KIND_HUGE, MIGRATE_UNMOVABLE, MIGRATE_MOVABLE,
  /* HUGE        */ MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE,
);

/** A tree of which less than this share is free is nearly full, and rather left to fill up. */
const NEARLY_FULL_SHARE = 16;
/** So many frees in a row to one tree reserve it. */
const FREES_TO_RESERVE = 4;

/** The state of a tree that nothing was ever taken from, or that is not there; otherwise its kind and 1, and RESERVED. */
const UNTOUCHED = 0;
const KIND_MASK = 7;
const RESERVED = 8;

/** Called when a tree becomes of another kind with frames of it in use. */
export type OnDemote = (tree: number, from: number, to: number) => void;

export class LlfreeUpper {
  /** Free frames in all trees. */
  nrFree = 0;
  readonly lower: LlfreeLower;
  /** Trees of which no frame was ever handed out. */
  readonly pristine = new PristineRanges();
  readonly nrTrees: number;

  private readonly onDemote: OnDemote;
  /** Entries: free frames that no reservation counts, state, and frames in use. */
  private readonly free: Int32Array;
  private readonly state: Uint8Array;
  private readonly used: Int32Array;
  /** What is in `free` by kind, so that nobody looks for what is not there; and touched trees nothing of which is in use. */
  private readonly freeOfKind = new Float64Array(NR_KINDS);
  private nrUnused = 0;
  /** By kind: the tree that was last stolen from. */
  private readonly stolenFrom = new Int32Array(NR_KINDS);
  /** The largest order that may be free: searches that failed are not repeated until something comes back. */
  private bound = MAX_PAGE_ORDER;
  /** Reservations, by CPU and kind: the tree or −1, its free frames, and where the next search begins. */
  private readonly slotTree: Int32Array;
  private readonly slotFree: Int32Array;
  private readonly slotNear: Int32Array;
  /** Of each CPU the tree it last freed to, and how often in a row. */
  private readonly freedTree: Int32Array;
  private readonly freedTimes: Int32Array;

  constructor(nrTrees: number, nrCpus: number, onDemote: OnDemote) {
    this.nrTrees = nrTrees;
    this.onDemote = onDemote;
    this.lower = new LlfreeLower(nrTrees);
    [this.free, this.used] = int32Columns(nrTrees, nrTrees);
    this.state = new Uint8Array(nrTrees);
    this.slotTree = new Int32Array(nrCpus * NR_KINDS).fill(-1);
    this.slotFree = new Int32Array(nrCpus * NR_KINDS);
    this.slotNear = new Int32Array(nrCpus * NR_KINDS);
    this.freedTree = new Int32Array(nrCpus).fill(-1);
    this.freedTimes = new Int32Array(nrCpus);
  }

  // ---- what there is

  /** Gives it trees `[from, to)`, all of them free. Costs nothing for each. */
  addTrees(from: number, to: number): void {
    this.pristine.add(from, to);
    this.nrFree += (to - from) * TREE_FRAMES;
    this.bound = MAX_PAGE_ORDER;
  }

  /** Gives it frames of one area of a tree that is not all there. */
  addFrames(from: number, to: number): void {
    const tree = from >>> TREE_ORDER;
    bugOn(this.pristine.has(tree), 'llfree: memory given twice');
    this.enter(tree);
    this.lower.addFrames(from, to);
    this.addFree(tree, to - from);
    this.nrFree += to - from;
    this.bound = MAX_PAGE_ORDER;
  }

  // ---- taking

  /**
   * Takes a block for a CPU.
   *
   * @param kind of the allocation
   * @param mayMix whether trees of other kinds may be broken into
   * @returns its first frame, −1 where there is none
   */
  take(cpu: number, kind: number, order: number, mayMix: boolean): number {
    const pages = 1 << order;
    const slot = cpu * NR_KINDS + kind;
    const own = this.slotTree[slot];
    if (own >= 0) {
      if (this.slotFree[slot] < pages) this.collect(slot);
      if (this.slotFree[slot] >= pages) {
        const frame = this.lower.take(own, order, this.slotNear[slot]);
        if (frame >= 0) return this.taken(slot, frame, pages);
      }
    }
    if (this.nrFree < pages || order > this.bound) return -1;
    if (order >= AREA_ORDER && this.lower.nrWholeAreas + this.pristine.count === 0) return -1;
    let frame = this.takeFromNext(slot, kind, order);
    if (frame >= 0) return frame;
    if (this.dissolveOthers(slot, kind)) frame = this.takeFromNext(slot, kind, order);
    if (frame < 0) frame = this.takeFromOtherKind(slot, kind, order, mayMix);
    if (frame < 0 && this.dissolveOthers(slot, -1)) {
      frame = this.takeFromNext(slot, kind, order);
      if (frame < 0) frame = this.takeFromOtherKind(slot, kind, order, mayMix);
    }
    if (frame < 0 && mayMix) this.bound = order - 1;
    return frame;
  }

  /** Takes a given block of at most an area, whoever has its tree reserved. @returns whether all of it was free */
  takeAt(frame: number, order: number): boolean {
    const tree = frame >>> TREE_ORDER;
    this.touch(tree);
    if (this.state[tree] === UNTOUCHED || !this.lower.takeAt(frame, order)) return false;
    this.dissolveTree(tree);
    this.addFree(tree, -(1 << order));
    this.addUsed(tree, 1 << order);
    this.nrFree -= 1 << order;
    return true;
  }

  /** Gives a block of at most an area back. */
  put(cpu: number, frame: number, order: number): void {
    const tree = frame >>> TREE_ORDER;
    const pages = 1 << order;
    this.lower.put(frame, order);
    this.nrFree += pages;
    this.bound = MAX_PAGE_ORDER;
    this.used[tree] -= pages;
    if (this.used[tree] === 0) this.nrUnused++;
    const state = this.state[tree];
    const slot = cpu * NR_KINDS + (state & KIND_MASK) - 1;
    if (this.slotTree[slot] === tree) {
      this.slotFree[slot] += pages;
      return;
    }
    this.addFree(tree, pages);
    if (this.freedTree[cpu] !== tree) {
      this.freedTree[cpu] = tree;
      this.freedTimes[cpu] = 1;
      return;
    }
    // Who frees here will free here again, and free frames near one another serve allocations well.
    if (++this.freedTimes[cpu] < FREES_TO_RESERVE || (state & RESERVED) !== 0) return;
    if (this.used[tree] === 0 || this.isNearlyFull(tree)) return;
    this.reserve(slot, tree, frame);
  }

  /** Whether a block of `order` is free. Costs a step for each tree where only small blocks are left. */
  hasFree(order: number): boolean {
    if (this.nrFree < 1 << order || order > this.bound) return false;
    if (this.pristine.count > 0 || order === 0) return true;
    if (order <= AREA_ORDER && this.lower.nrWholeAreas > 0) return true;
    if ((order < AREA_ORDER || this.lower.nrWholeAreas > 1) && this.search(order)) return true;
    this.bound = order - 1;
    return false;
  }

  // ---- areas that are set apart

  /** Free frames of an area. */
  freeIn(area: number): number {
    this.touch(Math.floor(area / TREE_AREAS));
    return this.lower.freeIn(area);
  }

  /** Gives an area away. */
  detach(area: number): BlockFrames {
    const tree = Math.floor(area / TREE_AREAS);
    this.touch(tree);
    this.enter(tree);
    this.dissolveTree(tree);
    const free = this.lower.freeIn(area);
    const size = this.lower.sizeOf(area);
    this.addUsed(tree, free - size);
    this.addFree(tree, -free);
    this.nrFree -= free;
    return { words: this.lower.detach(area), size };
  }

  /** Takes an area back. */
  attach(area: number, { words, size }: BlockFrames): void {
    const tree = Math.floor(area / TREE_AREAS);
    this.dissolveTree(tree);
    this.enter(tree);
    this.lower.attach(area, words, size);
    const free = this.lower.freeIn(area);
    this.addUsed(tree, size - free);
    this.addFree(tree, free);
    this.nrFree += free;
    this.bound = MAX_PAGE_ORDER;
  }

  // ---- looking at all of it

  /** The kind of a tree that was touched. */
  kindOfTree(tree: number): number {
    return (this.state[tree] & KIND_MASK) - 1;
  }

  /** Visits the free blocks of trees that are not pristine, the largest that there are. */
  forEachFree(visit: (frame: number, order: number) => void): void {
    this.forEachTouched((tree) => {
      for (let area = tree * TREE_AREAS; area < (tree + 1) * TREE_AREAS; area += 2) this.lower.forEachFree(area, visit);
    });
  }

  /** Counts what that visits; see {@link LlfreeLower.countFree}. */
  countFree(types: Uint8Array, shift: number, counts: Int32Array): void {
    this.forEachTouched((tree) => {
      for (let area = tree * TREE_AREAS; area < (tree + 1) * TREE_AREAS; area += 2) this.lower.countFree(area, types, shift, counts);
    });
  }

  /** Recomputes what is counted. @throws KernelBug for the first count that is wrong */
  validate(): void {
    const { lower, slotTree, slotFree } = this;
    const reservedFree = new Map<number, number>();
    for (const slot of slotTree.keys()) {
      const tree = slotTree[slot];
      if (tree < 0) continue;
      bugOn(reservedFree.has(tree), `llfree: tree ${tree} is reserved twice`);
      bugOn(this.state[tree] !== (((slot % NR_KINDS) + 1) | RESERVED), `llfree: tree ${tree} does not know who reserved it`);
      reservedFree.set(tree, slotFree[slot]);
    }
    let sum = this.pristine.count * TREE_FRAMES;
    let whole = 0;
    let unused = 0;
    const freeOfKind = new Float64Array(NR_KINDS);
    this.forEachTouched((tree) => {
      const reserved = reservedFree.get(tree);
      bugOn(((this.state[tree] & RESERVED) !== 0) !== (reserved !== undefined), `llfree: nobody reserved tree ${tree}`);
      lower.validate(tree);
      let free = 0;
      let used = 0;
      for (let area = tree * TREE_AREAS; area < (tree + 1) * TREE_AREAS; area++) {
        free += lower.freeIn(area);
        used += lower.sizeOf(area) - lower.freeIn(area);
      }
      const counted = this.free[tree] + (reserved ?? 0);
      bugOn(free !== counted, `llfree: tree ${tree} has ${free} free frames, but ${counted} counted`);
      bugOn(used !== this.used[tree], `llfree: tree ${tree} has ${used} frames in use, but ${this.used[tree]} counted`);
      sum += free;
      whole += lower.wholeAreas[tree];
      unused += used === 0 ? 1 : 0;
      freeOfKind[this.kindOfTree(tree)] += this.free[tree];
    });
    bugOn(unused !== this.nrUnused, `llfree: ${unused} unused trees, but ${this.nrUnused} counted`);
    bugOn(freeOfKind.some((free, kind) => free !== this.freeOfKind[kind]), 'llfree: free frames of a kind miscounted');
    for (let order = this.bound + 1; order <= MAX_PAGE_ORDER; order++) {
      bugOn(this.search(order), `llfree: a block of order ${order} is free that searches pass over`);
    }
    bugOn(sum !== this.nrFree, `llfree: ${sum} free frames, but ${this.nrFree} counted`);
    bugOn(whole !== lower.nrWholeAreas, `llfree: ${whole} whole areas, but ${lower.nrWholeAreas} counted`);
  }

  // ---- reservations

  /** Makes a tree the one that a CPU allocates a kind from. Nobody has it reserved. */
  private reserve(slot: number, tree: number, near: number): void {
    const before = this.slotTree[slot];
    if (before >= 0) this.dissolve(slot);
    this.freeOfKind[this.kindOfTree(tree)] -= this.free[tree];
    this.state[tree] = ((slot % NR_KINDS) + 1) | RESERVED;
    this.slotTree[slot] = tree;
    this.slotFree[slot] = this.free[tree];
    this.slotNear[slot] = near;
    this.free[tree] = 0;
  }

  private dissolve(slot: number): void {
    const tree = this.slotTree[slot];
    this.addFree(tree, this.slotFree[slot]);
    this.state[tree] &= ~RESERVED;
    this.slotTree[slot] = -1;
    this.slotFree[slot] = 0;
  }

  /** Dissolves all reservations but one: those of a kind, or with −1 all. @returns whether there were any */
  private dissolveOthers(slot: number, kind: number): boolean {
    let any = false;
    for (let other = kind < 0 ? 0 : kind; other < this.slotTree.length; other += kind < 0 ? 1 : NR_KINDS) {
      if (other === slot || this.slotTree[other] < 0) continue;
      this.dissolve(other);
      any = true;
    }
    return any;
  }

  private dissolveTree(tree: number): void {
    if ((this.state[tree] & RESERVED) === 0) return;
    const slot = this.slotTree.indexOf(tree);
    if (slot >= 0) this.dissolve(slot);
  }

  /** Adds what other CPUs gave back to a reservation. */
  private collect(slot: number): void {
    const tree = this.slotTree[slot];
    const free = this.free[tree];
    this.slotFree[slot] += free;
    this.addFree(tree, -free);
  }

  private taken(slot: number, frame: number, pages: number): number {
    this.slotFree[slot] -= pages;
    this.slotNear[slot] = frame;
    this.nrFree -= pages;
    this.addUsed(this.slotTree[slot], pages);
    return frame;
  }

  // ---- finding a tree

  /** Takes a block from another tree of the kind, or from one all of which is free, and reserves the tree. */
  private takeFromNext(slot: number, kind: number, order: number): number {
    const pages = 1 << order;
    if (this.freeOfKind[kind] < pages && this.nrUnused + this.pristine.count === 0) return -1;
    const { nrTrees, free, state, used } = this;
    const wanted = kind + 1;
    const start = this.slotNear[slot] >>> TREE_ORDER;
    let unused = -1;
    let full = -1;
    for (let i = 0, tree = start; i < nrTrees; i++, tree++) {
      if (tree === nrTrees) tree = 0;
      if (state[tree] === UNTOUCHED) {
        const next = Math.max(tree, this.pristine.skip(tree) - 1);
        i += next - tree;
        tree = next;
        continue;
      }
      if (free[tree] < pages || (state[tree] & RESERVED) !== 0) continue;
      if (used[tree] === 0) {
        if (unused < 0 && this.suits(tree, order)) unused = tree;
      } else if (state[tree] === wanted && this.suits(tree, order)) {
        if (!this.isNearlyFull(tree)) return this.takeFrom(slot, tree, order);
        if (full < 0) full = tree;
      }
    }
    if (unused < 0 && this.pristine.count > 0) {
      unused = this.pristine.first;
      this.touch(unused);
    }
    if (unused >= 0) return this.takeFrom(slot, unused, order);
    return full >= 0 ? this.takeFrom(slot, full, order) : -1;
  }

  /** Takes a block from a tree of another kind, as the policy allows. */
  private takeFromOtherKind(slot: number, kind: number, order: number, mayMix: boolean): number {
    const pages = 1 << order;
    const { nrTrees, free, state } = this;
    for (let k = kind * 3; k < kind * 3 + 3; k++) {
      const other = FALLBACKS[k];
      if (this.freeOfKind[other] < pages) continue;
      // Whole areas mix with nothing: neither those taken nor those of a tree that has only such.
      if (!mayMix && kind !== KIND_HUGE && other !== KIND_HUGE) continue;
      for (let i = 0, tree = this.stolenFrom[other]; i < nrTrees; i++, tree++) {
        if (tree === nrTrees) tree = 0;
        if (state[tree] !== other + 1 || free[tree] < pages || !this.suits(tree, order)) continue;
        // What is in use stays what it is: a tree changes its kind where that is the smaller part, or whole areas.
        if (POLICY[kind * NR_KINDS + other] === DEMOTE && (other === KIND_HUGE || free[tree] >= this.used[tree])) {
          this.onDemote(tree, other, kind);
          return this.takeFrom(slot, tree, order);
        }
        this.stolenFrom[other] = tree;
        this.addFree(tree, -pages);
        this.addUsed(tree, pages);
        this.nrFree -= pages;
        return this.lower.take(tree, order, tree * TREE_FRAMES);
      }
    }
    return -1;
  }

  /** Reserves a tree that {@link suits}, and takes a block from it. */
  private takeFrom(slot: number, tree: number, order: number): number {
    const near = this.slotNear[slot];
    this.reserve(slot, tree, near >>> TREE_ORDER === tree ? near : tree * TREE_FRAMES);
    const frame = this.lower.take(tree, order, this.slotNear[slot]);
    return this.taken(slot, frame, 1 << order);
  }

  /** Whether a tree that has enough free frames has them in one block. */
  private suits(tree: number, order: number): boolean {
    if (order === 0 || (order <= AREA_ORDER && this.lower.wholeAreas[tree] > 0)) return true;
    return this.lower.hasFree(tree, order);
  }

  private isNearlyFull(tree: number): boolean {
    return this.free[tree] * (NEARLY_FULL_SHARE - 1) < this.used[tree];
  }

  private forEachTouched(visit: (tree: number) => void): void {
    for (let tree = 0; tree < this.nrTrees; tree++) {
      if (this.state[tree] === UNTOUCHED) tree = Math.max(tree, this.pristine.skip(tree) - 1);
      else visit(tree);
    }
  }

  /** Looks for a block of `order` in trees that are not pristine, reserved or not. @param order from 1 */
  private search(order: number): boolean {
    for (let tree = 0; tree < this.nrTrees; tree++) if (this.lower.hasFree(tree, order)) return true;
    return false;
  }

  /** Makes a pristine tree an ordinary one. */
  private touch(tree: number): void {
    if (!this.pristine.remove(tree)) return;
    this.lower.addTree(tree);
    this.enter(tree);
    this.addFree(tree, TREE_FRAMES);
  }

  /** Gives a tree its first kind. */
  private enter(tree: number): void {
    if (this.state[tree] !== UNTOUCHED) return;
    this.state[tree] = MIGRATE_MOVABLE + 1;
    this.nrUnused++;
  }

  private addFree(tree: number, pages: number): void {
    this.free[tree] += pages;
    this.freeOfKind[(this.state[tree] & KIND_MASK) - 1] += pages;
  }

  private addUsed(tree: number, pages: number): void {
    const before = this.used[tree];
    this.used[tree] = before + pages;
    if (before === 0) this.nrUnused--;
    if (before + pages === 0) this.nrUnused++;
  }
}

/** The kind of an allocation. @param migratetype below MIGRATE_PCPTYPES */
export function kindOf(order: number, migratetype: number): number {
  if (order >= AREA_ORDER) return KIND_HUGE;
  return migratetype === MIGRATE_UNMOVABLE || migratetype === MIGRATE_RECLAIMABLE ? migratetype : MIGRATE_MOVABLE;
}
