import { Errno, PAGE_SIZE } from '@pagelab/abi';
import { FOLL_FORCE, FOLL_WRITE, expandStack, getUserPageFlags } from '@pagelab/vm';
import type { MmStruct } from '@pagelab/vm';

/**
 * Reads `/proc/PID/mem`: the process's memory by address, whatever it may itself do there.
 *
 * @returns the bytes before the first page that is not there; -EIO where that is the first
 * @linux fs/proc/base.c:mem_rw
 */
export function readMem(mm: MmStruct | null, position: number, length: number): Uint8Array | number {
  if (mm === null) return new Uint8Array(0);
  const bytes = new Uint8Array(length);
  const done = eachPage(mm, position, length, FOLL_FORCE, (host, at, run) => {
    bytes.set(mm.vm.ram.u8.subarray(host, host + run), at);
  });
  return done === 0 && length > 0 ? -Errno.EIO : bytes.subarray(0, done);
}

/** Writes to it: a private page that is read-only is copied first. */
export function writeMem(mm: MmStruct | null, position: number, bytes: Uint8Array): number {
  if (mm === null) return 0;
  const done = eachPage(mm, position, bytes.length, FOLL_FORCE | FOLL_WRITE, (host, at, run) => {
    mm.vm.ram.u8.set(bytes.subarray(at, at + run), host);
  });
  return done === 0 && bytes.length > 0 ? -Errno.EIO : done;
}

function eachPage(
  mm: MmStruct,
  position: number,
  length: number,
  flags: number,
  visit: (host: number, at: number, run: number) => void,
): number {
  let done = 0;
  while (done < length) {
    const addr = position + done;
    const offset = ((addr % PAGE_SIZE) + PAGE_SIZE) % PAGE_SIZE;
    const run = Math.min(length - done, PAGE_SIZE - offset);
    if (!isMapped(mm, addr - offset)) break;
    const pfn = getUserPageFlags(mm, addr - offset, flags);
    if (pfn < 0) break;
    visit(mm.vm.ram.frameWord(pfn) * 4 + offset, done, run);
    done += run;
  }
  return done;
}

/** Whether something is mapped at a page, or grows down to it now. @linux mm/memory.c:__access_remote_vm */
function isMapped(mm: MmStruct, page: number): boolean {
  const vma = page >= 0 && page < mm.taskSize ? mm.vmas.find(page) : undefined;
  return vma !== undefined && (vma.start <= page || expandStack(vma, page) === 0);
}
