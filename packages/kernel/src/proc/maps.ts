import { VM_HUGETLB, mapsLine, smapsOf, thpEligible, vmFlagsNames } from '@pagelab/vm';
import type { MmStruct, SmapsSizes, VmArea } from '@pagelab/vm';
import { hexAddress, kbLine } from './proc-file.ts';

/** Column at which a mapping's name begins: the kernel's own addresses have 8 digits more or less. @linux fs/proc/task_mmu.c:show_vma_header_prefix */
function nameColumn({ vm }: MmStruct): number {
  return vm.tables.format.addressBits === 32 ? 49 : 73;
}

const PAGE_KIB = 4;
const HUGE_KIB = 2048;

/** `/proc/PID/maps`. @linux fs/proc/task_mmu.c:show_map_vma */
export function maps(mm: MmStruct): string {
  let text = '';
  for (const vma of mm.vmas) text += header(vma);
  return text;
}

/** `/proc/PID/smaps`. @linux fs/proc/task_mmu.c:show_smap */
export function smaps(mm: MmStruct): string {
  let text = '';
  for (const vma of mm.vmas) {
    const sizes = smapsOf(vma);
    const pageKib = (vma.flags & VM_HUGETLB) !== 0 ? HUGE_KIB : PAGE_KIB;
    text += header(vma) + kb('Size', sizes.size) + kbLine('KernelPageSize', pageKib, 16, 8) + kbLine('MMUPageSize', pageKib, 16, 8);
    text += pageSizes(sizes, false);
    text += `${'THPeligible:'.padEnd(16)}${(thpEligible(vma) ? '1' : '0').padStart(8)}\nVmFlags: ${vmFlagsNames(vma).map((name) => `${name} `).join('')}\n`;
  }
  return text;
}

/** `/proc/PID/smaps_rollup`: the sums over all mappings. @linux fs/proc/task_mmu.c:show_smaps_rollup */
export function smapsRollup(mm: MmStruct): string {
  const sum = new Map<keyof SmapsSizes, number>();
  let first = 0;
  let last = 0;
  for (const vma of mm.vmas) {
    if (last === 0) first = vma.start;
    last = vma.end;
    const sizes = smapsOf(vma);
    for (const key of Object.keys(sizes) as (keyof SmapsSizes)[]) sum.set(key, (sum.get(key) ?? 0) + sizes[key]);
  }
  if (last === 0) return '';
  return prefix(first, last, '---p', 0, '00:00', 0).padEnd(nameColumn(mm)) + '[rollup]\n' + pageSizes(Object.fromEntries(sum) as unknown as SmapsSizes, true);
}

function header(vma: VmArea): string {
  const { start, end, perms, offset, dev, ino, name } = mapsLine(vma);
  const text = prefix(start, end, perms, offset, dev, ino);
  return name === '' ? `${text}\n` : `${text.padEnd(nameColumn(vma.mm))}${name}\n`;
}

function prefix(start: number, end: number, perms: string, offset: number, dev: string, ino: number): string {
  const hex = (value: number): string => hexAddress(value).padStart(8, '0');
  return `${hex(start)}-${hex(end)} ${perms} ${hex(offset)} ${dev} ${ino} `;
}

/** @linux fs/proc/task_mmu.c:__show_smap */
function pageSizes(sizes: SmapsSizes, rollup: boolean): string {
  return (
    kb('Rss', sizes.rss) +
    kb('Pss', sizes.pss) +
    kb('Pss_Dirty', sizes.pssDirty) +
    (rollup ? kb('Pss_Anon', sizes.pssAnon) + kb('Pss_File', sizes.pssFile) + kb('Pss_Shmem', sizes.pssShmem) : '') +
    kb('Shared_Clean', sizes.sharedClean) +
    kb('Shared_Dirty', sizes.sharedDirty) +
    kb('Private_Clean', sizes.privateClean) +
    kb('Private_Dirty', sizes.privateDirty) +
    kb('Referenced', sizes.referenced) +
    kb('Anonymous', sizes.anonymous) +
    kb('KSM', sizes.ksm) +
    kb('LazyFree', 0) +
    kb('AnonHugePages', sizes.anonHugePages) +
    kb('ShmemPmdMapped', sizes.shmemPmdMapped) +
    kb('FilePmdMapped', sizes.filePmdMapped) +
    kb('Shared_Hugetlb', sizes.sharedHugetlb) +
    kb('Private_Hugetlb', sizes.privateHugetlb) +
    kb('Swap', sizes.swap) +
    kb('SwapPss', sizes.swapPss) +
    kb('Locked', sizes.locked)
  );
}

function kb(name: string, bytes: number): string {
  return kbLine(name, Math.floor(bytes / 1024), 16, 8);
}
