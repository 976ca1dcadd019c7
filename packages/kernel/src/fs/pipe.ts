/**
 * Pipes: a queue of bytes in frames, and two ends. Frames are the kernel's own, or a program's that it shows with `vmsplice`.
 *
 * @linux fs/pipe.c
 */
import { CAP_SYS_ADMIN, CAP_SYS_RESOURCE, Errno, O_DIRECT, O_NONBLOCK, O_RDONLY, O_WRONLY, SIGPIPE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { GFP_HIGHUSER, GFP_KERNEL, GFP_KERNEL_ACCOUNT, __GFP_ACCOUNT } from '@pagelab/mm-core';
import type { FileStatus, OpenFile, TaskContext } from '@pagelab/syscalls';
import { copyFromUserPartial, copyToUserPartial, holdUserPage, releaseUserPage } from '@pagelab/vm';
import type { UserRange } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { DeadlockError, runOthers } from '../scheduler.ts';
import type { Task } from '../task.ts';
import { BaseFile } from './base-file.ts';
import { allocPseudoInode, freePseudoInode } from './pseudo-inode.ts';
import type { PseudoInode } from './pseudo-inode.ts';
import { pipeStatus } from './status.ts';

/** Frames that a pipe has at most, unless it is told otherwise; and where its user has too many already. @linux include/linux/pipe_fs_i.h:PIPE_DEF_BUFFERS */
const PIPE_DEF_BUFFERS = 16;
const PIPE_MIN_DEF_BUFFERS = 2;
/** More bytes than that no pipe holds. */
const PIPE_SIZE_LIMIT = 2 ** 31;
/** Pages of a program that are brought in at once. @linux fs/splice.c:iter_to_pipe */
const SPLICE_BATCH = 16;

/** Part of what is in a pipe: `length` bytes at `offset` of a frame. @linux include/linux/pipe_fs_i.h:pipe_buffer */
interface PipeBuffer {
  readonly pfn: number;
  offset: number;
  length: number;
  /** The frame is a program's. */
  readonly isUsers: boolean;
  /** What is written next may be put behind it. @linux include/linux/pipe_fs_i.h:PIPE_BUF_FLAG_CAN_MERGE */
  readonly merges: boolean;
  /** A read takes no more than this, and what it leaves is lost. @linux include/linux/pipe_fs_i.h:PIPE_BUF_FLAG_PACKET */
  readonly isPacket: boolean;
}

/** Bytes of a `struct pipe_inode_info`, and of a `struct pipe_buffer` on 64 bits and on 32. */
const PIPE_INFO_BYTES = 168;
const PIPE_BUFFER_BYTES = 40;
const PIPE_BUFFER_BYTES_32 = 24;

/** Addresses of the objects that stand for a pipe. */
interface PipeObjects {
  readonly pseudo: PseudoInode;
  readonly info: VirtAddr;
  /** The array of its buffers. */
  buffers: VirtAddr;
}

/** What users may have of pipes, in pages and bytes; 0 pages is no limit. And what each has. @linux fs/pipe.c:pipe_user_pages_soft */
export class PipeLimits {
  /** Bytes that who may not exceed limits can let a pipe hold. */
  maxSize = 1 << 20;
  softPages = 16_384;
  hardPages = 0;
  /** Pages by user. @linux include/linux/sched/user.h:user_struct.pipe_bufs */
  readonly pages = new Map<number, number>();

  /** Changes what a user has. @returns the pages that it has now @linux fs/pipe.c:account_pipe_buffers */
  account(uid: number, pages: number): number {
    const now = (this.pages.get(uid) ?? 0) + pages;
    if (now === 0) this.pages.delete(uid);
    else this.pages.set(uid, now);
    return now;
  }

  isAboveSoft(pages: number): boolean {
    return this.softPages > 0 && pages > this.softPages;
  }

  isAboveHard(pages: number): boolean {
    return this.hardPages > 0 && pages > this.hardPages;
  }
}

/** @linux fs/pipe.c:pipe_is_unprivileged_user */
function isUnprivileged(task: TaskContext): boolean {
  return !task.capable(CAP_SYS_RESOURCE) && !task.capable(CAP_SYS_ADMIN);
}

/** @linux include/linux/pipe_fs_i.h:pipe_inode_info */
class Pipe {
  readonly kernel: Kernel;
  readonly objects: PipeObjects;
  readonly ino: number;
  readonly buffers: PipeBuffer[] = [];
  /** Who pays for it. */
  readonly uid: number;
  /** Frames that it has at most. */
  maxBuffers: number;
  readers = 1;
  writers = 1;

  constructor(kernel: Kernel, objects: PipeObjects, uid: number, maxBuffers: number) {
    this.kernel = kernel;
    this.objects = objects;
    this.uid = uid;
    this.maxBuffers = maxBuffers;
    this.ino = kernel.vm.nextIno++;
  }

  get isFull(): boolean {
    return this.buffers.length >= this.maxBuffers;
  }

  /** Bytes that are in it. */
  get unread(): number {
    let bytes = 0;
    for (const { length } of this.buffers) bytes += length;
    return bytes;
  }

  /** A view of up to `length` bytes of the first buffer. */
  peek(length: number): Uint8Array {
    const { ram } = this.kernel;
    const { pfn, offset, length: there } = this.buffers[0]!;
    const host = ram.frameWord(pfn) * 4 + offset;
    return ram.u8.subarray(host, host + Math.min(length, there));
  }

  /** Takes bytes of the first buffer out. @returns whether a packet ends with them */
  consume(bytes: number): boolean {
    const first = this.buffers[0]!;
    first.offset += bytes;
    first.length -= bytes;
    if (first.length > 0 && !first.isPacket) return false;
    this.#free(first);
    this.buffers.shift();
    return first.isPacket;
  }

  /** Takes out up to `length` bytes, as far as `store` takes each part whole. @returns bytes, or -EFAULT @linux fs/pipe.c:pipe_read */
  take(length: number, store: (part: Uint8Array, at: number) => boolean): number {
    let done = 0;
    while (done < length && this.buffers.length > 0) {
      const part = this.peek(length - done);
      if (!store(part, done)) return done > 0 ? done : -Errno.EFAULT;
      done += part.length;
      if (this.consume(part.length)) break;
    }
    return done;
  }

  /** Puts up to a page of bytes into a frame of its own. @returns 0 or -ENOMEM */
  add(bytes: Uint8Array, isPacket: boolean): number {
    const { ram, pages } = this.kernel;
    const pfn = pages.allocPage(GFP_HIGHUSER | __GFP_ACCOUNT);
    if (pfn < 0) return -Errno.ENOMEM;
    ram.u8.set(bytes, ram.frameWord(pfn) * 4);
    this.buffers.push({ pfn, offset: 0, length: bytes.length, isUsers: false, merges: !isPacket, isPacket });
    return 0;
  }

  /** Shows part of a program's page, whose reference passes. */
  show(pfn: number, offset: number, length: number): void {
    this.buffers.push({ pfn, offset, length, isUsers: true, merges: false, isPacket: false });
  }

  /** Room behind what was written last for `length` bytes; `undefined` where they do not all go there. */
  roomBehind(length: number): PipeBuffer | undefined {
    const last = this.buffers.at(-1);
    return last?.merges === true && last.offset + last.length + length <= PAGE_SIZE ? last : undefined;
  }

  /**
   * Lets it hold `bytes`, rounded up to pages by a power of 2.
   *
   * @returns the bytes that it holds now; -EINVAL beyond 2 GiB; -EPERM beyond `pipe-max-size` without CAP_SYS_RESOURCE, or
   *   where its user has too many pages; -EBUSY where there is more in it; -ENOMEM
   * @linux fs/pipe.c:pipe_set_size
   */
  resize(task: TaskContext, bytes: number): number {
    if (bytes > PIPE_SIZE_LIMIT) return -Errno.EINVAL;
    const { pipeLimits } = this.kernel;
    let wanted = PAGE_SIZE;
    while (wanted < bytes) wanted *= 2;
    const nrBuffers = wanted / PAGE_SIZE;
    const grows = nrBuffers > this.maxBuffers;
    if (grows && wanted > pipeLimits.maxSize && !task.capable(CAP_SYS_RESOURCE)) return -Errno.EPERM;
    const change = nrBuffers - this.maxBuffers;
    const pages = pipeLimits.account(this.uid, change);
    const isTooMuch = grows && (pipeLimits.isAboveSoft(pages) || pipeLimits.isAboveHard(pages)) && isUnprivileged(task);
    const array = isTooMuch || nrBuffers < this.buffers.length ? 0 : allocBuffers(this.kernel, nrBuffers);
    if (array === 0) {
      pipeLimits.account(this.uid, -change);
      if (isTooMuch) return -Errno.EPERM;
      return nrBuffers < this.buffers.length ? -Errno.EBUSY : -Errno.ENOMEM;
    }
    this.kernel.slab.kfree(this.objects.buffers);
    this.objects.buffers = array;
    this.maxBuffers = nrBuffers;
    return wanted;
  }

  /** Frees what nobody will read. */
  release(): void {
    if (this.readers > 0 || this.writers > 0) return;
    for (const buffer of this.buffers) this.#free(buffer);
    this.buffers.length = 0;
    this.kernel.pipeLimits.account(this.uid, -this.maxBuffers);
    freePipe(this.kernel, this.objects);
  }

  #free({ pfn, isUsers }: PipeBuffer): void {
    if (isUsers) releaseUserPage(this.kernel.vm, pfn);
    else this.kernel.pages.freePage(pfn);
  }
}

