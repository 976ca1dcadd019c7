/**
 * From a recording to the machine it was made on.
 */
import type { MachineConfigInput } from '@pagelab/kernel';
import { firmwareMemoryMap } from '@pagelab/kernel/layout';
import type { MemoryRange } from '@pagelab/kernel/layout';
import { parseList } from './proc-text.ts';
import type { Recording } from './recording.ts';

/** Architectures of recorded machines. Of arm64 only the zones are compared: those of a machine that is x86 otherwise. */
export type RecordedArchitecture = 'x86-64' | 'x86-pae' | 'x86-32' | 'arm64';

const ARCHITECTURES: Readonly<Record<string, RecordedArchitecture>> = {
  x86_64: 'x86-64',
  'i386 (PAE)': 'x86-pae',
  i386: 'x86-32',
  arm64: 'arm64',
};

/** Words of the command line that shape memory; the others do not change what is compared. */
const WORDS = /^(mem|memmap|kernelcore|movablecore|numa|vmalloc|transparent_hugepage|hugepages|sl[au]b_(?:nomerge|debug|max_order|min_order|min_objects))(=|$)/;
/** Beside those, what kernels have that are built with CMA. */
const CMA_WORD = /^cma(=|$)/;
const MOST_CPUS = 64;
/** Where memory of QEMU's machine `virt` begins. */
const VIRT_BASE = 2 ** 30;

/** The architecture of a recording's machine; `undefined` where there is none like it here. */
export function architectureOf(recording: Recording): RecordedArchitecture | undefined {
  return Object.hasOwn(ARCHITECTURES, recording.config.arch) ? ARCHITECTURES[recording.config.arch] : undefined;
}

/** The kernel whose rules a release follows: the newest known that is not newer. */
export function kernelOf(recording: Recording): '6.1' | '6.12' | '6.18' {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(recording.config.kernel) ?? [];
  const release = Number(major) * 1000 + Number(minor);
  // What changed between 6.1 and 6.12 did so from 6.5 to 6.8.
  if (release >= 6018) return '6.18';
  return release >= 6008 ? '6.12' : '6.1';
}

/** CPUs there could be, as the kernel says. */
export function possibleCpusOf({ config, text }: Recording): number {
  const said = /nr_cpu_ids:(\d+)/.exec(text('dmesg.txt'))?.[1] ?? /maxcpus=(\d+)/.exec(config.qemu ?? '')?.[1];
  return Math.min(MOST_CPUS, Math.max(config.cpus, Number(said ?? config.cpus)));
}

/** The firmware's memory map as the kernel printed it. */
function e820Of(recording: Recording): MemoryRange[] {
  const ranges = [...recording.text('dmesg.txt').matchAll(/BIOS-e820: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] (\w+)/g)];
  return ranges.map(([, start, end, type]) => ({
    start: parseInt(start!, 16),
    end: parseInt(end!, 16) + 1,
    type: type === 'usable' ? 'usable' : 'reserved',
  }));
}

/** The memory of an arm64 machine, as `/proc/iomem` has it, or from where QEMU puts it. */
function armMemoryOf({ config, text }: Recording): MemoryRange[] {
  const ranges = [...text('iomem.txt').matchAll(/^([0-9a-f]+)-([0-9a-f]+) : System RAM$/gm)].map(([, start, end]) => ({
    start: parseInt(start!, 16),
    end: parseInt(end!, 16) + 1,
    type: 'usable' as const,
  }));
  return ranges.length > 0 ? ranges : [{ start: VIRT_BASE, end: VIRT_BASE + config.memory_mib * 2 ** 20, type: 'usable' }];
}

/** What a kernel was built with and says nothing of: distributions have huge pages for all who could use them. */
function builtIn({ config, text }: Recording): string[] {
  const mode = config.kind === 'host' ? /^enabled = .*\[(\w+)\]/m.exec(text('thp.txt'))?.[1] : 'always';
  return mode === undefined ? [] : [`transparent_hugepage=${mode}`];
}

/** The configuration of the machine that a recording was made on. */
export function machineOf(recording: Recording): MachineConfigInput {
  const { config } = recording;
  const board = /-machine q35/.test(config.qemu ?? '') ? 'q35' : 'pc';
  const memory = config.memory_mib * 2 ** 20;
  const nodes = [...config.numa].sort((a, b) => a.node - b.node);
  const distances: number[][] = nodes.map((_, from) => nodes.map((__, to) => (from === to ? 10 : 20)));
  for (const [a, b, distance] of config.numa_distances) {
    distances[a]![b] = distance;
    distances[b]![a] = distance;
  }
  const arch = architectureOf(recording) ?? 'x86-64';
  const isArm = arch === 'arm64';
  const e820 = isArm ? armMemoryOf(recording) : e820Of(recording);
  const usable = (map: readonly MemoryRange[]): string => JSON.stringify(map.filter(({ type }) => type === 'usable'));
  // Disks, memory to be plugged in later and other firmware make another map than the board's own.
  const own = !isArm && config.qemu !== undefined && (e820.length === 0 || usable(e820) === usable(firmwareMemoryMap(board, memory)));
  return {
    arch: isArm ? 'x86-64' : arch,
    kernel: kernelOf(recording),
    board,
    memory,
    cpus: config.cpus,
    possibleCpus: possibleCpusOf(recording),
    cmdline: [...builtIn(recording), ...config.cmdline.split(/\s+/).filter((word) => WORDS.test(word) || (isArm && CMA_WORD.test(word)))].join(' '),
    ...(own ? {} : { memoryMap: e820.map(({ start, end, type }) => ({ start, end, type })) }),
    ...(nodes.length === 0
      ? {}
      : { numa: nodes.map(({ memory_mib: mib, cpus }) => ({ memory: mib * 2 ** 20, cpus: parseList(cpus) })), distances }),
  };
}
