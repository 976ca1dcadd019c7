import { Errno } from '@pagelab/abi';
import { CLEAR_REFS_ALL, CLEAR_REFS_MM_HIWATER_RSS, clearRefs } from '@pagelab/vm';
import type { MmStruct } from '@pagelab/vm';

/**
 * `/proc/PID/clear_refs`: a number says what to forget.
 *
 * @returns how many bytes it took, or -EINVAL
 * @linux fs/proc/task_mmu.c:clear_refs_write
 */
export function writeClearRefs(mm: MmStruct | null, text: string): number {
  const word = text.trim();
  if (!/^[+-]?(0x[0-9a-f]+|\d+)$/i.test(word)) return -Errno.EINVAL;
  const kind = Number(word);
  if (!(kind >= CLEAR_REFS_ALL && kind <= CLEAR_REFS_MM_HIWATER_RSS)) return -Errno.EINVAL;
  if (mm !== null) clearRefs(mm, kind);
  return text.length;
}
