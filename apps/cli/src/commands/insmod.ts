/**
 * `pagelab insmod MODULE`: runs kernel code and shows what the kernel's log says.
 */
import { KernelOops, boot } from '@pagelab/kernel';
import type { KmemleakReport, Machine } from '@pagelab/kernel';
import type { Command } from 'commander';
import { CommandFailure } from '../errors.ts';
import { loadMachineConfig, readMachineConfig, withWord } from '../machine-option.ts';
import { loadKernelModule } from '../program-loader.ts';

interface InsmodOptions {
  readonly machine?: string;
  readonly json?: boolean;
  readonly kmemleak?: boolean;
}

/** What the kernel has noticed of the module. */
interface InsmodReport {
  readonly log: readonly string[];
  readonly leaks: readonly KmemleakReport[];
  /** What it did that hardware refused; `null` for nothing. */
  readonly oops: string | null;
}

async function insmod(nameOrFile: string, options: InsmodOptions): Promise<void> {
  const { name, body, machine: wanted } = await loadKernelModule(nameOrFile);
  const asked =
    options.machine === undefined && wanted !== undefined
      ? readMachineConfig(wanted, `the machine that ${nameOrFile} asks for`)
      : loadMachineConfig(options.machine);
  const config = options.kmemleak === true ? withWord(asked, 'kmemleak=on', { kmemleak: true }) : asked;
  const machine = boot(config);
  const booted = machine.dmesg().length;
  let oops: string | null = null;
  try {
    machine.module((kernel) => body(kernel), { name: name.replace(/\W/g, '_') });
  } catch (error) {
    if (!(error instanceof KernelOops)) throw new CommandFailure(`${name}: ${(error as Error).message}`);
    oops = error.message;
  }
  if (options.kmemleak === true) searchLeaks(machine);
  const log = machine.dmesg().slice(booted).split('\n').filter((line) => line !== '');
  const report: InsmodReport = { log, leaks: machine.kmemleak(), oops };
  console.log(options.json === true ? JSON.stringify(report, null, 2) : log.join('\n'));
  if (options.json !== true && report.leaks.length > 0 && options.kmemleak === true) console.log(report.leaks.map(({ text }) => text).join('').trimEnd());
  if (oops !== null) throw new CommandFailure(`${name}: ${oops}`);
}

/** Scans twice, with time between: what is young or was written to is spared. */
function searchLeaks(machine: Machine): void {
  const scan = (): void => {
    machine.writeFile('/sys/kernel/debug/kmemleak', 'scan');
  };
  scan();
  machine.module((kernel) => {
    kernel.msleep(6000);
  });
  scan();
}

/** Adds the command. */
export function addInsmod(program: Command): void {
  program
    .command('insmod')
    .description('run kernel code: a module that allocates as kernel modules do')
    .argument('<module>', 'a .ts or .js file whose default export takes the kernel, or the name of an example')
    .option('--machine <file|preset>', 'the machine to run it on')
    .option('--kmemleak', 'search for what it leaked')
    .option('--json', 'the log, leaks and the oops as JSON')
    .action(insmod);
}
