import { CAP_SYS_ADMIN, Errno, PAGE_SIZE } from '@pagelab/abi';
import { pagemapEntry } from '@pagelab/vm';
import type { MmStruct } from '@pagelab/vm';
import type { Task } from '../task.ts';

const ENTRY_BYTES = 8;
/** The flags of an entry's high word; below them are bits of the frame's number. */
const FLAGS_HI = 0xff80_0000 | 0;

/**
 * `/proc/PID/pagemap`: 64 bits a page, by address. The frame's number is shown to whoever has CAP_SYS_ADMIN.
 *
 * @linux fs/proc/task_mmu.c:pagemap_read
 */
export function pagemap(mm: MmStruct | null, position: number, length: number, reader: Task | null): Uint8Array | number {
  if (mm === null) return new Uint8Array(0);
  if (position % ENTRY_BYTES !== 0 || length % ENTRY_BYTES !== 0) return -Errno.EINVAL;
  const first = position / ENTRY_BYTES;
  const pages = Math.max(0, Math.min(length / ENTRY_BYTES, mm.taskSize / PAGE_SIZE - first));
  const showFrames = reader === null || reader.capable(CAP_SYS_ADMIN);
  const bytes = new Uint8Array(pages * ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < pages; i++) {
    const { lo, hi } = pagemapEntry(mm, (first + i) * PAGE_SIZE);
    view.setInt32(i * ENTRY_BYTES, showFrames ? lo : 0, true);
    view.setInt32(i * ENTRY_BYTES + 4, showFrames ? hi : hi & FLAGS_HI, true);
  }
  return bytes;
}
