import { Errno, Syscall } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { dispatch, syscallFlags, syscallHandlers, syscallTable } from './table.ts';
import type { TaskContext } from './task-context.ts';

const nobody = { vm: { trace: { enabled: false } } } as unknown as TaskContext;

test('every handler sits at its number', () => {
  for (const [name, handler] of Object.entries(syscallHandlers)) {
    expect(syscallTable[Syscall[name as keyof typeof Syscall]], name).toBe(handler);
  }
});

test('what is not in the table is ENOSYS, whatever is asked for', () => {
  for (const nr of [-1, 3000, Syscall.fork, Syscall.execve, 2 ** 40 + 511, 2n ** 64n - 1n]) expect(dispatch(nobody, nr)).toBe(-Errno.ENOSYS);
  for (const nr of ['length', 'map', 'constructor']) expect(() => dispatch(nobody, nr as unknown as number)).toThrow(TypeError);
});

test('the documented flags are those of calls there are, each once', () => {
  for (const { syscall, kind, flags } of syscallFlags) {
    expect(syscallHandlers).toHaveProperty(syscall);
    expect(new Set(flags.map((flag) => flag.name)).size).toBe(flags.length);
    if (kind === 'values') expect(new Set(flags.map((flag) => flag.value)).size).toBe(flags.length);
  }
});
