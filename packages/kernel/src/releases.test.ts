/**
 * What a release of Linux does not know yet is refused by a machine of that release, as Linux refused it: calls, flags and
 * advice that came after 6.1.
 */
import {
  Errno,
  F_ADD_SEALS,
  F_SEAL_EXEC,
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_DONTNEED_LOCKED,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_NORMAL,
  MFD_ALLOW_SEALING,
  MFD_EXEC,
  MFD_NOEXEC_SEAL,
  MPOL_F_NUMA_BALANCING,
  MPOL_PREFERRED_MANY,
  MPOL_WEIGHTED_INTERLEAVE,
  PR_GET_MEMORY_MERGE,
  PR_SET_THP_DISABLE,
  PR_THP_DISABLE_EXCEPT_ADVISED,
  Syscall,
} from '@pagelab/abi';
import type { Os, RegisterArg, SyscallName } from '@pagelab/abi';
import { releaseNumber } from '@pagelab/syscalls';
import { describe, expect, test } from 'vitest';
import { boot } from './boot.ts';

const { EBADF, EFAULT, EINVAL, ENOMEM, ENOSYS, EOPNOTSUPP } = Errno;
const RW = 3;
const ANON = 0x22;
const DROPPABLE = 0x28;
const FIXED = 0x10;
const ABOVE4G = 0x80;
const SHARED_VALIDATE = 3;
const PIDFD_THREAD = 0o200;
const PIDFD_SELF_THREAD_GROUP = -10_001;
const MAYMOVE_FIXED = 3;

/** A call, since when it does not answer `before`, and that. */
interface Newcomer {
  readonly what: string;
  readonly since: `6.${number}`;
  readonly before: number;
  readonly call: (made: Made) => number;
}

/** What calls are made with. */
interface Made {
  readonly os: Os;
  /** Eight pages, of which the third has other rights. */
  readonly at: number;
  readonly memfd: number;
  readonly pidfd: number;
  readonly call: (name: SyscallName, ...args: RegisterArg[]) => number;
}

/** An array of one range, put into the first page. */
function range({ os, at }: Made): number {
  os.mem.store64(at, BigInt(at + 4096));
  os.mem.store64(at + 8, 4096n);
  return at;
}

