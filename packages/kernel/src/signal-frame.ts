/**
 * The stack that handlers run on, and the frame that is pushed there first.
 *
 * A program is a function of the host and has no stack pointer of its own; the one known here is where the stack began,
 * unless the program moves it. Only where it matters is the frame written: on the alternate stack, and on a stack
 * that the program has said how far it uses.
 */
import { Errno, MINSIGSTKSZ, SA_ONSTACK, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK } from '@pagelab/abi';
import type { SigInfo, SignalStack, VirtAddr } from '@pagelab/abi';
import { copyToUser } from '@pagelab/vm';
import type { Task } from './task.ts';

/** Bytes below the stack pointer that a function may use without moving it: part of the x86-64 calling convention. */
const RED_ZONE_BYTES = 128;
/** Bytes of registers, masks and `siginfo`, and of the vector registers' state with AVX. @linux arch/x86/include/asm/sigframe.h:rt_sigframe */
const FRAME_BYTES = 440 + 832;
/** Where `siginfo` lies in the frame: behind the return address and the context. */
const SIGINFO_OFFSET = 312;
const SIGINFO_BYTES = 128;

/** No alternate stack. */
export const NO_SIGNAL_STACK: SignalStack = Object.freeze({ sp: 0, size: 0, flags: SS_DISABLE });

/** Whether an address is on the alternate stack. @linux include/linux/sched/signal.h:__on_sig_stack */
function onSignalStack({ sp, size }: SignalStack, at: VirtAddr): boolean {
  return at > sp && at - sp <= size;
}

/** Whether the task runs on its alternate stack. @linux include/linux/sched/signal.h:on_sig_stack */
function runsOnSignalStack(task: Task): boolean {
  return (task.signalStack.flags & SS_AUTODISARM) === 0 && onSignalStack(task.signalStack, task.stackPointer);
}

/** The alternate stack as the task sees it. @linux include/linux/sched/signal.h:sas_ss_flags */
export function shownSignalStack(task: Task): SignalStack {
  const { sp, size, flags } = task.signalStack;
  const state = size === 0 ? SS_DISABLE : runsOnSignalStack(task) ? SS_ONSTACK : 0;
  return { sp, size, flags: state | (flags & SS_AUTODISARM) };
}

/**
 * Sets the alternate stack.
 *
 * @returns 0, or -errno: EPERM while the task runs on the one before, EINVAL, ENOMEM for one that is too small
 * @linux kernel/signal.c:do_sigaltstack
 */
export function setSignalStack(task: Task, stack: SignalStack): number {
  const { sp, size, flags } = stack;
  if (runsOnSignalStack(task)) return -Errno.EPERM;
  const mode = flags & ~SS_AUTODISARM;
  if (mode !== 0 && mode !== SS_ONSTACK && mode !== SS_DISABLE) return -Errno.EINVAL;
  if (mode === SS_DISABLE) {
    task.signalStack = { sp: 0, size: 0, flags };
    return 0;
  }
  if (size >= 0 && size < MINSIGSTKSZ) return -Errno.ENOMEM;
  task.signalStack = { sp, size, flags };
  return 0;
}

/**
 * Moves the task's stack pointer to where the handler of a signal starts, and writes the frame there.
 *
 * @param flags SA_ bits of the action
 * @returns false where it cannot be written; the stack pointer may have moved
 * @linux arch/x86/kernel/signal.c:get_sigframe
 */
export function pushSignalFrame(task: Task, info: SigInfo, flags: number): boolean {
  const { signalStack } = task;
  const before = runsOnSignalStack(task);
  const enters = (flags & SA_ONSTACK) !== 0 && signalStack.size !== 0 && !before;
  if (!before && !enters && task.stackPointer === task.process.image.stackPointer) return true;
  const top = enters ? signalStack.sp + signalStack.size : task.stackPointer - RED_ZONE_BYTES;
  // As after a call: the return address lies 8 bytes below a multiple of 16.
  const frame = Math.floor((top - FRAME_BYTES) / 16) * 16 - 8;
  if ((before || enters) && !onSignalStack(signalStack, frame)) return false;
  task.stackPointer = frame;
  const bytes = new Uint8Array(FRAME_BYTES);
  bytes.set(encodeSigInfo(info), SIGINFO_OFFSET);
  if (frame < 0 || copyToUser(task.mm, frame, bytes) < 0) return false;
  if (enters && (signalStack.flags & SS_AUTODISARM) !== 0) task.signalStack = NO_SIGNAL_STACK;
  return true;
}

/** A `siginfo_t`. @linux include/uapi/asm-generic/siginfo.h */
function encodeSigInfo({ signo, code, addr, pid, addrLsb }: SigInfo): Uint8Array {
  const bytes = new Uint8Array(SIGINFO_BYTES);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, signo, true);
  view.setInt32(8, code, true);
  if (pid !== 0) view.setInt32(16, pid, true);
  else view.setBigInt64(16, BigInt(addr), true);
  if (addrLsb !== undefined) view.setInt16(24, addrLsb, true);
  return bytes;
}
