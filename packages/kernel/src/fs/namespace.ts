/**
 * The tree of names: walking it, and changing it.
 *
 * `/` and what is below it lie on the disk; `/dev/shm` is shared memory. What `/proc`, `/sys` and parts of `/dev` hold is
 * made up elsewhere: here they are empty directories. A directory of the host's may lie at `/host`; of it is here what was
 * looked up so far. Everybody works in `/`.
 *
 * @linux fs/namei.c
 */
import {
  CAP_DAC_OVERRIDE,
  CAP_FOWNER,
  Errno,
  O_ACCMODE,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_EXCL,
  O_NOATIME,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
} from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { encodeUtf8 } from '@pagelab/syscalls';
import type { FileStatus, OpenFile, TaskContext } from '@pagelab/syscalls';
import { allocFile, inodePut, inodeUnlink, shmemMknod, syncFilesystems } from '@pagelab/vm';
import type { HostFs, Inode } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { BaseFile } from './base-file.ts';
import { Dcache } from './dcache.ts';
import { DeviceFile } from './device-file.ts';
import { Dentry } from './node.ts';
import type { DeviceName, DirectoryNode, FileSystem, FsNode } from './node.ts';
import { RegularFile } from './regular-file.ts';
import { nodeStatus } from './status.ts';

/** Bytes of the longest name. @linux include/uapi/linux/limits.h:NAME_MAX */
const NAME_MAX = 255;
/** Permissions that new files do not get. */
const UMASK = 0o022;
/** The bit of O_TMPFILE that is not O_DIRECTORY. @linux include/uapi/asm-generic/fcntl.h:__O_TMPFILE */
const TMPFILE = O_TMPFILE & ~O_DIRECTORY;
const MAY_EXEC = 1;
const MAY_WRITE = 2;
const MAY_READ = 4;

const DEVICES: readonly (readonly [DeviceName, minor: number])[] = [['null', 3], ['zero', 5], ['full', 7]];
const MEM_MAJOR = 1;

/** Where a path leads: the directory of its last name, and what that name is there. */
interface Place {
  readonly directory: Dentry;
  /** `''` for the root itself. */
  readonly name: string;
  readonly found: Dentry | undefined;
  /** The path ends in a slash: it can only mean a directory. */
  readonly wantsDirectory: boolean;
  /** Its last part is a name: neither `.` nor `..`, nor is there none. @linux fs/namei.c:LAST_NORM */
  readonly isName: boolean;
}

/** An open directory: there to be opened, not to be read. */
export class DirectoryFile extends BaseFile {
  private readonly told: FileStatus;

  constructor(kernel: Kernel, path: string, flags: number, object: number, told: FileStatus) {
    super(kernel, path, flags, object);
    this.told = told;
  }

  override read(): number {
    return -Errno.EISDIR;
  }

  override write(): number {
    return -Errno.EBADF;
  }

  override sync(): number {
    return 0;
  }

  override status(): FileStatus {
    return this.told;
  }
}

/** A file opened with O_PATH: it only names. */
class PathFile extends BaseFile {
  private readonly node: FsNode;

  constructor(kernel: Kernel, path: string, flags: number, object: number, node: FsNode) {
    super(kernel, path, flags, object);
    this.node = node;
  }

  override read(): number {
    return -Errno.EBADF;
  }

  override write(): number {
    return -Errno.EBADF;
  }

  override status(): FileStatus {
    return nodeStatus(this.node);
  }
}

