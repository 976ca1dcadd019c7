/**
 * The types of the system-call boundary: all that a user program sees of the machine.
 */

/** A virtual address: a number of bytes. User addresses lie below `TASK_SIZE`; kernel addresses are negative. */
export type VirtAddr = number & { readonly __unit?: 'virtual address' };

/** What a system call takes in a register. Reduced modulo 2^64; a value no double can hold is a `bigint`. */
export type RegisterArg = number | bigint;

/**
 * A task's memory, through its page tables, at user privilege. Every access may fault as hardware does: the kernel
 * serves the fault, or the task gets SIGSEGV or SIGBUS. Values are little-endian; no address needs to be aligned. A
 * store that crosses into a page it may not write stores nothing.
 *
 * Addresses are numbers; one that no mapping can have (fractional, NaN) is a `RangeError` of the caller.
 */
export interface UserMemory {
  load8(addr: VirtAddr): number;
  load16(addr: VirtAddr): number;
  /** Unsigned. */
  load32(addr: VirtAddr): number;
  /** Unsigned 64 bits. */
  load64(addr: VirtAddr): bigint;
  /** 64 bits as a number, for an address or a size: exact up to 2^53, and for sign-extended kernel addresses. */
  loadAddress(addr: VirtAddr): number;
  loadFloat32(addr: VirtAddr): number;
  loadFloat64(addr: VirtAddr): number;
  /** Stores the low 8 bits of `value`. */
  store8(addr: VirtAddr, value: number): void;
  store16(addr: VirtAddr, value: number): void;
  store32(addr: VirtAddr, value: number): void;
  store64(addr: VirtAddr, value: bigint): void;
  /** Stores an integer of at most 2^53 in magnitude as 64 bits, two's complement. */
  storeAddress(addr: VirtAddr, value: number): void;
  storeFloat32(addr: VirtAddr, value: number): void;
  storeFloat64(addr: VirtAddr, value: number): void;
  /** Fetches the byte at `addr` as an instruction would be: it needs PROT_EXEC. */
  fetch8(addr: VirtAddr): number;
  /** Copies `length` bytes out of the task's memory. Pages are read in ascending order, faulting one by one. */
  read(addr: VirtAddr, length: number): Uint8Array;
  /** Copies out of the task's memory into `target`, filling it. */
  readInto(addr: VirtAddr, target: Uint8Array): void;
  /** Copies `bytes` into the task's memory. A fault leaves the pages before it written, as `memcpy` would. */
  write(addr: VirtAddr, bytes: Uint8Array): void;
  /** Sets `length` bytes to the low 8 bits of `byte`. */
  fill(addr: VirtAddr, length: number, byte: number): void;
  /** Copies within the task's memory, as `memmove`: the ranges may overlap. */
  copy(to: VirtAddr, from: VirtAddr, length: number): void;
  /** Offset of the first byte that is not `byte`, or −1 where all `length` bytes are. */
  findNot(addr: VirtAddr, length: number, byte: number): number;
  /** A zero-terminated string, decoded as UTF-8; at most `maxBytes` (default 65,536) are read. */
  loadCString(addr: VirtAddr, maxBytes?: number): string;
  /** Stores `text` as UTF-8 with a terminating zero; returns the bytes written, the zero included. */
  storeCString(addr: VirtAddr, text: string): number;
  /** A view of a C structure: one property a field, each access a load or store at `addr` plus the field's offset. */
  struct<F extends StructFields>(addr: VirtAddr, fields: F): StructView<F>;
}

/** The scalar types of a structure's fields, as C names them. */
export type StructFieldType = 'u8' | 'u16' | 'u32' | 'i8' | 'i16' | 'i32' | 'u64' | 'pointer' | 'f32' | 'f64';

/** A structure: each field's type, in order, laid out with C's natural alignment. */
export type StructFields = Readonly<Record<string, StructFieldType>>;

/** The properties of a structure's view: `u64` is a bigint, all else a number. */
export type StructView<F extends StructFields> = { [K in keyof F]: F[K] extends 'u64' ? bigint : number };

