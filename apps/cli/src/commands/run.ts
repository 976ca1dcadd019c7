/**
 * `pagelab run PROGRAM`: runs a user program and reports what memory did.
 */
import type { Os, Program } from '@pagelab/abi';
import { SyscallError } from '@pagelab/abi';
import { boot, DeadlockError } from '@pagelab/kernel';
import type { Machine, MachineConfig, RunResult } from '@pagelab/kernel';
import type { Command } from 'commander';
import { CommandFailure } from '../errors.ts';
import { hostCompressors } from '../host-compressors.ts';
import { openHostDirectory, openHostFile } from '../host-file.ts';
import { loadMachineConfig, readMachineConfig } from '../machine-option.ts';
import { loadProgram } from '../program-loader.ts';
import { formatReport, formatTime, takeSnapshot } from '../report.ts';
import type { MemoryReport, Snapshot } from '../report.ts';

interface RunOptions {
  readonly machine?: string;
  readonly json?: boolean;
  readonly attach?: string;
}

/** Whether what a program returned is a generator, which runs as it is stepped. */
function isGenerator(value: unknown): value is Generator<void, number | void, void> {
  return typeof value === 'object' && value !== null && 'next' in value;
}

/** The program, with a look at the machine when its function has returned and its memory is still there. */
export function withSnapshot(program: Program, look: (os: Os) => void): Program {
  return (os, ...argv) => {
    const result = program(os, ...argv);
    if (!isGenerator(result)) {
      look(os);
      return result;
    }
    return (function* () {
      const status = yield* result;
      look(os);
      return status;
    })();
  };
}

/** What running a program gave. */
export interface ProgramRun {
  readonly result: RunResult;
  readonly report: MemoryReport;
}

/** Runs a program on a machine and takes the figures before, at its end and afterwards. */
export function runProgram(machine: Machine, program: Program, name: string, argv: readonly string[]): ProgramRun {
  const before = machine.stats();
  let end: Snapshot | null = null;
  const result = machine.run(withSnapshot(program, (os) => (end = takeSnapshot(machine, os))), { name, argv });
  // What per-CPU lists and empty slabs keep back is no leak: it goes back before the last look.
  machine.quiesce();
  return { result, report: { before, end, after: machine.stats() } };
}

/** One line on how a program ended. */
export function describeEnd(name: string, { status, signal, description, error, timeNs }: RunResult): string {
  if (error !== undefined) {
    if (error instanceof SyscallError) return `${name}: ${error.message}`;
    return error instanceof Error ? `${name}: ${error.name}: ${error.message}` : `${name}: threw ${JSON.stringify(error)}`;
  }
  if (signal !== null || status === null) return `${name}: ${description}`;
  return `${name}: exit status ${status} after ${formatTime(timeNs)}`;
}

/** The last line of the kernel's log that is about the program's end: a segfault, an out-of-memory kill. */
function lastWords(machine: Machine): string {
  const lines = machine.dmesg().split('\n').filter((line) => /segfault|Out of memory|general protection/.test(line));
  const last = lines.at(-1);
  return last === undefined ? '' : ` (${last.replace(/^\[[^\]]*\]\s*|^<\d+>/, '').trim()})`;
}

async function run(nameOrFile: string, argv: readonly string[], options: RunOptions): Promise<void> {
  const loaded = await loadProgram(nameOrFile);
  const config: MachineConfig = options.machine === undefined && loaded.machine !== undefined
    ? readMachineConfig(loaded.machine, `the machine that ${nameOrFile} asks for`)
    : loadMachineConfig(options.machine);
  const machine = boot(config, {
    openHostFile,
    compressors: hostCompressors,
    ...(options.attach === undefined ? {} : { hostDirectory: openHostDirectory(options.attach) }),
  });
  if (!options.json) machine.setConsole((line) => console.log(line));
  let run: ProgramRun;
  try {
    run = runProgram(machine, loaded.program, loaded.name, argv);
  } catch (error) {
    if (error instanceof DeadlockError) throw new CommandFailure(`${loaded.name}: ${error.message}`);
    throw error;
  }
  const { result, report } = run;
  const failed = result.error !== undefined || result.status !== 0;
  const end = describeEnd(loaded.name, result);
  if (options.json) {
    const { error, ...rest } = result;
    console.log(JSON.stringify({ program: loaded.name, ...rest, error: error === undefined ? null : end, console: machine.consoleText, memory: report }, null, 2));
  } else {
    if (!failed) console.log(`\n${end}`);
    console.log(formatReport(report));
  }
  machine.validate();
  if (failed) throw new CommandFailure(`${end}${result.signal === null ? '' : lastWords(machine)}`);
}

export function addRun(program: Command): void {
  program
    .command('run')
    .description('run a user program and report what memory did')
    .argument('<program>', 'a .ts or .js file, or the name of an example')
    .argument('[args...]', "the program's arguments; after -- those that begin with a dash")
    .option('--machine <file|preset>', 'the machine to run it on')
    .option('--attach <directory>', 'a directory of the host that the program finds at /host, to be read')
    .option('--json', 'the report as JSON')
    .action(run);
}