export class Namespace {
  readonly root: Dentry;
  /** What memory keeps of names and files that lie elsewhere; those of the disk first. */
  readonly dcaches: Dcache[] = [];
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    const { vm } = kernel;
    const disk: FileSystem = {
      name: vm.blockFs.name,
      dev: [0xfe, 0],
      dcache: this.#newDcache(vm.blockFs.name),
      makeFile: (mode, nlink) => vm.blockFs.makeFile(mode, nlink),
    };
    const memory: FileSystem = {
      name: 'tmpfs',
      dev: [0, 0x15],
      dcache: null,
      makeFile: (mode, nlink) => shmemMknod(vm, vm.tmpfs, mode, nlink),
    };
    this.root = new Dentry('', null, this.#directory(disk, 0o755), 0);
    for (const name of ['bin', 'home', 'proc', 'sys']) this.#add(this.root, name, this.#directory(disk, 0o755));
    this.#add(this.root, 'tmp', this.#directory(disk, 0o1777));
    const dev = this.#add(this.root, 'dev', this.#directory(memory, 0o755));
    this.#add(dev, 'shm', this.#directory(memory, 0o1777));
    for (const [device, minor] of DEVICES) {
      this.#add(dev, device, { kind: 'device', ino: vm.nextIno++, mode: 0o666, device, rdev: [MEM_MAJOR, minor] });
    }
  }

  /** Puts a directory of the host's into the tree, to be read. @linux fs/namespace.c:path_mount */
  attachHost(name: string, host: HostFs): void {
    const fs: FileSystem = {
      name: host.name,
      dev: [0, 0x16],
      dcache: this.#newDcache(host.name),
      makeFile: () => -Errno.EROFS,
      lookUp: (path) => {
        const entry = host.stat(path);
        if (entry === undefined) return undefined;
        if (entry.kind === 'directory') return this.#directory(fs, entry.mode);
        const inode = host.makeFile(path, entry);
        return typeof inode === 'number' ? inode : { kind: 'file', inode, fs };
      },
    };
    this.#add(this.root, name, this.#directory(fs, host.stat('')?.mode ?? 0o555));
  }

  /**
   * Opens a file.
   *
   * @param task who asks; `null` is the machine itself, which may all
   * @returns it with a reference, or -errno
   * @linux fs/namei.c:path_openat
   */
  open(task: TaskContext | null, path: string, flags: number, mode: number): OpenFile | number {
    const isPath = (flags & O_PATH) !== 0;
    const creates = (flags & O_CREAT) !== 0 && !isPath;
    const place = this.#walk(task, path);
    if (typeof place === 'number') return place;
    const { found } = place;
    if (creates && place.wantsDirectory && place.isName) return -Errno.EISDIR;
    if (found === undefined) return creates ? this.#create(task, place, flags, mode) : -Errno.ENOENT;
    if ((flags & TMPFILE) !== 0) return this.#createNameless(task, found, flags, mode);
    if (creates && (flags & O_EXCL) !== 0) return -Errno.EEXIST;
    const { node } = found;
    const access = flags & O_ACCMODE;
    if (node.kind === 'directory') {
      if (!isPath && (creates || access !== O_RDONLY || (flags & O_TRUNC) !== 0)) return -Errno.EISDIR;
    } else if (place.wantsDirectory || (flags & O_DIRECTORY) !== 0) {
      return -Errno.ENOTDIR;
    }
    if (isPath) return this.#openOther((object) => new PathFile(this.#kernel, found.path, flags, object, node));
    let wanted = access === O_RDONLY ? MAY_READ : access === O_WRONLY ? MAY_WRITE : MAY_READ | MAY_WRITE;
    if ((flags & O_TRUNC) !== 0 && node.kind === 'file') wanted |= MAY_WRITE;
    const error = permission(task, node, wanted);
    if (error !== 0) return error;
    if ((flags & O_NOATIME) !== 0 && !ownsOrMay(task, node)) return -Errno.EPERM;
    if ((flags & O_DIRECT) !== 0 && node.kind !== 'file') return -Errno.EINVAL;
    return this.#openNode(found, flags);
  }

