import {
  Errno,
  IPC_CREAT,
  IPC_EXCL,
  IPC_INFO,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  SHM_EXEC,
  SHM_HUGETLB,
  SHM_INFO,
  SHM_LOCK,
  SHM_LOCKED,
  SHM_NORESERVE,
  SHM_RDONLY,
  SHM_REMAP,
  SHM_RND,
  SHM_STAT,
  SHM_STAT_ANY,
  SHM_UNLOCK,
} from '@pagelab/abi';
import { SHMMNI } from '@pagelab/vm';
import type { ShmSegment } from '@pagelab/vm';
import { canDoMlock } from '@pagelab/vm';
import { flagTable, flagValues } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { u32At } from './user-struct.ts';

export const SHMGET_FLAGS = flagTable('shmget', 'shmflg', 'bits', { IPC_CREAT, IPC_EXCL, SHM_NORESERVE, SHM_HUGETLB }, {}, {
  notes: { SHM_HUGETLB: 'there is a pool of pages of 2 MiB; that of 1 GiB is empty (ENOMEM)' },
  unknown: 'The low nine bits are the permissions. Other bits are ignored.',
});
export const SHMAT_FLAGS = flagTable('shmat', 'shmflg', 'bits', { SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_EXEC });
export const SHMCTL_COMMANDS = flagTable('shmctl', 'cmd', 'values', {
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  IPC_INFO,
  SHM_LOCK,
  SHM_UNLOCK,
  SHM_STAT,
  SHM_INFO,
  SHM_STAT_ANY,
});

const SHMCTL_VALUES = flagValues(SHMCTL_COMMANDS);

/** Bytes of a `struct shmid64_ds`, and of the two tables about all segments. */
const SHMID_DS_BYTES = 112;
const SHMINFO_BYTES = 72;
const SHM_INFO_BYTES = 48;
const NS_PER_SECOND = 1e9;
/** What shows where there is no limit. @linux include/uapi/linux/shm.h:SHMMAX */
const NO_LIMIT = 0xffff_ffff_feff_ffffn;

/** Finds or makes a segment. @returns its number, or -errno: ENOENT, EEXIST, EINVAL, EACCES, ENOSPC, ENOMEM @linux ipc/shm.c:shmget */
export function sysShmget(task: TaskContext, key: number, size: number, flags: number): number {
  return task.shm.get(task, int32(key), size, int32(flags));
}

/** Maps a segment. @returns the address, or -errno: EINVAL, EACCES, ENOMEM @linux ipc/shm.c:shmat */
export function sysShmat(task: TaskContext, id: number, addr: number, flags: number): number {
  return task.shm.attach(task, task.mm, int32(id), addr, int32(flags), task.personality);
}

/** Unmaps a segment. @returns 0, or -EINVAL @linux ipc/shm.c:shmdt */
export function sysShmdt(task: TaskContext, addr: number): number {
  return task.shm.detach(task, task.mm, addr);
}

/** Asks about a segment, changes or removes it. @returns 0 or a value, or -errno: EINVAL, EPERM, EACCES, EFAULT @linux ipc/shm.c:shmctl */
export function sysShmctl(task: TaskContext, id: number, cmd: number, buffer: number): number {
  const number = int32(id);
  const command = int32(cmd);
  if (number < 0 || !SHMCTL_VALUES.has(command)) return -Errno.EINVAL;
  switch (command) {
    case IPC_RMID:
      return task.shm.remove(task, number);
    case IPC_SET: {
      const bytes = getUser(task, buffer, SHMID_DS_BYTES);
      if (typeof bytes === 'number') return bytes;
      return task.shm.setOwner(task, number, u32At(bytes, 4), u32At(bytes, 8), u32At(bytes, 20));
    }
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY:
      return tell(task, number, command, buffer);
    case SHM_LOCK:
    case SHM_UNLOCK:
      return lock(task, number, command === SHM_LOCK);
    case IPC_INFO:
      return store(task, buffer, limits()) || highestPlace(task);
    case SHM_INFO:
      return store(task, buffer, totals(task)) || highestPlace(task);
    default:
      return -Errno.EINVAL;
  }
}

