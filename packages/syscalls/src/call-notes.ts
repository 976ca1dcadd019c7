import type { Syscall } from '@pagelab/abi';

/** By call: where it differs from Linux, and why; or what to use in its place. Documentation. */
export const callNotes: Readonly<Partial<Record<keyof typeof Syscall, string>>> = {
  rt_sigaction: 'a handler is a function of the host: the call sets the default action and none, and `os.sigaction` handlers',
  kill: 'no process is ever stopped: a signal that would stop one is `ENOSYS`',
  wait4: 'a handler that runs meanwhile does not end the wait, as with `SA_RESTART`',
  pkey_mprotect: 'the processor has no protection keys: as on Linux without them, only key -1 is taken, which is `mprotect`',
  pkey_alloc: 'the processor has no protection keys: `EINVAL`, as on Linux without them',
  pkey_free: 'the processor has no protection keys: `EINVAL`, as on Linux without them',
  remap_file_pages: 'a new mapping, as on Linux since 4.0; Linux also warns in its log',
  pidfd_open: 'the descriptor is for `process_madvise`; it cannot be polled',
  sigaltstack: 'a frame is written where a handler runs on the alternate stack, or where the program has moved its stack pointer',
  personality: 'kept, told and inherited whole; the bits below act, with the next `execve`',
  setpgid: 'there is one session, which nobody leads',
  fork: '`os.fork`: a program is a function of the host',
  vfork: '`os.vfork`: a program is a function of the host',
  clone: '`os.thread`: a thread is a function of the host',
  execve: '`os.execve`: a program is a function of the host',
  rt_sigreturn: 'a handler returns as a function does',
};