  /** Takes a name of a file away. @returns 0 or -errno @linux fs/namei.c:do_unlinkat */
  unlink(task: TaskContext | null, path: string): number {
    const place = this.#walk(task, path);
    if (typeof place === 'number') return place;
    const { found, directory } = place;
    if (isReadOnly(directory.node)) return -Errno.EROFS;
    if (!place.isName) return -Errno.EISDIR;
    if (found === undefined) return -Errno.ENOENT;
    const isDirectory = found.node.kind === 'directory';
    if (place.wantsDirectory) return isDirectory ? -Errno.EISDIR : -Errno.ENOTDIR;
    const error = mayDelete(task, directory, found);
    if (error !== 0) return error;
    if (isDirectory) return -Errno.EISDIR;
    this.#remove(found);
    return 0;
  }

  /** Makes a directory. @returns 0 or -errno @linux fs/namei.c:do_mkdirat */
  mkdir(task: TaskContext | null, path: string, mode: number): number {
    const place = this.#walk(task, path);
    if (typeof place === 'number') return place;
    const { found, directory, name } = place;
    if (found !== undefined) return -Errno.EEXIST;
    const error = permission(task, directory.node, MAY_WRITE | MAY_EXEC);
    if (error !== 0) return error;
    const { fs } = directory.node as DirectoryNode;
    return this.#link(directory, name, this.#directory(fs, mode & 0o1777 & ~UMASK, task));
  }

  /** Takes an empty directory away. @returns 0 or -errno @linux fs/namei.c:do_rmdir */
  rmdir(task: TaskContext | null, path: string): number {
    const last = path.split('/').filter((part) => part !== '').at(-1);
    if (last === '.') return -Errno.EINVAL;
    if (last === '..') return -Errno.ENOTEMPTY;
    const place = this.#walk(task, path);
    if (typeof place === 'number') return place;
    const { found, directory, name } = place;
    if (name === '') return -Errno.EBUSY;
    if (isReadOnly(directory.node)) return -Errno.EROFS;
    if (found === undefined) return -Errno.ENOENT;
    const error = mayDelete(task, directory, found);
    if (error !== 0) return error;
    if (found.node.kind !== 'directory') return -Errno.ENOTDIR;
    if (found.node.fs !== (directory.node as DirectoryNode).fs) return -Errno.EBUSY;
    if (found.node.entries.size > 0) return -Errno.ENOTEMPTY;
    this.#remove(found);
    return 0;
  }

  /** Gives a file a second name. @returns 0 or -errno @linux fs/namei.c:do_linkat */
  link(task: TaskContext | null, from: string, to: string | number): number {
    const source = this.#walk(task, from);
    if (typeof source === 'number') return source;
    if (source.found === undefined) return -Errno.ENOENT;
    const { node } = source.found;
    if (source.wantsDirectory && node.kind !== 'directory') return -Errno.ENOTDIR;
    const place = typeof to === 'number' ? to : this.#walk(task, to);
    if (typeof place === 'number') return place;
    if (place.found !== undefined) return -Errno.EEXIST;
    if (place.wantsDirectory) return -Errno.ENOENT;
    if (isReadOnly(place.directory.node)) return -Errno.EROFS;
    if (node.kind !== 'file') return -Errno.EPERM;
    if (node.fs !== (place.directory.node as DirectoryNode).fs) return -Errno.EXDEV;
    if (!permits(task, place.directory.node, MAY_WRITE | MAY_EXEC)) return -Errno.EACCES;
    const error = this.#link(place.directory, place.name, node);
    if (error === 0) node.inode.nlink++;
    return error;
  }

