/** Zones, watermarks, protection and per-CPU lists as 45 boots of real kernels recorded them. */
import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '@pagelab/hw';
import { calculateNormalThreshold } from './watermark.ts';
import { X86_64_ZONES, x86Zones } from './zone-types.ts';
import type { ZoneLayout } from './zone-types.ts';
import type { Zone } from './zone.ts';
import { testMachine } from './testing/machine.ts';
import boots from './testdata/boots.json' with { type: 'json' };

const MIB = 0x100000;
const MIB_PAGES = 256;

type Boot = (typeof boots)[number] & {
  readonly possibleCpus?: number;
  readonly cmdline?: string;
  readonly nodes?: readonly { readonly memoryMib: number; readonly cpus: readonly number[] }[];
  readonly distances?: readonly (readonly number[])[];
  readonly fallback?: readonly (readonly number[])[];
};

/** What the recordings' command lines change that is not modelled here, or removes memory in a way of its own. */
const OTHER_MEMORY = /memmap=|crashkernel=|numa=fake/;
/** Where the README's formula for reserved pages is exact, or fits within a few pages. */
const PLAIN = (boot: Boot): boolean =>
  boot.arch === 'x86-64' && boot.nodes === undefined && boot.cmdline === undefined && !boot.id.includes('memhotplug');

function layoutOf(boot: Boot): ZoneLayout {
  if (boot.arch === 'x86-64') return X86_64_ZONES;
  const vmalloc = /vmalloc=(\d+)M/.exec(boot.cmdline ?? '');
  return x86Zones(boot.arch === 'x86-pae', vmalloc === null ? 0 : Number(vmalloc[1]) * MIB);
}

function bootIt(boot: Boot) {
  const ram = new PhysicalMemory(boot.usable.map(([start, end]) => ({ start, end, type: 'usable' as const })));
  const core = /(kernelcore|movablecore)=(\d+)([MG])/.exec(boot.cmdline ?? '');
  const corePages = core === null ? 0 : Number(core[2]) * (core[3] === 'G' ? 1024 : 1) * MIB_PAGES;
  return testMachine({
    ram,
    cpus: boot.cpus,
    kernel: boot.kernel as '6.1' | '6.12',
    layout: layoutOf(boot),
    transparentHugepage: !(boot.cmdline ?? '').includes('transparent_hugepage=never'),
    ...(boot.possibleCpus === undefined ? {} : { possibleCpus: boot.possibleCpus }),
    ...(boot.nodes === undefined ? {} : { nodes: boot.nodes.map(({ memoryMib, cpus }) => ({ memoryBytes: memoryMib * MIB, cpus })) }),
    ...(boot.distances === undefined ? {} : { distances: boot.distances }),
    ...(core?.[1] === 'kernelcore' ? { kernelcorePages: corePages } : {}),
    ...(core?.[1] === 'movablecore' ? { movablecorePages: corePages } : {}),
  }).pages;
}

/** A zone's row as the extract has it. */
function row(zone: Zone, boot: Boot, length: number): unknown[] {
  const { watermark } = zone;
  const pcp = zone.pcp[0];
  return [
    [...watermark].slice(0, length),
    [...zone.lowmemReserve],
    [pcp.batch, pcp.highMin, pcp.highMax],
    calculateNormalThreshold(boot.cpus, zone.managed),
  ];
}

describe('recorded boots', () => {
  const all = (boots as readonly Boot[]).filter(({ cmdline }) => !OTHER_MEMORY.test(cmdline ?? ''));

  it.each(all.map((boot) => [boot.id, boot] as const))('%s: zones', (_, boot) => {
    const pages = bootIt(boot);
    const zones = pages.zones.filter((zone) => zone.present > 0);
    expect(zones.map((zone) => [zone.nid, zone.name, zone.startPfn, zone.spanned, zone.present])).toEqual(
      boot.zones.map((zone) => zone.slice(0, 5)),
    );
    if (boot.fallback !== undefined) expect(pages.nodes.map((node) => node.fallbackOrder)).toEqual(boot.fallback);
    pages.validate();
  });

  it.each(all.filter(PLAIN).map((boot) => [boot.id, boot] as const))('%s: managed pages', (_, boot) => {
    const pages = bootIt(boot);
    const recorded = boot.zones.reduce((sum, zone) => sum + (zone[5] as number), 0);
    expect(Math.abs(pages.totalramPages - recorded)).toBeLessThanOrEqual(boot.kernel === '6.1' ? 9 : 45);
    expect(pages.zones[0].managed).toBe(3840);
  });

  const untouched = all.filter((boot) => PLAIN(boot) && boot.kernel === '6.1' && !/q35|16g|4g|1of8/.test(boot.id));
  it.each(untouched.map((boot) => [boot.id, boot] as const))('%s: as booted, every value', (_, boot) => {
    const zones = bootIt(boot).zones.filter((zone) => zone.present > 0);
    expect(zones.map(({ managed }) => managed)).toEqual(boot.zones.map((zone) => zone[5]));
    zones.forEach((zone, i) => expect([zone.name, ...row(zone, boot, 3)]).toEqual([zone.name, ...boot.states[0][i]]));
  });

  it.each(all.map((boot) => [boot.id, boot] as const))('%s: after each write to /proc/sys/vm', (_, boot) => {
    const pages = bootIt(boot);
    const { sysctl } = pages;
    const zones = pages.zones.filter((zone) => zone.present > 0);
    // What follows from the memory there is, given the memory there was.
    zones.forEach((zone, i) => (zone.managed = boot.zones[i][5] as number));
    const check = (state: number): void => {
      const want = boot.states[state];
      zones.forEach((zone, i) => {
        const recorded = want[i] as [number[], number[], number[], number];
        const got = row(zone, boot, recorded[0].length);
        const width = recorded[1].length;
        got[1] = (got[1] as number[]).slice(0, width);
        // 6.12 prints a size that moves.
        if (recorded[2][1] < 0) (got[2] as number[]).fill(-1, 1);
        expect([zone.name, state, ...got]).toEqual([zone.name, state, ...recorded]);
      });
    };
    const after = boot.minFreeAfter;
    // As booted it depends on where the image lay and when its last parts were freed.
    const exact = sysctl.minFreeKbytes === boot.minFreeKbytes;
    if (!exact) sysctl.setMinFreeKbytes(boot.minFreeKbytes);
    expect(exact || !PLAIN(boot)).toBe(true);
    sysctl.setLowmemReserveRatio(boot.ratio);
    sysctl.setWatermarkScaleFactor(10);
    check(1);
    sysctl.setWatermarkScaleFactor(200);
    check(2);
    sysctl.setWatermarkScaleFactor(10);
    sysctl.setPercpuPagelistHighFraction(8);
    check(3);
    sysctl.setPercpuPagelistHighFraction(0);
    sysctl.setLowmemReserveRatio(boot.ratio4);
    check(4);
    sysctl.setLowmemReserveRatio(boot.ratio);
    if (exact) sysctl.setTransparentHugepage(false);
    else sysctl.setMinFreeKbytes(after['5']);
    expect([5, sysctl.minFreeKbytes]).toEqual([5, after['5']]);
    check(5);
    if (exact) sysctl.setTransparentHugepage(true);
    else sysctl.setMinFreeKbytes(after['6']);
    expect([6, sysctl.minFreeKbytes]).toEqual([6, after['6']]);
    check(6);
    sysctl.setMinFreeKbytes(after['7']);
    check(7);
    sysctl.setMinFreeKbytes(after['8']);
    check(8);
  });
});
