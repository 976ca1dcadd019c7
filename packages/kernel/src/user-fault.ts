/**
 * Exceptions of user mode: a page fault or a general-protection fault.
 *
 * @linux arch/x86/mm/fault.c:do_user_addr_fault
 */
import { BUS_ADRERR, BUS_MCEERR_AR, SEGV_ACCERR, SEGV_MAPERR, SIGBUS, SIGKILL, SIGSEGV, SI_KERNEL, signalCodeName } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PF_INSTR, PF_RSVD, PF_WRITE, VECTOR_PAGE_FAULT } from '@pagelab/hw';
import { FAULT_ACCERR, FAULT_HWPOISON, FAULT_MAPERR, FAULT_OK, FAULT_OOM, FAULT_SIGBUS, handlePageFault } from '@pagelab/vm';
import { payOverHigh } from './cgroup/memory-controller.ts';
import { endProcess, exitError } from './exit.ts';
import { badPageTable } from './oops.ts';
import { deliverSignals, endBySignal, forceSignal, wouldEnd } from './signals.ts';
import type { Task } from './task.ts';

/** Tries of one access that found no memory although nothing is left to kill. */
const OOM_TRIES = 16;

/**
 * Serves a fault of `task`, after which the access is tried again.
 *
 * @throws TaskExit where it ends the task; what a handler throws
 */
export function userFault(task: Task, address: VirtAddr, errorCode: number, vector: number): void {
  const { kernel } = task;
  kernel.clock.advance(kernel.costs.pageFault);
  task.accounting.stime += kernel.costs.pageFault;
  if (vector !== VECTOR_PAGE_FAULT) {
    raise(task, SIGSEGV, SI_KERNEL, 0, errorCode, address);
    return;
  }
  if ((errorCode & PF_RSVD) !== 0) {
    badPageTable(kernel, task.process.comm, address, errorCode);
    endBySignal(task.process, SIGKILL, 'its page tables are damaged');
    throw exitError(task);
  }
  for (let tries = 0; ; tries++) {
    const outcome = serve(task, address, errorCode);
    if (kernel.vm.memcgs !== null) payOverHigh(task);
    if (task.signalPending) deliverSignals(task);
    switch (outcome) {
      case FAULT_OK:
        return;
      case FAULT_MAPERR:
        raise(task, SIGSEGV, SEGV_MAPERR, address, errorCode, address);
        return;
      case FAULT_ACCERR:
        raise(task, SIGSEGV, SEGV_ACCERR, address, errorCode, address);
        return;
      case FAULT_SIGBUS:
        raise(task, SIGBUS, BUS_ADRERR, address, errorCode, address);
        return;
      case FAULT_HWPOISON:
        raise(task, SIGBUS, BUS_MCEERR_AR, address, errorCode, address, kernel.vm.poisonShift);
        return;
      case FAULT_OOM:
        // The access is tried again: a victim may have given memory back meanwhile.
        if (tries < OOM_TRIES) break;
        endBySignal(task.process, SIGKILL, 'out of memory, and nothing left to kill');
        throw exitError(task);
      default:
        throw kernel.stop(new Error(`page fault ended with ${outcome}`));
    }
  }
}

function serve(task: Task, address: VirtAddr, errorCode: number): number {
  try {
    return handlePageFault(task.mm, address, errorCode);
  } catch (error) {
    throw task.kernel.stop(error);
  }
}

/** Raises SIGSEGV or SIGBUS, as often as a handler returns without having repaired anything, within a limit. */
function raise(task: Task, signo: number, code: number, addr: VirtAddr, errorCode: number, at: VirtAddr, addrLsb?: number): void {
  const { kernel } = task;
  if (wouldEnd(task, signo)) {
    const what = errorCode & PF_INSTR ? 'fetch from' : errorCode & PF_WRITE ? 'write to' : 'read of';
    logFault(task, signo, code, addr, errorCode);
    forceSignal(task, { signo, code, addr, pid: 0, addrLsb }, `${what} ${hex(at)} (${signalCodeName(signo, code)})`);
    return;
  }
  task.repeatedFaults = task.lastFaultAddress === at ? task.repeatedFaults + 1 : 0;
  task.lastFaultAddress = at;
  if (task.repeatedFaults >= kernel.config.faultLimit) {
    kernel.console.line(
      `${task.process.comm}[${task.tgid}]: its handler returned ${task.repeatedFaults} times without repairing ${hex(at)}; ` +
        'a real machine would go on for ever',
    );
    endProcess(task.process, signo);
    throw exitError(task);
  }
  forceSignal(task, { signo, code, addr, pid: 0, addrLsb }, '');
}

/**
 * The line in the kernel's log. A program is a function of the host and has no instruction pointer: its text's first
 * address stands for it.
 *
 * @linux arch/x86/mm/fault.c:show_signal_msg
 */
function logFault(task: Task, signo: number, code: number, addr: VirtAddr, errorCode: number): void {
  if (signo !== SIGSEGV) return;
  const { kernel, process } = task;
  const { textStart, textEnd, stackPointer } = process.image;
  const where = `in ${process.comm}[${textStart.toString(16)}+${(textEnd - textStart).toString(16)}]`;
  const ip = textStart.toString(16).padStart(16, '0');
  const sp = stackPointer.toString(16).padStart(16, '0');
  if (code === SI_KERNEL) {
    kernel.log.print(`traps: ${process.comm}[${task.pid}] general protection fault ip:${textStart.toString(16)} sp:${stackPointer.toString(16)} error:0 ${where}`);
    return;
  }
  kernel.log.print(
    `${process.comm}[${task.pid}]: segfault at ${hex(addr).slice(2)} ip ${ip} sp ${sp} error ${errorCode.toString(16)} ${where} ` +
      `likely on CPU ${task.cpu} (core ${task.cpu}, socket 0)`,
  );
}

/** An address as the kernel prints it, two's complement. */
function hex(address: VirtAddr): string {
  return `0x${address < 0 ? (BigInt(address) + (1n << 64n)).toString(16) : address.toString(16)}`;
}
