/**
 * Signals and their codes, as on x86-64.
 *
 * @linux include/uapi/asm/signal.h, include/uapi/asm-generic/siginfo.h
 */
export const SIGHUP = 1;
export const SIGINT = 2;
export const SIGQUIT = 3;
export const SIGILL = 4;
export const SIGTRAP = 5;
export const SIGABRT = 6;
export const SIGBUS = 7;
export const SIGFPE = 8;
export const SIGKILL = 9;
export const SIGUSR1 = 10;
export const SIGSEGV = 11;
export const SIGUSR2 = 12;
export const SIGPIPE = 13;
export const SIGALRM = 14;
export const SIGTERM = 15;
export const SIGCHLD = 17;
export const SIGCONT = 18;
export const SIGSTOP = 19;
export const SIGTSTP = 20;
export const SIGTTIN = 21;
export const SIGTTOU = 22;
export const SIGURG = 23;
export const SIGWINCH = 28;
export const SIGSYS = 31;
/** The highest signal number. */
export const SIGRTMAX = 64;

/** SIGSEGV: nothing is mapped at the address. */
export const SEGV_MAPERR = 1;
/** SIGSEGV: the mapping does not allow the access. */
export const SEGV_ACCERR = 2;
/** SIGBUS: misaligned access. */
export const BUS_ADRALN = 1;
/** SIGBUS: the mapping has no memory behind this address (beyond the end of a file). */
export const BUS_ADRERR = 2;
/** SIGBUS: a memory error was consumed. */
export const BUS_MCEERR_AR = 4;
/** A page of the process is broken, which it has not touched. @linux include/uapi/asm-generic/siginfo.h:BUS_MCEERR_AO */
export const BUS_MCEERR_AO = 5;
/** Sent by `kill`. */
export const SI_USER = 0;
/** Sent by the kernel: a general-protection fault, for one. */
export const SI_KERNEL = 0x80;
/** Sent by `tgkill` or `tkill`. */
export const SI_TKILL = -6;
/** SIGCHLD: the child exited. */
export const CLD_EXITED = 1;
/** SIGCHLD: a signal ended the child. */
export const CLD_KILLED = 2;

/** No SIGCHLD for a child that is stopped: none ever is. */
export const SA_NOCLDSTOP = 0x1;
/** Of SIGCHLD: children are not to become zombies. */
export const SA_NOCLDWAIT = 0x2;
export const SA_SIGINFO = 0x4;
export const SA_RESTORER = 0x0400_0000;
/** The handler runs on the alternate stack. */
export const SA_ONSTACK = 0x0800_0000;
/** A call that the handler interrupts goes on afterwards. */
export const SA_RESTART = 0x1000_0000;
/** The signal is not held back while its handler runs. */
export const SA_NODEFER = 0x4000_0000;
/** The handler is for one time: the default action is back before it runs. */
export const SA_RESETHAND = 0x8000_0000 | 0;

/** What `sigprocmask` does with its set: adds it to those held back, takes it out of them, or puts it in their place. */
export const SIG_BLOCK = 0;
export const SIG_UNBLOCK = 1;
export const SIG_SETMASK = 2;

/** Of `sigaltstack`: the task runs on it now. */
export const SS_ONSTACK = 1;
/** There is none. */
export const SS_DISABLE = 2;
/** It is switched off while a handler runs on it. */
export const SS_AUTODISARM = 0x8000_0000 | 0;
/** The smallest alternate stack, in bytes. */
export const MINSIGSTKSZ = 2048;

const names: Record<number, string> = {
  1: 'SIGHUP', 2: 'SIGINT', 3: 'SIGQUIT', 4: 'SIGILL', 5: 'SIGTRAP', 6: 'SIGABRT', 7: 'SIGBUS', 8: 'SIGFPE',
  9: 'SIGKILL', 10: 'SIGUSR1', 11: 'SIGSEGV', 12: 'SIGUSR2', 13: 'SIGPIPE', 14: 'SIGALRM', 15: 'SIGTERM',
  16: 'SIGSTKFLT', 17: 'SIGCHLD', 18: 'SIGCONT', 19: 'SIGSTOP', 20: 'SIGTSTP', 21: 'SIGTTIN', 22: 'SIGTTOU', 23: 'SIGURG',
  24: 'SIGXCPU', 25: 'SIGXFSZ', 26: 'SIGVTALRM', 27: 'SIGPROF', 28: 'SIGWINCH', 29: 'SIGIO', 30: 'SIGPWR', 31: 'SIGSYS',
};

/** The name of a signal, such as `'SIGSEGV'`; `'SIG<number>'` for one without a name here. */
export function signalName(signal: number): string {
  return names[signal] ?? `SIG${signal}`;
}

/** The name of a signal's code, such as `'SEGV_MAPERR'`; the number as text where it has none. */
export function signalCodeName(signal: number, code: number): string {
  if (code === SI_KERNEL) return 'SI_KERNEL';
  if (code === SI_USER) return 'SI_USER';
  if (code === SI_TKILL) return 'SI_TKILL';
  if (signal === SIGCHLD) return code === CLD_EXITED ? 'CLD_EXITED' : code === CLD_KILLED ? 'CLD_KILLED' : String(code);
  if (signal === SIGSEGV) return code === SEGV_MAPERR ? 'SEGV_MAPERR' : code === SEGV_ACCERR ? 'SEGV_ACCERR' : String(code);
  if (signal === SIGBUS) {
    if (code === BUS_ADRALN) return 'BUS_ADRALN';
    if (code === BUS_ADRERR) return 'BUS_ADRERR';
    if (code === BUS_MCEERR_AR) return 'BUS_MCEERR_AR';
    if (code === BUS_MCEERR_AO) return 'BUS_MCEERR_AO';
  }
  return String(code);
}
