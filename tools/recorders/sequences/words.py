"""Flags as words without their prefix, numbers of system calls, and the expressions of the case form."""
import errno
import re

PAGE = 4096
MASK = (1 << 64) - 1

CALLS = dict(
    read=0, write=1, open=2, close=3, stat=4, fstat=5, lstat=6, lseek=8, mmap=9, mprotect=10, munmap=11, brk=12,
    rt_sigaction=13, rt_sigprocmask=14, rt_sigpending=127, pread64=17, pwrite64=18, access=21, pipe=22, sched_yield=24, mremap=25, msync=26,
    mincore=27, madvise=28, shmget=29, shmat=30, shmctl=31, dup=32, dup2=33, getpid=39, wait4=61, kill=62, shmdt=67,
    fcntl=72, fsync=74, fdatasync=75, truncate=76, ftruncate=77, rename=82, mkdir=83, rmdir=84, creat=85, link=86,
    unlink=87, gettimeofday=96, getrlimit=97, getrusage=98, sysinfo=99, getuid=102, getgid=104, geteuid=107, getegid=108,
    setpgid=109, getppid=110, getpgrp=111, getpgid=121, capget=125, capset=126, sigaltstack=131, personality=135,
    mlock=149, munlock=150, mlockall=151, munlockall=152, setrlimit=160, sync=162, gettid=186, tkill=200, time=201,
    remap_file_pages=216, clock_gettime=228, tgkill=234, waitid=247, openat=257, newfstatat=262, unlinkat=263,
    sync_file_range=277, fallocate=285, dup3=292, pipe2=293, prlimit64=302, syncfs=306, getcpu=309,
    process_vm_readv=310, process_vm_writev=311, memfd_create=319, mlock2=325, pkey_mprotect=329, pkey_alloc=330,
    pkey_free=331, pidfd_send_signal=424, pidfd_open=434, pidfd_getfd=438, process_madvise=440, fadvise64=221,
    preadv=295, pwritev=296, readv=19, writev=20, cachestat=451, mseal=462, membarrier=324, process_mrelease=448,
    set_mempolicy=238, get_mempolicy=239, mbind=237, migrate_pages=256, move_pages=279, userfaultfd=323)

PROT = dict(NONE=0, READ=1, WRITE=2, EXEC=4, SEM=8, GROWSDOWN=1 << 24, GROWSUP=1 << 25)
MAP = {'SHARED': 1, 'PRIVATE': 2, 'SHARED_VALIDATE': 3, 'DROPPABLE': 8, 'FIXED': 0x10, 'ANONYMOUS': 0x20,
       '32BIT': 0x40, 'GROWSDOWN': 0x100, 'DENYWRITE': 0x800, 'EXECUTABLE': 0x1000, 'LOCKED': 0x2000,
       'NORESERVE': 0x4000, 'POPULATE': 0x8000, 'NONBLOCK': 0x10000, 'STACK': 0x20000, 'HUGETLB': 0x40000,
       'SYNC': 0x80000, 'FIXED_NOREPLACE': 0x100000}
MREMAP = dict(MAYMOVE=1, FIXED=2, DONTUNMAP=4)
# HWPOISON and SOFT_OFFLINE are left out on purpose: they take real memory away from the machine.
MADV = dict(NORMAL=0, RANDOM=1, SEQUENTIAL=2, WILLNEED=3, DONTNEED=4, FREE=8, REMOVE=9, DONTFORK=10, DOFORK=11,
            MERGEABLE=12, UNMERGEABLE=13, HUGEPAGE=14, NOHUGEPAGE=15, DONTDUMP=16, DODUMP=17, WIPEONFORK=18,
            KEEPONFORK=19, COLD=20, PAGEOUT=21, POPULATE_READ=22, POPULATE_WRITE=23, DONTNEED_LOCKED=24, COLLAPSE=25,
            GUARD_INSTALL=102, GUARD_REMOVE=103)
