/**
 * `pagelab boot --proc DIR`: boots a machine and writes what it shows of itself.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SyscallError } from '@pagelab/abi';
import { boot } from '@pagelab/kernel';
import type { Machine, MachineStats } from '@pagelab/kernel';
import type { Command } from 'commander';
import { CommandFailure } from '../errors.ts';
import { hostCompressors } from '../host-compressors.ts';
import { openHostFile } from '../host-file.ts';
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

/** What describing every page of memory costs. */
function memmapLine({ frames, linuxBytes, textbookBytes }: MachineStats['memmap']): string {
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const share = ((linuxBytes / (frames * 4096)) * 100).toFixed(2);
  return `struct page: ${mib(linuxBytes)} for ${frames} pages of 4 KiB, ${share} % of memory; ${mib(textbookBytes)} at the 40 bytes of a textbook`;
}

function bootCommand(options: BootCommandOptions): void {
  const machine = boot(loadMachineConfig(options.machine), { openHostFile, compressors: hostCompressors });
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
  const { memmap, zones } = machine.stats();
  for (const zone of zones) {
    console.log(`Node ${zone.node}, zone ${zone.name.padStart(8)}: ${zone.managed} pages managed, ${zone.free} free`);
  }
  console.log(memmapLine(memmap));
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
