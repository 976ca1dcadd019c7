/**
 * System V shared memory.
 *
 * @linux include/uapi/linux/ipc.h, include/uapi/linux/shm.h
 */
/** A key that nobody else can have. */
export const IPC_PRIVATE = 0;
export const IPC_CREAT = 0o1000;
export const IPC_EXCL = 0o2000;

export const IPC_RMID = 0;
export const IPC_SET = 1;
export const IPC_STAT = 2;
export const IPC_INFO = 3;
export const SHM_LOCK = 11;
export const SHM_UNLOCK = 12;
export const SHM_STAT = 13;
export const SHM_INFO = 14;
export const SHM_STAT_ANY = 15;

/** In `shmget`: of huge pages; not charged beforehand. */
export const SHM_HUGETLB = 0o4000;
export const SHM_NORESERVE = 0o10000;

/** In `shmat`. */
export const SHM_RDONLY = 0o10000;
/** Round the address down to a page. */
export const SHM_RND = 0o20000;
/** In place of what is mapped there. */
export const SHM_REMAP = 0o40000;
export const SHM_EXEC = 0o100000;

/** In a segment's mode: it goes with its last attachment; it is locked in memory. */
export const SHM_DEST = 0o1000;
export const SHM_LOCKED = 0o2000;
