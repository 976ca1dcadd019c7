"""What the matrix is made of: the state in which each call is made, and the values of each argument.

A value is a number, or a word: a name of `PLACES`, `self` (the own process), `id` (of a System V segment), `brk`, each with
an offset behind it ("BUF+8", "-self"). The first value of each argument is the good one: the call with those succeeds.
"""
PAGE = 4096
S = 0x1000_0000          # area a: mappings of every kind
B = 0x1010_0000          # area b: structures and texts
BUF = 0x1020_0000        # area c: what calls write to; nothing is mapped behind it
AREAS = [(S, 64), (B, 4), (BUF, 2)]
TASK_SIZE = 0x7fff_ffff_f000
TMP = '/tmp'

RW, PRIVATE, SHARED, FIXED, ANON = 3, 2, 1, 0x10, 0x20
O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NONBLOCK, O_DIRECTORY, O_PATH, O_CLOEXEC = (
    0, 1, 2, 0o100, 0o200, 0o1000, 0o2000, 0o4000, 0o200000, 0o10000000, 0o2000000)

# Descriptors, by what they lead to.
F, R, W, H, D, DP, T, M, E, L, PR, PW, ER, EW, XW, Z, N, U, PF, AP, HT, PM, ZR = range(40, 63)
CLOSED = 77
FDS = [F, R, W, H, D, DP, T, M, E, L, PR, PW, ER, EW, XW, Z, N, U, PF, AP, CLOSED, -1, 0x7fff_ffff, 0x1_0000_0000 + F]
ODD_FDS = [H, D, DP, PR, U, PF, CLOSED, -1, 0x1_0000_0000 + F]

_next = B
SETUP = []


def call(name, *args, fd=-1, bind=-1):
    SETUP.append(('c', name, list(args), fd, bind))


def bytes_at(at, data):
    SETUP.append(('w', at, data))


def place(data):
    """Puts bytes into area b, 16 bytes apart. Returns where."""
    global _next
    at = _next
    bytes_at(at, data)
    _next = (at + len(data) + 31) // 16 * 16
    return at


def text(what):
    return place(what.encode() + b'\0')


def words(*values):
    return place(b''.join((value & 2 ** 64 - 1).to_bytes(8, 'little') for value in values))


def ints(*values):
    return place(b''.join((value & 2 ** 32 - 1).to_bytes(4, 'little') for value in values))


# The state.
call('mmap', B, 4 * PAGE, RW, PRIVATE | ANON | FIXED, -1, 0)
SETUP.append(('f', B, 4 * PAGE, 0xa5))
call('mmap', BUF, 2 * PAGE, RW, PRIVATE | ANON | FIXED, -1, 0)
SETUP.append(('f', BUF, 2 * PAGE, 0xa5))
call('mmap', S, 4 * PAGE, RW, PRIVATE | ANON | FIXED, -1, 0)
SETUP.append(('f', S, 2 * PAGE, 0x11))
call('mmap', S + 6 * PAGE, PAGE, 1, PRIVATE | ANON | FIXED, -1, 0)
call('mmap', S + 7 * PAGE, PAGE, 0, PRIVATE | ANON | FIXED, -1, 0)
call('mmap', S + 8 * PAGE, 2 * PAGE, RW, SHARED | ANON | FIXED, -1, 0)
SETUP.append(('f', S + 8 * PAGE, PAGE, 0x22))

# The same limits, name and execution domain for all.
call('setrlimit', 7, words(1024, 4096)), call('setrlimit', 8, words(8 << 20, 8 << 20)), call('setrlimit', 4, words(0, 0))
call('prctl', 15, text('matrix'), 0, 0, 0), call('personality', 0x40000)

# What containers often lack, nobody has: CAP_SYS_RESOURCE.
call('capset', ints(0x20080522, 0), ints(0xfeffffff, 0xfeffffff, 0, 0x1ff, 0x1ff, 0))

NAMES = [TMP + '/f', TMP + '/d', TMP + '/d/g', TMP + '/new', '/dev/shm/t', '/dev/shm/new', TMP + '/other', TMP + '/empty', TMP + '/noperm', TMP + '/closed', TMP + '/closed/x']
PATH_F, PATH_D, PATH_G, PATH_NEW, PATH_T, PATH_SHM_NEW, PATH_OTHER, PATH_EMPTY = [text(name) for name in NAMES[:8]]
PATH_NOPERM, PATH_CLOSED, PATH_IN_CLOSED = [text(name) for name in NAMES[8:]]
PATH_BELOW_F, PATH_NONE, PATH_NOTHING, PATH_SLASH, PATH_ROOT, PATH_LONG, PATH_ZERO, PATH_PROC, PATH_REL, PATH_DOT, PATH_NEW_SLASH, PATH_RO_ENOENT = [
    text(name) for name in [TMP + '/f/x', TMP + '/none/x', '', TMP + '/f/', '/', TMP + '/' + 'x' * 300, '/dev/zero', '/proc/self/maps', 'tmp/f', TMP + '/.', TMP + '/new/', TMP + '/..' + TMP + '/d/../f']]