  /** Gives what has one name another, in place of what had that. @returns 0 or -errno @linux fs/namei.c:do_renameat2 */
  rename(task: TaskContext | null, from: string, to: string | number): number {
    const source = this.#walk(task, from);
    const isTooLong = source === -Errno.ENAMETOOLONG;
    if (typeof source === 'number' && !isTooLong) return source;
    const target = typeof to === 'number' ? to : this.#walk(task, to);
    if (typeof target === 'number' && target !== -Errno.ENAMETOOLONG) return target;
    // Last names are looked up when both directories are known.
    if (typeof source === 'number') return typeof target !== 'number' && !target.isName ? -Errno.EBUSY : -Errno.ENAMETOOLONG;
    if (!source.isName || (typeof target !== 'number' && !target.isName)) {
      const apart = typeof target !== 'number' && fsOf(source.directory) !== fsOf(target.directory);
      return apart ? -Errno.EXDEV : -Errno.EBUSY;
    }
    if (typeof target === 'number') return source.found === undefined ? -Errno.ENOENT : target;
    const here = source.directory.node as DirectoryNode;
    const there = target.directory.node as DirectoryNode;
    if (here.fs !== there.fs) return -Errno.EXDEV;
    if (source.name === '' || target.name === '') return -Errno.EBUSY;
    if (isReadOnly(here)) return -Errno.EROFS;
    const { found: moved } = source;
    if (moved === undefined) return -Errno.ENOENT;
    const isDirectory = moved.node.kind === 'directory';
    if (!isDirectory && (source.wantsDirectory || target.wantsDirectory)) return -Errno.ENOTDIR;
    for (let above: Dentry | null = target.directory; above !== null; above = above.parent) {
      if (above === moved) return -Errno.EINVAL;
    }
    for (let above: Dentry | null = source.directory; above !== null; above = above.parent) {
      if (above === target.found) return -Errno.ENOTEMPTY;
    }
    const replaced = target.found;
    if (replaced !== undefined && (replaced === moved || sameFile(replaced.node, moved.node))) return 0;
    const error = mayRename(task, source.directory, moved, target.directory, replaced);
    if (error !== 0) return error;
    if (isDirectory && moved.node.kind === 'directory' && moved.node.fs !== here.fs) return -Errno.EBUSY;
    if (replaced !== undefined) {
      if (replaced.node.kind === 'directory' && replaced.node.entries.size > 0) return -Errno.ENOTEMPTY;
      this.#remove(replaced);
    }
    here.entries.delete(moved.name);
    moved.name = target.name;
    moved.parent = target.directory;
    there.entries.set(moved.name, moved);
    here.mtime = there.mtime = this.#kernel.clock.now;
    return 0;
  }

  /** What `stat` tells of a name; or -errno. @linux fs/stat.c:vfs_statx */
  status(task: TaskContext | null, path: string): FileStatus | number {
    const found = this.#existing(task, path);
    return typeof found === 'number' ? found : nodeStatus(found.node);
  }

  /** Sets the length of a file by its name. @returns 0 or -errno @linux fs/open.c:vfs_truncate */
  truncate(task: TaskContext | null, path: string, size: number): number {
    if (size < 0) return -Errno.EINVAL;
    const found = this.#existing(task, path);
    if (typeof found === 'number') return found;
    const { node } = found;
    if (node.kind === 'directory') return -Errno.EISDIR;
    if (node.kind !== 'file') return -Errno.EINVAL;
    const error = permission(task, node, MAY_WRITE);
    if (error !== 0) return error;
    return node.inode.mapping.ops.truncate(node.inode, size);
  }

  /** Whether a name may be used so: MAY_… as `access` has them; 0 for whether it is there. @returns 0 or -errno */
  access(task: TaskContext | null, path: string, wanted: number): number {
    const found = this.#existing(task, path);
    if (typeof found === 'number') return found;
    return permission(task, found.node, wanted);
  }

  /** Brings all files to their devices. */
  syncAll(): void {
    syncFilesystems(this.#kernel.vm);
  }

  /** Every regular file that has a name, and how many it has. */
  files(): Map<Inode, number> {
    const names = new Map<Inode, number>();
    const visit = ({ node }: Dentry): void => {
      if (node.kind === 'file') names.set(node.inode, (names.get(node.inode) ?? 0) + 1);
      else if (node.kind === 'directory') for (const child of node.entries.values()) visit(child);
    };
    visit(this.root);
    return names;
  }

  #existing(task: TaskContext | null, path: string): Dentry | number {
    const place = this.#walk(task, path);
    if (typeof place === 'number') return place;
    if (place.found === undefined) return -Errno.ENOENT;
    return place.wantsDirectory && place.found.node.kind !== 'directory' ? -Errno.ENOTDIR : place.found;
  }

