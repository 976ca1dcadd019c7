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
/** Sent by `kill`. */
export const SI_USER = 0;
/** Sent by the kernel: a general-protection fault, for one. */
export const SI_KERNEL = 0x80;

const names: Record<number, string> = {
  1: 'SIGHUP', 2: 'SIGINT', 3: 'SIGQUIT', 4: 'SIGILL', 5: 'SIGTRAP', 6: 'SIGABRT', 7: 'SIGBUS', 8: 'SIGFPE',
  9: 'SIGKILL', 10: 'SIGUSR1', 11: 'SIGSEGV', 12: 'SIGUSR2', 13: 'SIGPIPE', 14: 'SIGALRM', 15: 'SIGTERM',
  17: 'SIGCHLD', 18: 'SIGCONT', 19: 'SIGSTOP',
};

/** The name of a signal, such as `'SIGSEGV'`; `'SIG<number>'` for one without a name here. */
export function signalName(signal: number): string {
  return names[signal] ?? `SIG${signal}`;
}

/** The name of a signal's code, such as `'SEGV_MAPERR'`; the number as text where it has none. */
export function signalCodeName(signal: number, code: number): string {
  if (code === SI_KERNEL) return 'SI_KERNEL';
  if (code === SI_USER) return 'SI_USER';
  if (signal === SIGSEGV) return code === SEGV_MAPERR ? 'SEGV_MAPERR' : code === SEGV_ACCERR ? 'SEGV_ACCERR' : String(code);
  if (signal === SIGBUS) {
    if (code === BUS_ADRALN) return 'BUS_ADRALN';
    if (code === BUS_ADRERR) return 'BUS_ADRERR';
    if (code === BUS_MCEERR_AR) return 'BUS_MCEERR_AR';
  }
  return String(code);
}
