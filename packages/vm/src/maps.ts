/**
 * The list of mappings, as `/proc/PID/maps` shows it.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { MmStruct } from './mm-struct.ts';
import {
  VM_ACCOUNT,
  VM_DONTCOPY,
  VM_DONTDUMP,
  VM_DONTEXPAND,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_HUGEPAGE,
  VM_HUGETLB,
  VM_IO,
  VM_LOCKED,
  VM_LOCKONFAULT,
  VM_MAYBE_GUARD,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_MERGEABLE,
  VM_MIXEDMAP,
  VM_NOHUGEPAGE,
  VM_NORESERVE,
  VM_PFNMAP,
  VM_RAND_READ,
  VM_READ,
  VM_SEALED,
  VM_SEQ_READ,
  VM_SHARED,
  VM_SYNC,
  VM_UFFD_MISSING,
  VM_UFFD_WP,
  VM_WIPEONFORK,
  VM_WRITE,
} from './vma.ts';
import type { VmArea } from './vma.ts';

/** One line of `/proc/PID/maps`. */
export interface MapsLine {
  readonly start: VirtAddr;
  readonly end: VirtAddr;
  /** Four letters: `r` `w` `x`, and `s` for shared or `p` for private; `-` for what is not allowed. */
  readonly perms: string;
  /** Offset in the file, in bytes; 0 without a file. */
  readonly offset: number;
  /** Device as `major:minor`, two hexadecimal digits each. */
  readonly dev: string;
  readonly ino: number;
  /** The file's path, a name of the kernel's such as `[heap]`, or `''`. */
  readonly name: string;
}

const NO_DEV = '00:00';

/** Returns the lines of `/proc/PID/maps`, in ascending order. @linux fs/proc/task_mmu.c:show_map_vma */
export function mapsLines(mm: MmStruct): MapsLine[] {
  const lines: MapsLine[] = [];
  for (const vma of mm.vmas) lines.push(mapsLine(vma));
  return lines;
}

/** Returns the line of one mapping. */
export function mapsLine(vma: VmArea): MapsLine {
  const { file, zeroFile } = vma;
  return {
    start: vma.start,
    end: vma.end,
    perms: vmaPerms(vma),
    offset: file === null && zeroFile === null ? 0 : vma.pgoff * PAGE_SIZE,
    dev: file !== null ? file.inode.mapping.ops.dev : (zeroFile?.dev ?? NO_DEV),
    ino: file !== null ? file.inode.ino : (zeroFile?.ino ?? 0),
    name: vmaName(vma),
  };
}

/** The rights of a mapping as four letters. */
function vmaPerms({ flags }: VmArea): string {
  return (
    ((flags & VM_READ) !== 0 ? 'r' : '-') +
    ((flags & VM_WRITE) !== 0 ? 'w' : '-') +
    ((flags & VM_EXEC) !== 0 ? 'x' : '-') +
    ((flags & VM_MAYSHARE) !== 0 ? 's' : 'p')
  );
}

/**
 * What a mapping is called: by its file, else by what the kernel uses it for. Of a stack that was cut up, the part that
 * holds the first stack pointer keeps the name.
 *
 * @linux fs/proc/task_mmu.c:get_vma_name
 */
export function vmaName(vma: VmArea): string {
  const { mm } = vma;
  if (vma.file !== null) return vma.file.path;
  if (vma.zeroFile !== null) return vma.zeroFile.path;
  if (vma.name !== '') return vma.name;
  if (vma.start < mm.brk && vma.end > mm.startBrk) return '[heap]';
  if (vma.start <= mm.startStack && vma.end >= mm.startStack) return '[stack]';
  return '';
}

/** The two-letter names of `/proc/PID/smaps`, by ascending bit. @linux fs/proc/task_mmu.c:show_smap_vma_flags */
const FLAG_NAMES: readonly (readonly [flag: number, name: string])[] = [
  [VM_READ, 'rd'],
  [VM_WRITE, 'wr'],
  [VM_EXEC, 'ex'],
  [VM_SHARED, 'sh'],
  [VM_MAYREAD, 'mr'],
  [VM_MAYWRITE, 'mw'],
  [VM_MAYEXEC, 'me'],
  [VM_MAYSHARE, 'ms'],
  [VM_GROWSDOWN, 'gd'],
  [VM_UFFD_MISSING, 'um'],
  [VM_PFNMAP, 'pf'],
  [VM_MAYBE_GUARD, 'gu'],
  [VM_UFFD_WP, 'uw'],
  [VM_LOCKED, 'lo'],
  [VM_IO, 'io'],
  [VM_SEQ_READ, 'sr'],
  [VM_RAND_READ, 'rr'],
  [VM_DONTCOPY, 'dc'],
  [VM_DONTEXPAND, 'de'],
  [VM_LOCKONFAULT, 'lf'],
  [VM_ACCOUNT, 'ac'],
  [VM_NORESERVE, 'nr'],
  [VM_HUGETLB, 'ht'],
  [VM_SYNC, 'sf'],
  [VM_WIPEONFORK, 'wf'],
  [VM_DONTDUMP, 'dd'],
  [VM_MIXEDMAP, 'mm'],
  [VM_HUGEPAGE, 'hg'],
  [VM_NOHUGEPAGE, 'nh'],
  [VM_MERGEABLE, 'mg'],
];

/** The names of a mapping's flags, as the VmFlags line of `/proc/PID/smaps` lists them. */
export function vmFlagsNames(vma: VmArea): string[] {
  const names: string[] = [];
  for (const [flag, name] of FLAG_NAMES) {
    if ((vma.flags & flag) !== 0) names.push(name);
  }
  if (vma.droppable) names.push('dp');
  if (vma.uffdMinor) names.push('ui');
  if ((vma.flags & VM_SEALED) !== 0) names.push('sl');
  return names;
}
