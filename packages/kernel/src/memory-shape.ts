/**
 * The shape of memory as the configuration and the command line have it: ranges, nodes, zones of the architecture, and how
 * much of it is to be movable.
 */
import { PAGE_SIZE, firmwareMemoryMap, wholeFrames } from '@pagelab/hw';
import type { MemoryRange } from '@pagelab/hw';
import { LOCAL_DISTANCE, X86_64_ZONES, x86Zones } from '@pagelab/mm-core';
import type { NodeConfig, ZoneLayout } from '@pagelab/mm-core';
import type { MemoryAmount, NumaWord } from './cmdline.ts';
import type { MachineConfig } from './config.ts';

const FOUR_GIB = 2 ** 32;
/** A fake node is a multiple of this. @linux mm/numa_emulation.c:FAKE_NODE_MIN_SIZE */
const FAKE_NODE_UNIT = 32 * 2 ** 20;

/** The memory map: the firmware's, less what the command line takes out of it. @linux arch/x86/kernel/e820.c:e820__memory_setup */
export function setupMemoryMap(config: MachineConfig): MemoryRange[] {
  const { mem, memmap = [], exactmap } = config.commandLine;
  let map: MemoryRange[] = exactmap === true ? [] : [...(config.memoryMap ?? firmwareMemoryMap(config.board, config.memory))];
  if (mem !== undefined) map = map.flatMap((range) => (range.type === 'usable' ? without(range, mem, Infinity) : [range]));
  for (const { start, bytes, usable } of memmap) if (usable === true) map = addUsable(map, start, start + bytes);
  for (const { start, bytes, usable } of memmap) {
    const end = start + bytes;
    if (usable !== true) map = map.flatMap((range) => (range.type === 'usable' ? cutOut(range, start, end) : [range]));
  }
  return map;
}

/** A map to which `[start, end)` is added as memory, as far as nothing else is there. @linux arch/x86/kernel/e820.c:e820__update_table */
function addUsable(map: readonly MemoryRange[], start: number, end: number): MemoryRange[] {
  const added = map.reduce<MemoryRange[]>(
    (parts, taken) => parts.flatMap((part) => without(part, taken.start, taken.end)),
    [{ start, end, type: 'usable' }],
  );
  return [...map, ...added].sort((a, b) => a.start - b.start);
}

/** What of a range is not in `[start, end)`. */
function without(range: MemoryRange, start: number, end: number): MemoryRange[] {
  return cutOut(range, start, end).filter(({ type }) => type === 'usable');
}

/** A usable range with `[start, end)` reserved. */
function cutOut(range: MemoryRange, start: number, end: number): MemoryRange[] {
  const from = Math.max(range.start, start);
  const to = Math.min(range.end, end);
  if (from >= to) return [range];
  const parts: MemoryRange[] = [
    { ...range, end: from },
    { start: from, end: to, type: 'reserved' },
    { ...range, start: to },
  ];
  return parts.filter((part) => part.start < part.end);
}

/** Nodes and the distances between them. */
export interface NodeTable {
  readonly nodes?: readonly NodeConfig[];
  readonly distances?: readonly (readonly number[])[];
}

/** The nodes of a machine; nothing where all memory is one. @linux arch/x86/mm/numa.c:x86_numa_init */
export function nodeTable(config: MachineConfig, map: readonly MemoryRange[]): NodeTable {
  const { numa: word } = config.commandLine;
  if (word?.kind === 'off') return {};
  if (config.numa !== undefined) {
    const nodes = config.numa.map(({ memory, cpus }) => ({ memoryBytes: memory, cpus }));
    return { nodes, ...(config.distances === undefined ? {} : { distances: config.distances }) };
  }
  if (word === undefined) return {};
  // Every fake node is as near as another, and each CPU is in all of them.
  const cpus = Array.from({ length: config.cpus }, (_, cpu) => cpu);
  const nodes = fakeNodes(word, map).map((memoryBytes) => ({ memoryBytes, cpus }));
  return { nodes, distances: nodes.map(() => nodes.map(() => LOCAL_DISTANCE)) };
}

/**
 * Cuts memory into fake nodes of whole units; what is too little for another node stays with the last.
 *
 * @returns bytes of each, without the hole below 4 GiB
 * @linux mm/numa_emulation.c:split_nodes_interleave
 */
