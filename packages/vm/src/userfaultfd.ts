/**
 * Faults that a program serves: who asked for them, who waits for them.
 *
 * A fault in a registered range becomes a message and its task waits, inside the fault; it is woken by whatever resolves
 * the range, and looks again. Resolving is in `userfault-fill.ts`.
 *
 * @linux fs/userfaultfd.c
 */
import {
  Errno,
  PAGE_SIZE,
  UFFDIO_REGISTER_MODE_MINOR,
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_REGISTER_MODE_WP,
  UFFD_FEATURE_EXACT_ADDRESS,
  UFFD_FEATURE_SIGBUS,
  UFFD_FEATURE_WP_ASYNC,
  UFFD_PAGEFAULT_FLAG_MINOR,
  UFFD_PAGEFAULT_FLAG_WP,
  UFFD_PAGEFAULT_FLAG_WRITE,
  UFFD_USER_MODE_ONLY,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { MmStruct } from './mm-struct.ts';
import { FAULT_FLAG_USER, FAULT_FLAG_WRITE, VM_FAULT_RETRY, VM_FAULT_SIGBUS } from './fault-flags.ts';
import type { Vm } from './vm.ts';
import { isAligned } from './page-align.ts';
import { vmaModify } from './vma-merge.ts';
import { uffdWpRange } from './userfault-wp.ts';
import { VM_HUGETLB, VM_MAYWRITE, VM_SPECIAL, VM_UFFD_MISSING, VM_UFFD_WP } from './vma.ts';
import type { VmArea } from './vma.ts';

/** A fault that waits to be served. */
export interface UffdWait {
  /** As the message tells it. */
  readonly address: VirtAddr;
  /** UFFD_PAGEFAULT_FLAG_ bits. */
  readonly flags: number;
  /** Page that has to be resolved. */
  readonly page: VirtAddr;
  /** Number of the task that waits. */
  readonly thread: number;
  woken: boolean;
}

/** Something that happened to the memory, for the program to read of. */
export interface UffdEvent {
  /** UFFD_EVENT_… */
  readonly event: number;
  /** What its message has from byte 8 on, 64 bits each. */
  readonly args: readonly number[];
  /** Of a fork: who serves the child's faults. */
  readonly child: UffdContext | null;
  woken: boolean;
}

/** What one file of `userfaultfd` stands for. @linux include/linux/userfaultfd_k.h:userfaultfd_ctx */
export class UffdContext {
  readonly vm: Vm;
  /** Whose faults it is about. */
  readonly mm: MmStruct;
  /** UFFD_ flags that it was made with. */
  readonly flags: number;
  /** UFFD_FEATURE_ bits that were agreed on; −1 before that. */
  features = -1;
  released = false;
  /** Faults that nobody has read of, and those that wait on: oldest first. */
  readonly pending: UffdWait[] = [];
  readonly waiting: UffdWait[] = [];
  /** Events that nobody has read of, oldest first; and how many changes go on: meanwhile nothing is put in place. */
  readonly events: UffdEvent[] = [];
  changing = 0;

  constructor(mm: MmStruct, flags: number) {
    this.vm = mm.vm;
    this.mm = mm;
    this.flags = flags;
  }

  /** Takes the oldest message. */
  take(): UffdWait | undefined {
    const wait = this.pending.shift();
    if (wait !== undefined) this.waiting.push(wait);
    return wait;
  }

  /** Takes the oldest event: who made it goes on. @linux fs/userfaultfd.c:userfaultfd_event_complete */
  takeEvent(): UffdEvent | undefined {
    const event = this.events.shift();
    if (event !== undefined) event.woken = true;
    return event;
  }

  /** Wakes who waits for a page of [start, end). @linux fs/userfaultfd.c:wake_userfault */
  wake(start: VirtAddr, end: VirtAddr): void {
    for (const list of [this.pending, this.waiting]) {
      for (let i = list.length - 1; i >= 0; i--) {
        if (list[i].page < start || list[i].page >= end) continue;
        list[i].woken = true;
        list.splice(i, 1);
      }
    }
  }

  /** Whether its address space is there still. */
  get isAlive(): boolean {
    return this.mm.users > 0;
  }
}

/**
 * Has a fault served by the program that asked for it: its task waits until the page was resolved.
 *
 * @param reason UFFD_PAGEFAULT_FLAG_MINOR, UFFD_PAGEFAULT_FLAG_WP, or 0 for a page that is missing
 * @returns VM_FAULT_RETRY; VM_FAULT_SIGBUS where nobody is to be asked
 * @linux fs/userfaultfd.c:handle_userfault
 */
export function handleUserfault(vma: VmArea, address: VirtAddr, faultFlags: number, reason: number): number {
  const ctx = vma.uffd!;
  const { vm } = ctx;
  if ((ctx.features & UFFD_FEATURE_SIGBUS) !== 0) return VM_FAULT_SIGBUS;
  if ((ctx.flags & UFFD_USER_MODE_ONLY) !== 0 && (faultFlags & FAULT_FLAG_USER) === 0) return VM_FAULT_SIGBUS;
  if (ctx.released) return VM_FAULT_RETRY;
  const wait: UffdWait = {
    address: (ctx.features & UFFD_FEATURE_EXACT_ADDRESS) !== 0 ? vm.faultAddress : address,
    flags: reason | ((faultFlags & FAULT_FLAG_WRITE) !== 0 ? UFFD_PAGEFAULT_FLAG_WRITE : 0),
    page: address,
    thread: vm.userfaultHooks.currentThread(),
    woken: false,
  };
  ctx.pending.push(wait);
  try {
    vm.userfaultHooks.wait(wait);
  } finally {
    for (const list of [ctx.pending, ctx.waiting]) if (list.includes(wait)) list.splice(list.indexOf(wait), 1);
  }
  return VM_FAULT_RETRY;
}

/** What the process layer provides: it knows who runs, and who can. */
export interface UserfaultHooks {
  /** Lets others run until `woken`. */
  wait(wait: { readonly woken: boolean }): void;
  /** Number of the task that runs. */
  currentThread(): number;
}

/** Whether a page that is missing in a file's mapping, or not mapped, is to be served; 0 where not. @linux mm/shmem.c:shmem_get_folio_gfp */
export function userfaultReason(vma: VmArea, pgoff: number): number {
  if (vma.file === null) return (vma.flags & VM_UFFD_MISSING) !== 0 ? 0 : -1;
  const cached = vma.file.inode.mapping.pages.get(pgoff) >= 0;
  if (cached) return vma.uffdMinor ? UFFD_PAGEFAULT_FLAG_MINOR : -1;
  return (vma.flags & VM_UFFD_MISSING) !== 0 ? 0 : -1;
}

/** The reason of a store to a protected page. */
export const WP_REASON = UFFD_PAGEFAULT_FLAG_WP;

/**
 * Registers the mappings of [start, end).
 *
 * @param mode UFFDIO_REGISTER_MODE_ bits, known ones
 * @returns 0; −EINVAL where nothing is mapped, or something that cannot be served; −EPERM for what nobody may write to;
 *   −EBUSY where another file has it; −ENOMEM
 * @linux fs/userfaultfd.c:userfaultfd_register
 */
export function uffdRegister(ctx: UffdContext, start: VirtAddr, end: VirtAddr, mode: number): number {
  const { mm } = ctx;
  const isAsync = (ctx.features & UFFD_FEATURE_WP_ASYNC) !== 0;
  const first = mm.vmas.find(start);
  if (first === undefined || first.start >= end || !startsWhole(first, start)) return -Errno.EINVAL;
  for (let vma: VmArea | undefined = first; vma !== undefined && vma.start < end; vma = mm.vmas.find(vma.end)) {
    if (!canServe(vma, mode, isAsync)) return -Errno.EINVAL;
    if ((vma.flags & VM_MAYWRITE) === 0) return -Errno.EPERM;
    if (end <= vma.end && !startsWhole(vma, end)) return -Errno.EINVAL;
    if (vma.uffd !== null && vma.uffd !== ctx) return -Errno.EBUSY;
  }
  let bits = 0;
  if ((mode & UFFDIO_REGISTER_MODE_MISSING) !== 0) bits |= VM_UFFD_MISSING;
  if ((mode & UFFDIO_REGISTER_MODE_WP) !== 0) bits |= VM_UFFD_WP;
  return setRange(mm, start, end, ctx, bits, (mode & UFFDIO_REGISTER_MODE_MINOR) !== 0);
}

/** @linux include/linux/userfaultfd_k.h:vma_can_userfault */
function canServe(vma: VmArea, mode: number, isAsync: boolean): boolean {
  const isPool = (vma.flags & VM_HUGETLB) !== 0;
  if (((vma.flags & VM_SPECIAL) !== 0 && !isPool) || vma.droppable) return false;
  const isShmem = vma.file !== null && vma.file.inode.mapping.ops.swapBacked;
  if ((mode & UFFDIO_REGISTER_MODE_MINOR) !== 0 && !isShmem && !isPool) return false;
  // Where nobody is told of stores, any memory can be watched.
  if (isAsync && mode === UFFDIO_REGISTER_MODE_WP) return true;
  return vma.file === null || isPool || isShmem;
}

/** Whether a mapping's stores to protected pages are noted and not told. @linux fs/userfaultfd.c:userfaultfd_wp_async */
export function isUffdAsync(vma: VmArea): boolean {
  return vma.uffd !== null && (vma.uffd.features & UFFD_FEATURE_WP_ASYNC) !== 0;
}

/** Whether an address is the start of a page of what lies there: huge ones of the pool are served as a whole. */
function startsWhole(vma: VmArea, address: VirtAddr): boolean {
  return (vma.flags & VM_HUGETLB) === 0 || isAligned(address, vma.mm.vm.tables.pmdSize);
}

/** What a mapping is registered for. */
function modeOf(vma: VmArea): number {
  const missing = (vma.flags & VM_UFFD_MISSING) !== 0 ? UFFDIO_REGISTER_MODE_MISSING : 0;
  const protects = (vma.flags & VM_UFFD_WP) !== 0 ? UFFDIO_REGISTER_MODE_WP : 0;
  return missing | protects | (vma.uffdMinor ? UFFDIO_REGISTER_MODE_MINOR : 0);
}

/** Takes a file's mappings in [start, end) off it, and wakes who waits there. @linux fs/userfaultfd.c:userfaultfd_unregister */
export function uffdUnregister(ctx: UffdContext, start: VirtAddr, end: VirtAddr): number {
  const { mm } = ctx;
  const isAsync = (ctx.features & UFFD_FEATURE_WP_ASYNC) !== 0;
  const first = mm.vmas.find(start);
  if (first === undefined || first.start >= end || !startsWhole(first, start)) return -Errno.EINVAL;
  for (let vma: VmArea | undefined = first; vma !== undefined && vma.start < end; vma = mm.vmas.find(vma.end)) {
    if (vma.uffd !== null && vma.uffd !== ctx) return -Errno.EINVAL;
    if (!canServe(vma, modeOf(vma), isAsync)) return -Errno.EINVAL;
  }
  const error = setRange(mm, start, end, null, 0, false);
  ctx.wake(start, end);
  return error;
}

/** @linux mm/vma.c:vma_modify_flags_uffd */
function setRange(mm: MmStruct, start: VirtAddr, end: VirtAddr, ctx: UffdContext | null, bits: number, minor: boolean): number {
  for (let at = start; at < end; ) {
    const vma = mm.vmas.find(at);
    if (vma === undefined || vma.start >= end) break;
    const flags = (vma.flags & ~(VM_UFFD_MISSING | VM_UFFD_WP)) | bits;
    // Who has it already for this, and for more, keeps that.
    const isSame = ctx === null ? vma.uffd === null : vma.uffd === ctx && (vma.flags & bits) === bits && (vma.uffdMinor || !minor);
    if (isSame) {
      at = vma.end;
      continue;
    }
    const from = Math.max(at, vma.start);
    const to = Math.min(end, vma.end);
    if (ctx === null && (vma.flags & VM_UFFD_WP) !== 0) uffdWpRange(vma, from, to, false);
    const changed = vmaModify(vma, from, to, flags, vma.policy, ctx, minor);
    if (typeof changed === 'number') return changed;
    changed.uffd = ctx;
    changed.uffdMinor = minor;
    at = changed.end;
  }
  return 0;
}

/** Takes what the file's mappings have of it: the last reference to the file is gone. @linux fs/userfaultfd.c:userfaultfd_release */
export function uffdRelease(ctx: UffdContext): void {
  ctx.released = true;
  if (ctx.isAlive) {
    for (const vma of [...ctx.mm.vmas]) {
      if (vma.uffd === ctx) setRange(ctx.mm, vma.start, vma.end, null, 0, false);
    }
  }
  ctx.wake(0, Infinity);
  while (ctx.takeEvent() !== undefined);
}

/** A range of an `ioctl`: its end, or −EINVAL. @linux fs/userfaultfd.c:validate_range */
export function uffdRangeEnd(mm: MmStruct, start: VirtAddr, length: number): number {
  return isAligned(start, PAGE_SIZE) ? uffdUnalignedEnd(mm, start, length) : -Errno.EINVAL;
}

/** Whether huge pages of the pool lie in a range. */
export function rangeHasHugetlb(mm: MmStruct, start: VirtAddr, end: VirtAddr): boolean {
  for (let vma = mm.vmas.find(start); vma !== undefined && vma.start < end; vma = mm.vmas.find(vma.end)) {
    if ((vma.flags & VM_HUGETLB) !== 0) return true;
  }
  return false;
}

/** Likewise of a range that may start anywhere. @linux fs/userfaultfd.c:validate_unaligned_range */
export function uffdUnalignedEnd(mm: MmStruct, start: VirtAddr, length: number): number {
  if (start < 0 || length <= 0 || !isAligned(length, PAGE_SIZE)) return -Errno.EINVAL;
  if (start < mm.vm.sysctl.mmapMinAddr || start >= mm.taskSize || length > mm.taskSize - start) return -Errno.EINVAL;
  return start + length;
}
