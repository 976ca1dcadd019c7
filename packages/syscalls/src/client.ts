/**
 * The typed face of the boundary: what a user program holds.
 *
 * The handle is a frozen object of closures. Nothing of the kernel hangs on it: closures cannot be looked into, and what
 * the calls return is numbers, copies of bytes, and plain objects.
 */
import {
  Errno,
  PAGE_SIZE,
  RUSAGE_SELF,
  Syscall,
  SyscallError,
  WEXITED,
  O_RDONLY,
  O_WRONLY,
} from '@pagelab/abi';
import type {
  Os,
  Program,
  RegisterArg,
  ResourceLimit,
  ResourceUsage,
  SignalDisposition,
  SignalOptions,
  UserMemory,
  WaitResult,
} from '@pagelab/abi';
import { sbrk } from './sbrk.ts';
import type { LibraryState } from './sbrk.ts';
import { mincorePages } from './sys-mincore.ts';
import { isUsageSubject } from './sys-getrusage.ts';
import { readLimit, writeLimit } from './sys-rlimit.ts';
import type { TaskContext } from './task-context.ts';
import { decodeUtf8, encodeUtf8 } from './utf8.ts';

/** What the process layer provides for one task's handle. */
export interface ClientHooks {
  readonly mem: UserMemory;
  readonly library: LibraryState;
  /**
   * Enters the kernel for this task, makes the call by `dispatch`, and returns to user mode: signals are delivered on
   * the way, and a task that has ended does not return.
   */
  readonly syscall: (
    nr: RegisterArg,
    a0?: RegisterArg,
    a1?: RegisterArg,
    a2?: RegisterArg,
    a3?: RegisterArg,
    a4?: RegisterArg,
    a5?: RegisterArg,
  ) => number;
  /** As {@link syscall}, for what is not made by number. */
  readonly enter: <T>(body: (task: TaskContext) => T) => T;
  /** Makes a child or a thread that will run `program`: its number, or -errno. */
  readonly fork: (program: Program, argv: readonly string[]) => number;
  readonly vfork: (program: Program, argv: readonly string[]) => number;
  readonly thread: (program: Program, argv: readonly string[]) => number;
  /** Runs another program: does not return, but for -errno. */
  readonly execve: (program: Program, argv: readonly string[]) => number;
  /** Sets what a signal does and returns what it did, or -errno. */
  readonly sigaction: (signal: number, disposition: SignalDisposition, options?: SignalOptions) => SignalDisposition | number;
  /** Changes what is held back and returns what was, or -errno. */
  readonly sigprocmask: (how: number, signals: readonly number[]) => number[] | number;
  /** Moves the stack pointer, where an address is given; returns where it was. */
  readonly stackPointer: (to?: number) => number;
  readonly print: (text: string) => void;
}

/** The most bytes of a file that `readFile` returns. */
const MAX_FILE_BYTES = 2 ** 30;

