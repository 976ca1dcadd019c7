import { errnoName } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { CommandFailure } from '../errors.ts';

/** Begins a thread for one of a trace's. @throws CommandFailure where the machine has no room for it */
export function beginThread(process: Process): Os {
  const thread = process.thread();
  if (typeof thread === 'number') throw new CommandFailure(`no thread could begin: ${errnoName(thread)}`);
  return thread.os;
}