function allocBuffers({ slab }: Kernel, nrBuffers: number): VirtAddr {
  return slab.kcalloc(nrBuffers, slab.memory.wordBytes === 8 ? PIPE_BUFFER_BYTES : PIPE_BUFFER_BYTES_32, GFP_KERNEL_ACCOUNT);
}

/** @linux fs/pipe.c:alloc_pipe_info */
function allocPipe(kernel: Kernel, nrBuffers: number): PipeObjects | null {
  const { slab, caches } = kernel;
  const pseudo = allocPseudoInode(caches);
  if (pseudo === null) return null;
  const info = slab.kzalloc(PIPE_INFO_BYTES, GFP_KERNEL_ACCOUNT);
  const buffers = info === 0 ? 0 : allocBuffers(kernel, nrBuffers);
  if (buffers !== 0) return { pseudo, info, buffers };
  if (info !== 0) slab.kfree(info);
  freePseudoInode(caches, pseudo);
  return null;
}

/** @linux fs/pipe.c:free_pipe_info */
function freePipe({ slab, caches }: Kernel, { pseudo, info, buffers }: PipeObjects): void {
  slab.kfree(buffers);
  slab.kfree(info);
  freePseudoInode(caches, pseudo);
}

abstract class PipeEnd extends BaseFile {
  override readonly seekable = false;
  readonly noExec = true;
  protected readonly pipe: Pipe;

