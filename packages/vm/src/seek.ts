/**
 * Finding data and holes in files.
 *
 * @linux mm/filemap.c:mapping_seek_hole_data, fs/iomap/seek.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { Inode } from './file.ts';

/**
 * The first byte from `offset` on that is data, or that is in a hole: the end of the file is one.
 *
 * @returns its offset; −ENXIO at and beyond the end of the file, and where no data follows
 */
export function seekHoleData(inode: Inode, offset: number, data: boolean): number {
  const { size, mapping } = inode;
  if (offset < 0 || offset >= size) return -Errno.ENXIO;
  const { ops } = mapping;
  const first = Math.floor(offset / PAGE_SIZE);
  const behind = Math.ceil(size / PAGE_SIZE);
  if (data) {
    const found = ops.nextData(inode, first);
    return found < 0 || found >= behind ? -Errno.ENXIO : Math.max(offset, found * PAGE_SIZE);
  }
  let pgoff = first;
  while (pgoff < behind && ops.nextData(inode, pgoff) === pgoff) pgoff++;
  return Math.min(size, Math.max(offset, pgoff * PAGE_SIZE));
}
