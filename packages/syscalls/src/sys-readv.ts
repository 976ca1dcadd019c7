import { Errno, O_ACCMODE, O_APPEND, O_PATH, O_RDONLY, O_WRONLY } from '@pagelab/abi';
import { importRanges } from './iovec.ts';
import type { Range } from './iovec.ts';
import { int32 } from './registers.ts';
import { hasOffsets, isInReach, readFrom, writeTo } from './sys-file.ts';
import type { OpenFile, TaskContext } from './task-context.ts';

/** Reads into several ranges from the file's position on. @returns bytes, or -errno: EBADF, EINVAL, EFAULT @linux fs/read_write.c:readv */
export function sysReadv(task: TaskContext, fd: number, ranges: number, count: number): number {
  const file = task.files.get(int32(fd));
  if (file === undefined || file.flags & O_PATH) return -Errno.EBADF;
  const moved = readRangesAt(task, file, ranges, count, file.position);
  if (moved > 0) file.position += moved;
  return moved;
}

/** Writes several ranges at the file's position. @returns bytes, or -errno: EBADF, EINVAL, EFAULT @linux fs/read_write.c:writev */
export function sysWritev(task: TaskContext, fd: number, ranges: number, count: number): number {
  const file = task.files.get(int32(fd));
  if (file === undefined || file.flags & O_PATH) return -Errno.EBADF;
  const position = file.flags & O_APPEND ? Math.max(0, file.size()) : file.position;
  const moved = writeRangesAt(task, file, ranges, count, position);
  if (moved > 0) file.position = position + moved;
  return moved;
}

/** As `readv`, at `offset`. @returns bytes, or -errno: EINVAL, EBADF, ESPIPE, EFAULT @linux fs/read_write.c:preadv */
export function sysPreadv(task: TaskContext, fd: number, ranges: number, count: number, offset: number): number {
  const file = positioned(task, fd, offset);
  return typeof file === 'number' ? file : readRangesAt(task, file, ranges, count, offset);
}

/** As `writev`, at `offset`. @returns bytes, or -errno: EINVAL, EBADF, ESPIPE, EFAULT @linux fs/read_write.c:pwritev */
export function sysPwritev(task: TaskContext, fd: number, ranges: number, count: number, offset: number): number {
  const file = positioned(task, fd, offset);
  return typeof file === 'number' ? file : writeRangesAt(task, file, ranges, count, offset);
}

function positioned(task: TaskContext, fd: number, offset: number): OpenFile | number {
  if (offset < 0) return -Errno.EINVAL;
  const file = task.files.get(int32(fd));
  if (file === undefined || file.flags & O_PATH) return -Errno.EBADF;
  return hasOffsets(file) ? file : -Errno.ESPIPE;
}

function readRangesAt(task: TaskContext, file: OpenFile, ranges: number, count: number, position: number): number {
  if ((file.flags & O_ACCMODE) === O_WRONLY) return -Errno.EBADF;
  if (file.transfers === false) return -Errno.EINVAL;
  if (file.readToRanges !== undefined) {
    const given = importRanges(task, ranges, count);
    if (typeof given === 'number') return given;
    const length = totalLength(given);
    if (length === 0) return 0;
    return isInReach(file, position, length) ? file.readToRanges(task, position, given, length) : -Errno.EINVAL;
  }
  return eachRange(task, ranges, count, position, (at, base, length) => readFrom(task, file, base, length, at));
}

function writeRangesAt(task: TaskContext, file: OpenFile, ranges: number, count: number, position: number): number {
  if ((file.flags & O_ACCMODE) === O_RDONLY) return -Errno.EBADF;
  if (file.transfers === false) return -Errno.EINVAL;
  if (file.writeFromRanges !== undefined) {
    const given = importRanges(task, ranges, count);
    if (typeof given === 'number') return given;
    const length = totalLength(given);
    if (length === 0) return 0;
    return isInReach(file, position, length) ? file.writeFromRanges(task, position, given, length) : -Errno.EINVAL;
  }
  return eachRange(task, ranges, count, position, (at, base, length) => writeTo(task, file, base, length, at));
}

function totalLength(ranges: readonly Range[]): number {
  let length = 0;
  for (const range of ranges) length += range.length;
  return length;
}

/** Moves one range after the other, until one of them is not moved whole. @linux fs/read_write.c:do_loop_readv_writev */
function eachRange(
  task: TaskContext,
  addr: number,
  count: number,
  position: number,
  move: (position: number, base: number, length: number) => number,
): number {
  const ranges = importRanges(task, addr, count);
  if (typeof ranges === 'number') return ranges;
  let done = 0;
  for (const { base, length } of ranges) {
    if (length === 0) continue;
    const moved = move(position + done, base, length);
    if (moved < 0) return done > 0 ? done : moved;
    done += moved;
    if (moved < length) break;
  }
  return done;
}
