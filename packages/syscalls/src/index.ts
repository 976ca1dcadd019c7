export { callNotes } from './call-notes.ts';
export { createClient } from './client.ts';
export type { ClientHooks } from './client.ts';
export { FileTable } from './file-table.ts';
export { flagMask, flagTable, flagValues, releaseNumber } from './flag-table.ts';
export type { FlagRow, FlagTable } from './flag-table.ts';
export { foldFlags, int32, reg, unsigned, unsignedAbove } from './registers.ts';
export { defineSyscallEvents, dispatch, syscallFlags, syscallHandlers, syscallTable } from './table.ts';
export type { SyscallHandler } from './table.ts';
export type {
  CapabilitySet,
  Credentials,
  FileNames,
  FileStatus,
  OpenFile,
  ResourceLimits,
  SignalAction,
  SignalActionInfo,
  SignalSet,
  TaskContext,
  WaitOutcome,
} from './task-context.ts';
export type { LibraryState } from './sbrk.ts';
export { decodeUtf8, encodeUtf8 } from './utf8.ts';