  /** @linux fs/namei.c:link_path_walk */
  #walk(task: TaskContext | null, path: string): Place | number {
    if (path === '') return -Errno.ENOENT;
    const parts = path.split('/').filter((part) => part !== '' && part !== '.');
    const wantsDirectory = path.endsWith('/') || path.endsWith('/.') || path === '.';
    const isName = !/(^|\/)\.{0,2}\/*$/.test(path.replace(/\/+$/, ''));
    let at = this.root;
    for (const [i, part] of parts.entries()) {
      const { node } = at;
      if (node.kind !== 'directory') return -Errno.ENOTDIR;
      if (!permits(task, node, MAY_EXEC)) return -Errno.EACCES;
      const isLast = i === parts.length - 1;
      if (part === '..') {
        at = at.parent ?? at;
        continue;
      }
      if (encodeUtf8(part).length > NAME_MAX) return -Errno.ENAMETOOLONG;
      let found = node.entries.get(part);
      if (found === undefined && node.fs.lookUp !== undefined) {
        const looked = this.#lookUp(at, part, node.fs.lookUp);
        if (typeof looked === 'number') return looked;
        found = looked;
      }
      if (found !== undefined && node.fs.dcache !== null) {
        const error = node.fs.dcache.use(found);
        if (error !== 0) return error;
      }
      if (isLast) return { directory: at, name: part, found, wantsDirectory, isName };
      if (found === undefined) return -Errno.ENOENT;
      at = found;
    }
    return { directory: at.parent ?? at, name: at.name, found: at, wantsDirectory: true, isName: false };
  }

  /** Asks a file system for a name that the tree does not have. @linux fs/namei.c:lookup_slow */
  #lookUp(directory: Dentry, name: string, ask: NonNullable<FileSystem['lookUp']>): Dentry | undefined | number {
    let path = name;
    for (let at = directory; at.parent !== null && fsOf(at.parent) === fsOf(directory); at = at.parent) path = `${at.name}/${path}`;
    const node = ask(path);
    if (node === undefined || typeof node === 'number') return node;
    const object = this.#kernel.caches.dentry.alloc(GFP_KERNEL);
    if (node.kind === 'file') {
      if (object === 0) node.inode.nlink = 0;
      // The name holds it now.
      inodePut(node.inode);
    }
    if (object === 0) return -Errno.ENOMEM;
    const dentry = new Dentry(name, directory, node, object);
    // That its name is known now is no change of the directory.
    (directory.node as DirectoryNode).entries.set(name, dentry);
    return dentry;
  }

  /** @linux fs/namei.c:lookup_open */
  #create(task: TaskContext | null, place: Place, flags: number, mode: number): OpenFile | number {
    const { directory, name } = place;
    const refused = permission(task, directory.node, MAY_WRITE | MAY_EXEC);
    if (refused !== 0) return refused;
    const { fs } = directory.node as DirectoryNode;
    const inode = fs.makeFile(mode & 0o7777 & ~UMASK, 1);
    if (typeof inode === 'number') return inode;
    own(task, inode);
    const error = this.#link(directory, name, { kind: 'file', inode, fs });
    const dentry = (directory.node as DirectoryNode).entries.get(name);
    const file = error === 0 ? this.#openNode(dentry!, flags & ~O_TRUNC) : error;
    if (typeof file === 'number') {
      if (error === 0) this.#remove(dentry!);
      else inode.nlink = 0;
    }
    // The name holds it now.
    inodePut(inode);
    return file;
  }

  /** Makes a file that has no name, in a directory. @linux fs/namei.c:do_tmpfile */
  #createNameless(task: TaskContext | null, { node, path }: Dentry, flags: number, mode: number): OpenFile | number {
    if (node.kind !== 'directory') return -Errno.ENOTDIR;
    const refused = permission(task, node, MAY_WRITE | MAY_EXEC);
    if (refused !== 0) return refused;
    const inode = node.fs.makeFile(mode & 0o7777 & ~UMASK, 0);
    if (typeof inode === 'number') return inode;
    own(task, inode);
    const access = flags & O_ACCMODE;
    const vmFile = allocFile(this.#kernel.vm, inode, `${path === '/' ? '' : path}/#${inode.ino} (deleted)`, { readable: access === O_RDWR, writable: true });
    // The open file holds it now.
    inodePut(inode);
    return vmFile === null ? -Errno.ENFILE : new RegularFile(this.#kernel, vmFile, flags & ~O_TRUNC, node.fs.dev);
  }

  #openNode(dentry: Dentry, flags: number): OpenFile | number {
    const kernel = this.#kernel;
    const { node } = dentry;
    const kept = flags & ~(O_CREAT | O_EXCL | O_TRUNC);
    if (node.kind === 'directory') {
      return this.#openOther((object) => new DirectoryFile(kernel, dentry.path, kept, object, nodeStatus(node)));
    }
    if (node.kind === 'device') {
      return this.#openOther((object) => new DeviceFile(kernel, dentry.path, kept, object, node));
    }
    if ((flags & O_TRUNC) !== 0) {
      const error = node.inode.mapping.ops.truncate(node.inode, 0);
      if (error !== 0) return error;
    }
    const access = flags & O_ACCMODE;
    const mode = { readable: access === O_RDONLY || access === O_RDWR, writable: access === O_WRONLY || access === O_RDWR };
    const vmFile = allocFile(kernel.vm, node.inode, dentry, mode);
    if (vmFile === null) return -Errno.ENFILE;
    return new RegularFile(kernel, vmFile, kept, node.fs.dev);
  }

  #openOther(make: (object: number) => OpenFile): OpenFile | number {
    const object = this.#kernel.caches.filp.alloc(GFP_KERNEL);
    return object === 0 ? -Errno.ENFILE : make(object);
  }

  #newDcache(name: string): Dcache {
    const dcache = new Dcache(this.#kernel, name);
    this.#kernel.slab.shrinkers.register(dcache);
    this.dcaches.push(dcache);
    return dcache;
  }

  #directory(fs: FileSystem, mode: number, owner: TaskContext | null = null): DirectoryNode {
    const { vm, clock } = this.#kernel;
    const { uid, gid } = owner?.credentials ?? ROOT;
    return { kind: 'directory', ino: vm.nextIno++, mode, uid, gid, fs, entries: new Map(), mtime: clock.now };
  }

  #link(directory: Dentry, name: string, node: FsNode): number {
    const object = this.#kernel.caches.dentry.alloc(GFP_KERNEL);
    if (object === 0) return -Errno.ENOMEM;
    const dentry = new Dentry(name, directory, node, object);
    this.#put(directory, dentry);
    // Nobody uses the new name yet: it may go when memory is short.
    return (directory.node as DirectoryNode).fs.dcache?.use(dentry) ?? 0;
  }

  /** At boot, when there is memory. */
  #add(directory: Dentry, name: string, node: FsNode): Dentry {
    const dentry = new Dentry(name, directory, node, this.#kernel.caches.dentry.alloc(GFP_KERNEL));
    this.#put(directory, dentry);
    return dentry;
  }

  #put(directory: Dentry, dentry: Dentry): void {
    const node = directory.node as DirectoryNode;
    node.entries.set(dentry.name, dentry);
    node.mtime = this.#kernel.clock.now;
  }

  /** @linux fs/dcache.c:d_delete */
  #remove(dentry: Dentry): void {
    const directory = dentry.parent!.node as DirectoryNode;
    directory.entries.delete(dentry.name);
    directory.mtime = this.#kernel.clock.now;
    dentry.isGone = true;
    directory.fs.dcache?.forget(dentry);
    this.#kernel.caches.dentry.free(dentry.object);
    if (dentry.node.kind === 'file') inodeUnlink(dentry.node.inode);
  }
}

