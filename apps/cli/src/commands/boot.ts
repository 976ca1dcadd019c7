/**
 * `pagelab boot --proc DIR`: boots a machine and writes what it shows of itself.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SyscallError } from '@pagelab/abi';
import { boot } from '@pagelab/kernel';
import type { Machine } from '@pagelab/kernel';
import type { Command } from 'commander';
import { CommandFailure } from '../errors.ts';
import { loadMachineConfig } from '../machine-option.ts';

interface BootCommandOptions {
  readonly machine?: string;
  readonly proc: string;
  readonly json?: boolean;
}

/**
 * Writes every file of `/proc` and `/sys` that can be read below a directory, which is made where it is not there.
 *
 * @returns the paths written, as the machine has them
 */
export function writeProcTree(machine: Machine, directory: string): string[] {
  const written: string[] = [];
  for (const path of machine.listFiles()) {
    let text: string;
    try {
      text = machine.readFile(path);
    } catch (error) {
      // Some files are only written to.
      if (error instanceof SyscallError) continue;
      throw error;
    }
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    written.push(path);
  }
  return written;
}

function bootCommand(options: BootCommandOptions): void {
  const machine = boot(loadMachineConfig(options.machine));
  let written: string[];
  try {
    written = writeProcTree(machine, options.proc);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    throw new CommandFailure(`cannot write to ${options.proc}: ${message}`);
  }
  if (options.json) {
    console.log(JSON.stringify({ directory: options.proc, files: written, memory: machine.stats() }, null, 2));
    return;
  }
  for (const zone of machine.stats().zones) {
    console.log(`Node ${zone.node}, zone ${zone.name.padStart(8)}: ${zone.managed} pages managed, ${zone.free} free`);
  }
  console.log(`${written.length} files written below ${options.proc}`);
}

export function addBoot(program: Command): void {
  program
    .command('boot')
    .description("boot a machine and write its /proc and /sys as a directory tree")
    .requiredOption('--proc <dir>', 'the directory to write to; it is made where it is not there')
    .option('--machine <file|preset>', 'the machine to boot')
    .option('--json', 'what was written, and the figures of memory, as JSON')
    .action(bootCommand);
}