/** @linux ipc/shm.c:shmctl_stat */
function tell(task: TaskContext, number: number, command: number, buffer: number): number {
  const byPlace = command !== IPC_STAT;
  const segment = byPlace
    ? task.shm.segments().find(({ id }) => placeOf(id) === placeOf(number))
    : task.shm.find(number);
  if (segment === undefined) return -Errno.EINVAL;
  if (command !== SHM_STAT_ANY && !task.shm.mayRead(task, segment)) return -Errno.EACCES;
  return store(task, buffer, encodeSegment(segment)) || (byPlace ? segment.id : 0);
}

/** Keeps a segment's pages in memory, attached or not: nothing takes them out here. @linux ipc/shm.c:shmctl_do_lock */
function lock(task: TaskContext, number: number, isLocked: boolean): number {
  const segment = task.shm.find(number);
  if (segment === undefined) return -Errno.EINVAL;
  if (!task.shm.owns(task, segment)) return -Errno.EPERM;
  if (isLocked && !canDoMlock(task.mm)) return -Errno.EPERM;
  segment.mode = isLocked ? segment.mode | SHM_LOCKED : segment.mode & ~SHM_LOCKED;
  return 0;
}

function store(task: TaskContext, buffer: number, bytes: Uint8Array): number {
  return putUser(task, buffer, bytes);
}

function placeOf(id: number): number {
  return id & 0x7fff;
}

/** @linux ipc/util.c:ipc_get_maxidx */
function highestPlace(task: TaskContext): number {
  return Math.max(0, ...task.shm.segments().map(({ id }) => placeOf(id)));
}

/** A `struct shmid64_ds`. @linux include/uapi/asm-generic/shmbuf.h:shmid64_ds */
function encodeSegment(segment: ShmSegment): Uint8Array {
  const bytes = new Uint8Array(SHMID_DS_BYTES);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, segment.key, true);
  for (const [i, id] of [segment.uid, segment.gid, segment.cuid, segment.cgid].entries()) view.setUint32(4 + i * 4, id, true);
  view.setUint32(20, segment.mode, true);
  view.setUint16(24, segment.seq, true);
  view.setBigUint64(48, BigInt(segment.size), true);
  for (const [i, time] of [segment.attachTime, segment.detachTime, segment.changeTime].entries()) {
    view.setBigInt64(56 + i * 8, BigInt(Math.floor(time / NS_PER_SECOND)), true);
  }
  view.setInt32(80, segment.creatorPid, true);
  view.setInt32(84, segment.lastPid, true);
  view.setBigUint64(88, BigInt(segment.nrAttached), true);
  return bytes;
}

/** A `struct shminfo64`: shmmax, shmmin, shmmni, shmseg, shmall. */
function limits(): Uint8Array {
  const bytes = new Uint8Array(SHMINFO_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of [NO_LIMIT, 1n, BigInt(SHMMNI), BigInt(SHMMNI), NO_LIMIT].entries()) {
    view.setBigUint64(i * 8, value, true);
  }
  return bytes;
}

/** A `struct shm_info`: used_ids, shm_tot, shm_rss, and three about swap. */
function totals(task: TaskContext): Uint8Array {
  const bytes = new Uint8Array(SHM_INFO_BYTES);
  const view = new DataView(bytes.buffer);
  const segments = task.shm.segments();
  let resident = 0;
  for (const { file } of segments) resident += file.inode.mapping.pages.size;
  view.setInt32(0, segments.length, true);
  view.setBigUint64(8, BigInt(task.shm.totalPages), true);
  view.setBigUint64(16, BigInt(resident), true);
  return bytes;
}
