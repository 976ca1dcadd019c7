/**
 * A recorded load against a machine of the same shape that does the same: each value that follows is a check.
 */
import { ConfigError, boot, parseMachineConfig } from '@pagelab/kernel';
import { bootShape } from '@pagelab/kernel/layout';
import type { ManagedPages } from '@pagelab/kernel/layout';
import type { CaseResult } from '../conformance/run-case.ts';
import { Checks } from './check.ts';
import { checkMeminfo } from './check-meminfo.ts';
import { checkZones, ownZones } from './check-shape.ts';
import { checkLoadedZones } from './check-watermarks.ts';
import { LOADS } from './loads/index.ts';
import { LoadMismatch, LoadRun } from './loads/load-run.ts';
import type { ExactRow, Load, ShapeRow } from './loads/load-run.ts';
import { parseZoneinfo } from './proc-text.ts';
import type { ZoneRow } from './proc-text.ts';
import { architectureOf, machineOf } from './recorded-machine.ts';
import { recordingOf } from './recording.ts';
import type { Recording } from './recording.ts';

/** What came of a load. */
export interface LoadResult {
  readonly results: CaseResult[];
  /** Values that have to be the same, recorded and own. */
  readonly exacts: readonly ExactRow[];
  /** Figures that are alike in shape only, recorded and own. */
  readonly shapes: readonly ShapeRow[];
}

/** The load that a recording is of; `undefined` where there is none like it here. */
export function loadOf(recording: Recording): Load | undefined {
  const said = recording.config.load ?? /mmrec=(\w+)/.exec(recording.config.cmdline)?.[1] ?? '';
  return LOADS.find(({ name }) => name === said.replace(/\d+$/, ''));
}

/** Why a recording of a load cannot be compared; `null` where it can. */
export function whyNoLoad(recording: Recording): string | null {
  const architecture = architectureOf(recording);
  if (architecture === undefined || architecture === 'arm64') return `a recording of a machine of ${recording.config.arch}, not of x86`;
  if (loadOf(recording) === undefined) return `a recording of the load "${recording.config.load ?? ''}", which is not done here yet`;
  return null;
}

/** Names of a recording's stages, in order. */
function stagesOf(recording: Recording): string[] {
  return [...recording.text('events.txt').matchAll(/\] snapshot (\S+)$/gm)].map(([, name]) => name!);
}

/** Boots the machine that a load was recorded on, does the load on it, and compares. */
export function verifyLoad(recording: Recording): LoadResult {
  const checks = new Checks(recording.id);
  const load = loadOf(recording)!;
  let config;
  try {
    config = parseMachineConfig({ ...machineOf(recording), ...load.machine?.(recording) });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    checks.add('boot', 'the machine', `recorded as booted, here: ${error.message}`);
    return { results: checks.results, exacts: [], shapes: [] };
  }
  const shape = bootShape(config);
  for (const stage of stagesOf(recording)) {
    const zoneinfo = recording.text(`${stage}.zoneinfo.txt`);
    if (zoneinfo === '') continue;
    const recorded = parseZoneinfo(zoneinfo);
    checkZones(checks, recorded, ownZones(shape), `${stage}: `);
    checkMeminfo(checks, recordingOf(`${recording.id} ${stage}`, (name) => stageText(recording, stage, name)), shape, recorded, `${stage}: `);
  }
  const [first] = stagesOf(recording);
  if (first !== undefined) checkLoadedZones(checks, recording, shape, parseZoneinfo(recording.text(`${first}.zoneinfo.txt`)));
  shape.machine.dispose();

  const machine = boot(config, first === undefined ? {} : { managed: managedOf(parseZoneinfo(recording.text(`${first}.zoneinfo.txt`))) });
  const run = new LoadRun(recording, machine, checks);
  try {
    load.run(run);
    machine.validate();
  } catch (error) {
    if (!(error instanceof LoadMismatch)) throw error;
    checks.add('events', load.name, error.message);
  }
  machine.dispose();
  return { results: checks.results, exacts: run.exacts, shapes: run.shapes };
}

/** Pages of each zone that the page allocator had. */
function managedOf(zones: readonly ZoneRow[]): ManagedPages[] {
  return zones.map(({ node, zone, values }) => ({ node, zone, pages: values['managed'] ?? 0 }));
}

/** A stage's files under the names that a boot's have. */
function stageText(recording: Recording, stage: string, name: string): string {
  return /^(zoneinfo|meminfo|vmstat)\.txt$/.test(name) ? recording.text(`${stage}.${name}`) : recording.text(name);
}
