/**
 * What a machine is made of: one object, the same for library, command and browser.
 */
import { z } from 'zod';
import { parseCommandLine } from './cmdline.ts';
import type { CommandLine } from './cmdline.ts';
import { parseSize } from './size.ts';

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const MIN_MEMORY = 64 * MIB;
const MAX_MEMORY = 2 ** 40;

/** A configuration that cannot be used. Its message names the key and what it takes. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** What each key takes, for error messages and documentation. */
export const CONFIG_KEYS: Readonly<Record<string, string>> = {
  arch: '"x86-64"',
  kernel: '"6.18", "6.12" or "6.1"',
  board: '"pc" or "q35"',
  memory: 'a size from "64M" to "1T", in multiples of 4 KiB',
  memoryMap: 'a list of ranges { start, end, type }, ascending, type "usable" or "reserved"',
  cpus: 'a whole number from 1 to 64',
  possibleCpus: 'a whole number from cpus to 64',
  numa: 'a list of nodes { memory, cpus }',
  distances: 'a square table of distances',
  cmdline: "the kernel's own words, separated by blanks",
  sysctl: 'an object of sysctl names and values, such as { "vm.overcommit_memory": 2 }',
  swap: 'a list of areas { size, priority }',
  pageAllocator: '"buddy", "llfree" or "first-fit"',
  slab: '"slub"',
  reclaim: '"classic"',
  tlb: '"functional"',
  seed: 'a whole number',
  faultLimit: 'a whole number from 1',
};

const size = z.union([z.string(), z.number()]).transform((value, context) => {
  const bytes = parseSize(value);
  if (bytes !== undefined) return bytes;
  context.addIssue({ code: 'custom', message: 'not a size' });
  return z.NEVER;
});

const range = z.strictObject({
  start: size,
  end: size,
  type: z.enum(['usable', 'reserved']),
});

const schema = z.strictObject({
  arch: z.enum(['x86-64', 'x86-pae', 'x86-32']).default('x86-64'),
  kernel: z.enum(['6.18', '6.12', '6.1']).default('6.18'),
  board: z.enum(['pc', 'q35']).default('pc'),
  memory: size.refine((bytes) => bytes >= MIN_MEMORY && bytes <= MAX_MEMORY && bytes % (4 * KIB) === 0),
  memoryMap: z.array(range).optional(),
  cpus: z.int().min(1).max(64).default(1),
  possibleCpus: z.int().min(1).max(64).optional(),
  numa: z.array(z.strictObject({ memory: size, cpus: z.array(z.int().min(0).max(63)) })).optional(),
  distances: z.array(z.array(z.int().min(10).max(255))).optional(),
  cmdline: z.string().default(''),
  sysctl: z.record(z.string(), z.union([z.number(), z.string()])).default({}),
  swap: z.array(z.strictObject({ size, priority: z.int().optional() })).default([]),
  pageAllocator: z.enum(['buddy', 'llfree', 'first-fit']).default('buddy'),
  slab: z.enum(['slub', 'slab', 'slob']).default('slub'),
  reclaim: z.enum(['classic']).default('classic'),
  tlb: z.enum(['functional', 'modelled']).default('functional'),
  seed: z.int().default(1),
  faultLimit: z.int().min(1).default(100_000),
});

/** What people write: everything but `memory` may be left out. */
export type MachineConfigInput = z.input<typeof schema>;

/** A machine's configuration, complete, sizes in bytes. */
export interface MachineConfig extends Readonly<Omit<z.output<typeof schema>, 'possibleCpus'>> {
  readonly possibleCpus: number;
  /** `cmdline`, read. */
  readonly commandLine: CommandLine;
}

/** A configuration and what this kernel cannot do of it. */
const NOT_YET: readonly { readonly key: string; readonly asked: (config: z.output<typeof schema>) => string | undefined }[] = [
  { key: 'arch', asked: (config) => (config.arch === 'x86-64' ? undefined : `"${config.arch}"`) },
  { key: 'numa', asked: (config) => (config.numa === undefined || config.numa.length === 1 ? undefined : 'several nodes') },
  { key: 'distances', asked: (config) => (config.distances === undefined ? undefined : 'a distance table') },
  { key: 'swap', asked: (config) => (config.swap.length === 0 ? undefined : 'a swap area') },
  { key: 'slab', asked: (config) => (config.slab === 'slub' ? undefined : `"${config.slab}"`) },
  { key: 'tlb', asked: (config) => (config.tlb === 'functional' ? undefined : `"${config.tlb}"`) },
];

/**
 * Checks a configuration and fills in what it leaves out.
 *
 * @param json a JSON object; `CONFIG_KEYS` lists what it may hold
 * @throws ConfigError naming the first key that is wrong and what it takes
 */
export function parseMachineConfig(json: unknown): MachineConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ConfigError('a machine is a JSON object; only "memory" is required');
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new ConfigError(explain(parsed.error, json as Record<string, unknown>));
  const config = parsed.data;
  for (const { key, asked } of NOT_YET) {
    const what = asked(config);
    if (what !== undefined) throw new ConfigError(`${key}: ${what} is not supported yet; it takes ${CONFIG_KEYS[key]}`);
  }
  const possibleCpus = config.possibleCpus ?? config.cpus;
  if (possibleCpus < config.cpus) throw new ConfigError(`possibleCpus: takes ${CONFIG_KEYS['possibleCpus']}, not ${possibleCpus}`);
  const commandLine = parseCommandLine(config.cmdline);
  if ('error' in commandLine) throw new ConfigError(`cmdline: ${commandLine.error}`);
  return Object.freeze({ ...config, possibleCpus, commandLine });
}

function explain(error: z.ZodError, json: Record<string, unknown>): string {
  const issue = error.issues[0]!;
  const key = String(issue.path[0] ?? '');
  if (issue.code === 'unrecognized_keys') {
    const inside = key === '' ? '' : `${key}: `;
    const known = key === '' ? `; known: ${Object.keys(CONFIG_KEYS).join(', ')}` : `; it takes ${CONFIG_KEYS[key]}`;
    return `${inside}unknown key "${issue.keys[0]}"${known}`;
  }
  if (!(key in json)) return `${key}: missing; it takes ${CONFIG_KEYS[key]}`;
  return `${key}: takes ${CONFIG_KEYS[key]}, not ${JSON.stringify(json[key])}`;
}
