/**
 * Kernel memory beyond the slabs: what the kernel logs of per-CPU memory and of bounce buffers, and its areas of vmalloc as far
 * as both kernels have a function that makes them.
 */
import type { Machine } from '@pagelab/kernel';
import type { Checks } from './check.ts';
import type { Recording } from './recording.ts';

/** Says how a chunk of per-CPU memory is laid out: pages, static, reserved and dynamic bytes, bytes to the next unit. */
const PERCPU = /percpu: Embedded (.*)$/m;
/** Where bounce buffers are is by chance of the layout of memory; how large they are is not. */
const SWIOTLB = /software IO TLB: mapped \[mem (0x[0-9a-f]+)-(0x[0-9a-f]+)\] (\(\d+MB\))/;
/** Whose areas are as many as there are CPUs. */
const PER_CPU_AREAS: readonly string[] = ['irq_init_percpu_irqstack'];

/** Checks the log and, where it was recorded, `/proc/vmallocinfo`. */
export function checkKernelMemory(checks: Checks, recording: Recording, machine: Machine): void {
  const recorded = recording.text('dmesg.txt');
  const own = machine.dmesg();
  if (PERCPU.test(recorded)) checks.equal('per-CPU memory', 'percpu: Embedded', PERCPU.exec(recorded)![1], PERCPU.exec(own)?.[1]);
  const buffers = (log: string): string | undefined => {
    const match = SWIOTLB.exec(log);
    return match === null ? undefined : `${Number(match[2]) - Number(match[1])} bytes ${match[3]}`;
  };
  // Memory that may be plugged in later is none of the machine's: where it could lie above 4 GiB, buffers are made for it.
  const grows = /maxmem=/.test(recording.config.qemu ?? '');
  if (recorded.includes('percpu: Embedded') && !grows) checks.equal('bounce buffers', 'software IO TLB', buffers(recorded), buffers(own));
  const text = recording.text('vmallocinfo.txt');
  if (text !== '') checkAreas(checks, text, machine.readFile('/proc/vmallocinfo'));
}

/** A line of `/proc/vmallocinfo`: bytes, the function that asked, and what the area is. Numbers of nodes are by chance. */
const AREA = /^0x[0-9a-f]+-0x[0-9a-f]+ +(\d+) (\w+)(?:\+0x[0-9a-f]+\/0x[0-9a-f]+)?((?: (?!N\d)\S+)*)/gm;

/** Distinct shapes of areas, by who asked; and how many there are. */
function areas(text: string): Map<string, { readonly shapes: Set<string>; count: number }> {
  const found = new Map<string, { shapes: Set<string>; count: number }>();
  for (const [, bytes, caller, what] of text.matchAll(AREA)) {
    const of = found.get(caller!) ?? { shapes: new Set(), count: 0 };
    of.shapes.add(`${bytes}${what}`);
    of.count += 1;
    found.set(caller!, of);
  }
  return found;
}

function checkAreas(checks: Checks, recordedText: string, ownText: string): void {
  const recorded = areas(recordedText);
  const own = areas(ownText);
  for (const [caller, { shapes, count }] of own) {
    const there = recorded.get(caller);
    const list = (of: ReadonlySet<string>): string => [...of].sort().join(', ');
    checks.equal('vmallocinfo', `${caller}.areas`, there === undefined ? undefined : list(there.shapes), list(shapes));
    if (PER_CPU_AREAS.includes(caller)) checks.equal('vmallocinfo', `${caller}.count`, there?.count, count);
  }
}