ONLY_NAME, NAME_249, NAME_250 = text('x'), text('y' * 249), text('y' * 250)

call('open', PATH_F, O_RDWR | O_CREAT, 0o644, fd=F)
call('ftruncate', F, 6 * PAGE + 100)
call('pwrite64', F, S, 2 * PAGE, 0)
call('pwrite64', F, S, 100, 6 * PAGE)
call('mkdir', PATH_D, 0o755)
call('mkdir', PATH_EMPTY, 0o755)
call('open', PATH_G, O_RDWR | O_CREAT, 0o600, fd=AP)
call('pwrite64', AP, S, 100, 0)
call('open', PATH_NOPERM, O_RDWR | O_CREAT, 0, fd=AP)
call('mkdir', PATH_CLOSED, 0)
call('open', PATH_F, O_RDONLY, 0, fd=R)
call('open', PATH_F, O_WRONLY, 0, fd=W)
call('open', PATH_F, O_PATH, 0, fd=H)
call('open', PATH_D, O_RDONLY, 0, fd=D)
call('open', PATH_D, O_PATH, 0, fd=DP)
call('open', PATH_F, O_RDWR | O_APPEND, 0, fd=AP)
call('open', PATH_T, O_RDWR | O_CREAT, 0o644, fd=T)
call('pwrite64', T, S, 2 * PAGE - 50, PAGE)
call('memfd_create', ONLY_NAME, 0, fd=M)
call('ftruncate', M, 5 * PAGE)
call('pwrite64', M, S, PAGE, 0)
call('memfd_create', ONLY_NAME, 2, fd=E)
call('ftruncate', E, 4 * PAGE + 50)
call('memfd_create', ONLY_NAME, 2, fd=L)
call('ftruncate', L, 2 * PAGE)
call('fcntl', L, 1033, 0xf)
call('pipe2', BUF, O_NONBLOCK)
call('dup2', 3, PR), call('dup2', 4, PW), call('close', 3), call('close', 4)
call('write', PW, S, 10)
call('pipe2', BUF, O_NONBLOCK)
call('dup2', 3, ER), call('dup2', 4, EW), call('close', 3), call('close', 4)
call('pipe2', BUF, O_NONBLOCK)
call('dup2', 4, XW), call('close', 3), call('close', 4)
call('open', PATH_ZERO, O_RDWR, 0, fd=Z)
call('open', text('/dev/null'), O_RDWR, 0, fd=N)
call('userfaultfd', O_NONBLOCK, fd=U)
call('pidfd_open', 'self', 0, fd=PF)
call('open', text('/proc/self/mem'), O_RDWR, 0, fd=PM)
call('open', PATH_ZERO, O_RDONLY, 0, fd=ZR)
SETUP.append(('f', BUF, 8, 0xa5))
call('lseek', F, 10, 0)
call('mmap', S + 12 * PAGE, 2 * PAGE, 1, PRIVATE | FIXED, F, 6 * PAGE)
call('mmap', S + 14 * PAGE, PAGE, RW, SHARED | FIXED, F, 0)
call('mmap', S + 17 * PAGE, 2 * PAGE, 1, SHARED | FIXED, R, 0)
call('mmap', S + 20 * PAGE, 3 * PAGE, RW, SHARED | FIXED, M, 0)
call('mmap', S + 24 * PAGE, 2 * PAGE, RW, PRIVATE | ANON | FIXED, -1, 0)
call('mlock', S + 24 * PAGE, PAGE)
call('shmget', 0, 2 * PAGE, 0o600, bind=1)
call('shmat', 'id', S + 28 * PAGE, 0)
call('brk', 0, bind=2)

# Kinds of values.
KERNEL = [-PAGE, -1, TASK_SIZE, 0xffff_8880_0000_0000, 0x8000_0000_0000_0000]
BIG = [-1, -PAGE, 0x8000_0000_0000_0000, 0x7fff_ffff_ffff_ffff]
# Places of mappings, and lengths that never reach what the harness itself needs.
AT = [S, S + PAGE, S + 3 * PAGE, S + 4 * PAGE, S + 6 * PAGE, S + 7 * PAGE, S + 8 * PAGE, S + 12 * PAGE, S + 14 * PAGE, S + 17 * PAGE, S + 20 * PAGE,
      S + 24 * PAGE, S + 28 * PAGE, S + 1, 0, 1, *KERNEL]