function sameFile(a: FsNode, b: FsNode): boolean {
  return a.kind === 'file' && b.kind === 'file' && a.inode === b.inode;
}

function fsOf({ node }: Dentry): FileSystem | null {
  return node.kind === 'directory' ? node.fs : null;
}

/** Whether nothing can be changed there: a file system that is looked into, but never stored to. @linux include/linux/fs.h:sb_rdonly */
function isReadOnly(node: FsNode): boolean {
  return node.kind !== 'device' && node.fs.lookUp !== undefined;
}

/** Whether a node may be used so. @returns 0, -EROFS, -EACCES @linux fs/namei.c:inode_permission */
function permission(task: TaskContext | null, node: FsNode, wanted: number): number {
  if ((wanted & MAY_WRITE) !== 0 && isReadOnly(node)) return -Errno.EROFS;
  return permits(task, node, wanted) ? 0 : -Errno.EACCES;
}

/** Whether the bits for the owner, the group or the others allow it. @linux fs/namei.c:generic_permission */
function permits(task: TaskContext | null, node: FsNode, wanted: number): boolean {
  const mode = node.kind === 'file' ? node.inode.mode : node.mode;
  if (task === null || task.capable(CAP_DAC_OVERRIDE)) {
    // What nobody may run, nobody runs.
    return node.kind === 'directory' || (wanted & MAY_EXEC) === 0 || (mode & 0o111) !== 0;
  }
  const { uid, gid } = ownerOf(node);
  const shift = task.credentials.uid === uid ? 6 : task.credentials.gid === gid ? 3 : 0;
  return ((mode >> shift) & wanted) === wanted;
}

