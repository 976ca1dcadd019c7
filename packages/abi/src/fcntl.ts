/**
 * Opening, seeking and sealing files.
 *
 * @linux include/uapi/asm-generic/fcntl.h, include/uapi/linux/fcntl.h, include/uapi/linux/memfd.h
 */
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
/** The bits that hold how a file is opened. */
export const O_ACCMODE = 3;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_DIRECTORY = 0o200000;
export const O_NONBLOCK = 0o4000;
export const O_NOCTTY = 0o400;
export const O_DSYNC = 0o10000;
/** The file owner is sent SIGIO. */
export const O_ASYNC = 0o20000;
/** Past the page cache; of a pipe, in packets. */
export const O_DIRECT = 0o40000;
export const O_LARGEFILE = 0o100000;
/** Flags of `vmsplice`. @linux include/linux/splice.h */
export const SPLICE_F_MOVE = 1;
export const SPLICE_F_NONBLOCK = 2;
export const SPLICE_F_MORE = 4;
export const SPLICE_F_GIFT = 8;

export const O_NOFOLLOW = 0o400000;
export const O_NOATIME = 0o1000000;
export const O_SYNC = 0o4010000;
/** A file without a name, in a directory. */
export const O_TMPFILE = 0o20200000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;

export const SEEK_SET = 0;
export const SEEK_CUR = 1;
export const SEEK_END = 2;
/** The next byte that is not in a hole. */
export const SEEK_DATA = 3;
/** The next hole; the end of the file counts as one. */
export const SEEK_HOLE = 4;

export const F_DUPFD = 0;
export const F_GETFD = 1;
export const F_SETFD = 2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_DUPFD_CLOEXEC = 1030;
export const FD_CLOEXEC = 1;

export const F_ADD_SEALS = 1033;
export const F_GET_SEALS = 1034;
/** Changes how many bytes a pipe holds. */
export const F_SETPIPE_SZ = 1031;
/** How many bytes a pipe holds. */
export const F_GETPIPE_SZ = 1032;
/** No more seals may be added. */
export const F_SEAL_SEAL = 0x1;
export const F_SEAL_SHRINK = 0x2;
export const F_SEAL_GROW = 0x4;
export const F_SEAL_WRITE = 0x8;
/** No new writable mapping and no `write`; mappings that exist may go on. */
export const F_SEAL_FUTURE_WRITE = 0x10;
export const F_SEAL_EXEC = 0x20;

export const MFD_CLOEXEC = 0x1;
export const MFD_ALLOW_SEALING = 0x2;
export const MFD_HUGETLB = 0x4;
export const MFD_NOEXEC_SEAL = 0x8;
export const MFD_EXEC = 0x10;

export const FALLOC_FL_KEEP_SIZE = 0x1;
export const FALLOC_FL_PUNCH_HOLE = 0x2;
export const FALLOC_FL_ZERO_RANGE = 0x10;
export const FALLOC_FL_COLLAPSE_RANGE = 0x8;
export const FALLOC_FL_INSERT_RANGE = 0x20;
export const FALLOC_FL_UNSHARE_RANGE = 0x40;
export const FALLOC_FL_WRITE_ZEROES = 0x80;

/** `sync_file_range`: waits for what is on its way before, begins to write, waits for that. @linux include/uapi/linux/fs.h */
export const SYNC_FILE_RANGE_WAIT_BEFORE = 1;
export const SYNC_FILE_RANGE_WRITE = 2;
export const SYNC_FILE_RANGE_WAIT_AFTER = 4;
