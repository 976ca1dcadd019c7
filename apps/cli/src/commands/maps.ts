/**
 * `pagelab maps PROGRAM`: the mappings of a program when its function returns, as `/proc/PID/maps` shows them.
 */
import type { Os } from '@pagelab/abi';
import { boot } from '@pagelab/kernel';
import type { Command } from 'commander';
import { CommandFailure } from '../errors.ts';
import { hostCompressors } from '../host-compressors.ts';
import { loadMachineConfig, readMachineConfig } from '../machine-option.ts';
import { loadProgram } from '../program-loader.ts';
import { describeEnd, withSnapshot } from './run.ts';

interface MapsOptions {
  readonly machine?: string;
  readonly json?: boolean;
  readonly smaps?: boolean;
}

interface MapsRow {
  readonly start: string;
  readonly end: string;
  readonly perms: string;
  readonly offset: string;
  readonly name: string;
}

function parseMaps(text: string): MapsRow[] {
  return [...text.matchAll(/^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ \d+ *(.*)$/gm)].map(([, start, end, perms, offset, name]) => ({
    start: `0x${start}`, end: `0x${end}`, perms: perms!, offset: `0x${offset}`, name: name!,
  }));
}

async function maps(nameOrFile: string, argv: readonly string[], options: MapsOptions): Promise<void> {
  const loaded = await loadProgram(nameOrFile);
  const machine = boot(
    options.machine === undefined && loaded.machine !== undefined
      ? readMachineConfig(loaded.machine, `the machine that ${nameOrFile} asks for`)
      : loadMachineConfig(options.machine),
    { compressors: hostCompressors },
  );
  let text: string | null = null;
  const look = (os: Os): void => {
    text = os.readFile(options.smaps ? '/proc/self/smaps' : '/proc/self/maps');
  };
  const result = machine.run(withSnapshot(loaded.program, look), { name: loaded.name, argv });
  if (text === null) throw new CommandFailure(`${describeEnd(loaded.name, result)}: it left no mappings to show`);
  console.log(options.json ? JSON.stringify(parseMaps(text), null, 2) : (text as string).trimEnd());
}

export function addMaps(program: Command): void {
  program
    .command('maps')
    .description('run a program and show its mappings when its function returns')
    .argument('<program>', 'a .ts or .js file, or the name of an example')
    .argument('[args...]', "the program's arguments; after -- those that begin with a dash")
    .option('--machine <file|preset>', 'the machine to run it on')
    .option('--smaps', 'with what is resident of each, as /proc/PID/smaps')
    .option('--json', 'the mappings as JSON')
    .action(maps);
}
