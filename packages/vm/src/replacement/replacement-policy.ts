/**
 * Page replacement as textbooks have it: a program refers to pages one after another, `frames` of them fit, and a policy
 * says which page goes when another has to come in. Its faults can be counted exactly, and compared.
 *
 * The policy only chooses. `ReplacementRun` keeps what is resident, counts, and checks each choice before it believes it:
 *
 *     resident pages <= frames
 *     accesses === hits + faults
 *     faults === evictions + resident pages
 */

/** What a policy is made for. */
export interface ReplacementOptions {
  /** Pages that fit: 1 or more. */
  readonly frames: number;
  /** Accesses that a working set reaches back, for policies that have one. As many as frames unless told. */
  readonly window: number;
}

/**
 * A page replacement policy. Pages are small numbers from 0 on. `accesses` counts how often the page is used in a row, the
 * first use included; `nextUse` is the number of the reference that uses it next, `Infinity` where none does, and 0
 * where the policy did not ask to know.
 */
export interface ReplacementPolicy {
  /** A resident page is used. */
  touched(page: number, accesses: number, nextUse: number): void;
  /** A page came in, and is used. */
  loaded(page: number, accesses: number, nextUse: number): void;
  /** Chooses a resident page to make room for `incoming`; it is no longer resident afterwards. Asked where all frames are in use. */
  victim(incoming: number): number;
  /**
   * A resident page that is to go although there is room, or −1; asked after each reference until it answers −1. That page is no
   * longer resident afterwards.
   */
  expired?(): number;
}

/** A policy by name. */
export interface ReplacementPolicyFactory {
  /** As `--policy` takes it: lower case. */
  readonly name: string;
  /** What it is, in a few words. */
  readonly title: string;
  /** Whether it must be told when a page is used next: then the whole trace has to be read before it begins. */
  readonly needsFuture: boolean;
  create(options: ReplacementOptions): ReplacementPolicy;
}
