/**
 * A process under test: does one system call or one memory access at a time and reports what happened, surviving
 * faults as a program with a handler that jumps out would.
 */
import { SIGBUS, SIGSEGV, signalCodeName, signalName, Syscall } from '@pagelab/abi';
import type { Os, RegisterArg, SigInfo, SyscallName } from '@pagelab/abi';
import type { Process, Thread } from '@pagelab/kernel';

/** Thrown by the handler to abandon an access. */
class Abandoned {
  readonly info: SigInfo;
  constructor(info: SigInfo) {
    this.info = info;
  }
}

/** A signal that an access raised. */
export interface ObservedFault {
  /** As the cases write it: `'SIGSEGV/SEGV_MAPERR'`. */
  readonly signal: string;
  readonly addr: number;
}

/** Bytes of the area that the runner passes strings, vectors and results through. */
export const SCRATCH_BYTES = 64 * 1024;

export class Target {
  readonly process: Process;
  /** Where it is a further thread of the process. */
  readonly thread: Thread | null;
  readonly os: Os;
  /** Start of SCRATCH_BYTES of the program's own zero-initialised data. */
  readonly scratch: number;
  /** What handlers that take notes have written down. */
  notes: string[] = [];
  /** Whether an access is under way, which a handler may abandon. */
  #accesses = false;

  constructor(process: Process, thread: Thread | null = null) {
    this.process = process;
    this.thread = thread;
    this.os = thread === null ? process.os : thread.os;
    this.scratch = process.image.bssStart;
  }

  get alive(): boolean {
    return this.thread === null ? this.process.alive : this.thread.alive;
  }

  /**
   * Installs the handlers and touches the program's own pages, so that later fault counts are a case's alone.
   *
   * @param at who is at work: handlers belong to a process, and to its children
   */
  start(at: () => Target): void {
    const handler = (info: SigInfo): void => {
      const target = at();
      target.abandon(info);
      // Not an access of the case's: as the recorder's actor does.
      if (isOfAccess(info)) target.os.exit(97);
    };
    this.os.sigaction(SIGSEGV, handler);
    this.os.sigaction(SIGBUS, handler);
    this.ownPages();
  }

  /** Leaves the access that is under way, where it raised a signal. */
  abandon(info: SigInfo): void {
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- a jump, not a failure
    if (this.#accesses && isOfAccess(info)) throw new Abandoned(info);
  }

  /** Writes to each private page of the program, which after a fork makes it this process's own. */
  ownPages(): void {
    const { mem } = this.os;
    const { bssStart, bssEnd } = this.process.image;
    for (let page = bssStart; page < bssEnd; page += 4096) mem.store8(page, mem.load8(page));
    const { stackPointer } = this.process.image;
    for (const below of [0, 4096]) mem.store8(stackPointer - below - 1, 1);
  }

  syscall(name: SyscallName, ...args: RegisterArg[]): number {
    return this.os.syscall(Syscall[name], ...args);
  }

  /** Does an access; a fault is a result. */
  access<T>(body: (mem: Os['mem']) => T): T | ObservedFault {
    this.#accesses = true;
    try {
      return body(this.os.mem);
    } catch (thrown) {
      if (!(thrown instanceof Abandoned)) throw thrown;
      const { signo, code, addr } = thrown.info;
      return { signal: `${signalName(signo)}/${signalCodeName(signo, code)}`, addr };
    } finally {
      this.#accesses = false;
    }
  }

  put(offset: number, bytes: Uint8Array): void {
    this.os.mem.write(this.scratch + offset, bytes);
  }

  get(offset: number, length: number): Uint8Array {
    return this.os.mem.read(this.scratch + offset, length);
  }

  /** Puts a path or a name into the scratch area; returns its address. */
  putCString(text: string): number {
    this.os.mem.storeCString(this.scratch, text);
    return this.scratch;
  }
}

/** Whether a signal was raised by an access, not sent. */
export function isOfAccess({ signo, code }: SigInfo): boolean {
  return (signo === SIGSEGV || signo === SIGBUS) && code > 0;
}

export function isFault(result: unknown): result is ObservedFault {
  return typeof result === 'object' && result !== null && 'signal' in result;
}
