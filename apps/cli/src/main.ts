/**
 * The `pagelab` command.
 */
import { readFileSync } from 'node:fs';
import { ConfigError } from '@pagelab/kernel';
import { Command, CommanderError } from 'commander';
import { addBench } from './commands/bench.ts';
import { addBoot } from './commands/boot.ts';
import { addInsmod } from './commands/insmod.ts';
import { addMaps } from './commands/maps.ts';
import { addReplay } from './commands/replay.ts';
import { addRun } from './commands/run.ts';
import { addVerify } from './commands/verify.ts';
import { addViews } from './commands/views.ts';
import { CommandFailure } from './errors.ts';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };

const WRONG_USAGE = 2;

/** A message that quotes what it was given, fit for a terminal: one line, without control characters. */
function oneLine(message: string): string {
  return message.replace(/\s*\n\s*/g, ' ').replace(/\p{Cc}/gu, '�');
}

async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('pagelab')
    .description('The Linux memory manager as a library: boot a machine, run programs, watch pages.')
    .version(version)
    .showHelpAfterError('(pagelab --help lists the commands)')
    .exitOverride();
  for (const add of [addBoot, addRun, addReplay, addVerify, addMaps, addInsmod, addViews, addBench]) add(program);
  for (const command of program.commands) command.exitOverride();
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version end here too, with status 0.
      process.exitCode = error.exitCode === 0 ? 0 : WRONG_USAGE;
    } else if (error instanceof CommandFailure) {
      console.error(`pagelab: ${oneLine(error.message)}`);
      process.exitCode = error.exitCode;
    } else if (error instanceof ConfigError) {
      console.error(`pagelab: ${oneLine(error.message)}`);
      process.exitCode = WRONG_USAGE;
    } else if ((error as Error).name === 'HostMemoryError') {
      console.error(`pagelab: ${(error as Error).message}; give --machine less memory`);
      process.exitCode = 1;
    } else {
      console.error(`pagelab: this should not happen: ${(error as Error).stack ?? String(error)}`);
      process.exitCode = 1;
    }
  }
}

await main(process.argv);
