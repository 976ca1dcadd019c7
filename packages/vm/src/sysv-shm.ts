/**
 * System V shared memory: segments that have a number and a key, and live until they are removed.
 *
 *     segment.nrAttached === VMAs that show it: an attachment that was split counts as often as it has parts
 *
 * A segment that is removed while it is attached loses its key, and goes with its last attachment.
 *
 * @linux ipc/shm.c, ipc/util.c
 */
import {
  CAP_IPC_OWNER,
  CAP_SYS_ADMIN,
  Errno,
  IPC_CREAT,
  IPC_EXCL,
  IPC_PRIVATE,
  MAP_FIXED,
  MAP_HUGE_MASK,
  MAP_HUGE_SHIFT,
  MAP_SHARED,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  SHM_DEST,
  SHM_EXEC,
  SHM_HUGETLB,
  SHM_NORESERVE,
  SHM_RDONLY,
  SHM_REMAP,
  SHM_RND,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { GFP_KERNEL_ACCOUNT } from '@pagelab/mm-core';
import type { VmFile, VmOperations } from './file.ts';
import { doMmap } from './mmap.ts';
import type { MmLimits, MmStruct } from './mm-struct.ts';
import { vmMunmap } from './munmap.ts';
import { allocFile, filePut } from './open-file.ts';
import { OVERCOMMIT_NEVER } from './overcommit.ts';
import { pageAlign } from './page-align.ts';
import { hugetlbFileSetup } from './hugetlbfs.ts';
import { shmemFileSetup } from './shmem.ts';
import type { Vm } from './vm.ts';
import { findVmaIntersection } from './vma-tree.ts';
import type { VmArea } from './vma.ts';

/** Segments there may be. @linux include/uapi/linux/shm.h:SHMMNI */
export const SHMMNI = 4096;
/** Bytes of the largest segment, and pages of all: no limit, but for room to compute. @linux include/uapi/linux/shm.h:SHMMAX */
export const SHMMAX = 2 ** 64 - 2 ** 24;
/** Numbers are a place and how often it was used: bits of the place. @linux ipc/util.h:IPCMNI_SHIFT */
const IPCMNI_SHIFT = 15;
const SEQ_MAX = 0xffff;
/** Places are used in turn, of so many at least. @linux ipc/util.h:ipc_min_cycle */
const MIN_CYCLE = 64;
/** Bytes of the kernel's object for a segment. @linux ipc/shm.c:shmid_kernel */
const SHMID_KERNEL_BYTES = 256;

/** Who asks. */
export interface IpcCaller extends MmLimits {
  readonly tgid: number;
  readonly credentials: { readonly uid: number; readonly gid: number };
}

/** @linux ipc/shm.c:shmid_kernel */
export interface ShmSegment {
  readonly id: number;
  /** IPC_PRIVATE for one that cannot be found by key. */
  key: number;
  /** In bytes, as asked for. */
  readonly size: number;
  /** Permissions, and SHM_DEST, SHM_LOCKED. */
  mode: number;
  uid: number;
  gid: number;
  readonly cuid: number;
  readonly cgid: number;
  readonly seq: number;
  nrAttached: number;
  readonly creatorPid: number;
  lastPid: number;
  /** Virtual times in nanoseconds; 0 for never. */
  attachTime: number;
  detachTime: number;
  changeTime: number;
  readonly file: VmFile;
  readonly object: VirtAddr;
  readonly vmOps: ShmVmOperations;
}

/** Counts the mappings of a segment. @linux ipc/shm.c:shm_vm_ops */
class ShmVmOperations implements VmOperations {
  segment!: ShmSegment;
  readonly #namespace: ShmNamespace;

  constructor(namespace: ShmNamespace) {
    this.#namespace = namespace;
  }

  open(vma: VmArea): void {
    this.segment.nrAttached++;
    this.segment.attachTime = vma.mm.vm.clock.now;
  }

  close(vma: VmArea): void {
    this.segment.nrAttached--;
    this.segment.detachTime = vma.mm.vm.clock.now;
    this.#namespace.destroyIfDue(this.segment);
  }
}

/** The segments of a machine. @linux include/linux/ipc_namespace.h:ipc_namespace */
export class ShmNamespace {
  readonly #vm: Vm;
  /** By place. */
  readonly #segments = new Map<number, ShmSegment>();
  #lastPlace = -1;
  #seq = 0;
  /** Pages of all segments. */
  totalPages = 0;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** Segments, by ascending place. */
  segments(): ShmSegment[] {
    return [...this.#segments.entries()].sort(([a], [b]) => a - b).map(([, segment]) => segment);
  }

  /**
   * Finds or makes a segment.
   *
   * @param size in bytes; negative for a value in the upper half of a register
   * @returns its number; −ENOENT, −EEXIST, −EINVAL, −EACCES, −ENOSPC, −ENOMEM
   * @linux ipc/shm.c:ksys_shmget
   */
  get(caller: IpcCaller, key: number, size: number, flags: number): number {
    if (key === IPC_PRIVATE) return this.#create(caller, key, size, flags);
    for (const segment of this.#segments.values()) {
      if (segment.key !== key) continue;
      if ((flags & IPC_CREAT) !== 0 && (flags & IPC_EXCL) !== 0) return -Errno.EEXIST;
      if (size < 0 || size > segment.size) return -Errno.EINVAL;
      return mayUse(caller, segment, flags) ? segment.id : -Errno.EACCES;
    }
    return (flags & IPC_CREAT) === 0 ? -Errno.ENOENT : this.#create(caller, key, size, flags);
  }

  /** The segment of a number. @linux ipc/shm.c:shm_obtain_object_check */
  find(id: number): ShmSegment | undefined {
    const segment = id < 0 ? undefined : this.#segments.get(id & ((1 << IPCMNI_SHIFT) - 1));
    return segment?.id === id ? segment : undefined;
  }

  /**
   * Maps a segment.
   *
   * @param addr 0 for anywhere
   * @param personality of the caller: with READ_IMPLIES_EXEC it may be executed, too
   * @returns the address; −EINVAL, −EACCES, and what `mmap` fails with
   * @linux ipc/shm.c:do_shmat
   */
  attach(caller: IpcCaller, mm: MmStruct, id: number, addr: VirtAddr, flags: number, personality = 0): number {
    if (id < 0) return -Errno.EINVAL;
    let at = addr;
    if (at !== 0) {
      const inPage = ((at % PAGE_SIZE) + PAGE_SIZE) % PAGE_SIZE;
      if (inPage !== 0) {
        if ((flags & SHM_RND) === 0) return -Errno.EINVAL;
        at -= inPage;
        if (at === 0 && (flags & SHM_REMAP) !== 0) return -Errno.EINVAL;
      }
    } else if ((flags & SHM_REMAP) !== 0) {
      return -Errno.EINVAL;
    }
    const readOnly = (flags & SHM_RDONLY) !== 0;
    const executable = (flags & SHM_EXEC) !== 0;
    const segment = this.find(id);
    if (segment === undefined) return -Errno.EINVAL;
    if (!mayUse(caller, segment, (readOnly ? 0o444 : 0o666) | (executable ? 0o111 : 0))) return -Errno.EACCES;
    const vm = this.#vm;
    const file = allocFile(vm, segment.file.inode, segment.file.path, { readable: true, writable: !readOnly });
    if (file === null) return -Errno.ENOMEM;
    file.vmOps = segment.vmOps;
    // As long as it is being attached it must not go.
    segment.nrAttached++;
    const prot = (readOnly ? PROT_READ : PROT_READ | PROT_WRITE) | (executable ? PROT_EXEC : 0);
    const result = this.#map(mm, file, segment, at, prot, addr === 0 ? flags : flags | ATTACH_FIXED, personality);
    filePut(vm, file);
    segment.nrAttached--;
    if (result >= 0) segment.lastPid = caller.tgid;
    this.destroyIfDue(segment);
    return result;
  }

  /**
   * Unmaps what is left of the attachment that was made at `addr`.
   *
   * @returns 0; −EINVAL where there is none
   * @linux ipc/shm.c:ksys_shmdt
   */
  detach(caller: IpcCaller, mm: MmStruct, addr: VirtAddr): number {
    if (addr % PAGE_SIZE !== 0) return -Errno.EINVAL;
    const { vmas } = mm;
    let vma = addr < 0 ? undefined : vmas.find(addr);
    while (vma !== undefined && !isPartOf(vma, addr)) vma = vmas.find(vma.end);
    if (vma === undefined) return -Errno.EINVAL;
    const { file } = vma;
    const end = addr + pageAlign(file!.inode.size);
    (file!.vmOps as ShmVmOperations).segment.lastPid = caller.tgid;
    while (vma !== undefined) {
      const next: VirtAddr = vma.end;
      if (isPartOf(vma, addr) && vma.file === file) vmMunmap(mm, vma.start, next - vma.start);
      vma = vmas.find(next);
      if (vma !== undefined && vma.end > end) return 0;
    }
    return 0;
  }

  /** Removes a segment, now or with its last attachment. @returns 0; −EINVAL, −EPERM @linux ipc/shm.c:shmctl_down */
  remove(caller: IpcCaller, id: number): number {
    const segment = this.find(id);
    if (segment === undefined) return -Errno.EINVAL;
    if (!owns(caller, segment)) return -Errno.EPERM;
    segment.mode |= SHM_DEST;
    segment.key = IPC_PRIVATE;
    this.destroyIfDue(segment);
    return 0;
  }

  /** Gives a segment another owner and permissions. @returns 0; −EINVAL, −EPERM @linux ipc/util.c:ipc_update_perm */
  setOwner(caller: IpcCaller, id: number, uid: number, gid: number, mode: number): number {
    const segment = this.find(id);
    if (segment === undefined) return -Errno.EINVAL;
    if (!owns(caller, segment)) return -Errno.EPERM;
    segment.uid = uid;
    segment.gid = gid;
    segment.mode = (segment.mode & ~0o777) | (mode & 0o777);
    segment.changeTime = this.#vm.clock.now;
    return 0;
  }

  /** Whether the caller may look at a segment. */
  mayRead(caller: IpcCaller, segment: ShmSegment): boolean {
    return mayUse(caller, segment, 0o444);
  }

  /** Whether the caller may lock a segment in memory, or give it away. */
  owns(caller: IpcCaller, segment: ShmSegment): boolean {
    return owns(caller, segment);
  }

  /** @linux ipc/shm.c:newseg */
  #create(caller: IpcCaller, key: number, size: number, flags: number): number {
    const vm = this.#vm;
    const bytes = size < 0 ? size + 2 ** 64 : size;
    if (bytes < 1 || bytes > SHMMAX) return -Errno.EINVAL;
    const isHuge = (flags & SHM_HUGETLB) !== 0;
    const shift = (flags >>> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
    if (isHuge && shift !== 0 && !vm.tables.hugeShifts.includes(shift)) return -Errno.EINVAL;
    // No file is that long; of huge pages there are too few first, and of 1 GiB none at all.
    if (size < 0) return isHuge ? -Errno.ENOMEM : -Errno.EINVAL;
    if (isHuge && shift !== 0 && shift !== vm.tables.hugeShifts[0]) return -Errno.ENOMEM;
    const nrPages = Math.ceil(size / PAGE_SIZE);
    if (this.totalPages + nrPages > SHMMAX || this.#segments.size >= SHMMNI) return -Errno.ENOSPC;
    const object = vm.slab.kmalloc(SHMID_KERNEL_BYTES, GFP_KERNEL_ACCOUNT);
    if (object === 0) return -Errno.ENOMEM;
    const accounted = (flags & SHM_NORESERVE) === 0 || vm.sysctl.overcommitMemory === OVERCOMMIT_NEVER;
    const path = `/SYSV${(key >>> 0).toString(16).padStart(8, '0')} (deleted)`;
    const file =
      isHuge
        ? hugetlbFileSetup(vm, path, Math.ceil(size / vm.tables.pmdSize) * vm.tables.pmdSize, (flags & SHM_NORESERVE) === 0)
        : shmemFileSetup(vm, path, size, accounted);
    if (typeof file === 'number') {
      vm.slab.kfree(object);
      return file;
    }
    const { uid, gid } = caller.credentials;
    const place = this.#nextPlace();
    const segment: ShmSegment = {
      id: (this.#seq << IPCMNI_SHIFT) + place,
      key,
      size,
      mode: flags & 0o777,
      uid,
      gid,
      cuid: uid,
      cgid: gid,
      seq: this.#seq,
      nrAttached: 0,
      creatorPid: caller.tgid,
      lastPid: 0,
      attachTime: 0,
      detachTime: 0,
      changeTime: vm.clock.now,
      file,
      object,
      vmOps: new ShmVmOperations(this),
    };
    segment.vmOps.segment = segment;
    this.#segments.set(place, segment);
    this.totalPages += nrPages;
    return segment.id;
  }

  /** The next free place after the last one given, in a cycle. @linux ipc/util.c:ipc_idr_alloc */
  #nextPlace(): number {
    const cycle = Math.min(Math.max(Math.floor((this.#segments.size * 3) / 2), MIN_CYCLE), SHMMNI);
    let place = (this.#lastPlace + 1) % cycle;
    while (this.#segments.has(place)) place = (place + 1) % cycle;
    if (place <= this.#lastPlace) this.#seq = this.#seq === SEQ_MAX ? 0 : this.#seq + 1;
    this.#lastPlace = place;
    return place;
  }

  #map(mm: MmStruct, file: VmFile, segment: ShmSegment, addr: VirtAddr, prot: number, flags: number, personality: number): number {
    const length = pageAlign(segment.size);
    const fixed = (flags & ATTACH_FIXED) !== 0;
    if (addr !== 0 && (flags & SHM_REMAP) === 0) {
      if (addr < 0 && addr + segment.size >= 0) return -Errno.EINVAL;
      if (addr > 0 && findVmaIntersection(mm, addr, addr + length) !== undefined) return -Errno.EINVAL;
    }
    const mapFlags = fixed ? MAP_SHARED | MAP_FIXED : MAP_SHARED;
    return doMmap(mm, { file, addr, length, prot, flags: mapFlags, pgoff: 0, personality });
  }

  /** Lets a segment go that was removed and is attached no more. @linux ipc/shm.c:shm_may_destroy, shm_destroy */
  destroyIfDue(segment: ShmSegment): void {
    if (segment.nrAttached > 0 || (segment.mode & SHM_DEST) === 0) return;
    const vm = this.#vm;
    if (!this.#segments.delete(segment.id & ((1 << IPCMNI_SHIFT) - 1))) return;
    this.totalPages -= Math.ceil(segment.size / PAGE_SIZE);
    filePut(vm, segment.file);
    vm.slab.kfree(segment.object);
  }
}

/** The caller named an address, which may have been rounded down to 0. */
const ATTACH_FIXED = 1 << 30;

/** Whether a VMA is part of an attachment that was made at `addr`. */
function isPartOf(vma: VmArea, addr: VirtAddr): boolean {
  return vma.file !== null && vma.file.vmOps instanceof ShmVmOperations && vma.start - addr === vma.pgoff * PAGE_SIZE;
}

/** Whether the permissions that `wanted` names in any of its digits are there. @linux ipc/util.c:ipcperms */
function mayUse(caller: IpcCaller, segment: ShmSegment, wanted: number): boolean {
  const { uid, gid } = caller.credentials;
  const requested = (wanted >> 6) | (wanted >> 3) | wanted;
  let granted = segment.mode;
  if (uid === segment.cuid || uid === segment.uid) granted >>= 6;
  else if (gid === segment.cgid || gid === segment.gid) granted >>= 3;
  return (requested & ~granted & 7) === 0 || caller.capable(CAP_IPC_OWNER);
}

/** @linux ipc/util.c:ipcctl_obtain_check */
function owns(caller: IpcCaller, segment: ShmSegment): boolean {
  const { uid } = caller.credentials;
  return uid === segment.cuid || uid === segment.uid || caller.capable(CAP_SYS_ADMIN);
}