LEN = [PAGE, 2 * PAGE, 0, 1, PAGE + 1, 8 * PAGE, 30 * PAGE, 0x4000_0000_0000_0000, *BIG]
SMALL = [PAGE, 2 * PAGE, 0, 1, PAGE + 1, 8 * PAGE, 30 * PAGE, -1, -PAGE]
OUT = [BUF, BUF + 1, BUF + 2 * PAGE - 4, S + 6 * PAGE, S + 7 * PAGE, S + 10 * PAGE, S + 13 * PAGE, S + 17 * PAGE, 0, 8, *KERNEL]
IN = OUT
SIZE = [100, 0, 1, PAGE, 3 * PAGE, 0x7fff_f000, *BIG]
OFFSET = [0, 1, PAGE, 5 * PAGE, 6 * PAGE + 100, 7 * PAGE, 0x7fff_ffff_ffff_f000, 0xfff_ffff_f000, 0x1000_0000_0000, *BIG]
PID = ['self', 0, -1, 99999, -99999, '-self', 'self+4294967296', 0x8000_0000, 0x7fff_ffff]
PATHS = [PATH_F, PATH_D, PATH_G, PATH_NEW, PATH_T, PATH_SHM_NEW, PATH_EMPTY, PATH_BELOW_F, PATH_NONE, PATH_NOTHING, PATH_SLASH, PATH_ROOT, PATH_LONG,
         PATH_ZERO, PATH_PROC, PATH_REL, PATH_DOT, PATH_NEW_SLASH, PATH_RO_ENOENT, PATH_NOPERM, PATH_CLOSED, PATH_IN_CLOSED,
         S + 10 * PAGE, S + 7 * PAGE, 0, BUF + 2 * PAGE - 4, *KERNEL]

# Of calls that change names: the devices stay.
CHANGED = [path for path in PATHS if path != PATH_ZERO]


def bits(*values):
    """Of flags: each, none, all, and what nobody knows."""
    return [0, *values, sum(values), *(values[0] | value for value in values[1:]), 1 << 27, 1 << 31, -1, 1 << 32, values[0] | 1 << 33]


IOV = words(BUF, 8, BUF + 100, 8)
IOV_BAD_SECOND, IOV_HOLE, IOV_NEGATIVE = words(BUF, 8, S + 10 * PAGE, 8), words(S + 10 * PAGE, 8), words(BUF, -1)
IOV_KERNEL, IOV_EMPTY, IOV_EDGE, IOV_HUGE = words(-PAGE, 8), words(BUF, 0, -1, 0), words(BUF + 2 * PAGE - 4, 8), words(BUF, 8, BUF, 2 ** 62, BUF, 2 ** 62)
IOV_MAPS, IOV_UNALIGNED, IOV_OVER, IOV_SECOND_NEGATIVE = words(S, PAGE, S + PAGE, PAGE), words(S + 1, PAGE), words(S, 8 * PAGE), words(BUF, 8, BUF, -1)
IOVS = [IOV, IOV_BAD_SECOND, IOV_HOLE, IOV_NEGATIVE, IOV_SECOND_NEGATIVE, IOV_KERNEL, IOV_EMPTY, IOV_EDGE, IOV_HUGE, BUF + 2 * PAGE - 4, S + 10 * PAGE, 0, -PAGE, -1]
COUNT = [2, 0, 1, 1024, 1025, 0x1_0000_0001, -1, 0x8000_0000]

# A process without privilege: more setup.
DROP = [('c', 'setgid', [1000], -1, -1), ('c', 'setuid', [1000], -1, -1)]

CALLS = []


def matrix(name, *args, any=False, placed=False, flags='', pre=(), bases=({},), weight=1):
    """A call: values by argument. `any`: what it returns is not the same twice; `placed`: it may be an address; `flags`:
    'v' to look at VmFlags, 't' where what it writes is not the same twice, 'w' where it locks the caller's other memory, too; `pre`: more setup; `bases`: other good calls, by
    position and value, with the positions to vary around them (else all of them)."""
    CALLS.append(dict(name=name, args=[list(dict.fromkeys(values)) for values in args], any=any, placed=placed, flags=flags, pre=list(pre), weight=weight, bases=[base if isinstance(base, tuple) else (base, None) for base in bases]))


