/**
 * The file that `userfaultfd` gives: messages to read, and requests by `ioctl`.
 *
 * @linux fs/userfaultfd.c
 */
import {
  CAP_SYS_PTRACE,
  Errno,
  O_NONBLOCK,
  RLIMIT_NOFILE,
  UFFDIO_API,
  UFFDIO_CONTINUE,
  UFFDIO_COPY,
  UFFDIO_COPY_MODE_DONTWAKE,
  UFFDIO_COPY_MODE_WP,
  UFFDIO_MOVE,
  UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES,
  UFFDIO_MOVE_MODE_DONTWAKE,
  UFFDIO_POISON,
  UFFDIO_REGISTER,
  UFFDIO_REGISTER_MODE_MINOR,
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_REGISTER_MODE_WP,
  UFFDIO_UNREGISTER,
  UFFDIO_WAKE,
  UFFDIO_WRITEPROTECT,
  UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
  UFFDIO_WRITEPROTECT_MODE_WP,
  UFFDIO_ZEROPAGE,
  UFFD_API,
  UFFD_EVENT_FORK,
  UFFD_EVENT_PAGEFAULT,
  UFFD_FEATURE_EVENT_FORK,
  UFFD_FEATURE_EVENT_REMAP,
  UFFD_FEATURE_EVENT_REMOVE,
  UFFD_FEATURE_EVENT_UNMAP,
  UFFD_FEATURE_EXACT_ADDRESS,
  UFFD_FEATURE_MINOR_HUGETLBFS,
  UFFD_FEATURE_MINOR_SHMEM,
  UFFD_FEATURE_MISSING_HUGETLBFS,
  UFFD_FEATURE_MISSING_SHMEM,
  UFFD_FEATURE_MOVE,
  UFFD_FEATURE_PAGEFAULT_FLAG_WP,
  UFFD_FEATURE_POISON,
  UFFD_FEATURE_SIGBUS,
  UFFD_FEATURE_THREAD_ID,
  UFFD_FEATURE_WP_ASYNC,
  UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
  UFFD_FEATURE_WP_UNPOPULATED,
  UFFD_MSG_BYTES,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import type { FileStatus, TaskContext } from '@pagelab/syscalls';
import { UffdContext, copyFromUser, copyToUser, rangeHasHugetlb, uffdFill, uffdMove, uffdRangeEnd, uffdRegister, uffdRelease, uffdUnalignedEnd, uffdUnregister, uffdWriteProtect } from '@pagelab/vm';
import type { UffdEvent, UffdFill, UffdWait } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { DeadlockError, runOthers } from '../scheduler.ts';
import type { Task } from '../task.ts';
import { BaseFile } from './base-file.ts';
import { allocPseudoInode, freePseudoInode } from './pseudo-inode.ts';
import type { PseudoInode } from './pseudo-inode.ts';

/** What can be agreed on. @linux include/uapi/linux/userfaultfd.h:UFFD_API_FEATURES */
const FEATURES =
  UFFD_FEATURE_EVENT_FORK |
  UFFD_FEATURE_EVENT_REMAP |
  UFFD_FEATURE_EVENT_REMOVE |
  UFFD_FEATURE_EVENT_UNMAP |
  UFFD_FEATURE_PAGEFAULT_FLAG_WP |
  UFFD_FEATURE_MISSING_HUGETLBFS |
  UFFD_FEATURE_MISSING_SHMEM |
  UFFD_FEATURE_SIGBUS |
  UFFD_FEATURE_THREAD_ID |
  UFFD_FEATURE_MINOR_HUGETLBFS |
  UFFD_FEATURE_MINOR_SHMEM |
  UFFD_FEATURE_EXACT_ADDRESS |
  UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
  UFFD_FEATURE_WP_UNPOPULATED |
  UFFD_FEATURE_POISON |
  UFFD_FEATURE_WP_ASYNC |
  UFFD_FEATURE_MOVE;

/** What needs more of an entry than there is with 32 bits: write protection, and faults on pages that are cached. @linux arch/x86/Kconfig:HAVE_ARCH_USERFAULTFD_WP */
const FEATURES_64 =
  UFFD_FEATURE_PAGEFAULT_FLAG_WP |
  UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
  UFFD_FEATURE_WP_UNPOPULATED |
  UFFD_FEATURE_WP_ASYNC |
  UFFD_FEATURE_MINOR_HUGETLBFS |
  UFFD_FEATURE_MINOR_SHMEM;

const bit = (request: number): bigint => 1n << BigInt(request & 0xff);
const API_IOCTLS = bit(UFFDIO_REGISTER) | bit(UFFDIO_UNREGISTER) | bit(UFFDIO_API);
const RANGE_IOCTLS = bit(UFFDIO_WAKE) | bit(UFFDIO_COPY) | bit(UFFDIO_ZEROPAGE) | bit(UFFDIO_MOVE) | bit(UFFDIO_POISON);

/** @linux include/uapi/linux/userfaultfd.h:UFFD_API_RANGE_IOCTLS_BASIC */
const RANGE_IOCTLS_BASIC = bit(UFFDIO_WAKE) | bit(UFFDIO_COPY) | bit(UFFDIO_POISON);

const S_IFREG = 0o10_0000;

/** Addresses of the objects that stand for one. */
interface UserfaultObjects {
  readonly file: VirtAddr;
  readonly context: VirtAddr;
  readonly pseudo: PseudoInode;
}

class UserfaultFile extends BaseFile {
  /** @linux fs/libfs.c:noop_llseek */
  readonly staysAtStart = true;
  readonly takesOffsets = false;
  private readonly context: UffdContext;
  /** The `userfaultfd_ctx`. */
  private readonly objects: UserfaultObjects;

  constructor(kernel: Kernel, context: UffdContext, openFlags: number, objects: UserfaultObjects) {
    super(kernel, 'anon_inode:[userfaultfd]', openFlags, objects.file);
    this.objects = objects;
    this.context = context;
  }

  /** As many messages as there is room for; waits for the first. @linux fs/userfaultfd.c:userfaultfd_read */
  override read(task: TaskContext | null, _position: number, length: number): Uint8Array | number {
    const { context } = this;
    if (context.features < 0 || length < UFFD_MSG_BYTES) return -Errno.EINVAL;
    for (let turns = 0; context.pending.length === 0 && context.events.length === 0; turns++) {
      if ((this.flags & O_NONBLOCK) !== 0 || task === null) return -Errno.EAGAIN;
      if (!runOthers(task as Task, turns)) {
        throw new DeadlockError(`task ${task.pid} waits for a page fault of a task that is suspended below this wait: it reads with O_NONBLOCK and yields instead`);
      }
    }
    const count = Math.min(Math.floor(length / UFFD_MSG_BYTES), context.pending.length + context.events.length);
    const bytes = new Uint8Array(count * UFFD_MSG_BYTES);
    for (let i = 0; i < count; i++) {
      const at = i * UFFD_MSG_BYTES;
      const fault = context.take();
      if (fault !== undefined) {
        putMessage(bytes, at, fault, (context.features & UFFD_FEATURE_THREAD_ID) !== 0);
        continue;
      }
      const [event] = context.events;
      const fd = event!.child === null ? 0 : this.openChild(task, event!.child);
      // What was read before a failure is told.
      if (fd < 0) return i > 0 ? bytes.subarray(0, at) : fd;
      putEvent(bytes, at, context.takeEvent()!, fd);
    }
    return bytes;
  }

  /** A file by which the reader serves a child's faults: its descriptor, or -errno. @linux fs/userfaultfd.c:resolve_userfault_fork */
  private openChild(task: TaskContext | null, child: UffdContext): number {
    if (task === null) return -Errno.EINVAL;
    const file = newUserfaultFile(this.kernel, child, this.flags & O_NONBLOCK);
    if (typeof file === 'number') return file;
    const fd = task.files.install(file, task.rlimit(RLIMIT_NOFILE));
    if (fd < 0) file.put();
    return fd;
  }

  override write(): number {
    return -Errno.EINVAL;
  }

  override status(): FileStatus {
    return {
      dev: [0, 12], ino: 1, nlink: 1, mode: S_IFREG | 0o600, rdev: [0, 0], size: 0, blockBytes: 4096, blocks: 0, atime: 0, mtime: 0, ctime: 0,
    };
  }

  /** @linux fs/userfaultfd.c:userfaultfd_ioctl */
  ioctl(task: TaskContext, request: number, argument: VirtAddr): number {
    const { context } = this;
    if (request !== UFFDIO_API && context.features < 0) return -Errno.EINVAL;
    const structure = new UserWords(task, argument);
    switch (request) {
      case UFFDIO_API:
        return this.handshake(task, structure);
      case UFFDIO_REGISTER:
        return this.register(structure);
      case UFFDIO_UNREGISTER:
      case UFFDIO_WAKE:
        return this.range(structure, request);
      case UFFDIO_COPY:
      case UFFDIO_MOVE:
        return this.transfer(task, structure, request === UFFDIO_MOVE);
      case UFFDIO_ZEROPAGE:
      case UFFDIO_CONTINUE:
      case UFFDIO_POISON:
        return this.fill(structure, request);
      case UFFDIO_WRITEPROTECT:
        return this.protect(structure);
      default:
        return -Errno.EINVAL;
    }
  }

  protected override release(): void {
    uffdRelease(this.context);
    this.kernel.caches.userfaultfd_ctx_cache.free(this.objects.context);
    freePseudoInode(this.kernel.caches, this.objects.pseudo);
  }

  private get has32Bits(): boolean {
    return this.context.mm.vm.tables.format.addressBits === 32;
  }

  /** @linux fs/userfaultfd.c:userfaultfd_api */
  private handshake(task: TaskContext, structure: UserWords): number {
    const words = structure.read(3);
    if (words === null) return -Errno.EFAULT;
    const [api, features] = words as [bigint, bigint, bigint];
    const refuse = (errno: number): number => (structure.write([0n, 0n, 0n]) ? -errno : -Errno.EFAULT);
    const offered = BigInt(this.has32Bits ? FEATURES & ~FEATURES_64 : FEATURES);
    if (Number(api) !== UFFD_API) return refuse(Errno.EINVAL);
    if ((features & BigInt(UFFD_FEATURE_EVENT_FORK)) !== 0n && !task.capable(CAP_SYS_PTRACE)) return refuse(Errno.EPERM);
    if ((features & ~offered) !== 0n) return refuse(Errno.EINVAL);
    if (!structure.write([BigInt(UFFD_API), offered, API_IOCTLS])) return -Errno.EFAULT;
    if (this.context.features >= 0) return refuse(Errno.EINVAL);
    const agreed = Number(features);
    this.context.features = (agreed & UFFD_FEATURE_WP_ASYNC) !== 0 ? agreed | UFFD_FEATURE_WP_UNPOPULATED : agreed;
    return 0;
  }

  /** @linux fs/userfaultfd.c:userfaultfd_register */
  private register(structure: UserWords): number {
    const words = structure.read(3);
    if (words === null) return -Errno.EFAULT;
    const [start, length, mode] = words.map(Number) as [number, number, number];
    const { context } = this;
    if (mode === 0 || (mode & ~(UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR)) !== 0) return -Errno.EINVAL;
    if (this.has32Bits && mode !== UFFDIO_REGISTER_MODE_MISSING) return -Errno.EINVAL;
    const end = uffdRangeEnd(context.mm, start, length);
    if (end < 0) return end;
    if (!context.isAlive) return -Errno.ENOMEM;
    const error = uffdRegister(context, start, end, mode);
    if (error !== 0) return error;
    // Huge pages of the pool have no zero page, and are not moved.
    let ioctls = rangeHasHugetlb(context.mm, start, end) ? RANGE_IOCTLS_BASIC : RANGE_IOCTLS;
    if ((mode & UFFDIO_REGISTER_MODE_WP) !== 0) ioctls |= bit(UFFDIO_WRITEPROTECT);
    if ((mode & UFFDIO_REGISTER_MODE_MINOR) !== 0) ioctls |= bit(UFFDIO_CONTINUE);
    return structure.write([ioctls], 3) ? 0 : -Errno.EFAULT;
  }

  private range(structure: UserWords, request: number): number {
    const words = structure.read(2);
    if (words === null) return -Errno.EFAULT;
    const [start, length] = words.map(Number) as [number, number];
    const { context } = this;
    const end = uffdRangeEnd(context.mm, start, length);
    if (end < 0) return end;
    if (request === UFFDIO_UNREGISTER) return context.isAlive ? uffdUnregister(context, start, end) : -Errno.ENOMEM;
    context.wake(start, end);
    return 0;
  }

  /** @linux fs/userfaultfd.c:userfaultfd_copy, userfaultfd_move */
  private transfer(task: TaskContext, structure: UserWords, moves: boolean): number {
    const { context } = this;
    const { mm } = context;
    if (context.changing > 0) return structure.write([BigInt(-Errno.EAGAIN)], 4) ? -Errno.EAGAIN : -Errno.EFAULT;
    const words = structure.read(4);
    if (words === null) return -Errno.EFAULT;
    const [to, from, length, mode] = words.map(Number) as [number, number, number, number];
    if (moves && task.mm !== mm) return -Errno.EINVAL;
    if (uffdRangeEnd(mm, to, length) < 0) return -Errno.EINVAL;
    if (moves ? uffdRangeEnd(mm, from, length) < 0 : uffdUnalignedEnd(mm, from, length) < 0) return -Errno.EINVAL;
    const known = moves ? UFFDIO_MOVE_MODE_DONTWAKE | UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES : UFFDIO_COPY_MODE_DONTWAKE | UFFDIO_COPY_MODE_WP;
    if ((mode & ~known) !== 0) return -Errno.EINVAL;
    if (!context.isAlive) return -Errno.ESRCH;
    const done = moves
      ? uffdMove(context, to, from, length, (mode & UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES) !== 0)
      : uffdFill(context, to, length, { kind: 'copy', source: { mm: task.mm, address: from }, protect: (mode & UFFDIO_COPY_MODE_WP) !== 0 });
    return this.finish(structure, { start: to, length, done, word: 4, wakes: (mode & UFFDIO_COPY_MODE_DONTWAKE) === 0 });
  }

  /** @linux fs/userfaultfd.c:userfaultfd_zeropage, userfaultfd_continue, userfaultfd_poison */
  private fill(structure: UserWords, request: number): number {
    const { context } = this;
    if (context.changing > 0) return structure.write([BigInt(-Errno.EAGAIN)], 3) ? -Errno.EAGAIN : -Errno.EFAULT;
    const words = structure.read(3);
    if (words === null) return -Errno.EFAULT;
    const [start, length, mode] = words.map(Number) as [number, number, number];
    if (uffdRangeEnd(context.mm, start, length) < 0) return -Errno.EINVAL;
    if ((mode & ~(request === UFFDIO_CONTINUE ? 3 : 1)) !== 0) return -Errno.EINVAL;
    if (!context.isAlive) return -Errno.ESRCH;
    const kind: UffdFill['kind'] = request === UFFDIO_ZEROPAGE ? 'zero' : request === UFFDIO_CONTINUE ? 'continue' : 'poison';
    const done = uffdFill(context, start, length, { kind, protect: (mode & 2) !== 0 });
    return this.finish(structure, { start, length, done, word: 3, wakes: (mode & 1) === 0 });
  }

  /** Tells how far it came, and wakes who waited there. */
  private finish(structure: UserWords, result: { start: number; length: number; done: number; word: number; wakes: boolean }): number {
    const { start, length, done, word, wakes } = result;
    if (!structure.write([BigInt(done)], word)) return -Errno.EFAULT;
    if (done < 0) return done;
    if (wakes) this.context.wake(start, start + done);
    return done === length ? 0 : -Errno.EAGAIN;
  }

  /** @linux fs/userfaultfd.c:userfaultfd_writeprotect */
  private protect(structure: UserWords): number {
    const { context } = this;
    if (context.changing > 0) return -Errno.EAGAIN;
    const words = structure.read(3);
    if (words === null) return -Errno.EFAULT;
    const [start, length, mode] = words.map(Number) as [number, number, number];
    if (uffdRangeEnd(context.mm, start, length) < 0) return -Errno.EINVAL;
    const protects = (mode & UFFDIO_WRITEPROTECT_MODE_WP) !== 0;
    const quiet = (mode & UFFDIO_WRITEPROTECT_MODE_DONTWAKE) !== 0;
    if ((mode & ~3) !== 0 || (protects && quiet)) return -Errno.EINVAL;
    if (!context.isAlive) return -Errno.ESRCH;
    const error = uffdWriteProtect(context, start, length, protects);
    if (error === 0 && !protects && !quiet) context.wake(start, start + length);
    return error;
  }
}

/** A structure of 64-bit words in the caller's memory. */
class UserWords {
  private readonly task: TaskContext;
  private readonly address: VirtAddr;

  constructor(task: TaskContext, address: VirtAddr) {
    this.task = task;
    this.address = address;
  }

  read(count: number): bigint[] | null {
    const bytes = copyFromUser(this.task.mm, this.address, count * 8);
    if (typeof bytes === 'number') return null;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    return Array.from({ length: count }, (_, i) => view.getBigUint64(i * 8, true));
  }

  /** Stores words from number `at` on; false where that cannot be. */
  write(words: readonly bigint[], at = 0): boolean {
    const bytes = new Uint8Array(BigUint64Array.from(words, (word) => BigInt.asUintN(64, word)).buffer);
    return copyToUser(this.task.mm, this.address + at * 8, bytes) === 0;
  }
}

function putMessage(bytes: Uint8Array, offset: number, wait: UffdWait, tellsThread: boolean): void {
  const view = new DataView(bytes.buffer, offset);
  view.setUint8(0, UFFD_EVENT_PAGEFAULT);
  view.setBigUint64(8, BigInt(wait.flags), true);
  view.setBigUint64(16, BigInt(wait.address), true);
  if (tellsThread) view.setUint32(24, wait.thread, true);
}

function putEvent(bytes: Uint8Array, offset: number, { event, args }: UffdEvent, fd: number): void {
  const view = new DataView(bytes.buffer, offset);
  view.setUint8(0, event);
  args.forEach((arg, i) => {
    view.setBigUint64(8 + i * 8, BigInt(arg), true);
  });
  if (event === UFFD_EVENT_FORK) view.setUint32(8, fd, true);
}

/** @returns the file with a reference, -ENOMEM or -ENFILE @linux fs/userfaultfd.c:new_userfaultfd */
export function openUserfault(kernel: Kernel, task: Task, openFlags: number, flags: number): BaseFile | number {
  return newUserfaultFile(kernel, new UffdContext(task.mm, flags), openFlags);
}

function newUserfaultFile(kernel: Kernel, served: UffdContext, openFlags: number): UserfaultFile | number {
  const { filp, userfaultfd_ctx_cache: contexts } = kernel.caches;
  const context = contexts.alloc(GFP_KERNEL);
  if (context === 0) return -Errno.ENOMEM;
  const pseudo = allocPseudoInode(kernel.caches);
  const file = pseudo === null ? 0 : filp.alloc(GFP_KERNEL);
  if (pseudo !== null && file !== 0) return new UserfaultFile(kernel, served, openFlags, { file, context, pseudo });
  if (pseudo !== null) freePseudoInode(kernel.caches, pseudo);
  contexts.free(context);
  return pseudo === null ? -Errno.ENOMEM : -Errno.ENFILE;
}

/** Lets others run until a fault was served. @throws DeadlockError where nobody can serve it */
export function waitForUserfault(kernel: Kernel, wait: { readonly woken: boolean }): void {
  const task = kernel.current;
  if (task === null) throw new DeadlockError('the kernel itself waits for a page that a program serves');
  for (let turns = 0; !wait.woken; turns++) {
    if (!runOthers(task, turns)) throw new DeadlockError(`task ${task.pid} waits for a page that nobody serves: whoever would is suspended, or driven from outside`);
  }
}