  constructor(pipe: Pipe, flags: number, object: number) {
    super(pipe.kernel, `pipe:[${pipe.ino}]`, flags, object);
    this.pipe = pipe;
  }

  override status(): FileStatus {
    return pipeStatus(this.pipe.ino);
  }

  /** @linux fs/pipe.c:pipe_ioctl */
  unread(): number {
    return this.pipe.unread;
  }

  pipeSize(): number {
    return this.pipe.maxBuffers * PAGE_SIZE;
  }

  setPipeSize(task: TaskContext, bytes: number): number {
    return this.pipe.resize(task, bytes);
  }

  /** Lets others run until something has changed; 0, or -EAGAIN where nobody wants to wait. */
  protected wait(task: TaskContext | null, turns: number, isPatient = (this.flags & O_NONBLOCK) === 0): number {
    if (!isPatient || task === null) return -Errno.EAGAIN;
    if (runOthers(task as Task, turns)) return 0;
    throw new DeadlockError(
      `task ${task.pid} waits at a pipe whose other end nobody can use: it is suspended below this wait, or driven from outside`,
    );
  }
}

class PipeReader extends PipeEnd {
  override read(task: TaskContext | null, _position: number, length: number): Uint8Array | number {
    const bytes = new Uint8Array(length);
    const done = this.#take(task, length, (part, at) => {
      bytes.set(part, at);
      return true;
    });
    return done < 0 ? done : bytes.subarray(0, done);
  }

  readToUser(task: TaskContext, _position: number, addr: number, length: number): number {
    return this.#take(task, length, (part, at) => copyToUserPartial(task.mm, addr + at, part) === part.length);
  }

  readToRanges(task: TaskContext, _position: number, ranges: readonly UserRange[], length: number): number {
    return this.#take(task, length, (part, at) => scatter(task, ranges, at, part));
  }

  /** Copies what is in it to ranges of the program's memory. @returns bytes, or -errno: EAGAIN, EFAULT @linux fs/splice.c:vmsplice_to_user */
  vmsplice(task: TaskContext, ranges: readonly UserRange[], isPatient: boolean): number {
    let wanted = 0;
    for (const { length } of ranges) wanted += length;
    return this.#take(task, wanted, (part, at) => scatter(task, ranges, at, part), isPatient);
  }

  override write(): number {
    return -Errno.EBADF;
  }

  #take(task: TaskContext | null, length: number, store: (part: Uint8Array, at: number) => boolean, isPatient?: boolean): number {
    const { pipe } = this;
    if (length === 0) return 0;
    for (let turns = 0; ; turns++) {
      if (pipe.buffers.length > 0) return pipe.take(length, store);
      if (pipe.writers === 0) return 0;
      const waited = this.wait(task, turns, isPatient);
      if (waited !== 0) return waited;
    }
  }

  protected override release(): void {
    this.pipe.readers -= 1;
    this.pipe.release();
  }
}

