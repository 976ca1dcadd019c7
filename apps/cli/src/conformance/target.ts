/**
 * A process under test: does one system call or one memory access at a time and reports what happened, surviving
 * faults as a program with a handler that jumps out would.
 */
import { SIGBUS, SIGSEGV, signalCodeName, signalName, Syscall } from '@pagelab/abi';
import type { Os, RegisterArg, SigInfo, SyscallName } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';

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
  readonly os: Os;
  /** Start of SCRATCH_BYTES of the program's own zero-initialised data. */
  readonly scratch: number;

  constructor(process: Process) {
    this.process = process;
    this.os = process.os;
    this.scratch = process.image.bssStart;
  }

  /** Installs the handlers and touches the program's own pages, so that later fault counts are a case's alone. */
  start(): void {
    const abandon = (info: SigInfo): never => {
      // eslint-disable-next-line @typescript-eslint/only-throw-error -- a jump, not a failure
      throw new Abandoned(info);
    };
    this.os.sigaction(SIGSEGV, abandon);
    this.os.sigaction(SIGBUS, abandon);
    this.ownPages();
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
    try {
      return body(this.os.mem);
    } catch (thrown) {
      if (!(thrown instanceof Abandoned)) throw thrown;
      const { signo, code, addr } = thrown.info;
      return { signal: `${signalName(signo)}/${signalCodeName(signo, code)}`, addr };
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

export function isFault(result: unknown): result is ObservedFault {
  return typeof result === 'object' && result !== null && 'signal' in result;
}
