/**
 * What the firmware tells the kernel of physical memory: the ranges of the BIOS's e820 map.
 *
 * The values are those that SeaBIOS reports under QEMU's boards `pc` (i440FX) and `q35`, as kernels booted there print
 * them. Sizes follow QEMU's `hw/i386/pc_piix.c` and `pc_q35.c`. The board has a 64-bit processor by AMD, as QEMU's `max`
 * is, and no disks: each pair of virtio disks takes three pages more for ACPI tables.
 */
import { PAGE_SIZE } from './page.ts';
import type { PhysAddr } from './page.ts';

/** Whether the kernel may use a range. */
export type MemoryType = 'usable' | 'reserved';

/** A range of physical addresses, `end` exclusive, in bytes. Not always page-aligned: the first usable range is not. */
export interface MemoryRange {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
  readonly type: MemoryType;
}

/** A mainboard whose firmware map is known. */
export type Board = 'pc' | 'q35';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const FOUR_GIB = 4 * GIB;

/** What of the first 640 KiB the BIOS leaves: the last KiB is its extended data area. */
const LOW_END = 0x9fc00;

/**
 * Where the address space of HyperTransport begins, which processors by AMD keep for themselves (12 GiB below 1 TiB).
 */
const HYPER_TRANSPORT_START = 0xfd00000000;
const HYPER_TRANSPORT_END = 0x10000000000;

interface BoardLayout {
  /** Memory of at least this size leaves a PCI hole that begins at `splitAt`. */
  readonly splitFrom: number;
  readonly splitAt: number;
  /** What the firmware keeps for its ACPI tables, at the end of the memory below 4 GiB. */
  readonly acpiBytes: number;
  /** Reserved ranges of the chipset. */
  readonly reserved: readonly (readonly [start: number, end: number])[];
}

const LAYOUTS: Readonly<Record<Board, BoardLayout>> = {
  pc: { splitFrom: 0xe0000000, splitAt: 0xc0000000, acpiBytes: 0x20000, reserved: [] },
  q35: {
    splitFrom: 0xb0000000,
    splitAt: 0x80000000,
    acpiBytes: 0x21000,
    reserved: [
      [0xb0000000, 0xc0000000],
      [0xfed1c000, 0xfed20000],
    ],
  },
};

/**
 * The firmware memory map of a board with `memoryBytes` of RAM, ascending.
 *
 * Memory that the PCI hole displaces lies from 4 GiB up. The range that HyperTransport reserves is listed as long as
 * memory ends below it; beyond (from 1,011 GiB) the board is one without it, and memory stays in one piece.
 *
 * @param memoryBytes a multiple of a page, at least 2 MiB
 * @throws RangeError for another size
 */
export function firmwareMemoryMap(board: Board, memoryBytes: number): MemoryRange[] {
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes < 2 * MIB || memoryBytes % PAGE_SIZE !== 0) {
    throw new RangeError(`memory must be a multiple of ${PAGE_SIZE} bytes and at least 2 MiB, not ${memoryBytes}`);
  }
  const layout = LAYOUTS[board];
  const lowEnd = memoryBytes >= layout.splitFrom ? layout.splitAt : memoryBytes;
  const map: MemoryRange[] = [
    { start: 0, end: LOW_END, type: 'usable' },
    { start: LOW_END, end: 0xa0000, type: 'reserved' },
    { start: 0xf0000, end: MIB, type: 'reserved' },
    { start: MIB, end: lowEnd - layout.acpiBytes, type: 'usable' },
    { start: lowEnd - layout.acpiBytes, end: lowEnd, type: 'reserved' },
  ];
  for (const [start, end] of layout.reserved) map.push({ start, end, type: 'reserved' });
  map.push({ start: 0xfffc0000, end: FOUR_GIB, type: 'reserved' });
  const highEnd = FOUR_GIB + memoryBytes - lowEnd;
  if (highEnd > FOUR_GIB) map.push({ start: FOUR_GIB, end: highEnd, type: 'usable' });
  if (highEnd <= HYPER_TRANSPORT_START) {
    map.push({ start: HYPER_TRANSPORT_START, end: HYPER_TRANSPORT_END, type: 'reserved' });
  }
  return map;
}

/** Whole frames of a range, rounded inwards: `[firstPfn, endPfn)`; empty where no whole frame lies inside. */
export function wholeFrames(range: MemoryRange): { readonly firstPfn: number; readonly endPfn: number } {
  const firstPfn = Math.ceil(range.start / PAGE_SIZE);
  return { firstPfn, endPfn: Math.max(firstPfn, Math.floor(range.end / PAGE_SIZE)) };
}

/**
 * Checks a memory map: ascending, not overlapping, at least one whole usable frame, all below 2^46.
 *
 * @throws RangeError naming the first range that is wrong
 */
export function checkMemoryMap(map: readonly MemoryRange[]): void {
  let previousEnd = 0;
  let frames = 0;
  for (const range of map) {
    const text = `memory map: range 0x${range.start.toString(16)}-0x${range.end.toString(16)}`;
    if (!Number.isSafeInteger(range.start) || !Number.isSafeInteger(range.end)) {
      throw new RangeError(`${text} is not whole bytes`);
    }
    if (range.end <= range.start) throw new RangeError(`${text} is empty`);
    if (range.start < previousEnd) throw new RangeError(`${text} overlaps or is out of order`);
    if (range.type === 'usable') {
      // A chunk number must fit a table index, and a page-table entry of x86-64 holds 46 bits here.
      if (range.end > 2 ** 43) throw new RangeError(`${text} reaches beyond 8 TiB`);
      const { firstPfn, endPfn } = wholeFrames(range);
      frames += endPfn - firstPfn;
    }
    previousEnd = range.end;
  }
  if (frames === 0) throw new RangeError('memory map: no usable frame');
}