/** Builds a task's handle. */
export function createClient(hooks: ClientHooks): Os {
  const { mem, library, syscall: call, enter } = hooks;

  const checked = (name: string, result: number): number => {
    if (result < 0 && result >= -4095) throw new SyscallError(name, result);
    return result;
  };

  const checkedFor = <T>(name: string, result: T | number, detail = ''): T => {
    if (typeof result === 'number') throw new SyscallError(name, result, detail);
    return result;
  };

  const useFile = <T>(
    path: string,
    flags: number,
    use: (task: TaskContext, file: Exclude<ReturnType<TaskContext['open']>, number>) => T | number,
  ): T | number =>
    enter((task) => {
      const file = task.open(path, flags, 0);
      if (typeof file === 'number') return file;
      try {
        return use(task, file);
      } finally {
        file.put();
      }
    });

  const readFileBytes = (path: string, offset: number, length: number): Uint8Array => {
    const wanted = Math.min(length, MAX_FILE_BYTES);
    const result = useFile(String(path), O_RDONLY, (task, file) => {
      const parts: Uint8Array[] = [];
      let total = 0;
      while (total < wanted) {
        const bytes = file.read(task, offset + total, wanted - total);
        if (typeof bytes === 'number') return total > 0 ? parts : bytes;
        if (bytes.length === 0) break;
        parts.push(bytes);
        total += bytes.length;
      }
      return parts;
    });
    return joined(checkedFor<Uint8Array[]>('read', result, ` '${path}'`));
  };

  const os: Os = {
    mem,

    syscall: (nr, ...args) => call(nr, args[0], args[1], args[2], args[3], args[4], args[5]),

    mmap: (addr, length, prot, flags, fd = -1, offset = 0) =>
      checked('mmap', call(Syscall.mmap, addr, length, prot, flags, fd, offset)),
    munmap: (addr, length) => void checked('munmap', call(Syscall.munmap, addr, length)),
    mprotect: (addr, length, prot) => void checked('mprotect', call(Syscall.mprotect, addr, length, prot)),
    mremap: (oldAddr, oldLength, newLength, flags, newAddr = 0) =>
      checked('mremap', call(Syscall.mremap, oldAddr, oldLength, newLength, flags, newAddr)),
    mseal: (addr, length) => void checked('mseal', call(Syscall.mseal, addr, length, 0)),
    madvise: (addr, length, advice) => void checked('madvise', call(Syscall.madvise, addr, length, advice)),
    msync: (addr, length, flags) => void checked('msync', call(Syscall.msync, addr, length, flags)),
    mincore: (addr, length) =>
      checkedFor(
        'mincore',
        enter((task) => mincorePages(task, addr, length)),
      ),
    mlock: (addr, length) => void checked('mlock', call(Syscall.mlock, addr, length)),
    mlock2: (addr, length, flags) => void checked('mlock2', call(Syscall.mlock2, addr, length, flags)),
    munlock: (addr, length) => void checked('munlock', call(Syscall.munlock, addr, length)),
    mlockall: (flags) => void checked('mlockall', call(Syscall.mlockall, flags)),
    munlockall: () => void checked('munlockall', call(Syscall.munlockall)),

    brk: (addr) => {
      library.curbrk = call(Syscall.brk, addr);
      return library.curbrk;
    },
    sbrk: (increment) => {
      const result = sbrk(library, increment, (addr) => call(Syscall.brk, addr));
      if (result < 0) throw new SyscallError('sbrk', Errno.ENOMEM);
      return result;
    },

    fork: (child, ...argv) => checked('fork', hooks.fork(child, argv)),
    vfork: (child, ...argv) => checked('vfork', hooks.vfork(child, argv)),
    execve: (program, ...argv): never => {
      throw new SyscallError('execve', hooks.execve(program, argv));
    },
    thread: (body, ...argv) => checked('clone', hooks.thread(body, argv)),
    waitpid: (pid, options = 0): WaitResult | null => {
      const result = enter((task) => task.wait(pid | 0, options | WEXITED));
      if (result === 0) return null;
      const { pid: who, statusWord } = checkedFor('waitpid', result);
      const signal = statusWord & 0x7f;
      return signal === 0
        ? { pid: who, status: (statusWord >> 8) & 0xff, signal: null }
        : { pid: who, status: null, signal };
    },
    exit: (status) => enter((task) => task.exitGroup(status & 0xff)),
    kill: (pid, signal) => void checked('kill', call(Syscall.kill, pid, signal)),
    sigaction: (signal, disposition, options) => checkedFor('sigaction', hooks.sigaction(signal | 0, disposition, options)),
    sigprocmask: (how, signals) => checkedFor('sigprocmask', hooks.sigprocmask(how | 0, signals)),
    sigaltstack: (stack) => {
      const { before, result } = enter((task) => ({
        before: task.shownSignalStack(),
        result: stack === undefined ? 0 : task.setSignalStack({ sp: stack.sp, size: stack.size, flags: stack.flags | 0 }),
      }));
      checked('sigaltstack', result);
      return before;
    },
    stackPointer: (to) => hooks.stackPointer(to),
    personality: (persona) => call(Syscall.personality, persona),
    getpid: () => call(Syscall.getpid),
    getppid: () => call(Syscall.getppid),
    gettid: () => call(Syscall.gettid),
    getpagesize: () => PAGE_SIZE,
    getrusage: (who = RUSAGE_SELF): ResourceUsage =>
      checkedFor(
        'getrusage',
        enter((task) => (isUsageSubject(who) ? { ...task.usage(who) } : -Errno.EINVAL)),
      ),
    getrlimit: (resource): ResourceLimit =>
      checkedFor(
        'getrlimit',
        enter((task) => readLimit(task, resource | 0)),
      ),
    setrlimit: (resource, limit) => {
      const { cur, max } = limit;
      const result = enter((task) => {
        const old = readLimit(task, resource | 0);
        if (typeof old === 'number') return old;
        return writeLimit(task, task, resource | 0, { cur: cur ?? old.cur, max: max ?? old.max });
      });
      checked('setrlimit', result);
    },

    userfaultfd: (flags) => checked('userfaultfd', call(Syscall.userfaultfd, flags)),
    ioctl: (fd, request, argument) => checked('ioctl', call(Syscall.ioctl, fd, request, argument)),

    readFile: (path) => decodeUtf8(readFileBytes(path, 0, MAX_FILE_BYTES)),
    readFileBytes,
    writeFile: (path, text) => {
      const bytes = encodeUtf8(String(text));
      const result = useFile(String(path), O_WRONLY, (task, file) => file.write(task, 0, bytes));
      if (typeof result === 'number' && result < 0) throw new SyscallError('write', result, ` '${path}'`);
    },
    mkdir: (path, mode = 0o755) => void checked('mkdir', enter((task) => task.names.mkdir(String(path), mode))),
    rmdir: (path) => void checked('rmdir', enter((task) => task.names.rmdir(String(path)))),
    print: (text) => hooks.print(String(text)),
  };
  for (const member of Object.values(os)) if (typeof member === 'function') Object.freeze(member);
  return Object.freeze(os);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  let length = 0;
  for (const part of parts) length += part.length;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
