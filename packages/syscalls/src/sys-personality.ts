import { ADDR_COMPAT_LAYOUT, ADDR_LIMIT_3GB, ADDR_NO_RANDOMIZE, MMAP_PAGE_ZERO, PERSONALITY_QUERY, READ_IMPLIES_EXEC } from '@pagelab/abi';
import { flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const PERSONALITY_FLAGS = flagTable(
  'personality',
  'persona',
  'bits',
  { ADDR_NO_RANDOMIZE, ADDR_LIMIT_3GB, ADDR_COMPAT_LAYOUT, READ_IMPLIES_EXEC },
  { MMAP_PAGE_ZERO },
  { unknown: 'Other bits are kept and told, and have no effect.', notes: { ADDR_LIMIT_3GB: 'for programs of 32 bits', MMAP_PAGE_ZERO: 'kept and told, but `execve` maps nothing at address 0' } },
);

/**
 * Sets the execution domain, which the next `execve` lays the program out by.
 *
 * @returns the one before, as an unsigned number's low 32 bits
 * @linux kernel/exec_domain.c:personality
 */
export function sysPersonality(task: TaskContext, persona: number): number {
  const before = task.personality;
  if (int32(persona) !== int32(PERSONALITY_QUERY)) task.personality = int32(persona) >>> 0;
  return before;
}