class PipeWriter extends PipeEnd {
  override read(): number {
    return -Errno.EBADF;
  }

  override write(task: TaskContext | null, _position: number, bytes: Uint8Array): number {
    return this.#put(task, bytes.length, (at, length) => bytes.subarray(at, at + length));
  }

  writeFromUser(task: TaskContext, _position: number, addr: number, length: number): number {
    return this.#put(task, length, (at, part) => {
      const bytes = new Uint8Array(part);
      return bytes.subarray(0, copyFromUserPartial(task.mm, addr + at, bytes));
    });
  }

  writeFromRanges(task: TaskContext, _position: number, ranges: readonly UserRange[], length: number): number {
    return this.#put(task, length, (at, part) => gather(task, ranges, at, part));
  }

  /**
   * Shows pages of the program's in the pipe, without copying: what it stores to them until they are read is read.
   *
   * @returns bytes, as far as there is room; or -errno: EPIPE, EAGAIN, EFAULT
   * @linux fs/splice.c:vmsplice_to_pipe
   */
  vmsplice(task: TaskContext, ranges: readonly UserRange[], isPatient: boolean): number {
    const { pipe } = this;
    for (let turns = 0; ; turns++) {
      if (pipe.readers === 0) return this.#broken(task);
      if (!pipe.isFull) break;
      const waited = this.wait(task, turns, isPatient);
      if (waited !== 0) return waited;
    }
    let done = 0;
    for (const { base, length } of ranges) {
      for (let at = 0; at < length; ) {
        const held: number[] = [];
        const error = holdBatch(task, base + at, length - at, held);
        if (held.length === 0) return done > 0 ? done : error;
        for (const [i, pfn] of held.entries()) {
          const offset = (base + at) % PAGE_SIZE;
          if (pipe.isFull) {
            for (const left of held.slice(i)) releaseUserPage(pipe.kernel.vm, left);
            return done;
          }
          const part = Math.min(PAGE_SIZE - offset, length - at);
          pipe.show(pfn, offset, part);
          at += part;
          done += part;
        }
      }
    }
    return done;
  }

  /** What does not fill a page goes behind what is there, if it all does; the rest into frames of its own. @linux fs/pipe.c:pipe_write */
  #put(task: TaskContext | null, length: number, bytesAt: (at: number, length: number) => Uint8Array): number {
    const { pipe } = this;
    if (length === 0) return 0;
    if (pipe.readers === 0) return this.#broken(task);
    let done = 0;
    const rest = length % PAGE_SIZE;
    const last = rest === 0 ? undefined : pipe.roomBehind(rest);
    if (last !== undefined) {
      const bytes = bytesAt(0, rest);
      if (bytes.length < rest) return -Errno.EFAULT;
      const { ram } = pipe.kernel;
      ram.u8.set(bytes, ram.frameWord(last.pfn) * 4 + last.offset + last.length);
      last.length += rest;
      done = rest;
    }
    for (let turns = 0; done < length; ) {
      if (pipe.readers === 0) {
        const broken = this.#broken(task);
        return done > 0 ? done : broken;
      }
      if (pipe.isFull) {
        const waited = this.wait(task, turns++);
        if (waited !== 0) return done > 0 ? done : waited;
        continue;
      }
      const part = Math.min(PAGE_SIZE, length - done);
      const bytes = bytesAt(done, part);
      const error = bytes.length < part ? -Errno.EFAULT : pipe.add(bytes, (this.flags & O_DIRECT) !== 0);
      if (error !== 0) return done > 0 ? done : error;
      done += part;
      turns = 0;
    }
    return done;
  }

  #broken(task: TaskContext | null): number {
    task?.kill(task.tgid, SIGPIPE);
    return -Errno.EPIPE;
  }

  protected override release(): void {
    this.pipe.writers -= 1;
    this.pipe.release();
  }
}