/** What a signal's handler is told. */
export interface SigInfo {
  readonly signo: number;
  /** `SEGV_MAPERR`, `BUS_ADRERR`, `SI_USER`, … */
  readonly code: number;
  /** The address that faulted; 0 for signals without one. */
  readonly addr: VirtAddr;
  /** The sender of a signal sent by `kill`, or the child of a SIGCHLD; 0 otherwise. */
  readonly pid: number;
  /** Of `BUS_MCEERR_AR` and `BUS_MCEERR_AO`: log2 of the bytes around `addr` that are lost. */
  readonly addrLsb?: number | undefined;
}

/**
 * A signal handler. When it returns, the access that faulted is tried again; when it throws, the access is abandoned
 * and the exception goes to whoever made it, as `siglongjmp` would.
 */
export type SignalHandler = (info: SigInfo) => void;

/** What `sigaction` sets: the default action, none, or a handler. */
export type SignalDisposition = 'default' | 'ignore' | SignalHandler;

/** How a handler is called, beside `sigaction`'s disposition. */
export interface SignalOptions {
  /** SA_ bits; SA_RESTART always holds. */
  readonly flags?: number;
  /** Signals held back while the handler runs, beside its own. */
  readonly mask?: readonly number[];
}

/** A stack for handlers, as `sigaltstack` takes and tells it. */
export interface SignalStack {
  readonly sp: VirtAddr;
  /** In bytes. */
  readonly size: number;
  /** SS_ bits. */
  readonly flags: number;
}

/** Resource usage, as `getrusage` tells. */
export interface ResourceUsage {
  /** User and system time of the virtual clock, in microseconds. */
  readonly utime: number;
  readonly stime: number;
  /** Largest resident set, in KiB. */
  readonly maxrss: number;
  /** Faults served without I/O. */
  readonly minflt: number;
  /** Faults that waited for I/O. */
  readonly majflt: number;
  readonly nvcsw: number;
  readonly nivcsw: number;
}

/** A soft and a hard limit; `RLIM_INFINITY` (−1) is none. */
export interface ResourceLimit {
  readonly cur: number;
  readonly max: number;
}

/** How a child ended. */
export interface WaitResult {
  readonly pid: number;
  /** The exit status, 0 to 255, or `null` where a signal ended it. */
  readonly status: number | null;
  /** The signal that ended it, or `null`. */
  readonly signal: number | null;
}

/** What a generator program yields: nothing. To yield is to give up the CPU. */
export type ProgramGenerator = Generator<void, number | void, void>;

/**
 * A user program: a function of the boundary and its arguments that returns its exit status (nothing is 0), or a
 * generator of the same shape that gives up the CPU at each `yield`.
 */
export interface Program {
  (os: Os, ...argv: string[]): number | void | ProgramGenerator;
  /** What its file holds, where it is started or put in another's place: `Object.assign(main, { image: { bss: 2 ** 20 } })`. */
  readonly image?: ProgramDescription;
}

/** What a program's file holds: in bytes, rounded up to whole pages, each at most 1 GiB. */
export interface ProgramDescription {
  /** Code; 32 KiB unless told. */
  readonly text?: number;
  /** Data that cannot be written; 8 KiB unless told. */
  readonly constants?: number;
  /** Data; 4 KiB unless told. */
  readonly data?: number;
  /** Data that starts as zero, and is not in the file; 128 KiB unless told. */
  readonly bss?: number;
  /** Its place is chosen when it is started, as that of an executable with a dynamic linker (which is left out here). */
  readonly pie?: boolean;
}

/**
 * The typed face of the system-call boundary. Calls that fail throw a {@link SyscallError}; `syscall` is the other
 * face of the same table, and returns `-errno` instead.
 */
export interface Os {
  /** This task's memory. */
  readonly mem: UserMemory;

  /**
   * The ABI: system call `nr` with up to six registers.
   *
   * @returns what the kernel returns: a value, or `-errno` (−1 … −4095); −ENOSYS where there is no such call
   */
  syscall(nr: number, ...args: RegisterArg[]): number;

