/**
 * From a path to an open file: of the tree of names, of `/proc` and `/sys`, or the console.
 *
 * @linux fs/open.c, fs/seq_file.c
 */
import { CAP_DAC_OVERRIDE, Errno, S_IFDIR, S_IFMT, O_ACCMODE, O_CREAT, O_DIRECT, O_DIRECTORY, O_EXCL, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { decodeUtf8, encodeUtf8 } from '@pagelab/syscalls';
import type { FileNames, FileStatus, OpenFile, TaskContext } from '@pagelab/syscalls';
import type { VmFile } from '@pagelab/vm';
import { CGROUP_MOUNT } from './cgroup/cgroups.ts';
import { BaseFile } from './fs/base-file.ts';
import { DirectoryFile } from './fs/namespace.ts';
import { RegularFile } from './fs/regular-file.ts';
import { pipeStatus, procStatus } from './fs/status.ts';
import type { Kernel } from './kernel.ts';
import { lookUp } from './proc/lookup.ts';
import type { ProcFile } from './proc/proc-file.ts';
import type { Task } from './task.ts';

/** A file of `/proc` or `/sys`: what it says is made up when its start is read. */
class TextFile extends BaseFile {
  readonly noExec = true;
  override readonly mmapError: number;
  readonly unsignedOffsets: boolean;
  protected readonly file: ProcFile;
  private text: Uint8Array | null = null;

  constructor(kernel: Kernel, path: string, flags: number, object: number, file: ProcFile) {
    super(kernel, path, flags, object);
    this.file = file;
    this.unsignedOffsets = file.unsignedOffsets === true;
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
    // Nothing at all never reaches the attribute. @linux fs/kernfs/file.c:kernfs_fop_write_iter
    if (bytes.length === 0 && this.path.startsWith('/sys/')) return 0;
    if (file.firstWriteOnly && position > 0) return bytes.length;
    return file.write(decodeUtf8(bytes), task as Task | null);
  }

  override status(): FileStatus {
    return procStatus(this.file.mode, false);
  }
}

/** One that takes requests, too. */
class RequestFile extends TextFile {
  ioctl(task: TaskContext, request: number, argument: VirtAddr): number {
    return this.file.ioctl!(task as Task, request, argument);
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

  override status(): FileStatus {
    return pipeStatus(1);
  }
}

const CONSOLES: readonly string[] = ['/dev/console', '/dev/tty', '/dev/ttyS0', '/dev/stdout', '/dev/stderr'];

/** The console, as the first three descriptors of a program. @returns it, or -ENOMEM */
export function openConsole(kernel: Kernel): OpenFile | number {
  const object = kernel.caches.filp.alloc(GFP_KERNEL);
  return object === 0 ? -Errno.ENOMEM : new ConsoleFile(kernel, '/dev/console', O_RDWR, object);
}

/**
 * Opens a file, or makes it.
 *
 * @param task who asks; `null` is the machine itself, which may all
 * @returns it with a reference, or -errno
 */
export function openPath(kernel: Kernel, task: Task | null, path: string, flags: number, mode: number): OpenFile | number {
  const name = normalize(path);
  if (!isMadeUp(name)) return kernel.names.open(task, path, flags, mode);
  const object = kernel.caches.filp.alloc(GFP_KERNEL);
  if (object === 0) return -Errno.ENFILE;
  const file = openName(kernel, task, name, flags, object);
  if (typeof file === 'number') kernel.caches.filp.free(object);
  return file;
}

/** Whether a path leads to what the kernel makes up. */
function isMadeUp(name: string): boolean {
  return /^\/(proc|sys)(\/|$)/.test(name) || name === '/dev/kmsg' || CONSOLES.includes(name);
}

function openName(kernel: Kernel, task: Task | null, name: string, flags: number, object: number): OpenFile | number {
  if (CONSOLES.includes(name)) return new ConsoleFile(kernel, name, flags, object);
  const found = lookUp(kernel, task, name);
  if (typeof found === 'number') return found;
  if (flags & O_CREAT && flags & O_EXCL) return -Errno.EEXIST;
  if (flags & O_DIRECT && !(flags & O_PATH)) return -Errno.EINVAL;
  const access = flags & O_ACCMODE;
  const kept = flags & ~(O_CREAT | O_EXCL | O_TRUNC);
  if (found === 'directory') {
    return access !== O_RDONLY ? -Errno.EISDIR : new DirectoryFile(kernel, name, kept, object, procStatus(0o555, true));
  }
  if (flags & O_DIRECTORY) return -Errno.ENOTDIR;
  if (!(flags & O_PATH) && !permitted(task, found.mode, access)) return -Errno.EACCES;
  return found.ioctl === undefined ? new TextFile(kernel, name, kept, object, found) : new RequestFile(kernel, name, kept, object, found);
}

/** Whether the owner's bits allow it: all files are root's, and everybody is root. */
function permitted(task: Task | null, mode: number, access: number): boolean {
  if (task === null || task.capable(CAP_DAC_OVERRIDE)) return true;
  return (access === O_WRONLY || (mode & 0o400) !== 0) && (access === O_RDONLY || (mode & 0o200) !== 0);
}

/** An open file for one of virtual memory's, whose reference passes. */
export function openVmFile(kernel: Kernel, file: VmFile, flags: number): OpenFile {
  return new RegularFile(kernel, file, flags);
}

/** The names that a task may use: the tree, and what the kernel makes up as far as that can be looked at. */
export function namesOf(kernel: Kernel, task: Task): FileNames {
  const { names } = kernel;
  const told = (path: string): FileStatus | number => {
    const name = normalize(path);
    if (!isMadeUp(name)) return names.status(task, path);
    if (CONSOLES.includes(name)) return pipeStatus(1);
    const found = lookUp(kernel, task, name);
    if (typeof found === 'number') return found;
    return found === 'directory' ? procStatus(0o555, true) : procStatus(found.mode, false);
  };
  const refuse = (path: string | number): boolean => typeof path === 'string' && isMadeUp(normalize(path));
  return {
    unlink: (path) => (refuse(path) ? -Errno.EPERM : names.unlink(task, path)),
    mkdir: (path, mode) => (refuse(path) ? makeGroup(kernel, task, path) : names.mkdir(task, path, mode)),
    rmdir: (path) => (refuse(path) ? removeGroup(kernel, task, path) : names.rmdir(task, path)),
    link: (from, to) => {
      if (!refuse(from) && !refuse(to)) return names.link(task, from, to);
      const source = told(from);
      if (typeof source === 'number') return source;
      if (typeof to === 'number') return to;
      return typeof told(to) === 'number' ? -Errno.EXDEV : -Errno.EEXIST;
    },
    rename: (from, to) => {
      if (!refuse(from) && !refuse(to)) return names.rename(task, from, to);
      return typeof to === 'number' ? to : -Errno.EXDEV;
    },
    truncate: (path, size) => {
      if (!refuse(path)) return names.truncate(task, path, size);
      const status = told(path);
      if (typeof status === 'number') return status;
      if ((status.mode & S_IFMT) === S_IFDIR) return -Errno.EISDIR;
      // What the kernel makes up has no length to set.
      return task.capable(CAP_DAC_OVERRIDE) || status.mode & 0o200 ? 0 : -Errno.EACCES;
    },
    access: (path, wanted) => {
      if (!refuse(path)) return names.access(task, path, wanted);
      const status = told(path);
      if (typeof status === 'number') return status;
      const isRunnable = (status.mode & S_IFMT) === S_IFDIR || (status.mode & 0o111) !== 0;
      if (wanted & 1 && !isRunnable) return -Errno.EACCES;
      return task.capable(CAP_DAC_OVERRIDE) || ((status.mode >> (task.credentials.uid === 0 ? 6 : 0)) & wanted) === wanted ? 0 : -Errno.EACCES;
    },
    status: told,
    syncAll: () => {
      names.syncAll();
    },
  };
}

/** Of the file systems that are made up, groups are made and removed as directories. @returns 0 or -errno @linux fs/namei.c:do_mkdirat */
function makeGroup(kernel: Kernel, task: Task, path: string): number {
  const name = normalize(path);
  if (!isCgroup(name)) return typeof lookUp(kernel, task, name) === 'number' ? -Errno.EPERM : -Errno.EEXIST;
  return task.capable(CAP_DAC_OVERRIDE) ? kernel.cgroups.mkdir(name) : -Errno.EACCES;
}

/** @returns 0 or -errno @linux fs/namei.c:do_rmdir */
function removeGroup(kernel: Kernel, task: Task, path: string): number {
  const name = normalize(path);
  if (!isCgroup(name)) return -Errno.EPERM;
  if (name === CGROUP_MOUNT) return -Errno.EBUSY;
  return task.capable(CAP_DAC_OVERRIDE) ? kernel.cgroups.rmdir(name) : -Errno.EACCES;
}

function isCgroup(name: string): boolean {
  return name === CGROUP_MOUNT || name.startsWith(`${CGROUP_MOUNT}/`);
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
