import { PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, PROT_SEM, PROT_WRITE } from '@pagelab/abi';
import { doMprotect } from '@pagelab/vm';
import { flagTable } from './flag-table.ts';
import { foldFlags } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const MPROTECT_PROT = flagTable(
  'mprotect',
  'prot',
  'bits',
  { PROT_READ, PROT_WRITE, PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP },
  { PROT_SEM },
);

/** A bit that no protection has. */
const UNKNOWN_PROT = 0x4000_0000;

/** The protection that a register asks for, in 32 bits. */
export function foldProt(prot: number): number {
  return foldFlags(prot, UNKNOWN_PROT);
}

/**
 * Changes what the pages of a range may be used for.
 *
 * @returns 0, or -errno: EINVAL, ENOMEM, EACCES
 * @linux mm/mprotect.c:do_mprotect_pkey
 */
export function sysMprotect(task: TaskContext, start: number, length: number, prot: number): number {
  return doMprotect(task.mm, start, length, foldProt(prot), task.personality);
}
