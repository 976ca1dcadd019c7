/**
 * RCU, as far as freeing memory goes: what is handed to {@link Rcu.call} is done once every CPU has been seen outside of
 * read-side critical sections after that. Who read a pointer before it was taken away may look behind it until then.
 *
 *     next      handed in while a grace period runs, or none does
 *     current   waits for the CPUs that the grace period has not yet seen
 *
 * A CPU is seen when it switches tasks, when it is idle and when it runs a program.
 *
 * @linux kernel/rcu/tree.c
 */
import { KernelBug, bugOn } from '@pagelab/lib';

export class Rcu {
  /** Since boot: grace periods that ended, and callbacks made. */
  readonly stats = { gracePeriods: 0, callbacks: 0 };
  /** Told when a grace period begins, so that somebody looks at the CPUs when it has lasted. */
  onStart: (() => void) | null = null;

  private readonly functions: ((argument: number) => void)[] = [];
  /** By CPU: how deep it is in read-side critical sections, and whether the grace period waits for it. */
  private readonly depth: Int32Array;
  private readonly waitsFor: Uint8Array;
  private nrWaits = 0;
  /** Callbacks: the number of a function and its argument, one after the other. */
  private current: number[] = [];
  private next: number[] = [];

  constructor(nrCpus: number) {
    this.depth = new Int32Array(nrCpus);
    this.waitsFor = new Uint8Array(nrCpus);
  }

  /** Makes a function known that callbacks may be made of. @returns its number */
  define(callback: (argument: number) => void): number {
    return this.functions.push(callback) - 1;
  }

  /** Calls a function, by its number, after a grace period. @linux kernel/rcu/tree.c:call_rcu */
  call(callback: number, argument: number): void {
    this.next.push(callback, argument);
    if (this.current.length === 0) this.start();
  }

  /** Callbacks that wait. */
  get nrPending(): number {
    return (this.current.length + this.next.length) / 2;
  }

  /** @linux include/linux/rcupdate.h:rcu_read_lock */
  readLock(cpu: number): void {
    this.depth[cpu]++;
  }

  /** @linux include/linux/rcupdate.h:rcu_read_unlock */
  readUnlock(cpu: number): void {
    bugOn(this.depth[cpu] === 0, 'rcu_read_unlock without rcu_read_lock');
    this.depth[cpu]--;
  }

  /** @linux kernel/rcu/tree.c:rcu_gp_init */
  private start(): void {
    this.current = this.next;
    this.next = [];
    this.waitsFor.fill(1);
    this.nrWaits = this.waitsFor.length;
    this.onStart?.();
  }

  /** A CPU is in no read-side critical section, unless it says so. @linux kernel/rcu/tree.c:rcu_qs */
  quiescent(cpu: number): void {
    if (this.nrWaits === 0 || this.waitsFor[cpu] === 0 || this.depth[cpu] > 0) return;
    this.waitsFor[cpu] = 0;
    this.nrWaits--;
    if (this.nrWaits === 0) this.end();
  }

  /** @linux kernel/rcu/tree.c:rcu_gp_cleanup, rcu_do_batch */
  private end(): void {
    const done = this.current;
    this.current = [];
    this.stats.gracePeriods++;
    this.stats.callbacks += done.length / 2;
    if (this.next.length > 0) this.start();
    for (let i = 0; i < done.length; i += 2) this.functions[done[i]](done[i + 1]);
  }

  /** Looks at all CPUs, none of which runs kernel code now. @linux kernel/rcu/tree.c:force_qs_rnp */
  forceQuiescentState(): void {
    for (let cpu = 0; cpu < this.depth.length; cpu++) this.quiescent(cpu);
  }

  /**
   * Waits until every callback that was handed in has been made, and so for a grace period.
   *
   * @throws KernelBug where a CPU is in a read-side critical section: it would wait for ever
   * @linux kernel/rcu/tree.c:rcu_barrier
   */
  barrier(): void {
    this.expedite();
    if (this.nrPending === 0) return;
    const reader = this.depth.findIndex((depth) => depth > 0);
    throw new KernelBug(`rcu: INFO: rcu_preempt detected stalls on CPUs/tasks: CPU ${reader} is in a read-side critical section`);
  }

  /** Lets one grace period after the other end, as far as no reader is in the way: who calls it sleeps meanwhile. @linux kernel/rcu/tree_exp.h:synchronize_rcu_expedited */
  expedite(): void {
    for (let before = Infinity; this.nrWaits > 0 && this.stats.gracePeriods !== before; ) {
      before = this.stats.gracePeriods;
      this.forceQuiescentState();
    }
  }
}