  /** Errors: EINVAL, ENOMEM, EPERM, EEXIST, EBADF, ENODEV, EACCES, EAGAIN, EOPNOTSUPP, EOVERFLOW. */
  mmap(addr: VirtAddr, length: number, prot: number, flags: number, fd?: number, offset?: number): VirtAddr;
  munmap(addr: VirtAddr, length: number): void;
  mprotect(addr: VirtAddr, length: number, prot: number): void;
  mremap(oldAddr: VirtAddr, oldLength: number, newLength: number, flags: number, newAddr?: VirtAddr): VirtAddr;
  madvise(addr: VirtAddr, length: number, advice: number): void;
  /** Lets nobody unmap, move, replace or reprotect a range, which must be mapped, any more. */
  mseal(addr: VirtAddr, length: number): void;
  msync(addr: VirtAddr, length: number, flags: number): void;
  /** One byte a page, bit 0 set where the page is resident. */
  mincore(addr: VirtAddr, length: number): Uint8Array;
  mlock(addr: VirtAddr, length: number): void;
  mlock2(addr: VirtAddr, length: number, flags: number): void;
  munlock(addr: VirtAddr, length: number): void;
  mlockall(flags: number): void;
  munlockall(): void;

  /** The raw call: sets the break and returns the one in force afterwards, which is the old one where it could not. */
  brk(addr: VirtAddr): VirtAddr;
  /** As the C library builds it: moves the break by `increment` bytes, returns the previous one; ENOMEM on failure. */
  sbrk(increment: number): VirtAddr;

  /**
   * Makes a child that runs `child` on a copy-on-write copy of this address space.
   *
   * @returns the child's process id
   */
  fork(child: Program, ...argv: string[]): number;
  /**
   * Makes a child that runs `child` in this very address space, and waits until it ends or runs another program.
   *
   * @returns the child's process id
   */
  vfork(child: Program, ...argv: string[]): number;
  /**
   * Runs another program in this one's place, in a new address space. This handle is of no use afterwards: it returns
   * only where it fails, by throwing. Errors: ENOMEM.
   */
  execve(program: Program, ...argv: string[]): never;
  /** Makes a thread that runs `body` in this address space; returns its thread id. */
  thread(body: Program, ...argv: string[]): number;
  /**
   * Waits for a child (`pid` > 0) or any child (−1); others run meanwhile. With WNOHANG, `null` where none has ended.
   * Errors: ECHILD. A generator program that should not hold up its CPU yields between WNOHANG calls.
   */
  waitpid(pid: number, options?: number): WaitResult | null;
  /** Ends this task. Does not return. */
  exit(status: number): never;
  kill(pid: number, signal: number): void;
  /** Sets what `signal` does; returns what it did before. */
  sigaction(signal: number, disposition: SignalDisposition, options?: SignalOptions): SignalDisposition;
  /** Changes which signals are held back (SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK); returns those that were. */
  sigprocmask(how: number, signals: readonly number[]): number[];
  /** Sets the stack for handlers with SA_ONSTACK, where one is given; returns the one before. Errors: EINVAL, ENOMEM, EPERM. */
  sigaltstack(stack?: SignalStack): SignalStack;
  /**
   * The stack pointer, which a program moves where it wants the kernel to know how much of its stack it uses: a signal's
   * frame is then pushed below it. Returns the one before.
   */
  stackPointer(to?: VirtAddr): VirtAddr;
  /** Sets the execution domain, ADDR_ bits; returns the one before. It is acted on by the next `execve`. */
  personality(persona: number): number;
  getpid(): number;
  getppid(): number;
  gettid(): number;
  getpagesize(): number;
  getrusage(who?: number): ResourceUsage;
  getrlimit(resource: number): ResourceLimit;
  setrlimit(resource: number, limit: Partial<ResourceLimit>): void;

  /** Makes a file by which this program serves page faults of its own. Errors: EPERM, EINVAL. */
  userfaultfd(flags: number): number;
  /** A request to a file, with the address of its structure. Returns what the file answers. */
  ioctl(fd: number, request: number, argument: VirtAddr): number;

  /** The text of a file of `/proc` or `/sys`, `self` being this task. Errors: ENOENT, EACCES. */
  readFile(path: string): string;
  /** The bytes of such a file, from `offset`. */
  readFileBytes(path: string, offset: number, length: number): Uint8Array;
  /** Writes such a file. Errors: ENOENT, EACCES, EINVAL. */
  writeFile(path: string, text: string): void;
  /** Makes a directory; below `/sys/fs/cgroup` a control group. Errors: EEXIST, ENOENT, EACCES, EAGAIN, ENOMEM. */
  mkdir(path: string, mode?: number): void;
  /** Takes an empty directory, or a control group without processes, away. Errors: EBUSY, ENOENT, ENOTEMPTY, ENOTDIR. */
  rmdir(path: string): void;
  /** Writes a line to the machine's console. */
  print(text: string): void;
}
