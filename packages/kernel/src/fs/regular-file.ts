import { Errno, O_APPEND } from '@pagelab/abi';
import type { FileStatus, OpenFile, TaskContext } from '@pagelab/syscalls';
import { KernelBuffer, UserBuffer, UserRanges, filePut, fileRead, fileSync, fileWrite } from '@pagelab/vm';
import type { UserRange, VmFile } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { inodeStatus } from './status.ts';

const DEV_TMPFS: readonly [number, number] = [0, 1];

/** An open file with a page cache: what descriptors hold, where mappings hold its `vmFile`. */
export class RegularFile implements OpenFile {
  flags: number;
  position = 0;
  readonly vmFile: VmFile;
  readonly seekable = true;
  readonly mmapError = -Errno.ENODEV;
  readonly #kernel: Kernel;
  readonly #dev: readonly [number, number];
  /** Descriptors; together they hold one reference to `vmFile`. */
  #refcount = 1;

  /** Takes over the caller's reference to `vmFile`. */
  constructor(kernel: Kernel, vmFile: VmFile, flags: number, dev: readonly [number, number] = DEV_TMPFS) {
    this.#kernel = kernel;
    this.vmFile = vmFile;
    this.flags = flags;
    this.#dev = dev;
  }

  get path(): string {
    return this.vmFile.path;
  }

  size(): number {
    return this.vmFile.inode.size;
  }

  read(_task: TaskContext | null, position: number, length: number): Uint8Array | number {
    const wanted = Math.max(0, Math.min(length, this.size() - position));
    const buffer = new KernelBuffer(new Uint8Array(wanted));
    const done = fileRead(this.#kernel.vm, this.vmFile, position, wanted, buffer);
    return done < 0 ? done : buffer.bytes.subarray(0, done);
  }

  write(_task: TaskContext | null, position: number, bytes: Uint8Array): number {
    return fileWrite(this.#kernel.vm, this.vmFile.inode, position, bytes.length, new KernelBuffer(bytes));
  }

  readToUser(task: TaskContext, position: number, addr: number, length: number): number {
    return fileRead(this.#kernel.vm, this.vmFile, position, length, new UserBuffer(task.mm, addr));
  }

  writeFromUser(task: TaskContext, position: number, addr: number, length: number): number {
    const at = (this.flags & O_APPEND) !== 0 ? this.size() : position;
    return fileWrite(this.#kernel.vm, this.vmFile.inode, at, length, new UserBuffer(task.mm, addr));
  }

  readToRanges(task: TaskContext, position: number, ranges: readonly UserRange[], length: number): number {
    return fileRead(this.#kernel.vm, this.vmFile, position, length, new UserRanges(task.mm, ranges));
  }

  writeFromRanges(task: TaskContext, position: number, ranges: readonly UserRange[], length: number): number {
    const at = (this.flags & O_APPEND) !== 0 ? this.size() : position;
    return fileWrite(this.#kernel.vm, this.vmFile.inode, at, length, new UserRanges(task.mm, ranges));
  }

  truncate(size: number): number {
    const { inode } = this.vmFile;
    return this.vmFile.writable ? inode.mapping.ops.truncate(inode, size) : -Errno.EINVAL;
  }

  /** @linux fs/ioctl.c:do_vfs_ioctl */
  unread(): number {
    return this.size() - this.position;
  }

  sync(): number {
    return fileSync(this.vmFile, 0, Infinity);
  }

  status(): FileStatus {
    return inodeStatus(this.vmFile.inode, this.#dev);
  }

  get(): this {
    this.#refcount += 1;
    return this;
  }

  put(): void {
    this.#refcount -= 1;
    if (this.#refcount === 0) filePut(this.#kernel.vm, this.vmFile);
  }
}