const NEWCOMERS: readonly Newcomer[] = [
  { what: 'mseal', since: '6.10', before: -ENOSYS, call: ({ at, call }) => call('mseal', at, 4096, 0) },
  { what: 'MADV_DONTNEED_LOCKED', since: '6.1', before: 0, call: ({ at, call }) => call('madvise', at, 4096, MADV_DONTNEED_LOCKED) },
  { what: 'MADV_GUARD_INSTALL', since: '6.13', before: -EINVAL, call: ({ at, call }) => call('madvise', at, 4096, MADV_GUARD_INSTALL) },
  { what: 'MADV_GUARD_REMOVE', since: '6.13', before: -EINVAL, call: ({ at, call }) => call('madvise', at, 4096, MADV_GUARD_REMOVE) },
  { what: 'advice to itself that is not for others', since: '6.13', before: -EINVAL, call: (made) => made.call('process_madvise', made.pidfd, range(made), 1, MADV_NORMAL, 0) },
  { what: 'advice to itself that is for others', since: '6.1', before: 0, call: (made) => made.call('process_madvise', made.pidfd, range(made), 1, MADV_COLD, 0) },
  { what: 'PIDFD_SELF', since: '6.15', before: -EBADF, call: (made) => made.call('process_madvise', PIDFD_SELF_THREAD_GROUP, range(made), 1, MADV_COLD, 0) },
  { what: 'PIDFD_SELF for a signal', since: '6.15', before: -EBADF, call: ({ call }) => call('pidfd_send_signal', PIDFD_SELF_THREAD_GROUP, 0, 0, 0) },
  { what: 'PIDFD_THREAD', since: '6.9', before: -EINVAL, call: ({ os, call }) => call('pidfd_open', os.getpid(), PIDFD_THREAD) },
  { what: 'PIDFD_SIGNAL_THREAD', since: '6.9', before: -EINVAL, call: ({ pidfd, call }) => call('pidfd_send_signal', pidfd, 0, 0, 1) },
  { what: 'MAP_DROPPABLE', since: '6.11', before: -EINVAL, call: ({ call }) => call('mmap', 0, 4096, RW, DROPPABLE, -1, 0) },
  { what: 'MAP_ABOVE4G with MAP_SHARED_VALIDATE', since: '6.6', before: -EOPNOTSUPP, call: ({ memfd, call }) => call('mmap', 0, 4096, RW, SHARED_VALIDATE | ABOVE4G, memfd, 0) },
  { what: 'a move of several mappings', since: '6.17', before: -EFAULT, call: ({ at, call }) => call('mremap', at, 8 * 4096, 8 * 4096, MAYMOVE_FIXED, at + 2 ** 20) },
  { what: 'MFD_NOEXEC_SEAL', since: '6.3', before: -EINVAL, call: ({ at, call }) => call('memfd_create', at, MFD_NOEXEC_SEAL) },
  { what: 'MFD_EXEC', since: '6.3', before: -EINVAL, call: ({ at, call }) => call('memfd_create', at, MFD_EXEC) },
  { what: 'F_SEAL_EXEC', since: '6.3', before: -EINVAL, call: ({ memfd, call }) => call('fcntl', memfd, F_ADD_SEALS, F_SEAL_EXEC) },
  { what: 'PR_GET_MEMORY_MERGE', since: '6.4', before: -EINVAL, call: ({ call }) => call('prctl', PR_GET_MEMORY_MERGE, 0, 0, 0, 0) },
  { what: 'PR_THP_DISABLE_EXCEPT_ADVISED', since: '6.18', before: -EINVAL, call: ({ call }) => call('prctl', PR_SET_THP_DISABLE, 1, PR_THP_DISABLE_EXCEPT_ADVISED, 0, 0) },
  { what: 'MPOL_WEIGHTED_INTERLEAVE', since: '6.9', before: -EINVAL, call: (made) => policy(made, MPOL_WEIGHTED_INTERLEAVE) },
  { what: 'balancing with several preferred nodes', since: '6.10', before: -EINVAL, call: (made) => policy(made, MPOL_PREFERRED_MANY | MPOL_F_NUMA_BALANCING) },
];

function policy({ os, at, call }: Made, mode: number): number {
  os.mem.store64(at, 1n);
  return call('set_mempolicy', mode, at, 64);
}

describe.each(['6.1', '6.12', '6.18'] as const)('Linux %s', (kernel) => {
  const machine = boot({ memory: '64M', kernel });

  test.each(NEWCOMERS)('$what', ({ since, before, call }) => {
    const process = machine.createProcess();
    const { os } = process;
    const at = os.mmap(0x2000_0000, 8 * 4096, RW, ANON | FIXED);
    const make = (name: SyscallName, ...args: RegisterArg[]): number => os.syscall(Syscall[name], ...args);
    os.mprotect(at + 2 * 4096, 4096, 1);
    os.mem.storeCString(at, 'x');
    const memfd = make('memfd_create', at, MFD_ALLOW_SEALING);
    expect(make('ftruncate', memfd, 4096)).toBe(0);
    const result = call({ os, at, memfd, pidfd: make('pidfd_open', os.getpid(), 0), call: make });
    if (releaseNumber(kernel) < releaseNumber(since)) expect(result).toBe(before);
    else expect(result).toBeGreaterThanOrEqual(0);
    process.exit(0);
    machine.validate();
  });
});

test('advice that there is not is told from a range that suits none, in each release', () => {
  for (const kernel of ['6.1', '6.18'] as const) {
    const { os } = boot({ memory: '64M', kernel }).createProcess();
    expect(os.syscall(Syscall.madvise, 0x2000_0000, 4096, MADV_COLLAPSE)).toBe(-ENOMEM);
  }
});
