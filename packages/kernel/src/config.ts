/**
 * What a machine is made of: one object, the same for library, command and browser.
 */
import { DEFAULT_COSTS, DISK_MODELS, TLB_SPECS } from '@pagelab/hw';
import type { CostModel } from '@pagelab/hw';
import { MEMTIER_ADISTANCE_DRAM, reclaimPolicies } from '@pagelab/vm';
import type { ReclaimPolicyName } from '@pagelab/vm';
import { z } from 'zod';
import { parseCommandLine } from './cmdline.ts';
import type { CommandLine } from './cmdline.ts';
import { formatSize, parseSize } from './size.ts';

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const MIN_MEMORY = 64 * MIB;
const MAX_MEMORY = 2 ** 40;
const RECLAIM_NAMES = Object.keys(reclaimPolicies) as [ReclaimPolicyName, ...ReclaimPolicyName[]];

/** A configuration that cannot be used. Its message names the key and what it takes. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** What each key takes, for error messages and documentation. */
export const CONFIG_KEYS: Readonly<Record<string, string>> = {
  arch: '"x86-64", "x86-pae" or "x86-32"',
  kernel: '"6.18", "6.12" or "6.1"',
  board: '"pc" or "q35"',
  memory: 'a size from "64M" to "1T", in multiples of 4 KiB',
  memoryMap: 'a list of ranges { start, end, type }, ascending, type "usable" or "reserved"',
  cpus: 'a whole number from 1 to 64',
  possibleCpus: 'a whole number from cpus to 64',
  numa: 'a list of nodes { memory, cpus, adistance }: their memory comes to that of the machine, each CPU is in one of them; adistance, from 1 to 65535, says how slow it is: 576 is ordinary',
  distances: 'a square table, a row for each node of numa: 10 to itself, 11 to 255 to others',
  cmdline: "the kernel's own words, separated by blanks",
  sysctl: 'an object of sysctl names and values, such as { "vm.overcommit_memory": 2 }',
  disk: `an object { size, model } for the disk that files lie on, of 1M or more, model ${DISK_MODELS.map(({ name }) => `"${name}"`).join(', ')}; without, it holds 16 GiB and takes no time`,
  cgroups: 'an object of control groups by path, each an object of its files and what is written to them, such as { "/jobs": { "memory.max": "8M" } }',
  devShm: 'a size in multiples of 4 KiB that the files in /dev/shm can have together; without, half of memory',
  swap: `a list of at most 23 areas { size, priority, model, file }, of 8K or more, priority 0 to 32767, model ${DISK_MODELS.map(({ name }) => `"${name}"`).join(', ')}, file one of the host's`,
  pageAllocator: '"buddy", "llfree" or "first-fit"',
  slab: '"slub", "slab" or "slob"',
  debugSlab: 'true or false: whether SLAB is built with red zones, poison and last users; with slab "slab" alone, slub_debug= is for the other',
  freelist: 'an object { hardening: "none", "checks" or "full", random: true or false }: how free lists of slabs are kept',
  reclaim: `${RECLAIM_NAMES.map((name) => `"${name}"`).join(', ').replace(/, ([^,]*)$/, ' or $1')}; without, "mglru" where kernel is "6.12"`,
  tlb: TLB_SPECS.map((spec) => `"${spec}"`).join(', ').replace(/, ([^,]*)$/, ' or $1'),
  kernelStack: 'an object { size: "4K", "8K" or "16K", vmap: true or false, threadInfo: "task" or "stack" }; vmap with "x86-64" alone',
  costs: `an object of events and nanoseconds, such as { "syscall": 100 }; events: ${Object.keys(DEFAULT_COSTS).join(', ')}`,
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
  numa: z
    .array(z.strictObject({ memory: size.refine((bytes) => bytes % (4 * KIB) === 0), cpus: z.array(z.int().min(0).max(63)), adistance: z.int().min(1).max(65_535).default(MEMTIER_ADISTANCE_DRAM) }))
    .min(1)
    .max(64)
    .optional(),
  distances: z.array(z.array(z.int().min(10).max(255))).optional(),
  cmdline: z.string().default(''),
  sysctl: z.record(z.string(), z.union([z.number(), z.string()])).default({}),
  disk: z.strictObject({ size: size.refine((bytes) => bytes >= 1024 * KIB), model: z.enum(DISK_MODELS.map(({ name }) => name) as [string, ...string[]]).optional() }).optional(),
  cgroups: z.record(z.string(), z.record(z.string(), z.union([z.number(), z.string()]))).default({}),
  devShm: size.refine((bytes) => bytes > 0 && bytes % (4 * KIB) === 0).optional(),
  swap: z.array(z.strictObject({ size: size.refine((bytes) => bytes >= 8 * KIB), priority: z.int().min(0).max(32_767).optional(), model: z.enum(DISK_MODELS.map(({ name }) => name) as [string, ...string[]]).optional(), file: z.string().min(1).optional() })).max(23).default([]),
  pageAllocator: z.enum(['buddy', 'llfree', 'first-fit']).default('buddy'),
  slab: z.enum(['slub', 'slab', 'slob']).default('slub'),
  debugSlab: z.boolean().default(false),
  freelist: z
    .strictObject({ hardening: z.enum(['none', 'checks', 'full']).default('checks'), random: z.boolean().default(false) })
    .default({ hardening: 'checks', random: false }),
  reclaim: z.enum(RECLAIM_NAMES).optional(),
  tlb: z.enum(TLB_SPECS as [string, ...string[]]).default('functional'),
  kernelStack: z
    .strictObject({
      size: z.enum(['4K', '8K', '16K']).optional(),
      vmap: z.boolean().optional(),
      threadInfo: z.enum(['task', 'stack']).optional(),
    })
    .default({}),
  costs: z.partialRecord(z.enum(Object.keys(DEFAULT_COSTS) as [keyof CostModel, ...(keyof CostModel)[]]), z.number().min(0)).default({}),
  seed: z.int().default(1),
  faultLimit: z.int().min(1).default(100_000),
});