def calls():
    # Files.
    matrix('read', FDS, OUT, SIZE)
    matrix('write', FDS, IN, [n for n in SIZE if n != 0x7fff_f000])
    matrix('pread64', FDS, OUT, SIZE, OFFSET)
    matrix('pwrite64', [fd for fd in FDS if fd not in (U,)], IN, [100, 0, 1, PAGE, *BIG], OFFSET)
    matrix('readv', FDS, IOVS, COUNT)
    matrix('writev', FDS, IOVS, COUNT)
    matrix('preadv', FDS, IOVS, COUNT, OFFSET, [0, 1, -1])
    matrix('pwritev', FDS, IOVS, COUNT, OFFSET, [0, 1, -1])
    matrix('close', FDS)
    matrix('lseek', [fd for fd in FDS if fd != D], [*[offset for offset in OFFSET if offset != 0x7fff_ffff_ffff_ffff], 2 * PAGE, 3 * PAGE], [0, 1, 2, 3, 4, 5, -1, 1 << 32])
    matrix('dup', FDS)
    matrix('dup2', FDS, [30, F, R, 1023, 1024, 4096, -1, 0x1_0000_0000 + 30, H])
    matrix('dup3', FDS, [30, F, R, 1023, 1024, -1, 0x1_0000_0000 + 30, H], [0, O_CLOEXEC, O_NONBLOCK, 1, -1, 1 << 32])
    matrix('fcntl', FDS, [3, 0, 1, 2, 4, 1030, 1033, 1034, 1031, 1032, 99, -1, 1 << 32], [0, 1, 2, 3, 30, 16, 32, 64, O_NONBLOCK, O_APPEND, 1024, -1, PAGE, PAGE + 1, 1 << 20, (1 << 20) + 1, 1 << 31, 1 << 32])
    matrix('fcntl', [PW, EW, F, L, E], [1031, 1032, 1033, 0], [1 << 16, PAGE, 1 << 20, (1 << 20) + 1, 1 << 24, 0, 1023, 1024], pre=DROP)
    splices = [PW, EW, PR, ER, XW, F, H, D, U, PF, Z, CLOSED, -1, 0x1_0000_0000 + PW]
    matrix('vmsplice', splices, [IOV, IOV_MAPS, *IOVS], COUNT, [2, 3, 6, 10, 15, 16, -1, 1 << 32 | 2])
    matrix('fsync', FDS), matrix('fdatasync', FDS), matrix('syncfs', FDS)
    matrix('fstat', FDS, OUT, flags='t')
    for name in ('stat', 'lstat'):
        matrix(name, PATHS, OUT, flags='t')
    matrix('newfstatat', [-100, D, DP, F, H, PR, CLOSED, -1], PATHS, OUT[:7] + [0, -PAGE], [0, 0x100, 0x1000, 0x1100, 0x800, 0x2000, 0x6000, 0x200, 0x400, 1, -1, 1 << 32], flags='t')
    matrix('access', PATHS, [0, 1, 2, 4, 6, 7, 8, -1, 1 << 32])
    matrix('access', PATHS, [0, 1, 2, 4, 6, 7, 8], pre=DROP)
    opens = [0, 1, 2, 3, O_CREAT | 2, O_CREAT | O_EXCL | 2, O_TRUNC | 2, O_TRUNC, O_TRUNC | 1, O_DIRECTORY, O_DIRECTORY | 2, O_PATH, O_PATH | 2, O_PATH | O_CREAT, O_PATH | O_TRUNC | O_DIRECTORY,
             O_APPEND | 1, O_CLOEXEC, O_NONBLOCK, O_CREAT | O_DIRECTORY, O_CREAT | O_DIRECTORY | 2, 0o400000, 0o20200000, 0o20000000 | 2, 0o20200000 | 2, 0o20200002 | O_CREAT, 1 << 26, 1 << 31, -1, 1 << 32, O_EXCL, 0o4010000 | 2, 0o40000]
    matrix('open', PATHS, opens, [0o644, 0, 0o7777, -1])
    matrix('open', PATHS, opens, [0o644], pre=DROP)
    matrix('openat', [-100, D, DP, F, H, PR, CLOSED, -1, 0x1_0000_0000 - 100], PATHS, [0, 2, O_CREAT | 2, O_DIRECTORY, O_PATH, -1], [0o644, 0])
    matrix('creat', PATHS, [0o644, 0, -1])
    matrix('unlink', CHANGED), matrix('unlink', CHANGED, pre=DROP)
    matrix('unlinkat', [-100, D, DP, F, H, CLOSED, -1], [p for p in CHANGED if p != PATH_ROOT], [0, 0x200, 0x100, 1, -1, 1 << 32])
    matrix('mkdir', PATHS, [0o755, 0, 0o7777, -1]), matrix('mkdir', PATHS, [0o755], pre=DROP)
    matrix('rmdir', CHANGED), matrix('rmdir', CHANGED, pre=DROP)
    matrix('link', CHANGED, PATHS), matrix('rename', CHANGED, CHANGED)
    matrix('rename', CHANGED, CHANGED, pre=DROP)
    matrix('truncate', PATHS, [*OFFSET, 100]), matrix('truncate', PATHS, [0, 100], pre=DROP)
    matrix('ftruncate', FDS, [*OFFSET, 100])
    modes = [0, 1, 2, 3, 8, 9, 0x10, 0x11, 0x12, 0x20, 0x21, 0x28, 0x40, 0x41, 0x80, 0x81, 0x4, 0x100, -1, 1 << 32]
    matrix('fallocate', FDS, modes, [0, PAGE, 100, 6 * PAGE, 8 * PAGE, *BIG], [PAGE, 0, 100, 2 * PAGE, 8 * PAGE, 0x7fff_ffff_ffff_0000, *BIG],
           bases=({}, ({0: T}, (1, 2, 3)), ({0: E}, (1, 2, 3)), ({0: L}, (1, 2, 3))), weight=2)
    matrix('sync_file_range', FDS, OFFSET, [0, PAGE, *BIG], bits(1, 2, 4))
    matrix('fadvise64', FDS, OFFSET, [0, PAGE, *BIG], [0, 1, 2, 3, 4, 5, 6, -1, 1 << 32])
    matrix('pipe', OUT), matrix('pipe2', OUT, [0, O_NONBLOCK, O_CLOEXEC, 0o40000, O_NONBLOCK | O_CLOEXEC, 0o200, 1, -1, 1 << 32])
    matrix('memfd_create', [ONLY_NAME, NAME_249, NAME_250, PATH_NOTHING, BUF + 2 * PAGE - 4, S + 10 * PAGE, 0, -1, -PAGE],
           [0, 1, 2, 3, 8, 16, 24, 9, 10, 4, 6, 12, 32, 64, 1 << 31, -1, 1 << 32, 4 | 21 << 26, 4 | 20 << 26, 21 << 26])
    # Mappings.
    prots = [RW, 0, 1, 2, 4, 5, 7, 8, 16, 0x0100_0003, 0x0200_0003, 0x0300_0001, -1, 1 << 32 | 1]
    flags = [PRIVATE | ANON, PRIVATE | ANON | FIXED, SHARED | ANON, PRIVATE, SHARED, SHARED | FIXED, PRIVATE | FIXED, 3, 3 | FIXED, 0, 4, 8 | ANON, 8, 9 | ANON, 0x100022, 0x100032, 0x100001, 0x122, 0x121, 0x120 | 8,
             0x2022, 0x8022, 0x12022, 0x4022, 0x40022, 0x40001, 0x62, 0xa2, 0xe2, 0x80003, 0x80002, 0x20022, 0x1822, 0x803, 0x200003, 1 << 32 | 0x22, 1 << 32 | 3, -1, 0x40022 | 21 << 26, 0x40022 | 30 << 26, 0x40022 | 20 << 26]
    spots = [S + 40 * PAGE, 0, S, S + 6 * PAGE, S + 20 * PAGE, S + 1, 1, PAGE, 0x10000 - PAGE, *KERNEL, TASK_SIZE - PAGE, 0x7fff_0000_0001]
    matrix('mmap', spots, LEN, prots, flags, [F, -1, R, W, H, D, T, M, E, L, PR, Z, ZR, N, U, PF, AP, PM, CLOSED, 0x1_0000_0000 + F],
           [0, PAGE, 1, 6 * PAGE, 7 * PAGE, *BIG, 0x7fff_ffff_ffff_f000, 0x8000_0000_0000_1000], placed=True, bases=({}, ({3: SHARED}, (1, 2, 4, 5)), ({3: PRIVATE | FIXED}, (0, 1, 4)), ({3: SHARED, 4: L, 2: 1}, (2, 3)), ({3: SHARED, 4: R, 2: 1}, (2, 3, 5)), ({3: SHARED, 4: E}, (2, 3, 5))), weight=5)
    matrix('munmap', AT, LEN)
    matrix('mprotect', AT, LEN, prots, flags='v')
    matrix('pkey_mprotect', AT, LEN, prots, [-1, 0, 1, 15, 16, 1 << 32])
    matrix('pkey_alloc', [0, 1, -1], [0, 1, 2, 3, 4, -1]), matrix('pkey_free', [0, 1, -1, 15, 16])
    advice = [4, *range(0, 4), *range(5, 27), 102, 103, 104, -1, 1 << 32 | 4]
    matrix('madvise', AT, SMALL, advice, flags='v', weight=3)
    matrix('mremap', [a for a in AT], [PAGE, 2 * PAGE, 0, 1, PAGE + 1, 8 * PAGE, 30 * PAGE, *BIG], [2 * PAGE, PAGE, 0, 1, PAGE + 1, 8 * PAGE, 0x7fff_ffff_f000, *BIG], [1, 0, 2, 3, 4, 5, 6, 7, 8, 9, -1, 1 << 32 | 1],
           [S + 40 * PAGE, S, S + PAGE, S + 3 * PAGE, S + 20 * PAGE, S + 1, 0, PAGE, TASK_SIZE - PAGE, *KERNEL], placed=True, flags='v', bases=({}, ({3: 3}, (0, 1, 2, 4)), ({3: 5}, (0, 1, 2)), ({3: 7}, (0, 1, 2, 4))), weight=4)
    matrix('remap_file_pages', [S + 20 * PAGE, *AT], LEN, [0, 1, 3, -1, 1 << 32], [0, 1, 2, 5, 0xf_ffff_ffff_ffff, 0x10_0000_0000_0000, -1], [0, 1, 0x10000, -1])
    matrix('msync', AT, LEN, [4, 0, 1, 2, 3, 5, 6, 7, 8, -1, 1 << 32 | 4])
    matrix('mincore', AT, [PAGE, 2 * PAGE, 0, 1, PAGE + 1, 30 * PAGE, *BIG], OUT, flags='')
    for name in ('mlock', 'munlock'):
        matrix(name, AT, LEN, flags='v')
    matrix('mlock2', AT, LEN, bits(1), flags='v')
    matrix('mlockall', [1, 2, 0, 3, 4, 5, 6, 7, 8, -1, 1 << 32 | 1], flags='vw'), matrix('munlockall', flags='v')
    rlimit_memlock = [('c', 'setrlimit', [8, words(2 * PAGE, 2 * PAGE)], -1, -1), *DROP]
    for name in ('mlock', 'munlock'):
        matrix(name, AT, LEN, flags='v', pre=rlimit_memlock)
    matrix('mlock2', AT, LEN, [0, 1], flags='v', pre=rlimit_memlock)
    matrix('mlockall', [1, 2, 0, 3, 4, 5, 6, 7, 8], pre=rlimit_memlock)
    matrix('mmap', [S + 40 * PAGE], [PAGE, 2 * PAGE, 3 * PAGE], [3, 1], [0x2022, 0x2021, 0x22], [-1], [0], placed=True, flags='v', pre=rlimit_memlock)
    matrix('mseal', AT, LEN, [0, 1, -1, 1 << 32], flags='v')
    matrix('brk', ['brk', 'brk+1', 'brk+4096', 'brk+8193', 0, 1, *KERNEL], placed=True)
    sealed = [('c', 'mseal', [S, 2 * PAGE, 0], -1, -1), ('c', 'mseal', [S + 20 * PAGE, PAGE, 0], -1, -1), ('c', 'mseal', [S + 6 * PAGE, PAGE, 0], -1, -1)]
    for name in ('munmap', 'mlock', 'munlock', 'mseal'):
        matrix(name, AT, LEN, pre=sealed, flags='v')
    matrix('mprotect', AT, SMALL, [3, 0, 1, 5], pre=sealed, flags='v')
    matrix('madvise', AT, SMALL, advice, pre=sealed, flags='v')
    matrix('mmap', [S, S + PAGE, S + 2 * PAGE, S + 19 * PAGE, S + 20 * PAGE], [PAGE, 2 * PAGE, 3 * PAGE], [3], [0x32, 0x31, 0x100032], [-1], [0], placed=True, pre=sealed)
    matrix('mremap', [S, S + PAGE, S + 3 * PAGE, S + 20 * PAGE], [PAGE, 2 * PAGE, 0], [PAGE, 2 * PAGE, 0, 3 * PAGE], [1, 0, 3, 5, 7], [S + 40 * PAGE, S, S + 19 * PAGE], placed=True, pre=sealed)
    # Segments.
    matrix('shmget', [0, 12345, -1, 1 << 32 | 12345], [PAGE, 0, 1, 3 * PAGE, *BIG], [0o1600, 0, 0o3600, 0o1000, 0o11600, 0o7777, -1, 0o5600, 0o5600 | 21 << 26], any=True)
    matrix('shmat', ['id', -1, 999999, 0, 'id+4294967296'], [0, S, S + 40 * PAGE, S + 40 * PAGE + 1, S + 27 * PAGE, 1, PAGE, *KERNEL], [0, 0o10000, 0o20000, 0o40000, 0o60000, 0o70000, 0o100000, 0o200000, -1, 1 << 32], placed=True)
    matrix('shmat', ['id'], [0, S + 40 * PAGE], [0, 0o10000, 0o100000], placed=True, pre=DROP)
    matrix('shmdt', [S + 28 * PAGE, S + 29 * PAGE, S + 28 * PAGE + 1, S, S + 20 * PAGE, 0, *KERNEL])
    matrix('shmctl', ['id', -1, 999999, 0, 'id+4294967296'], [0, 1, 2, 3, 11, 12, 13, 14, 15, 16, 99, -1, 0x100, 0x102, 1 << 32], OUT, any=True, flags='t')
    matrix('shmctl', ['id', 0], [0, 1, 2, 3, 11, 12, 13, 14, 15], [BUF, 0], any=True, flags='t', pre=DROP)
    # Processes and signals.
    matrix('wait4', PID, [0, 1, 2, 3, 8, 0x8000_0000, 0x4000_0000, 0x2000_0001, 1 << 24, -1, 1 << 32, 4], OUT, [0, BUF, -PAGE])
    CALLS[-1]['args'] = [CALLS[-1]['args'][i] for i in (0, 2, 1, 3)]
    matrix('waitid', [0, 1, 2, 3, 4, 5, -1, 1 << 32], [*PID, PF, F, CLOSED], [BUF, 0, S + 10 * PAGE, -PAGE], [4, 0, 1, 5, 2, 8, 14, 0x1000004, 0x4000_0004, 0x8000_0004, 0x2000_0005, 16, -1, 1 << 32 | 4], [0, BUF, -PAGE])
    matrix('kill', [pid for pid in PID if pid != -1], [0, 65, -1, 17, 28, 1 << 32, 64]), matrix('kill', ['self', '-self', 0], [1, 2, 9, 10, 15, 23, 32, 64])
    matrix('tkill', PID, [0, 65, -1, 17, 1 << 32]), matrix('tgkill', PID, PID, [0, 65, -1, 17, 1 << 32])
    matrix('pidfd_send_signal', [PF, F, H, U, CLOSED, -1], [0, 65, -1, 17, 1 << 32], [0, S + 10 * PAGE, -PAGE, ints(0, 0, -1, 0) , ints(17, 0, -1, 0)], [0, 1, 2, 4, 3, 8, -1, 1 << 32])
    matrix('pidfd_open', PID, [0, O_NONBLOCK, 0o200, O_NONBLOCK | 0o200, 1, -1, 1 << 32])
    matrix('rt_sigaction', [10, 0, 1, 9, 19, 64, 65, -1, 1 << 32 | 10, 17], [0, words(1, 0x0400_0000, BUF, 0), words(0, 0x4400_0000, BUF, 0x10000), BUF + 2 * PAGE - 4, S + 10 * PAGE, -PAGE, TASK_SIZE], OUT, [8, 0, 4, 16, -1, 1 << 32 | 8])
    matrix('rt_sigprocmask', [0, 1, 2, 3, -1, 1 << 32], [words(1 << 9), 0, words(-1), BUF + 2 * PAGE - 4, S + 10 * PAGE, -PAGE], OUT, [8, 0, 4, 16, -1, 1 << 32 | 8])
    matrix('sigaltstack', [words(S, 0, 4 * PAGE), 0, words(S, 2, 0), words(S, 1, PAGE), words(S, 0, 100), words(S, 0, 2047), words(S, 0, 2048), words(S, 0x8000_0000, 8192), words(S, 0x8000_0002, 8192), words(S, 99, 8192), words(-PAGE, 0, PAGE), words(0, 0, -1), BUF + 2 * PAGE - 4, S + 10 * PAGE, -PAGE], OUT)
    matrix('getrusage', [0, -1, 1, 2, -2, -3, 1 << 32], OUT, flags='t')
    matrix('sysinfo', OUT, flags='t')
    matrix('getrlimit', [*range(0, 17), -1, 1 << 32 | 3], [BUF, BUF + 2 * PAGE - 4, S + 10 * PAGE, 0, -PAGE], flags='t')
    limits = [words(5 * PAGE, 6 * PAGE), words(6, 5), words(0, 0), words(-1, -1), words(100, -1), words(1000, 1000), BUF + 2 * PAGE - 4, S + 10 * PAGE, 0, -PAGE]
    matrix('setrlimit', [7, 2, 3, 4, 8, 9, 15, 16, -1, 1 << 32 | 7], limits)
    matrix('setrlimit', [7, 2, 3, 8, 9], limits, pre=DROP)
    matrix('prlimit64', PID, [7, 2, 8, 9, 16, -1, 1 << 32 | 7], limits, [0, BUF, BUF + 2 * PAGE - 4, S + 10 * PAGE, -PAGE])
    matrix('getpgid', PID, any=True), matrix('setpgid', PID, PID, any=True)
    matrix('getpid', any=True), matrix('gettid', any=True), matrix('getpgrp', any=True)
    for name in ('getuid', 'getgid', 'geteuid', 'getegid'):
        matrix(name), matrix(name, pre=DROP)
    matrix('setuid', [0, 1000, -1, 1 << 32, 65534]), matrix('setgid', [0, 1000, -1, 1 << 32, 65534])
    matrix('setuid', [0, 1000, -1, 999], pre=DROP), matrix('setgid', [0, 1000, -1, 999], pre=DROP)
    heads = [ints(0x20080522, 0), ints(0x19980330, 0), ints(0x20071026, 0), ints(0, 0), ints(0x20080522, 99999), ints(0x20080522, -1), ints(0x20080522, -5), BUF + 2 * PAGE - 4, S + 10 * PAGE, 0, -PAGE, S + 6 * PAGE]
    matrix('capget', heads, OUT, flags='')
    matrix('capset', heads, [ints(0, 0, 0, 0, 0, 0), ints(1, 1, 0, 0, 0, 0), ints(1, 0, 0, 0, 0, 0), BUF, BUF + 2 * PAGE - 4, S + 10 * PAGE, 0, -PAGE])
    matrix('capset', heads[:3], [ints(0, 0, 0, 0, 0, 0), ints(1, 1, 0, 0, 0, 0), ints(1, 0, 0, 0, 0, 0)], pre=DROP)
    matrix('personality', [0xffff_ffff, 0, 0x40000, 0x8000000, 0x1_0000_0000_ffff_ffff, 8])
    matrix('prctl', [16, 15, 33, 34, 41, 42, 67, 68, 99999, -1, 1 << 32 | 16], [BUF, ONLY_NAME, 0, 1, 2, 3, S + 10 * PAGE, S + 6 * PAGE, -PAGE, -1, BUF + 2 * PAGE - 4], [0, 1, 2, 3, -1], [0, 1], [0, 1],
           bases=({}, {0: 33, 1: 1}, {0: 41, 1: 1}, {0: 34, 1: 0}, {0: 42, 1: 0}, {0: 67, 1: 1}, {0: 68, 1: 0}))
    matrix('sched_setaffinity', ['self', 0, -1, 99999], [8, 0, 1, 4, 16, 128, -1, 1 << 32 | 8], [words(1, 0), words(0, 0), words(3, 0), words(1 << 40, 0), BUF + 2 * PAGE - 4, S + 10 * PAGE, 0, -PAGE])
    matrix('sched_getaffinity', ['self', 0, -1, 99999], [8, 0, 1, 4, 12, -1, 1 << 32 | 8], OUT, flags='t')
    matrix('sched_yield')
    matrix('getcpu', OUT, OUT, [0, 1], flags='t')
    # Time.
    matrix('clock_gettime', [0, *range(1, 18), -1, -2, -6, 1 << 32], OUT, flags='t')
    matrix('gettimeofday', OUT, OUT, flags='t'), matrix('time', OUT, any=True, flags='t')
    spans = [words(0, 1000), words(0, 0), words(0, 10 ** 9), words(-1, 0), words(0, -1), BUF + 2 * PAGE - 4, S + 10 * PAGE, 0, -PAGE]
    matrix('nanosleep', spans, [0, BUF, S + 10 * PAGE, -PAGE], flags='t')
    matrix('clock_nanosleep', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, -1, -2, -6, 1 << 32], [0, 1, 2, -1], spans, [0, BUF, -PAGE], flags='t', bases=({}, {0: 1}, {1: 1}))
    # Other processes' memory.
    remote = [words(S, 8), words(S, 8, S + PAGE, 8), words(S + 10 * PAGE, 8), words(-PAGE, 8), words(S, -1), words(S + 2 * PAGE - 4, 8), words(S + 4 * PAGE - 4, 8), words(S + 7 * PAGE, 8), words(S, 0), S + 10 * PAGE, 0, -PAGE]
    for name in ('process_vm_readv', 'process_vm_writev'):
        matrix(name, PID, IOVS, COUNT[:6], remote, [1, 0, 2, 1024, 1025, 1 << 32 | 1, -1], [0, 1, -1, 1 << 32])
    matrix('process_madvise', [PF, F, H, U, CLOSED, -1], [IOV_MAPS, IOV_UNALIGNED, IOV_OVER, *IOVS], COUNT, advice, [0, 1, -1, 1 << 32])
    # Policies.
    node, none, two, far = words(1, 0), words(0, 0), words(2, 0), words(0, 1)
    masks = [node, none, two, far, 0, BUF + 2 * PAGE - 4, S + 10 * PAGE, -PAGE]
    modes = [2, 0, 1, 3, 4, 5, 6, 7, -1, 0x8002, 0x4002, 0xc002, 0x2002, 0x2001, 0x8000, 0x8004, 0x8001, 1 << 32 | 2, 0x1002]
    matrix('set_mempolicy', modes, masks, [64, 0, 1, 2, 63, 65, 128, 4096, 32769, 32768, -1])
    matrix('mbind', AT, LEN, modes, masks, [64, 0, 1, 2, 65, 32769, -1], [0, 1, 2, 4, 3, 8, -1, 1 << 32])
    matrix('get_mempolicy', [BUF, 0, BUF + 2 * PAGE - 2, S + 10 * PAGE, -PAGE], [0, BUF + 64, S + 10 * PAGE, -PAGE], [1024, 0, 1, 64, 65, 128, 1023, 32769, -1], [0, S, S + 2 * PAGE, S + 4 * PAGE, S + 10 * PAGE, 1, -PAGE], [0, 1, 2, 3, 4, 5, 6, 8, -1, 1 << 32], bases=({}, {4: 2, 3: S}, {4: 3, 3: S}, {4: 4, 1: BUF + 64}))
    matrix('set_mempolicy_home_node', AT, LEN, [0, 1, 1023, 1024, -1], [0, 1, -1])
    matrix('migrate_pages', PID, [64, 0, 1, 2, 65, 32769, -1], masks, masks)
    pages = [words(S), words(S + 1), words(S + 2 * PAGE), words(S + 10 * PAGE), words(-PAGE), BUF + 2 * PAGE - 4, S + 10 * PAGE, 0, -PAGE]
    matrix('move_pages', PID, [1, 0, 2, 1 << 61, -1], pages, [0, ints(0), ints(1), ints(-1), ints(2000), S + 10 * PAGE, -PAGE], [BUF, BUF + 2 * PAGE - 2, S + 10 * PAGE, 0, -PAGE], [0, 2, 4, 6, 1, 8, -1, 1 << 32 | 2])
    # Swap, and files that serve faults.
    matrix('swapon', PATHS, [0, 0x8000, 0x10000, 0x80000, -1, 1 << 32]), matrix('swapoff', PATHS)
    matrix('swapon', [PATH_F], [0], pre=DROP), matrix('swapoff', [PATH_F], pre=DROP)
    matrix('userfaultfd', [0, O_CLOEXEC, O_NONBLOCK, 1, O_CLOEXEC | O_NONBLOCK | 1, 2, 4, -1, 1 << 32]), matrix('userfaultfd', [0, 1, 2], pre=DROP)
    matrix('ioctl', FDS, [0xc018aa3f, 0xc020aa00, 0x8010aa01, 0x541b, 0, -1, 0x5401], OUT)
    return CALLS


PLACES = dict(self=0, id=1, brk=2)
