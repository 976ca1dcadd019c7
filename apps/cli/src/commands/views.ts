/**
 * `pagelab ps|vmstat|slabtop|buddyinfo PROGRAM`: the views that people know, of the machine when a program's function returns.
 */
import type { Os } from '@pagelab/abi';
import { boot } from '@pagelab/kernel';
import type { Machine, MachineConfig } from '@pagelab/kernel';
import type { Command } from 'commander';
import { CommandFailure, UsageError } from '../errors.ts';
import { hostCompressors } from '../host-compressors.ts';
import { loadMachineConfig, readMachineConfig, withWord } from '../machine-option.ts';
import { loadProgram } from '../program-loader.ts';
import { countOwners, formatOwners } from '../views/page-owner.ts';
import { SORT_KEYS, formatSlabtop, parseSlabinfo, sortRows } from '../views/slabtop.ts';
import { formatVmstat, readVmstat } from '../views/vmstat.ts';
import type { VmstatSample } from '../views/vmstat.ts';
import { describeEnd, withSnapshot } from './run.ts';

interface ViewOptions {
  readonly machine?: string;
  readonly json?: boolean;
  /** slabtop: a letter. */
  readonly sort?: string;
}

/** A view: what it takes from the machine before the program begins and when its function returns. */
interface View {
  readonly name: string;
  readonly description: string;
  /** The machine it needs. */
  configure?(config: MachineConfig): MachineConfig;
  /** Called before and at the end; what it returns last is shown. */
  look(machine: Machine, options: ViewOptions, when: 'before' | 'end'): { readonly text: string; readonly json: unknown };
}

async function show(view: View, nameOrFile: string, argv: readonly string[], options: ViewOptions): Promise<void> {
  const loaded = await loadProgram(nameOrFile);
  const wanted =
    options.machine === undefined && loaded.machine !== undefined
      ? readMachineConfig(loaded.machine, `the machine that ${nameOrFile} asks for`)
      : loadMachineConfig(options.machine);
  const machine = boot(view.configure?.(wanted) ?? wanted, { compressors: hostCompressors });
  view.look(machine, options, 'before');
  let shown: { readonly text: string; readonly json: unknown } | null = null;
  const look = (_os: Os): void => {
    shown = view.look(machine, options, 'end');
  };
  const result = machine.run(withSnapshot(loaded.program, look), { name: loaded.name, argv });
  if (shown === null) throw new CommandFailure(`${describeEnd(loaded.name, result)}: it left nothing to show`);
  const { text, json } = shown as { text: string; json: unknown };
  console.log(options.json ? JSON.stringify(json, null, 2) : text);
}

const slabtop: View = {
  name: 'slabtop',
  description: 'run a program and show the caches of kernel memory when its function returns, as slabtop -o',
  look(machine, { sort = 'o' }) {
    if (!SORT_KEYS.includes(sort)) throw new UsageError(`--sort takes one of ${SORT_KEYS.join(', ')}, not "${sort}"`);
    const all = parseSlabinfo(machine.readFile('/proc/slabinfo'));
    const rows = sortRows(all, sort);
    return { text: formatSlabtop(rows, all.length), json: rows };
  },
};

function vmstat(): View {
  const samples: VmstatSample[] = [];
  return {
    name: 'vmstat',
    description: 'run a program and show memory, swap and faults: a line since boot, a line for the program',
    look(machine) {
      samples.push(readVmstat((path) => machine.readFile(path), machine.now));
      return { text: formatVmstat(samples), json: samples };
    },
  };
}

const buddyinfo: View = {
  name: 'buddyinfo',
  description: 'run a program and show the free blocks of each zone by order when its function returns, as /proc/buddyinfo',
  look(machine) {
    const text = machine.readFile('/proc/buddyinfo').trimEnd();
    const json = [...text.matchAll(/^Node (\d+), zone +(\S+) +(.*)$/gm)].map(([, node, zone, counts]) => ({
      node: Number(node), zone: zone!, freeBlocks: counts!.trim().split(/ +/).map(Number),
    }));
    return { text, json };
  },
};

const ps: View = {
  name: 'ps',
  description: 'run a program and show the processes and their memory when its function returns',
  look(machine) {
    const rows = machine.stats().processes.map(({ pid, name, threads, faults }) => {
      const status = machine.readFile(`/proc/${pid}/status`);
      const kb = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
      const word = (field: string): string => new RegExp(`^${field}:\\s+(\\S+)`, 'm').exec(status)?.[1] ?? '?';
      return { pid, ppid: Number(word('PPid')), state: word('State'), threads, faults, vszKb: kb('VmSize'), rssKb: kb('VmRSS'), swapKb: kb('VmSwap'), name };
    });
    const cells = [
      ['PID', 'PPID', 'S', 'NLWP', 'FAULTS', 'VSZ', 'RSS', 'SWAP', 'COMMAND'],
      ...rows.map((row) => [row.pid, row.ppid, row.state, row.threads, row.faults, row.vszKb, row.rssKb, row.swapKb, row.name].map(String)),
    ];
    const widths = [5, 5, 1, 4, 7, 8, 8, 8, 0];
    return { text: cells.map((row) => row.map((cell, i) => cell.padStart(widths[i]!)).join(' ')).join('\n'), json: rows };
  },
};

const pageOwner: View = {
  name: 'page_owner',
  description: 'run a program and show who has pages when its function returns, as page_owner_sort -m',
  configure: (config) => withWord(config, 'page_owner=on', { pageOwner: true }),
  look(machine, _options, when) {
    const rows = when === 'end' ? countOwners(machine.readFile('/sys/kernel/debug/page_owner')) : [];
    return { text: formatOwners(rows), json: rows };
  },
};

export function addViews(program: Command): void {
  for (const view of [ps, vmstat(), slabtop, buddyinfo, pageOwner]) {
    const command = program
      .command(view.name)
      .description(view.description)
      .argument('<program>', 'a .ts or .js file, or the name of an example')
      .argument('[args...]', "the program's arguments; after -- those that begin with a dash")
      .option('--machine <file|preset>', 'the machine to run it on')
      .option('--json', 'the figures as JSON')
      .action((nameOrFile: string, argv: string[], options: ViewOptions) => show(view, nameOrFile, argv, options));
    if (view === slabtop) command.option('--sort <letter>', `by what the caches are sorted: ${SORT_KEYS.join(', ')}`, 'o');
  }
}
