/**
 * Capabilities: what a privileged task may do beyond the others, as far as memory management asks for them.
 *
 * @linux include/uapi/linux/capability.h
 */
export const CAP_DAC_OVERRIDE = 1;
export const CAP_FOWNER = 3;
export const CAP_KILL = 5;
export const CAP_SETGID = 6;
export const CAP_SETUID = 7;
/** Lock memory beyond RLIMIT_MEMLOCK. */
export const CAP_IPC_LOCK = 14;
/** Use shared memory whatever its permissions. */
export const CAP_IPC_OWNER = 15;
/** Map addresses below `vm.mmap_min_addr`. */
export const CAP_SYS_RAWIO = 17;
/** Reach into other processes. */
export const CAP_SYS_PTRACE = 19;
export const CAP_SYS_ADMIN = 21;
/** Raise hard limits, lower `oom_score_adj`. */
/** May change priorities, and advise about others' memory. */
export const CAP_SYS_NICE = 23;
export const CAP_SYS_RESOURCE = 24;
/** The highest capability. */
export const CAP_LAST_CAP = 40;