/** Stores bytes into ranges, from byte `at` of all of them on. @returns whether all could be stored */
function scatter({ mm }: TaskContext, ranges: readonly UserRange[], at: number, bytes: Uint8Array): boolean {
  let skipped = at;
  let done = 0;
  for (const { base, length } of ranges) {
    const part = Math.min(length - skipped, bytes.length - done);
    if (part > 0) {
      if (copyToUserPartial(mm, base + skipped, bytes.subarray(done, done + part)) < part) return false;
      done += part;
    }
    skipped = Math.max(0, skipped - length);
  }
  return true;
}

/** Loads up to `length` bytes of ranges, from byte `at` of all of them on, before the first that cannot be. */
function gather({ mm }: TaskContext, ranges: readonly UserRange[], at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let skipped = at;
  let done = 0;
  for (const range of ranges) {
    const part = Math.min(range.length - skipped, length - done);
    if (part > 0) {
      const loaded = copyFromUserPartial(mm, range.base + skipped, bytes.subarray(done, done + part));
      done += loaded;
      if (loaded < part) break;
    }
    skipped = Math.max(0, skipped - range.length);
  }
  return bytes.subarray(0, done);
}

/** Takes references to the pages of a range, of as many as are brought in at once. @returns 0, or -errno where one could not be had */
function holdBatch({ mm }: TaskContext, base: number, length: number, held: number[]): number {
  const first = base - (base % PAGE_SIZE);
  for (let page = first; page < base + length && held.length < SPLICE_BATCH; page += PAGE_SIZE) {
    const pfn = holdUserPage(mm, page);
    if (pfn < 0) return pfn;
    held.push(pfn);
  }
  return 0;
}

/**
 * Makes a pipe. One of a user who has too many pages in pipes is small.
 *
 * @returns its reading and its writing end, a reference each; or -ENFILE
 * @linux fs/pipe.c:create_pipe_files
 */
export function openPipe(kernel: Kernel, task: TaskContext, flags: number): readonly [reader: OpenFile, writer: OpenFile] | number {
  const { pipeLimits } = kernel;
  const { filp } = kernel.caches;
  const { uid } = task.credentials;
  let nrBuffers = PIPE_DEF_BUFFERS;
  if (nrBuffers * PAGE_SIZE > pipeLimits.maxSize && !task.capable(CAP_SYS_RESOURCE)) nrBuffers = pipeLimits.maxSize / PAGE_SIZE;
  let pages = pipeLimits.account(uid, nrBuffers);
  if (pipeLimits.isAboveSoft(pages) && isUnprivileged(task)) {
    pages = pipeLimits.account(uid, PIPE_MIN_DEF_BUFFERS - nrBuffers);
    nrBuffers = PIPE_MIN_DEF_BUFFERS;
  }
  const isTooMuch = pipeLimits.isAboveHard(pages) && isUnprivileged(task);
  const objects = isTooMuch ? null : allocPipe(kernel, nrBuffers);
  const reader = objects === null ? 0 : filp.alloc(GFP_KERNEL);
  const writer = reader === 0 ? 0 : filp.alloc(GFP_KERNEL);
  if (objects === null || writer === 0) {
    if (reader !== 0) filp.free(reader);
    if (objects !== null) freePipe(kernel, objects);
    pipeLimits.account(uid, -nrBuffers);
    return -Errno.ENFILE;
  }
  const pipe = new Pipe(kernel, objects, uid, nrBuffers);
  return [new PipeReader(pipe, O_RDONLY | (flags & ~O_DIRECT), reader), new PipeWriter(pipe, O_WRONLY | flags, writer)];
}
