/**
 * A recorded boot against a machine of the same shape: each value that follows from that shape is a check.
 */
import { ConfigError, parseMachineConfig } from '@pagelab/kernel';
import { bootShape } from '@pagelab/kernel/layout';
import type { MachineShape } from '@pagelab/kernel/layout';
import type { CaseResult } from '../conformance/run-case.ts';
import { Checks } from './check.ts';
import { checkKernelMemory } from './check-kernel-memory.ts';
import { checkMeminfo } from './check-meminfo.ts';
import { checkCma, checkLines, checkManaged, checkNodes, checkPageblocks, checkZones, ownZones } from './check-shape.ts';
import { checkSlabs } from './check-slab.ts';
import { checkAsBooted, checkResponses, checkRunning } from './check-watermarks.ts';
import { parseZoneinfo } from './proc-text.ts';
import { architectureOf, machineOf } from './recorded-machine.ts';
import type { Recording } from './recording.ts';
import { verifyLoad, whyNoLoad } from './verify-load.ts';
import type { LoadResult } from './verify-load.ts';

/** Why a recording cannot be compared; `null` where it can. */
export function whyNotComparable(recording: Recording): string | null {
  if (recording.config.kind === 'load') return whyNoLoad(recording);
  if (architectureOf(recording) === undefined) return `a recording of a machine of ${recording.config.arch}, not of x86 or arm64`;
  if (/hugepagesz=1G\b/.test(recording.config.cmdline)) return 'a recording of huge pages of 1 GiB, of which no machine here has a pool';
  return null;
}

/** Compares a recording, of a boot or of a load. Of a boot there are checks alone. */
export function verifyRecording(recording: Recording): LoadResult {
  return recording.config.kind === 'load' ? verifyLoad(recording) : { results: verifyBoot(recording), exacts: [], shapes: [] };
}

/** Boots the machine that a recording was made on and compares it. */
export function verifyBoot(recording: Recording): CaseResult[] {
  const checks = new Checks(recording.id);
  const zoneinfo = recording.text('zoneinfo.txt');
  const recorded = parseZoneinfo(zoneinfo);
  if (recorded.length === 0) {
    checks.add('zones', 'zoneinfo.txt', 'no zones in it');
    return checks.results;
  }
  const isArm = architectureOf(recording) === 'arm64';
  let shape: MachineShape;
  try {
    shape = bootShape(parseMachineConfig(machineOf(recording)), isArm ? 'arm64' : 'own');
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    checks.add('boot', 'the machine', `recorded as booted, here: ${error.message}`);
    return checks.results;
  }
  const booted = ownZones(shape);
  checkZones(checks, recorded, booted);
  if (!isArm) {
    checkManaged(checks, recording, recorded, booted);
    checkLines(checks, 'zoneinfo', zoneinfo, shape.machine.readFile('/proc/zoneinfo'));
  }
  checkCma(checks, recording, shape);
  const x86Files = isArm ? [] : ['vmstat'];
  const files = recording.config.kind === 'boot' ? [...x86Files, 'pagetypeinfo', 'buddyinfo'] : [];
  for (const file of files) checkLines(checks, file, recording.text(`${file}.txt`), shape.machine.readFile(`/proc/${file}`));
  checkPageblocks(checks, recording, shape);
  const missing = (file: string, what: string): boolean => {
    const isMissing = recording.text(file) === '';
    if (isMissing) checks.add('files', file, `it is not there: ${what} not compared`);
    return isMissing;
  };
  const withoutSettings = missing('sysctl-vm.txt', 'watermarks and what writes to them do are');
  const minFreeFollows = !withoutSettings && checkAsBooted(checks, recording, shape, recorded);
  checkNodes(checks, recording, shape, booted);
  checkMeminfo(checks, recording, shape, recorded);
  if (recording.config.kind === 'host') checkRunning(checks, recording, shape, recorded);
  if (!withoutSettings) checkResponses(checks, recording, shape, recorded, minFreeFollows);
  if (!isArm) {
    if (!missing('slab-sysfs.tsv', 'slab caches are')) checkSlabs(checks, recording, shape.machine);
    checkKernelMemory(checks, recording, shape.machine);
  }
  shape.machine.dispose();
  return checks.results;
}
