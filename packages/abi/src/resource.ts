/**
 * Resource limits and usage.
 *
 * @linux include/uapi/asm-generic/resource.h
 */
export const RLIMIT_CPU = 0;
export const RLIMIT_FSIZE = 1;
export const RLIMIT_DATA = 2;
export const RLIMIT_STACK = 3;
export const RLIMIT_CORE = 4;
export const RLIMIT_RSS = 5;
export const RLIMIT_NPROC = 6;
export const RLIMIT_NOFILE = 7;
export const RLIMIT_MEMLOCK = 8;
export const RLIMIT_AS = 9;
export const RLIMIT_LOCKS = 10;
export const RLIMIT_SIGPENDING = 11;
export const RLIMIT_MSGQUEUE = 12;
export const RLIMIT_NICE = 13;
export const RLIMIT_RTPRIO = 14;
export const RLIMIT_RTTIME = 15;
/** How many limits there are. */
export const RLIM_NLIMITS = 16;
/** No limit: all bits of a 64-bit register set, which as a number is −1. */
export const RLIM_INFINITY = -1;

export const RUSAGE_SELF = 0;
export const RUSAGE_CHILDREN = -1;
export const RUSAGE_THREAD = 1;

/** `waitpid`: return at once where no child has ended. */
export const WNOHANG = 1;
/** `waitpid`: tell of stopped, of continued children, too. Accepted; no child is ever stopped. */
export const WUNTRACED = 2;
export const WCONTINUED = 8;
/** `waitid`: for children that have ended. */
export const WEXITED = 0x4;
/** `waitid`: who was waited for can be waited for again. */
export const WNOWAIT = 0x100_0000;
/** Of `wait4` and `waitid`: only children that the calling thread has made. */
export const __WNOTHREAD = 0x2000_0000;
