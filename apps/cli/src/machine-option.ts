/**
 * `--machine FILE|PRESET`: which machine to boot.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ConfigError, parseMachineConfig } from '@pagelab/kernel';
import type { MachineConfig } from '@pagelab/kernel';
import { UsageError } from './errors.ts';

const presetDirectory = fileURLToPath(new URL('../presets', import.meta.url));

/** The machine that every command uses when it is not told another. */
export const DEFAULT_PRESET = 'laptop';

/** The names of the machines that come with the command. */
export function presetNames(): string[] {
  return readdirSync(presetDirectory)
    .filter((file) => file.endsWith('.json'))
    .map((file) => basename(file, '.json'))
    .sort();
}

/**
 * The configuration that `--machine` names: a preset, or a JSON file.
 *
 * @throws UsageError where there is neither, or where the file does not describe a machine
 */
export function loadMachineConfig(nameOrFile = DEFAULT_PRESET): MachineConfig {
  const { json, file } = readMachineFile(nameOrFile);
  return readMachineConfig(json, file);
}

/**
 * The same as its JSON form, not checked yet.
 *
 * @throws UsageError where there is neither, or no object in it
 */
export function loadMachineJson(nameOrFile = DEFAULT_PRESET): Readonly<Record<string, unknown>> {
  const { json, file } = readMachineFile(nameOrFile);
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new UsageError(`${file} describes no machine: it holds no object`);
  return json as Record<string, unknown>;
}

function readMachineFile(nameOrFile: string): { readonly json: unknown; readonly file: string } {
  const isPreset = presetNames().includes(nameOrFile);
  const file = isPreset ? join(presetDirectory, `${nameOrFile}.json`) : nameOrFile;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    throw new UsageError(`no machine '${nameOrFile}': give a JSON file, or a preset (${presetNames().join(', ')})`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${file} is not JSON: ${(error as Error).message}`);
  }
  return { json, file };
}

/**
 * A machine's configuration from its JSON form.
 *
 * @param origin where it comes from, for errors
 * @throws UsageError where it does not describe a machine
 */
export function readMachineConfig(json: unknown, origin: string): MachineConfig {
  try {
    return parseMachineConfig(json);
  } catch (error) {
    if (error instanceof ConfigError) throw new UsageError(`${origin}: ${error.message}`);
    throw error;
  }
}

/** The same machine with a word more on the kernel's command line. @param read what the word asks for */
export function withWord(config: MachineConfig, word: string, read: Partial<MachineConfig['commandLine']>): MachineConfig {
  return { ...config, cmdline: `${config.cmdline} ${word}`.trim(), commandLine: { ...config.commandLine, ...read } };
}