function fakeNodes(word: Exclude<NumaWord, { kind: 'off' }>, map: readonly MemoryRange[]): number[] {
  const ranges = map.filter(({ type }) => type === 'usable').map(wholeFrames);
  const ram = (start: number, end: number): number =>
    ranges.reduce((bytes, { firstPfn, endPfn }) => {
      const from = Math.max(start, Math.max(1, firstPfn) * PAGE_SIZE);
      return bytes + Math.max(0, Math.min(end, endPfn * PAGE_SIZE) - from);
    }, 0);
  const limit = Math.max(...ranges.map(({ endPfn }) => endPfn)) * PAGE_SIZE;
  const floor = (bytes: number): number => Math.floor(bytes / FAKE_NODE_UNIT) * FAKE_NODE_UNIT;
  let size: number;
  let larger = 0;
  if (word.kind === 'fake-nodes') {
    const share = Math.floor(ram(0, limit) / PAGE_SIZE / word.nodes) * PAGE_SIZE;
    size = floor(share);
    // What rounding down left over makes the first nodes a unit larger.
    larger = Math.floor(((share - size) * word.nodes) / FAKE_NODE_UNIT);
  } else {
    size = floor(word.bytes);
  }
  if (size === 0) return [lowSpan(map, limit)];
  const ends: number[] = [];
  let start = 0;
  while (start < limit) {
    let end = start + size + (ends.length < larger ? FAKE_NODE_UNIT : 0);
    while (end < limit && ram(start, end) < size) end += FAKE_NODE_UNIT;
    // No scrap is left below 4 GiB, nor at the end.
    if (end < FOUR_GIB && ram(end, FOUR_GIB) < FAKE_NODE_UNIT) end = FOUR_GIB;
    if (end > limit || ram(end, limit) < size) end = limit;
    ends.push(end);
    start = end;
  }
  let before = 0;
  return ends.map((end, i) => {
    const upTo = i === ends.length - 1 ? lowSpan(map, Infinity) : lowSpan(map, end);
    const bytes = upTo - before;
    before = upTo;
    return bytes;
  });
}

/** Bytes below an address as a board counts them: RAM with what the firmware keeps of it, without the hole below 4 GiB. */
function lowSpan(map: readonly MemoryRange[], end: number): number {
  let lowEnd = 0;
  let highEnd = FOUR_GIB;
  for (const range of map) {
    if (range.start >= FOUR_GIB) {
      if (range.type === 'usable') highEnd = Math.max(highEnd, range.end);
    } else if (range.type === 'usable' || range.start === lowEnd) {
      lowEnd = range.end;
    }
  }
  if (end < FOUR_GIB) return Math.min(end, lowEnd);
  return lowEnd + Math.min(end, highEnd) - FOUR_GIB;
}

/** `kernelcore=` and `movablecore=` in pages. @linux mm/mm_init.c:find_zone_movable_pfns_for_nodes */
export function movablePages(
  config: MachineConfig,
  map: readonly MemoryRange[],
): { readonly kernelcorePages: number; readonly movablecorePages: number } {
  const { kernelcore, movablecore } = config.commandLine;
  const total = map
    .filter(({ type }) => type === 'usable')
    .map(wholeFrames)
    .reduce((pages, { firstPfn, endPfn }) => pages + Math.max(0, endPfn - Math.max(1, firstPfn)), 0);
  const pages = (amount: MemoryAmount | undefined): number => {
    if (amount === undefined) return 0;
    return 'bytes' in amount ? Math.floor(amount.bytes / PAGE_SIZE) : Math.floor((total * amount.percent) / 100);
  };
  // No memory is mirrored: a kernel that is to use mirrored memory alone is told that it cannot, and ignores movablecore= too.
  if (kernelcore === 'mirror') return { kernelcorePages: 0, movablecorePages: 0 };
  return { kernelcorePages: pages(kernelcore), movablecorePages: pages(movablecore) };
}

/** Zones of the machine's architecture. */
export function zoneLayout(config: MachineConfig): ZoneLayout {
  if (config.arch === 'x86-64') return X86_64_ZONES;
  return x86Zones(config.arch === 'x86-pae', config.commandLine.vmalloc ?? 0);
}
