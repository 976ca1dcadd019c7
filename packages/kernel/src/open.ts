/**
 * Open files: text that the kernel writes when it is read, the console, and files of virtual memory's.
 *
 * @linux fs/open.c, fs/seq_file.c
 */
import { CAP_DAC_OVERRIDE, Errno, O_ACCMODE, O_CREAT, O_DIRECTORY, O_EXCL, O_PATH, O_RDONLY, O_RDWR, O_WRONLY } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { decodeUtf8, encodeUtf8 } from '@pagelab/syscalls';
import type { OpenFile, TaskContext } from '@pagelab/syscalls';
import type { VmFile } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';
import { lookUp } from './proc/lookup.ts';
import type { ProcFile } from './proc/proc-file.ts';
import type { Task } from './task.ts';

/** What all open files share: a reference count, and the object that stands for them. */
abstract class BaseFile implements OpenFile {
  readonly flags: number;
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

  size(): number {
    return -Errno.EINVAL;
  }

  get(): this {
    this.refcount += 1;
    return this;
  }

  put(): void {
    this.refcount -= 1;
    if (this.refcount === 0) this.kernel.caches.filp.free(this.object);
  }
}

/** A file of `/proc` or `/sys`: what it says is made up when its start is read. */
class TextFile extends BaseFile {
  override readonly mmapError: number;
  private readonly file: ProcFile;
  private text: Uint8Array | null = null;

  constructor(kernel: Kernel, path: string, flags: number, object: number, file: ProcFile) {
    super(kernel, path, flags, object);
    this.file = file;
    this.mmapError = file.mmapError ?? -Errno.ENODEV;
  }

  override read(task: TaskContext | null, position: number, length: number): Uint8Array | number {
    const { file } = this;
    if (file.readBytes !== undefined) return file.readBytes(position, length, task as Task | null);
    if (file.read === undefined) return -Errno.EINVAL;
    if (this.text === null || position === 0) {
      const text = file.read(task as Task | null);
      if (typeof text === 'number') return text;
      this.text = encodeUtf8(text);
    }
    return this.text.slice(position, position + length);
  }

  override write(task: TaskContext | null, position: number, bytes: Uint8Array): number {
    const { file } = this;
    if (file.writeBytes !== undefined) return file.writeBytes(position, bytes, task as Task | null);
    if (file.write === undefined) return -Errno.EINVAL;
    if (file.firstWriteOnly && position > 0) return bytes.length;
    return file.write(decodeUtf8(bytes), task as Task | null);
  }
}

/** A directory: there to be opened, not to be read. */
class DirectoryFile extends BaseFile {
  override read(): number {
    return -Errno.EISDIR;
  }

  override write(): number {
    return -Errno.EBADF;
  }
}

class ConsoleFile extends BaseFile {
  override readonly seekable = false;

  override read(): Uint8Array {
    return new Uint8Array(0);
  }

  override write(_task: TaskContext | null, _position: number, bytes: Uint8Array): number {
    this.kernel.console.write(decodeUtf8(bytes));
    return bytes.length;
  }
}

const CONSOLES: readonly string[] = ['/dev/console', '/dev/tty', '/dev/ttyS0', '/dev/stdout', '/dev/stderr'];

/** The console, as the first three descriptors of a program. @returns it, or -ENOMEM */
export function openConsole(kernel: Kernel): OpenFile | number {
  const object = kernel.caches.filp.alloc(GFP_KERNEL);
  return object === 0 ? -Errno.ENOMEM : new ConsoleFile(kernel, '/dev/console', O_RDWR, object);
}

/**
 * Opens a file.
 *
 * @param task who asks; `null` is the machine itself, which may all
 * @returns it with a reference, or -errno: ENOENT, EACCES, EISDIR, ENOTDIR, EEXIST, ESRCH, ENOMEM
 */
export function openPath(kernel: Kernel, task: Task | null, path: string, flags: number, _mode: number): OpenFile | number {
  const name = normalize(path);
  const object = kernel.caches.filp.alloc(GFP_KERNEL);
  if (object === 0) return -Errno.ENFILE;
  const file = openName(kernel, task, name, flags, object);
  if (typeof file === 'number') kernel.caches.filp.free(object);
  return file;
}

function openName(kernel: Kernel, task: Task | null, name: string, flags: number, object: number): OpenFile | number {
  if (CONSOLES.includes(name)) return new ConsoleFile(kernel, name, flags, object);
  const found = lookUp(kernel, task, name);
  if (typeof found === 'number') return found;
  if (flags & O_CREAT && flags & O_EXCL) return -Errno.EEXIST;
  const access = flags & O_ACCMODE;
  if (found === 'directory') {
    return access !== O_RDONLY ? -Errno.EISDIR : new DirectoryFile(kernel, name, flags, object);
  }
  if (flags & O_DIRECTORY) return -Errno.ENOTDIR;
  if (!(flags & O_PATH) && !permitted(task, found.mode, access)) return -Errno.EACCES;
  return new TextFile(kernel, name, flags, object, found);
}

/** Whether the owner's bits allow it: all files are root's, and everybody is root. */
function permitted(task: Task | null, mode: number, access: number): boolean {
  if (task === null || task.capable(CAP_DAC_OVERRIDE)) return true;
  return (access === O_WRONLY || (mode & 0o400) !== 0) && (access === O_RDONLY || (mode & 0o200) !== 0);
}

/** Files of virtual memory's come with `memfd_create`. */
export function openVmFile(_kernel: Kernel, _file: VmFile, _flags: number): OpenFile | number {
  return -Errno.ENOSYS;
}

/** A path without empty parts, `.` and `..`. */
function normalize(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return `/${parts.join('/')}`;
}
