/**
 * Pipes: a queue of bytes in frames of the kernel's, and two ends.
 *
 * @linux fs/pipe.c
 */
import { Errno, O_NONBLOCK, O_RDONLY, O_WRONLY, SIGPIPE } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { GFP_HIGHUSER, GFP_KERNEL, __GFP_ACCOUNT } from '@pagelab/mm-core';
import type { FileStatus, OpenFile, TaskContext } from '@pagelab/syscalls';
import type { Kernel } from '../kernel.ts';
import { DeadlockError, runOthers } from '../scheduler.ts';
import type { Task } from '../task.ts';
import { BaseFile } from './base-file.ts';
import { pipeStatus } from './status.ts';

/** Frames that a pipe has at most. @linux include/linux/pipe_fs_i.h:PIPE_DEF_BUFFERS */
const PIPE_BUFFERS = 16;
/** As much is written in one piece, or not yet. */
const PIPE_BUF = PAGE_SIZE;

/** Part of what is in a pipe: `length` bytes at `offset` of a frame. @linux include/linux/pipe_fs_i.h:pipe_buffer */
interface PipeBuffer {
  readonly pfn: number;
  offset: number;
  length: number;
}

/** @linux include/linux/pipe_fs_i.h:pipe_inode_info */
class Pipe {
  readonly kernel: Kernel;
  readonly ino: number;
  readonly buffers: PipeBuffer[] = [];
  readers = 1;
  writers = 1;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
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
    return rest + (PIPE_BUFFERS - this.buffers.length) * PAGE_SIZE;
  }

  /** Puts bytes in, as far as there is room. @returns how many, or -ENOMEM where there is no frame for the first */
  put(bytes: Uint8Array): number {
    const { buffers, kernel } = this;
    const { ram, pages } = kernel;
    let done = 0;
    while (done < bytes.length) {
      let last = buffers.at(-1);
      if (last === undefined || last.offset + last.length === PAGE_SIZE) {
        if (buffers.length === PIPE_BUFFERS) break;
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

  /** Frees what nobody will read. */
  release(): void {
    if (this.readers > 0 || this.writers > 0) return;
    for (const { pfn } of this.buffers) this.kernel.pages.freePage(pfn);
    this.buffers.length = 0;
  }
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
  const reader = filp.alloc(GFP_KERNEL);
  const writer = reader === 0 ? 0 : filp.alloc(GFP_KERNEL);
  if (writer === 0) {
    if (reader !== 0) filp.free(reader);
    return -Errno.ENFILE;
  }
  const pipe = new Pipe(kernel);
  return [new PipeReader(pipe, O_RDONLY | flags, reader), new PipeWriter(pipe, O_WRONLY | flags, writer)];
}
