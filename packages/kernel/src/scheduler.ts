/**
 * Who runs next.
 *
 * Each CPU has a queue of the tasks that are ready on it; a task is placed on a CPU by the machine's seed when it is made,
 * and stays there. A turn picks, by the seed, one of the CPUs that have a ready task, and runs the first of its queue: a
 * generator up to its next `yield`, a plain function to its end. So an interleaving is a function of the seed.
 *
 * A plain function that waits for a child is on the host's stack, and stays there while others have their turns. To let
 * none of those wait for what lies below it on that stack, the children of the waiting process, and theirs, go first;
 * others run when none of these can, or when they turn and turn without ending the wait.
 */
import { Errno } from '@pagelab/abi';
import { SWITCH_MM_NOTHING } from '@pagelab/hw';
import { Prng } from '@pagelab/lib';
import { switchTaskPolicy } from '@pagelab/vm';
import { runDaemons } from './daemons.ts';
import { throwIfEnded } from './exit.ts';
import type { Kernel } from './kernel.ts';
import type { Process } from './process.ts';
import { runTurn } from './run-task.ts';
import { deliverSignals } from './signals.ts';
import type { Task } from './task.ts';
import { settleFaults } from './usage.ts';

/** Turns of a waiting task's descendants after which others get one, too. */
const FAMILY_TURNS = 1000;
/** `sched_yield` calls in a row that found nobody to run, after which the task is told that it waits in vain. */
const FRUITLESS_YIELDS = 1_000_000;

/** Thrown into a task that waits for what can never happen. */
export class DeadlockError extends Error {
  override readonly name = 'DeadlockError';
}

/** The queues of a machine. */
export class Scheduler {
  private readonly prng: Prng;
  /** Where programs are laid out by chance: a sequence of its own, so that turns are the same with and without. */
  readonly layoutPrng: Prng;
  private readonly queues: Task[][];
  private fruitless = 0;

  constructor(nrCpus: number, seed: number) {
    this.prng = new Prng(seed);
    this.layoutPrng = new Prng(seed + 2 ** 32);
    this.queues = Array.from({ length: nrCpus }, () => []);
  }

  /** A CPU for a task, of those it may run on; of all unless told. @linux kernel/sched/core.c:select_task_rq */
  placeTask(affinity?: readonly number[]): number {
    if (affinity !== undefined && affinity.length < this.queues.length) return affinity[affinity.length === 1 ? 0 : this.prng.below(affinity.length)]!;
    return this.queues.length === 1 ? 0 : this.prng.below(this.queues.length);
  }

  /** Puts a task at the end of its CPU's queue. @linux kernel/sched/core.c:enqueue_task */
  enqueue(task: Task): void {
    task.state = 'ready';
    this.queues[task.cpu]!.push(task);
  }

  /** Takes a task that is ready out of its queue. */
  dequeue(task: Task): void {
    const queue = this.queues[task.cpu]!;
    const index = queue.indexOf(task);
    if (index >= 0) queue.splice(index, 1);
  }

  /** Whether nobody is ready to run on a CPU. */
  isIdle(cpu: number): boolean {
    return this.queues[cpu]!.length === 0;
  }

  /** Tasks that are ready. */
  get nrReady(): number {
    return this.queues.reduce((sum, queue) => sum + queue.length, 0);
  }

  /** Takes the next task to run out of its queue, among those that `eligible` allows. */
  pick(eligible?: (task: Task) => boolean): Task | undefined {
    const heads: { queue: Task[]; index: number }[] = [];
    for (const queue of this.queues) {
      const index = eligible === undefined ? (queue.length > 0 ? 0 : -1) : queue.findIndex(eligible);
      if (index >= 0) heads.push({ queue, index });
    }
    if (heads.length === 0) return undefined;
    const { queue, index } = heads[heads.length === 1 ? 0 : this.prng.below(heads.length)]!;
    return queue.splice(index, 1)[0];
  }

  /** Notes whether a `sched_yield` found somebody. @returns false where it has been in vain for too long */
  noteYield(found: boolean): boolean {
    this.fruitless = found ? 0 : this.fruitless + 1;
    return this.fruitless < FRUITLESS_YIELDS;
  }
}

/** Runs the next ready task for a turn. @returns false where none is ready @linux kernel/sched/core.c:__schedule */
export function schedule(kernel: Kernel, eligible?: (task: Task) => boolean): boolean {
  if (kernel.clock.now >= kernel.daemons.dueNs) runDaemons(kernel);
  const task = kernel.scheduler.pick(eligible);
  if (task === undefined) return false;
  kernel.clock.advance(kernel.costs.contextSwitch);
  kernel.rcu.quiescent(task.cpu);
  runTurn(task);
  return true;
}

/**
 * Makes `task` the one that runs: its CPU is the current one, and its page tables are loaded.
 *
 * @linux arch/x86/mm/tlb.c:switch_mm_irqs_off
 */
