/**
 * glibc's tunables as its users write them: `GLIBC_TUNABLES`, and the older variables of the environment.
 */
import type { GlibcOptions } from './ptmalloc.ts';

type TunableOption = Exclude<keyof GlibcOptions, 'attach' | 'thread' | 'cpus' | 'tcacheKey'>;

interface Tunable {
  readonly option: TunableOption;
  /** The variable that sets it too. */
  readonly variable?: string;
  readonly min?: number;
  readonly max?: number;
}

const INT_MAX = 2 ** 31 - 1;

/** By name, after `glibc.malloc.`; `check` and `hugetlb` have no effect here. */
const TUNABLES: Readonly<Record<string, Tunable>> = {
  top_pad: { option: 'topPad', variable: 'MALLOC_TOP_PAD_' },
  perturb: { option: 'perturb', variable: 'MALLOC_PERTURB_', max: 0xff },
  mmap_max: { option: 'mmapMax', variable: 'MALLOC_MMAP_MAX_', max: INT_MAX },
  mmap_threshold: { option: 'mmapThreshold', variable: 'MALLOC_MMAP_THRESHOLD_' },
  trim_threshold: { option: 'trimThreshold', variable: 'MALLOC_TRIM_THRESHOLD_' },
  arena_max: { option: 'arenaMax', variable: 'MALLOC_ARENA_MAX', min: 1 },
  arena_test: { option: 'arenaTest', variable: 'MALLOC_ARENA_TEST', min: 1 },
  tcache_max: { option: 'tcacheMax' },
  tcache_count: { option: 'tcacheCount' },
  tcache_unsorted_limit: { option: 'tcacheUnsortedLimit' },
  mxfast: { option: 'mxfast' },
};

/**
 * The options that an environment sets: `{ GLIBC_TUNABLES: 'glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0' }`, or
 * `{ MALLOC_ARENA_MAX: '1' }`. As in glibc, a name that is not known and a value out of range set nothing, a value is
 * read as far as it is a number (decimal, or hexadecimal after 0x, or octal after 0), and `GLIBC_TUNABLES` counts more
 * than the older variables.
 *
 * @linux glibc elf/dl-tunables.c:__tunables_init
 */
export function glibcTunables(environment: Readonly<Record<string, string | undefined>>): GlibcOptions {
  const options: { -readonly [K in TunableOption]?: number } = {};
  const set = ({ option, min = 0, max = Infinity }: Tunable, text: string): void => {
    const value = strtoul(text);
    if (value >= min && value <= max) options[option] = value;
  };
  for (const tunable of Object.values(TUNABLES)) {
    const text = tunable.variable === undefined ? undefined : environment[tunable.variable];
    if (text !== undefined) set(tunable, text);
  }
  for (const assignment of (environment['GLIBC_TUNABLES'] ?? '').split(':')) {
    const [, name, text] = /^glibc\.malloc\.(\w+)=(.*)$/.exec(assignment) ?? [];
    const tunable = name === undefined ? undefined : TUNABLES[name];
    if (tunable !== undefined) set(tunable, text);
  }
  return options;
}

/** As C's: what does not begin with a number is 0, and a negative one wraps around, so that it is larger than any size. */
function strtoul(text: string): number {
  const [, sign, digits] = /^[ \t]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|\d+)/.exec(text) ?? [undefined, '', '0'];
  const value = /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  return sign === '-' && value !== 0 ? 2 ** 53 - 1 : value;
}
