import { errnoName } from './errno.ts';

/** What the typed client throws when a system call fails: shaped as the errors of Node's own `fs`. */
export class SyscallError extends Error {
  override readonly name = 'SyscallError';
  /** The error's name: `'EINVAL'`. */
  readonly code: string;
  /** The error's number, positive: 22. */
  readonly errno: number;
  /** The call's name: `'mmap'`. */
  readonly syscall: string;

  /**
   * @param syscall the call's name
   * @param errno the error's number; its sign does not matter
   * @param detail what was asked, for the message
   */
  constructor(syscall: string, errno: number, detail = '') {
    const code = errnoName(errno);
    super(`${code}: ${syscall}${detail}`);
    this.code = code;
    this.errno = Math.abs(errno);
    this.syscall = syscall;
  }
}
