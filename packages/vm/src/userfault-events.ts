/**
 * What a program that serves faults is told beside them: its memory is forked, moved, given up or unmapped. Whoever did that
 * goes on once it has been read; until then nothing is put in place.
 *
 * @linux fs/userfaultfd.c
 */
import {
  Errno,
  UFFD_EVENT_FORK,
  UFFD_EVENT_REMAP,
  UFFD_EVENT_REMOVE,
  UFFD_EVENT_UNMAP,
  UFFD_FEATURE_EVENT_FORK,
  UFFD_FEATURE_EVENT_REMAP,
  UFFD_FEATURE_EVENT_REMOVE,
  UFFD_FEATURE_EVENT_UNMAP,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { MmStruct } from './mm-struct.ts';
import { UffdContext } from './userfaultfd.ts';
import type { UffdEvent } from './userfaultfd.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

/** Tells a program of an event; who made it waits at {@link waitForUffdEvents}. @linux fs/userfaultfd.c:userfaultfd_event_wait_completion */
function post(ctx: UffdContext, event: number, args: readonly number[], child: UffdContext | null = null): UffdEvent | null {
  if (ctx.released) return null;
  const posted: UffdEvent = { event, args, child, woken: false };
  ctx.events.push(posted);
  ctx.changing++;
  return posted;
}

function enqueue(vm: Vm, ctx: UffdContext, event: number, args: readonly number[], child: UffdContext | null = null): void {
  const posted = post(ctx, event, args, child);
  if (posted !== null) vm.uffdWaits.push({ ctx, event: posted });
}

function wait(vm: Vm, ctx: UffdContext, event: UffdEvent): void {
  try {
    if (!event.woken) vm.userfaultHooks.wait(event);
  } finally {
    finish(ctx, event);
  }
}

/** The change is over, or nobody waits for it any more. */
function finish(ctx: UffdContext, event: UffdEvent): void {
  ctx.changing--;
  const at = ctx.events.indexOf(event);
  if (at >= 0) ctx.events.splice(at, 1);
}

/** Waits until all events that the call under way has made were read. */
export function waitForUffdEvents(vm: Vm): void {
  // Others make calls meanwhile, and wait for what is theirs.
  const waits = vm.uffdWaits.splice(0);
  try {
    for (let next = waits.shift(); next !== undefined; next = waits.shift()) wait(vm, next.ctx, next.event);
  } finally {
    for (const { ctx, event } of waits) finish(ctx, event);
  }
}

/** A mapping in [start, end), which is being unmapped, may have somebody who wants to know. @linux fs/userfaultfd.c:userfaultfd_unmap_prep */
export function uffdUnmap(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  const ctx = vma.uffd!;
  const { vm } = vma.mm;
  if ((ctx.features & UFFD_FEATURE_EVENT_UNMAP) === 0) return;
  const known = vm.uffdWaits.some((other) => other.ctx === ctx && other.event.event === UFFD_EVENT_UNMAP && other.event.args[0] === start && other.event.args[1] === end);
  if (!known) enqueue(vm, ctx, UFFD_EVENT_UNMAP, [start, end]);
}

/** Whether who serves a mapping's faults goes along when it is moved. @linux fs/userfaultfd.c:mremap_userfaultfd_prep */
export function uffdMovesAlong({ uffd }: VmArea): boolean {
  return uffd !== null && (uffd.features & UFFD_FEATURE_EVENT_REMAP) !== 0;
}

/** A mapping has moved. @linux fs/userfaultfd.c:mremap_userfaultfd_complete */
export function uffdRemapped(vm: Vm, ctx: UffdContext, from: VirtAddr, to: VirtAddr, length: number): void {
  enqueue(vm, ctx, UFFD_EVENT_REMAP, [from, to, length]);
}

/**
 * Pages of a mapping are about to be given up: waits until that was read.
 *
 * @returns the mapping at `start` then; −ENOMEM where there is none any more
 * @linux fs/userfaultfd.c:userfaultfd_remove
 */
export function uffdRemove(vma: VmArea, start: VirtAddr, end: VirtAddr): VmArea | number {
  const { uffd, mm } = vma;
  if (uffd === null || (uffd.features & UFFD_FEATURE_EVENT_REMOVE) === 0) return vma;
  const event = post(uffd, UFFD_EVENT_REMOVE, [start, end]);
  if (event === null) return vma;
  wait(mm.vm, uffd, event);
  return mm.vmas.get(start) ?? -Errno.ENOMEM;
}

/**
 * Who serves a child's faults, where who serves its parent's wants to.
 *
 * @param forked of this fork so far: the parent's and the child's
 * @returns `null` where the child's are nobody's
 * @linux fs/userfaultfd.c:dup_userfaultfd
 */
export function uffdFork(ctx: UffdContext, mm: MmStruct, forked: Map<UffdContext, UffdContext>): UffdContext | null {
  if ((ctx.features & UFFD_FEATURE_EVENT_FORK) === 0) return null;
  const known = forked.get(ctx);
  if (known !== undefined) return known;
  const child = new UffdContext(mm, ctx.flags);
  child.features = ctx.features;
  forked.set(ctx, child);
  return child;
}

/** The fork is done: tells of it. @linux fs/userfaultfd.c:dup_userfaultfd_complete */
export function uffdForked(vm: Vm, forked: ReadonlyMap<UffdContext, UffdContext>): void {
  for (const [ctx, child] of forked) enqueue(vm, ctx, UFFD_EVENT_FORK, [], child);
}