/** What people write: everything but `memory` may be left out. */
export type MachineConfigInput = z.input<typeof schema>;

/** How the kernel's stacks are made: what Linux decides when it is built. */
export interface KernelStackConfig {
  /** Of a task's, in bytes. @linux arch/x86/include/asm/page_64_types.h:THREAD_SIZE */
  readonly bytes: number;
  /** Of vmalloc, with guard pages. @linux arch/Kconfig:VMAP_STACK */
  readonly vmap: boolean;
  /** Where `thread_info` is: in `task_struct`, or, as in old kernels, at the low end of the stack. @linux init/Kconfig:THREAD_INFO_IN_TASK */
  readonly threadInfo: 'task' | 'stack';
}

/** A machine's configuration, complete, sizes in bytes. */
export interface MachineConfig extends Readonly<Omit<z.output<typeof schema>, 'possibleCpus' | 'kernelStack' | 'reclaim'>> {
  readonly possibleCpus: number;
  readonly kernelStack: KernelStackConfig;
  readonly reclaim: ReclaimPolicyName;
  /** `cmdline`, read. */
  readonly commandLine: CommandLine;
}

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
  checkNodes(config);
  const possibleCpus = config.possibleCpus ?? config.cpus;
  if (possibleCpus < config.cpus) throw new ConfigError(`possibleCpus: takes ${CONFIG_KEYS['possibleCpus']}, not ${possibleCpus}`);
  const commandLine = parseCommandLine(config.cmdline);
  if ('error' in commandLine) throw new ConfigError(`cmdline: ${commandLine.error}`);
  if (config.numa !== undefined && commandLine.numa !== undefined && commandLine.numa.kind !== 'off') {
    throw new ConfigError('cmdline: "numa" takes off where the machine has nodes; only memory without nodes is cut into fake ones');
  }
  if (config.debugSlab && config.slab !== 'slab') throw new ConfigError(`debugSlab: takes ${CONFIG_KEYS['debugSlab']}`);
  const { size: stackSize = config.arch === 'x86-64' ? '16K' : '8K', vmap = config.arch === 'x86-64', threadInfo = 'task' } = config.kernelStack;
  if (vmap && config.arch !== 'x86-64') throw new ConfigError(`kernelStack: takes ${CONFIG_KEYS['kernelStack']}`);
  const kernelStack = { bytes: Number.parseInt(stackSize) * KIB, vmap, threadInfo };
  // The recorded kernels are Debian's, which switched to generations with 6.12.
  const reclaim = config.reclaim ?? (config.kernel === '6.12' ? 'mglru' : 'classic');
  return Object.freeze({ ...config, possibleCpus, kernelStack, reclaim, commandLine });
}

/** What the schema cannot say of nodes. */
function checkNodes(config: z.output<typeof schema>): void {
  const wrong = (key: string, why: string): never => {
    throw new ConfigError(`${key}: takes ${CONFIG_KEYS[key]}; ${why}`);
  };
  const { numa, distances, cpus } = config;
  if (numa === undefined) {
    if (distances !== undefined) wrong('distances', 'there is no numa');
    return;
  }
  if (config.arch !== 'x86-64' && numa.length > 1) wrong('numa', `a machine of "${config.arch}" has one node`);
  const bytes = numa.reduce((sum, { memory }) => sum + memory, 0);
  if (bytes !== config.memory) wrong('numa', `the nodes have ${formatSize(bytes)}, the machine ${formatSize(config.memory)}`);
  const homes = numa.flatMap((node) => node.cpus);
  for (let cpu = 0; cpu < cpus; cpu++) {
    const times = homes.filter((home) => home === cpu).length;
    if (times !== 1) wrong('numa', `CPU ${cpu} is in ${times === 0 ? 'none' : `${times}`}`);
  }
  const unknown = homes.find((cpu) => cpu >= cpus);
  if (unknown !== undefined) wrong('numa', `there is no CPU ${unknown}`);
  if (distances === undefined) return;
  if (distances.length !== numa.length) wrong('distances', `there are ${numa.length} nodes and ${distances.length} rows`);
  distances.forEach((row, from) => {
    if (row.length !== numa.length) wrong('distances', `row ${from} has ${row.length} entries`);
    row.forEach((distance, to) => {
      if ((distance === 10) !== (from === to)) wrong('distances', `${distance} from node ${from} to node ${to} is none`);
    });
  });
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
