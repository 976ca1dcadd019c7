/**
 * Pipes: a queue of bytes in frames of the kernel's, and two ends.
 *
 * @linux fs/pipe.c
 */
import { CAP_SYS_RESOURCE, Errno, O_NONBLOCK, O_RDONLY, O_WRONLY, SIGPIPE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { GFP_HIGHUSER, GFP_KERNEL, GFP_KERNEL_ACCOUNT, __GFP_ACCOUNT } from '@pagelab/mm-core';
import type { FileStatus, OpenFile, TaskContext } from '@pagelab/syscalls';
import type { Kernel } from '../kernel.ts';
import { DeadlockError, runOthers } from '../scheduler.ts';
import type { Task } from '../task.ts';
import { BaseFile } from './base-file.ts';
import { allocPseudoInode, freePseudoInode } from './pseudo-inode.ts';
import type { PseudoInode } from './pseudo-inode.ts';
import { pipeStatus } from './status.ts';

/** Frames that a pipe has at most, unless it is told otherwise. @linux include/linux/pipe_fs_i.h:PIPE_DEF_BUFFERS */
const PIPE_DEF_BUFFERS = 16;
/** Bytes that who may not exceed limits can let a pipe hold. @linux fs/pipe.c:pipe_max_size */
const PIPE_MAX_SIZE = 1 << 20;
/** More than that no pipe holds. */
const PIPE_SIZE_LIMIT = 2 ** 31;
/** As much is written in one piece, or not yet. */
const PIPE_BUF = PAGE_SIZE;

/** Part of what is in a pipe: `length` bytes at `offset` of a frame. @linux include/linux/pipe_fs_i.h:pipe_buffer */
interface PipeBuffer {
  readonly pfn: number;
  offset: number;
  length: number;
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

/** @linux include/linux/pipe_fs_i.h:pipe_inode_info */
class Pipe {
  readonly kernel: Kernel;
  readonly objects: PipeObjects;
  readonly ino: number;
  readonly buffers: PipeBuffer[] = [];
  /** Frames that it has at most. */
  maxBuffers = PIPE_DEF_BUFFERS;
  readers = 1;
  writers = 1;

  constructor(kernel: Kernel, objects: PipeObjects) {
    this.kernel = kernel;
    this.objects = objects;
    this.ino = kernel.vm.nextIno++;
  }

  /** Takes up to `length` bytes out. */
  take(length: number): Uint8Array {
    const { buffers, kernel } = this;
    const { ram, pages } = kernel;
    let available = 0;
    for (const buffer of buffers) available += buffer.length;
    const bytes = new Uint8Array(Math.min(length, available));
    for (let done = 0; done < bytes.length; ) {
      const buffer = buffers[0]!;
      const run = Math.min(buffer.length, bytes.length - done);
      const host = ram.frameWord(buffer.pfn) * 4 + buffer.offset;
      bytes.set(ram.u8.subarray(host, host + run), done);
      done += run;
      buffer.offset += run;
      buffer.length -= run;
      if (buffer.length > 0) continue;
      pages.freePage(buffer.pfn);
      buffers.shift();
    }
    return bytes;
  }

  /** Bytes that can be put in now: a part of the last frame, and whole ones. */
  get room(): number {
    const last = this.buffers.at(-1);
    const rest = last === undefined ? 0 : PAGE_SIZE - last.offset - last.length;
    return rest + (this.maxBuffers - this.buffers.length) * PAGE_SIZE;
  }

  /** Puts bytes in, as far as there is room. @returns how many, or -ENOMEM where there is no frame for the first */
  put(bytes: Uint8Array): number {
    const { buffers, kernel } = this;
    const { ram, pages } = kernel;
    let done = 0;
    while (done < bytes.length) {
      let last = buffers.at(-1);
      if (last === undefined || last.offset + last.length === PAGE_SIZE) {
        if (buffers.length === this.maxBuffers) break;
        const pfn = pages.allocPage(GFP_HIGHUSER | __GFP_ACCOUNT);
        if (pfn < 0) return done > 0 ? done : -Errno.ENOMEM;
        last = { pfn, offset: 0, length: 0 };
        buffers.push(last);
      }
      const run = Math.min(PAGE_SIZE - last.offset - last.length, bytes.length - done);
      ram.u8.set(bytes.subarray(done, done + run), ram.frameWord(last.pfn) * 4 + last.offset + last.length);
      last.length += run;
      done += run;
    }
    return done;
  }

  /**
   * Lets it hold `bytes`, rounded up to pages by a power of 2.
   *
   * @returns the bytes that it holds now; -EINVAL beyond 2 GiB; -EPERM beyond 1 MiB without CAP_SYS_RESOURCE; -EBUSY where
   *   there is more in it; -ENOMEM
   * @linux fs/pipe.c:pipe_set_size
   */
  resize(task: TaskContext, bytes: number): number {
    if (bytes > PIPE_SIZE_LIMIT) return -Errno.EINVAL;
    let wanted = PAGE_SIZE;
    while (wanted < bytes) wanted *= 2;
    const nrBuffers = wanted / PAGE_SIZE;
    if (nrBuffers > this.maxBuffers && wanted > PIPE_MAX_SIZE && !task.capable(CAP_SYS_RESOURCE)) return -Errno.EPERM;
    if (nrBuffers < this.buffers.length) return -Errno.EBUSY;
    const array = allocBuffers(this.kernel, nrBuffers);
    if (array === 0) return -Errno.ENOMEM;
    this.kernel.slab.kfree(this.objects.buffers);
    this.objects.buffers = array;
    this.maxBuffers = nrBuffers;
    return wanted;
  }

  /** Frees what nobody will read. */
  release(): void {
    if (this.readers > 0 || this.writers > 0) return;
    for (const { pfn } of this.buffers) this.kernel.pages.freePage(pfn);
    this.buffers.length = 0;
    freePipe(this.kernel, this.objects);
  }
}

function allocBuffers({ slab }: Kernel, nrBuffers: number): VirtAddr {
  return slab.kcalloc(nrBuffers, slab.memory.wordBytes === 8 ? PIPE_BUFFER_BYTES : PIPE_BUFFER_BYTES_32, GFP_KERNEL_ACCOUNT);
}

/** @linux fs/pipe.c:alloc_pipe_info */
function allocPipe(kernel: Kernel): PipeObjects | null {
  const { slab, caches } = kernel;
  const pseudo = allocPseudoInode(caches);
  if (pseudo === null) return null;
  const info = slab.kzalloc(PIPE_INFO_BYTES, GFP_KERNEL_ACCOUNT);
  const buffers = info === 0 ? 0 : allocBuffers(kernel, PIPE_DEF_BUFFERS);
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
    let bytes = 0;
    for (const { length } of this.pipe.buffers) bytes += length;
    return bytes;
  }

  pipeSize(): number {
    return this.pipe.maxBuffers * PAGE_SIZE;
  }

  setPipeSize(task: TaskContext, bytes: number): number {
    return this.pipe.resize(task, bytes);
  }

  /** Lets others run until something has changed; 0, or -EAGAIN where nobody wants to wait. */
  protected wait(task: TaskContext | null, turns: number): number {
    if ((this.flags & O_NONBLOCK) !== 0 || task === null) return -Errno.EAGAIN;
    if (runOthers(task as Task, turns)) return 0;
    throw new DeadlockError(
      `task ${task.pid} waits at a pipe whose other end nobody can use: it is suspended below this wait, or driven from outside`,
    );
  }
}

class PipeReader extends PipeEnd {
  override read(task: TaskContext | null, _position: number, length: number): Uint8Array | number {
    const { pipe } = this;
    if (length === 0) return new Uint8Array(0);
    for (let turns = 0; ; turns++) {
      if (pipe.buffers.length > 0) return pipe.take(length);
      if (pipe.writers === 0) return new Uint8Array(0);
      const waited = this.wait(task, turns);
      if (waited !== 0) return waited;
    }
  }

  override write(): number {
    return -Errno.EBADF;
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
    const { pipe } = this;
    let done = 0;
    for (let turns = 0; done < bytes.length || turns === 0; turns++) {
      if (pipe.readers === 0) {
        task?.kill(task.tgid, SIGPIPE);
        return done > 0 ? done : -Errno.EPIPE;
      }
      const left = bytes.length - done;
      if (pipe.room >= Math.min(left, PIPE_BUF)) {
        const put = pipe.put(bytes.subarray(done));
        if (put < 0) return done > 0 ? done : put;
        done += put;
        if (done === bytes.length) break;
      }
      const waited = this.wait(task, turns);
      if (waited !== 0) return done > 0 ? done : waited;
    }
    return done;
  }

  protected override release(): void {
    this.pipe.writers -= 1;
    this.pipe.release();
  }
}

/** Makes a pipe. @returns its reading and its writing end, a reference each; or -ENFILE @linux fs/pipe.c:create_pipe_files */
export function openPipe(kernel: Kernel, flags: number): readonly [reader: OpenFile, writer: OpenFile] | number {
  const { filp } = kernel.caches;
  const objects = allocPipe(kernel);
  if (objects === null) return -Errno.ENFILE;
  const reader = filp.alloc(GFP_KERNEL);
  const writer = reader === 0 ? 0 : filp.alloc(GFP_KERNEL);
  if (writer === 0) {
    if (reader !== 0) filp.free(reader);
    freePipe(kernel, objects);
    return -Errno.ENFILE;
  }
  const pipe = new Pipe(kernel, objects);
  return [new PipeReader(pipe, O_RDONLY | flags, reader), new PipeWriter(pipe, O_WRONLY | flags, writer)];
}
