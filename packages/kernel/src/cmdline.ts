/**
 * The kernel's command line: the words of Linux's that shape memory.
 *
 * @linux Documentation/admin-guide/kernel-parameters.txt
 */
import { parseSize } from './size.ts';

/** What the command line asks for; `undefined` where it is silent. */
export interface CommandLine {
  /** `mem=`: memory above this address is not used, in bytes. */
  readonly mem?: number;
  /** `slab_nomerge`: caches of the same shape are not merged. */
  readonly slabNomerge?: boolean;
  /** `slub_max_order=` */
  readonly slubMaxOrder?: number;
  /** `slub_min_objects=` */
  readonly slubMinObjects?: number;
  /** `slub_debug=`: letters of the checks. */
  readonly slubDebug?: string;
  /** `transparent_hugepage=` */
  readonly transparentHugepage?: 'always' | 'madvise' | 'never';
}

interface Word {
  readonly name: string;
  readonly takes: string;
  /** Reads the text behind `=`; `undefined` where it is wrong. */
  read(text: string): CommandLine | undefined;
}

const number = (text: string): number | undefined => (/^\d+$/.test(text) ? Number(text) : undefined);

/** Words that are acted on. */
const WORDS: readonly Word[] = [
  {
    name: 'mem',
    takes: 'a size, such as 512M',
    read: (text) => {
      const mem = parseSize(text);
      return mem === undefined ? undefined : { mem };
    },
  },
  { name: 'slab_nomerge', takes: 'no value', read: (text) => (text === '' ? { slabNomerge: true } : undefined) },
  {
    name: 'slub_max_order',
    takes: 'an order from 0 to 10',
    read: (text) => {
      const slubMaxOrder = number(text);
      return slubMaxOrder === undefined || slubMaxOrder > 10 ? undefined : { slubMaxOrder };
    },
  },
  {
    name: 'slub_min_objects',
    takes: 'a number of objects',
    read: (text) => {
      const slubMinObjects = number(text);
      return slubMinObjects === undefined ? undefined : { slubMinObjects };
    },
  },
  {
    name: 'slub_debug',
    takes: 'letters out of FZPUTAO, or -',
    read: (text) => (/^[FZPUTAO]*$|^-$/i.test(text) ? { slubDebug: text === '' ? 'FZPU' : text.toUpperCase() } : undefined),
  },
  {
    name: 'transparent_hugepage',
    takes: 'never',
    read: (text) => (text === 'never' ? { transparentHugepage: 'never' } : undefined),
  },
];

/** Words of Linux's that this kernel does not act on yet. */
const NOT_YET: readonly string[] = ['kernelcore', 'movablecore', 'cma', 'numa', 'vmalloc', 'hugepages', 'hugepagesz'];

/** Why a command line cannot be used, or what it asks for. */
export function parseCommandLine(text: string): CommandLine | { readonly error: string } {
  let result: CommandLine = {};
  for (const word of text.split(/\s+/).filter((part) => part !== '')) {
    const equals = word.indexOf('=');
    const name = equals < 0 ? word : word.slice(0, equals);
    const value = equals < 0 ? '' : word.slice(equals + 1);
    if (NOT_YET.includes(name)) return { error: `"${name}" is not supported yet` };
    const known = WORDS.find((candidate) => candidate.name === name);
    if (known === undefined) {
      return { error: `unknown word "${name}"; known: ${[...WORDS.map((each) => each.name), ...NOT_YET].join(', ')}` };
    }
    if (name === 'transparent_hugepage' && (value === 'always' || value === 'madvise')) {
      return { error: `"transparent_hugepage=${value}" is not supported yet` };
    }
    const read = known.read(value);
    if (read === undefined) return { error: `"${name}" takes ${known.takes}, not "${value}"` };
    result = { ...result, ...read };
  }
  return result;
}
