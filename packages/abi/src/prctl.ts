/** Options of `prctl`. @linux include/uapi/linux/prctl.h */
export const PR_SET_NAME = 15;
export const PR_GET_NAME = 16;
export const PR_MCE_KILL = 33;
export const PR_MCE_KILL_GET = 34;
export const PR_SET_THP_DISABLE = 41;
export const PR_GET_THP_DISABLE = 42;
export const PR_SET_MEMORY_MERGE = 67;
export const PR_GET_MEMORY_MERGE = 68;

/** What PR_MCE_KILL does, and when a process is told that a page of its is broken. */
export const PR_MCE_KILL_CLEAR = 0;
export const PR_MCE_KILL_SET = 1;
export const PR_MCE_KILL_LATE = 0;
export const PR_MCE_KILL_EARLY = 1;
export const PR_MCE_KILL_DEFAULT = 2;

/** Huge pages are not for this process, but where it asks for them. */
export const PR_THP_DISABLE_EXCEPT_ADVISED = 2;
