/**
 * Laying out a program in an empty address space.
 *
 * From below: the program's segments from where it was linked, the heap right behind them, and from the top the stack;
 * under the room that the stack may grow into, the mapping area, which the kernel's own pages ([vvar], [vdso]) open.
 */
import { Errno, PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { VM_DATA_DEFAULT_FLAGS, doBrkFlags } from './brk.ts';
import type { VmFile } from './file.ts';
import { vmStatAccount } from './limits.ts';
import { mmapRegion } from './mmap.ts';
import type { MmStruct } from './mm-struct.ts';
import { vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { pageAlign, pageAlignDown } from './page-align.ts';
import { filePut } from './open-file.ts';
import { TASK_SIZE_32, TASK_SIZE_COMPAT } from './pgtable-shape.ts';
import { shmemFileSetup } from './shmem.ts';
import { getUnmappedArea, mmapBase, mmapLegacyBase } from './unmapped-area.ts';
import { vmAreaAlloc, vmaLink, vmaReserve } from './vma-tree.ts';
import {
  VM_ACCOUNT,
  VM_DONTDUMP,
  VM_DONTEXPAND,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_IO,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYWRITE,
  VM_PFNMAP,
  VM_READ,
} from './vma.ts';

/** One loadable part of a program, as an ELF program header says it. */
export interface ProgramSegment {
  /** First address and offset in the file: multiples of the page size. */
  readonly start: VirtAddr;
  readonly offset: number;
  /** Bytes of the file that it shows. */
  readonly fileBytes: number;
  /** Bytes in memory; what is beyond `fileBytes` starts as zero. */
  readonly memoryBytes: number;
  /** PROT_ bits. */
  readonly prot: number;
}

/** A program, as far as its address space is concerned. */
export interface ProgramImage {
  /** As `/proc/PID/maps` names it. */
  readonly path: string;
  /** In ascending order. */
  readonly segments: readonly ProgramSegment[];
  /** Its addresses count from where it is loaded, which is chosen then. */
  readonly pie?: boolean;
}

const KIB = 1024;

/**
 * A small static program: code, constants, data with zeroed memory behind it, and a page of constants at the end, so
 * that the heap has no writable neighbour.
 */
export const DEFAULT_PROGRAM: ProgramImage = {
  path: '/bin/program',
  segments: [
    { start: 0x40_0000, offset: 0, fileBytes: 32 * KIB, memoryBytes: 32 * KIB, prot: PROT_READ | PROT_EXEC },
    { start: 0x40_8000, offset: 32 * KIB, fileBytes: 8 * KIB, memoryBytes: 8 * KIB, prot: PROT_READ },
    { start: 0x40_a000, offset: 40 * KIB, fileBytes: 4 * KIB, memoryBytes: 20 * KIB, prot: PROT_READ | PROT_WRITE },
    { start: 0x40_f000, offset: 44 * KIB, fileBytes: 4 * KIB, memoryBytes: 4 * KIB, prot: PROT_READ },
  ],
};

/** Pages of a new stack: what the arguments need, and 128 KiB to start with. @linux fs/exec.c:setup_arg_pages */
const STACK_PAGES = 33;
/** Where the stack pointer starts, below the top: room for arguments, environment and auxiliary vector. */
const STACK_ARGUMENT_BYTES = 0x400;

/** Where a position-independent program of 32 bits begins; how far above a third of its addresses, under a kernel of 64. */
const PIE_START_32 = 0x40_0000;
const PIE_GAP_COMPAT = 0x100_0000;

const VVAR_PAGES = 4;
const VVAR_CLOCK_PAGES = 2;
const VDSO_PAGES = 2;

/** How an address space is laid out, where not as usual. */
export interface LayoutOptions {
  /** A program of 32 bits, under a kernel of 64: it has almost 4 GiB. */
  readonly compat?: boolean;
  /** With `compat`: it has 3 GiB, as under a kernel of 32 bits. @linux include/uapi/linux/personality.h:ADDR_LIMIT_3GB */
  readonly limit3GB?: boolean;
  /** Mappings are placed upwards from a third of the range, as before Linux 2.6. */
  readonly legacy?: boolean;
  /** Draws whole numbers: stack, mapping area and, where asked for, heap are displaced by them. */
  readonly random?: LayoutRandom;
}

/** Where the chance in a layout comes from. */
export interface LayoutRandom {
  /** A whole number from 0 to `bound - 1`; `bound` is a power of 2 up to 2^28. */
  below(bound: number): number;
  /** Whether the heap is displaced as well. */
  readonly heap: boolean;
}

/** Bytes that the stack pointer may lie lower than that. @linux arch/x86/kernel/process.c:arch_align_stack */
const STACK_ALIGN_BYTES = 8192;
/** What chance has to choose from, in pages. */
interface RandomRange {
  /** How much lower the stack's top may lie. @linux arch/x86/include/asm/elf.h:__STACK_RND_MASK */
  readonly stack: number;
  /** What the mapping area may be displaced by. @linux arch/x86/Kconfig:ARCH_MMAP_RND_BITS */
  readonly mmap: number;
  /** How far behind the program the heap may begin. @linux arch/x86/kernel/process.c:arch_randomize_brk */
  readonly heap: number;
}

/** 16 GiB, 1 TiB, 1 GiB; where addresses have 32 bits 8 MiB, 1 MiB and 32 MiB. */
const RANDOM_64: RandomRange = { stack: 2 ** 22, mmap: 2 ** 28, heap: 2 ** 18 };
const RANDOM_32: RandomRange = { stack: 2 ** 11, mmap: 2 ** 8, heap: 2 ** 13 };

/**
 * Says where mappings go in an address space.
 *
 * @param legacy whether from a third of it upwards, and not below the stack downwards
 * @param displaced bytes that chance moves it by
 * @param stackRoom bytes that chance may move the stack by
 * @linux arch/x86/mm/mmap.c:arch_pick_mmap_layout
 */
export function pickMmapLayout(mm: MmStruct, legacy = false, displaced = 0, stackRoom = 0): void {
  mm.legacyLayout = legacy;
  mm.mmapLegacyBase = mmapLegacyBase(mm, displaced);
  mm.mmapBase = legacy ? mm.mmapLegacyBase : mmapBase(mm, displaced, stackRoom);
}

/**
 * Lays out a program in an empty address space.
 *
 * @returns 0; -ENOMEM with the address space to be thrown away
 * @linux fs/binfmt_elf.c:load_elf_binary
 */
export function execLayout(mm: MmStruct, image: ProgramImage = DEFAULT_PROGRAM, options: LayoutOptions = {}): number {
  const { random } = options;
  if (options.compat === true) {
    mm.taskSize = options.limit3GB === true ? TASK_SIZE_32 : TASK_SIZE_COMPAT;
    mm.is32Bit = true;
  }
  const range = mm.is32Bit ? RANDOM_32 : RANDOM_64;
  const displaced = (random?.below(range.mmap) ?? 0) * PAGE_SIZE;
  const stackRoom = random === undefined ? 0 : (range.stack - 1) * PAGE_SIZE;
  pickMmapLayout(mm, options.legacy ?? false, displaced, stackRoom);
  const bias = image.pie === true ? elfEtDynBase(mm, options.compat === true) + (random?.below(range.mmap) ?? 0) * PAGE_SIZE : 0;
  const err = setupStack(mm, random) || loadSegments(mm, image, bias) || mapKernelPages(mm);
  if (err === 0 && random?.heap === true) randomizeHeap(mm, random);
  return err;
}

/** Where a position-independent program goes that has a dynamic linker. @linux arch/x86/include/asm/elf.h:ELF_ET_DYN_BASE */
function elfEtDynBase(mm: MmStruct, compat: boolean): VirtAddr {
  if (compat) return mmapLegacyBase(mm, 0) + PIE_GAP_COMPAT;
  return mm.is32Bit ? PIE_START_32 : pageAlignDown(Math.floor(mm.taskSize / 3) * 2);
}

/** Leaves a page, and some more, between the program and its heap. @linux arch/x86/kernel/process.c:arch_randomize_brk */
function randomizeHeap(mm: MmStruct, random: LayoutRandom): void {
  mm.startBrk += (1 + random.below(mm.is32Bit ? RANDOM_32.heap : RANDOM_64.heap)) * PAGE_SIZE;
  mm.brk = mm.startBrk;
}

/** @linux fs/exec.c:setup_arg_pages */
function setupStack(mm: MmStruct, random: LayoutRandom | undefined): number {
  const end = mm.taskSize - (random?.below(mm.is32Bit ? RANDOM_32.stack : RANDOM_64.stack) ?? 0) * PAGE_SIZE;
  const start = end - STACK_PAGES * PAGE_SIZE;
  const flags = VM_DATA_DEFAULT_FLAGS | VM_GROWSDOWN | VM_ACCOUNT;
  mm.startStack = end - STACK_ARGUMENT_BYTES - Math.ceil((random?.below(STACK_ALIGN_BYTES) ?? 0) / 16) * 16;
  if (vmEnoughMemory(mm.vm, mm, STACK_PAGES) !== 0) return -Errno.ENOMEM;
  const err = mapSpecial(mm, start, STACK_PAGES, flags, '');
  if (err !== 0) vmUnacctMemory(mm.vm, STACK_PAGES);
  return err;
}

/** @linux fs/binfmt_elf.c:elf_load */
function loadSegments(mm: MmStruct, image: ProgramImage, bias: number): number {
  let fileBytes = 0;
  for (const segment of image.segments) fileBytes = Math.max(fileBytes, segment.offset + segment.fileBytes);
  const file = shmemFileSetup(mm.vm, image.path, fileBytes, false);
  if (typeof file === 'number') return file;
  let err = 0;
  let end = 0;
  for (const segment of image.segments) {
    err ||= loadSegment(mm, file, segment, bias);
    end = pageAlign(bias + segment.start + segment.memoryBytes);
  }
  filePut(mm.vm, file);
  mm.startBrk = end;
  mm.brk = end;
  return err;
}

function loadSegment(mm: MmStruct, file: VmFile, segment: ProgramSegment, bias: number): number {
  const { offset, memoryBytes, prot } = segment;
  const start = bias + segment.start;
  const shown = pageAlign(segment.fileBytes);
  const zeroed = pageAlign(memoryBytes) - shown;
  const flags = prot | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
  if (shown > 0) {
    const err = mmapRegion(mm, file, null, start, shown, flags, false, offset / PAGE_SIZE, false);
    if (err !== 0) return err;
  }
  if (zeroed > 0) {
    const err = doBrkFlags(mm, undefined, start + shown, zeroed, prot & VM_EXEC);
    if (err !== 0) return err;
  }
  if ((prot & PROT_EXEC) !== 0) {
    if (mm.startCode === 0) mm.startCode = start;
    mm.endCode = start + segment.fileBytes;
  } else if ((prot & PROT_WRITE) !== 0) {
    mm.startData = start;
    mm.endData = start + segment.fileBytes;
  }
  return 0;
}

/**
 * The pages that the kernel shows every program: data of its clocks, and code that reads them.
 *
 * @linux arch/x86/entry/vdso/vma.c:map_vdso
 */
function mapKernelPages(mm: MmStruct): number {
  const nrPages = VVAR_PAGES + VVAR_CLOCK_PAGES + VDSO_PAGES;
  const vvar = getUnmappedArea(mm, null, 0, nrPages * PAGE_SIZE, 0, 0);
  if (vvar < 0) return vvar;
  const clock = vvar + VVAR_PAGES * PAGE_SIZE;
  const vdso = clock + VVAR_CLOCK_PAGES * PAGE_SIZE;
  const dataFlags = VM_READ | VM_MAYREAD | VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP;
  const codeFlags = VM_READ | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_DONTEXPAND;
  return (
    mapSpecial(mm, vvar, VVAR_PAGES, dataFlags, '[vvar]') ||
    mapSpecial(mm, clock, VVAR_CLOCK_PAGES, dataFlags, '[vvar_vclock]') ||
    mapSpecial(mm, vdso, VDSO_PAGES, codeFlags, '[vdso]')
  );
}

/** Makes a mapping of the kernel's own at a free place. @linux mm/vma.c:_install_special_mapping */
function mapSpecial(mm: MmStruct, start: VirtAddr, nrPages: number, flags: number, name: string): number {
  if (vmaReserve(mm, 1) !== 0) return -Errno.ENOMEM;
  const vma = vmAreaAlloc(mm, start, start + nrPages * PAGE_SIZE, flags, name === '' ? start / PAGE_SIZE : 0);
  if (vma === null) return -Errno.ENOMEM;
  vma.name = name;
  vmaLink(vma);
  vmStatAccount(mm, flags, nrPages);
  return 0;
}
