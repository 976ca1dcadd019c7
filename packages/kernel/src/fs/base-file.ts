import { Errno } from '@pagelab/abi';
import type { FileStatus, OpenFile, TaskContext } from '@pagelab/syscalls';
import type { VmFile } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';

/** What open files have in common that are not mapped: a reference count, and the object that stands for them. */
export abstract class BaseFile implements OpenFile {
  flags: number;
  readonly path: string;
  position = 0;
  readonly vmFile: VmFile | null = null;
  readonly mmapError: number = -Errno.ENODEV;
  readonly seekable: boolean = true;
  protected readonly kernel: Kernel;
  private readonly object: number;
  private refcount = 1;

  constructor(kernel: Kernel, path: string, flags: number, object: number) {
    this.kernel = kernel;
    this.path = path;
    this.flags = flags;
    this.object = object;
  }

  abstract read(task: TaskContext | null, position: number, length: number): Uint8Array | number;
  abstract write(task: TaskContext | null, position: number, bytes: Uint8Array): number;
  abstract status(): FileStatus;

  size(): number {
    return -Errno.EINVAL;
  }

  /** There is nothing to bring to a device. */
  sync(): number {
    return -Errno.EINVAL;
  }

  get(): this {
    this.refcount += 1;
    return this;
  }

  put(): void {
    this.refcount -= 1;
    if (this.refcount > 0) return;
    this.release();
    this.kernel.caches.filp.free(this.object);
  }

  /** The last reference is gone. */
  protected release(): void {
    // Most hold nothing.
  }
}