MS = dict(ASYNC=1, INVALIDATE=2, SYNC=4)
MCL = dict(CURRENT=1, FUTURE=2, ONFAULT=4)
MLOCK = dict(ONFAULT=1)
RLIMIT = dict(DATA=2, STACK=3, MEMLOCK=8, AS=9)
OPEN = dict(RDONLY=0, WRONLY=1, RDWR=2, CREAT=0o100, EXCL=0o200, TRUNC=0o1000, APPEND=0o2000, CLOEXEC=0o2000000,
            DIRECTORY=0o200000, PATH=0o10000000)
MFD = dict(CLOEXEC=1, ALLOW_SEALING=2, NOEXEC_SEAL=8, EXEC=16)
SEAL = dict(SEAL=1, SHRINK=2, GROW=4, WRITE=8, FUTURE_WRITE=16, EXEC=32)
FALLOC = dict(KEEP_SIZE=1, PUNCH_HOLE=2, ZERO_RANGE=16)
IPC = dict(CREAT=0o1000, EXCL=0o2000)
SHM = dict(RDONLY=0o10000, RND=0o20000, REMAP=0o40000, EXEC=0o100000)

SIGNAL_NUMBERS = {'SIG' + name: number for number, name in enumerate((
    'HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ '
    'VTALRM PROF WINCH IO PWR SYS').split(), 1)}
SIGNALS = {number: name for name, number in SIGNAL_NUMBERS.items()}
CODES = {(11, 1): 'SEGV_MAPERR', (11, 2): 'SEGV_ACCERR', (11, 128): 'SI_KERNEL', (7, 1): 'BUS_ADRALN',
         (7, 2): 'BUS_ADRERR'}
SI_CODES = {0: 'SI_USER', -1: 'SI_QUEUE', -6: 'SI_TKILL'}
CLD = {1: 'CLD_EXITED', 2: 'CLD_KILLED', 3: 'CLD_DUMPED', 4: 'CLD_TRAPPED', 5: 'CLD_STOPPED', 6: 'CLD_CONTINUED'}
SA = dict(NOCLDSTOP=1, NOCLDWAIT=2, SIGINFO=4, ONSTACK=0x08000000, RESTART=0x10000000, NODEFER=0x40000000, RESETHAND=0x80000000)
SIG_HOW = dict(BLOCK=0, UNBLOCK=1, SETMASK=2)
SS = dict(ONSTACK=1, DISABLE=2, AUTODISARM=1 << 31)
WAIT = dict(NOHANG=1, UNTRACED=2, EXITED=4, CONTINUED=8, NOWAIT=0x1000000, WNOTHREAD=0x20000000, WALL=0x40000000, WCLONE=0x80000000)
P_TYPES = dict(ALL=0, PID=1, PGID=2, PIDFD=3)


def mask(text, words):
    """'A|B|0x10', or a number, as a bit mask; None is 0."""
    if text is None or isinstance(text, int):
        return text or 0
    value = 0
    for word in text.split('|'):
        if word in words:
            value |= words[word]
        elif words is PROT and word and set(word) <= set('RWX'):
            value |= sum({'R': 1, 'W': 2, 'X': 4}[letter] for letter in word)
        elif word:
            value |= int(word, 0)
    return value


def error_name(number):
    return '-' + {95: 'EOPNOTSUPP', 11: 'EAGAIN'}.get(number, errno.errorcode.get(number, str(number)))


class Unbound(Exception):
    """A name that no step has bound: the step that would have failed, or it was left out."""


def evaluate(text, names):
    """The value of an expression: exact integers, names, + - * / % ( )."""
    if text is None or isinstance(text, int):
        return int(text or 0)

    def name(match):
        if match[0] not in names:
            raise Unbound(match[0])
        return str(names[match[0]])
    return eval(re.sub(r'(?<![0-9])[A-Za-z_][A-Za-z0-9_.]*', name, text).replace('/', '//'), {'__builtins__': {}})