export function switchTo(task: Task): void {
  const { kernel } = task;
  const previous = kernel.current;
  if (previous === task) return;
  if (previous !== null) {
    settleFaults(previous);
    previous.port.detach();
  }
  const { smp } = kernel;
  const cpu = smp.cpus[task.cpu]!;
  const { mm } = task;
  // Whoever shares the address space has limits and rights of its own.
  mm.limits = task.mmLimits;
  // The CPU that is left has nothing to run where nobody waits for it: it keeps the page tables, and is not interrupted for them.
  if (previous !== null && previous.cpu !== task.cpu && previous.state !== 'ready' && kernel.scheduler.isIdle(previous.cpu)) {
    smp.enterLazyTlb(previous.cpu);
  }
  smp.processorId = task.cpu;
  // @linux include/linux/mm_types.h:lru_gen_use_mm
  mm.ranSinceWalk = -1;
  if (smp.switchMm(task.cpu, mm.pgd * 4096) !== SWITCH_MM_NOTHING) kernel.clock.advance(kernel.costs.loadCr3);
  if (kernel.trace.enabled) {
    kernel.trace.emit(kernel.tracepoints.schedSwitch, previous === null ? 0 : previous.pid, task.pid, task.cpu);
  }
  kernel.current = task;
  switchTaskPolicy(kernel.vm, task.memPolicy);
  kernel.vm.numa.task = task.numa;
  if (kernel.vm.memcgs !== null) kernel.vm.memcgs.current = task.memcgTask;
  if (kernel.pages.memsAllowed !== task.memsAllowed) kernel.pages.setMemsAllowed(task.memsAllowed);
  task.minFltMark = mm.minFlt;
  task.majFltMark = mm.majFlt;
  task.port.attach(cpu);
}

/**
 * Lets a task run on some CPUs only, and moves it where it is on another.
 *
 * @returns 0; -EINVAL where the machine has none of them
 * @linux kernel/sched/core.c:__set_cpus_allowed_ptr
 */
export function setAffinity(task: Task, cpus: readonly number[]): number {
  const { kernel } = task;
  const usable = cpus.filter((cpu) => cpu < kernel.smp.cpus.length);
  if (usable.length === 0) return -Errno.EINVAL;
  task.affinity = usable;
  if (usable.includes(task.cpu)) return 0;
  const isCurrent = kernel.current === task;
  const isReady = task.state === 'ready';
  if (isReady) kernel.scheduler.dequeue(task);
  if (isCurrent) {
    settleFaults(task);
    task.port.detach();
    kernel.leaveCurrent();
    // As when another task's turn comes: the CPU that is left with nothing to run keeps the page tables.
    if (kernel.scheduler.isIdle(task.cpu)) kernel.smp.enterLazyTlb(task.cpu);
  }
  task.cpu = kernel.scheduler.placeTask(usable);
  if (isReady) kernel.scheduler.enqueue(task);
  if (isCurrent) switchTo(task);
  return 0;
}

/**
 * Lets others run while `task` waits, one turn.
 *
 * @param turns how many turns this wait has had
 * @returns false where nobody can run
 */
export function runOthers(task: Task, turns: number): boolean {
  const { kernel, process } = task;
  task.state = 'blocked';
  const family = (other: Task): boolean => isDescendant(other.process, process);
  const patient = turns % FAMILY_TURNS !== FAMILY_TURNS - 1;
  const ran = patient ? schedule(kernel, family) || schedule(kernel) : schedule(kernel) || schedule(kernel, family);
  resume(task);
  return ran;
}

/**
 * Waits until the child that shares the task's address space has left it; others run meanwhile.
 *
 * @throws DeadlockError where that cannot happen
 * @linux kernel/fork.c:wait_for_vfork_done
 */
export function waitForVfork(task: Task, child: Process): void {
  const { mm } = task;
  for (let turns = 0; child.mm === mm; turns++) {
    if (!runOthers(task, turns)) throw new DeadlockError(`task ${task.pid} waits for its child ${child.tgid}, which cannot go on`);
  }
}

/** `sched_yield` from inside a call: others have a turn, and the task goes on. */
export function yieldCpu(task: Task): void {
  const { kernel } = task;
  task.accounting.nvcsw += 1;
  task.state = 'blocked';
  const ran = schedule(kernel);
  resume(task);
  if (kernel.scheduler.noteYield(ran)) return;
  throw new DeadlockError(
    `task ${task.pid} calls sched_yield for ever while nobody else can run: what it waits for is suspended below it. ` +
      'Write it as a generator that yields.',
  );
}

/**
 * Lets time pass for a task: others run meanwhile, and the kernel's daemons; where nobody can, the clock goes on.
 *
 * @linux kernel/time/hrtimer.c:hrtimer_nanosleep
 */
export function sleepTask(task: Task, ns: number): void {
  const { kernel } = task;
  const { clock, daemons } = kernel;
  const wakeNs = clock.now + ns;
  task.accounting.nvcsw += 1;
  for (let turns = 0; clock.now < wakeNs; turns++) {
    if (clock.now >= daemons.dueNs) runDaemons(kernel);
    if (task.program !== null && runOthers(task, turns)) continue;
    clock.advance(Math.max(0, Math.min(wakeNs, daemons.dueNs) - clock.now));
  }
}

/** Goes on with a task that was suspended inside a call. */
function resume(task: Task): void {
  throwIfEnded(task);
  task.state = task.program === null ? 'driven' : 'running';
  switchTo(task);
  deliverSignals(task);
}

/** Whether `process` is `ancestor` or descends from it. */
function isDescendant(process: Process, ancestor: Process): boolean {
  for (let each: Process | null = process; each !== null; each = each.parent) if (each === ancestor) return true;
  return false;
}