/** Who owns what root made, and devices. */
const ROOT = { uid: 0, gid: 0 } as const;

function ownerOf(node: FsNode): { readonly uid: number; readonly gid: number } {
  if (node.kind === 'device') return ROOT;
  return node.kind === 'file' ? node.inode : node;
}

/** A new file is its maker's. @linux fs/inode.c:inode_init_owner */
function own(task: TaskContext | null, inode: Inode): void {
  ({ uid: inode.uid, gid: inode.gid } = task?.credentials ?? ROOT);
}

/** @linux fs/inode.c:inode_owner_or_capable */
function ownsOrMay(task: TaskContext | null, node: FsNode): boolean {
  return task === null || task.credentials.uid === ownerOf(node).uid || task.capable(CAP_FOWNER);
}

/** Whether a name may be taken out of a directory: of one that is sticky, by the owners alone. @returns 0, -EACCES, -EPERM @linux fs/namei.c:may_delete */
function mayDelete(task: TaskContext | null, { node: directory }: Dentry, { node }: Dentry): number {
  if (!permits(task, directory, MAY_WRITE | MAY_EXEC)) return -Errno.EACCES;
  const isSticky = directory.kind === 'directory' && (directory.mode & 0o1000) !== 0;
  if (!isSticky || task === null || task.credentials.uid === ownerOf(directory).uid) return 0;
  return ownsOrMay(task, node) ? 0 : -Errno.EPERM;
}

/** Whether a name may become another, in place of what has that. @returns 0 or -errno @linux fs/namei.c:vfs_rename */
function mayRename(task: TaskContext | null, from: Dentry, moved: Dentry, to: Dentry, replaced: Dentry | undefined): number {
  const error = mayDelete(task, from, moved);
  if (error !== 0) return error;
  const isDirectory = moved.node.kind === 'directory';
  if (replaced === undefined) {
    if (!permits(task, to.node, MAY_WRITE | MAY_EXEC)) return -Errno.EACCES;
  } else {
    const refused = mayDelete(task, to, replaced);
    if (refused !== 0) return refused;
    if (isDirectory !== (replaced.node.kind === 'directory')) return isDirectory ? -Errno.ENOTDIR : -Errno.EISDIR;
  }
  // Its entry for the directory above it changes.
  return isDirectory && from !== to && !permits(task, moved.node, MAY_WRITE) ? -Errno.EACCES : 0;
}
