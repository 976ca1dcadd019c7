"""Calls with arguments that are mostly wrong, in the form of the conformance cases: what is looked at first, and what it is answered.

Each kind of argument has values that are right, odd and wrong. A sequence makes a few dozen calls with any of them, and then
looks at what is mapped: a call that fails must not have done half of its work.
"""
import random

BIG = ['-1', '-PAGE', '-PAGE+1', '0x8000000000000000', '0x7fffffffffffffff']
KERNEL = ['-PAGE', '-1', '0xffff888000000000', '0x8000000000000000', '0x800000000000', 'TASK_SIZE']

KINDS = dict(
    # Of mappings: never what the actor itself needs.
    place=['S', 'S', 'S', 'S+PAGE', 'S+4*PAGE', 'S+6*PAGE', 'S+8*PAGE', 'S+12*PAGE', 'S+20*PAGE', 'S+1', 'S+2048', 0, 1, 8, *KERNEL],
    length=[0, 1, 'PAGE', 'PAGE', 'PAGE+1', '2*PAGE', '3*PAGE', '6*PAGE', '14*PAGE', '64*PAGE', *BIG],
    # Of what the kernel reads and writes.
    buffer=['SCRATCH+57344', 'SCRATCH+57344', 'S', 'S+PAGE-4', 'S+4*PAGE-4', 'S+6*PAGE', 'S+12*PAGE', 'S+20*PAGE', 0, 8, *KERNEL],
    size=[0, 1, 8, 100, 'PAGE', 'PAGE+1', '2*PAGE', *BIG[:4]],
    offset=[0, 1, 'PAGE', '2*PAGE', '5*PAGE', '6*PAGE+100', '7*PAGE', '-1', '-PAGE', '0x7fffffffffffffff', '0x7ffffffffffff000',
            '0xffffffff000', '0x100000000000', '0x8000000000000000'],
    fd=['F', 'F', 'F', 'M', 'E', 'R', 'O', 'Z', 'D', 'P', 'P_w', 'H', 77, -1, '0x7fffffff', '0x100000003', '0x80000000'],
    pid=['self', 'self', 0, -1, 999999, '-999999', '0x80000000', '0x100000000+self', '-self'],
    path=[dict(path='file:F'), dict(path='file:F'), dict(path='file:none'), dict(path='dir:'), dict(path='file:F/x'), dict(path=''),
          dict(path='file:none/x'), dict(path='file:sub'), dict(path='file:' + 'x' * 300), dict(path='file:link'),
          'S+12*PAGE', 'S+20*PAGE', 0, *KERNEL],
    signal=[0, 1, 10, 17, 18, 19, 9, 64, 65, -1, '0x80000000', '0x10000000a'],
)


def bits(*values):
    """Flags: those given, none, some together, and what nobody knows."""
    return [0, *values, *values, values[0] | values[-1], sum(values), 1 << 13, 1 << 31, '-1', '0x100000000', values[0] | 1 << 33]


CALLS = dict(
    read=['fd', 'buffer', 'size'], write=['fd', 'buffer', 'size'], pread64=['fd', 'buffer', 'size', 'offset'],
    pwrite64=['fd', 'buffer', 'size', 'offset'], close=[[77, -1, '0x7fffffff', '0x100000050', 80]],
    lseek=[[fd for fd in KINDS['fd'] if fd != 'D'], 'offset', [0, 1, 2, 3, 4, 5, -1]], ftruncate=['fd', 'offset'], truncate=['path', 'offset'],
    fallocate=['fd', bits(1, 2, 3, 8, 16, 17, 32), 'offset', ['0', 'PAGE', '2*PAGE', 100, '-1', '0x7fffffffffffffff']],
    fsync=['fd'], fdatasync=['fd'], dup=['fd'], dup2=['fd', [80, 81, -1, 1 << 20, '0x7fffffff', 'F']],
    dup3=['fd', [80, 81, -1, 1 << 20, 'F'], bits(0o2000000, 1, 0o4000)],
    fcntl=['fd', [0, 1, 2, 3, 4, 1030, 1031, 1031, 1033, 1034, 1032, 99, -1], [0, 1, 70, -1, 0o4000, 0o2000, 3, 16, 64, 4097, 1 << 16, '0x80000000', '0x100002000']],
    fstat=['fd', 'buffer'], stat=['path', 'buffer'], lstat=['path', 'buffer'], access=['path', [0, 1, 2, 4, 7, 8, -1]],
    newfstatat=[[-100, 'D', 'F', 77, -1], 'path', 'buffer', bits(0x100, 0x1000, 0x800)],
    open=['path', [0, 1, 2, 3, 0o101, 0o301, 0o1002, 0o200000, 0o10000000, 0o2000, -1, 0o400], [0o600, -1]],
    openat=[[-100, 'D', 'F', 77, -1], 'path', [0, 1, 2, 3, 0o101, 0o301, 0o200000, 0o10000000], [0o600, 0]],
    creat=['path', [0o600]], unlink=['path'], unlinkat=[[-100, 'D', 'F', 77], [path for path in KINDS['path'] if path != dict(path='dir:')], bits(0x200)], mkdir=['path', [0o700]],
    rmdir=[[path for path in KINDS['path'] if path != dict(path='dir:')]], link=['path', 'path'], rename=['path', 'path'],
    pipe=['buffer'], pipe2=['buffer', bits(0o4000, 0o2000000, 0o40000, 0o200)],
    memfd_create=[[dict(path='x'), dict(path='y' * 249), dict(path='y' * 250), dict(path=''), 'S+20*PAGE', 0, -1],
                  [0, 1, 2, 3, 8, 16, 24, 9, 10, 32, 64, '0x100000001', 1 << 26]],
    mmap=['place', 'length', [0, 1, 3, 5, 7, 8, 16, -1], [0, 1, 2, 3, 4, 8, 0x21, 0x22, 0x22, 0x32, 0x100022, 0x28, 0x23, 0x122, 0x121, 0x2022,
          0x8022, 0x80003, 0x11, 0x12, 0x13, 0x62, '0x100000022', -1], 'fd', 'offset'],
    munmap=['place', 'length'], mprotect=['place', 'length', [0, 1, 2, 3, 4, 5, 7, 8, 16, 0x1000001, 0x2000001, 0x3000001, -1]],
    pkey_mprotect=['place', 'length', [0, 1, 3, 16], [-1, 0, 1, 16, 99]], pkey_alloc=[[0, 1, -1], [0, 1, 3, 4, -1]], pkey_free=[[0, 1, -1, 99]],
    madvise=['place', [0, 1, 'PAGE', 'PAGE', '2*PAGE', '3*PAGE', '14*PAGE', '-1', '-PAGE', '0x8000000000000000'],
             [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 102, 103, 104, -1]],
    mremap=['place', ['0', 'PAGE', 'PAGE', '2*PAGE', 'PAGE+1', '-1', '-PAGE', '0x8000000000000000'],
            [0, 'PAGE', '2*PAGE', '5*PAGE', 'PAGE+1', '-1', '-PAGE', '0x8000000000000000', '0x7fffffffffff'],
            [0, 1, 2, 3, 4, 5, 7, 8, 9, -1, '0x100000001'], ['S+16*PAGE', 'S+24*PAGE', 'S', 'S+1', 0, 'S+PAGE', *KERNEL]],
    mlock=['place', 'length'], munlock=['place', 'length'], mlock2=['place', 'length', bits(1)],
    mlockall=[[0, 4, 8, -1, '0x100000000', 12]], msync=['place', 'length', [0, 1, 2, 3, 4, 5, 6, 7, 8, -1, '0x100000004']],
    mincore=['place', ['0', '1', 'PAGE', 'PAGE+1', '14*PAGE', '-1', '-PAGE', '0x8000000000000000'], 'buffer'],
    brk=[[0, 1, 'S', *KERNEL]], mseal=['place', 'length', [0, 0, 0, 1, '0x100000000']],
    remap_file_pages=['place', 'length', [0, 1, 3, -1], [0, 1, 2, '-1', '0xfffffffffffff', '0x10000000000000'], [0, 1, 0x10000, -1]],
    shmget=[[0, 12345, 12346, -1], [0, 1, 'PAGE', '3*PAGE', *BIG], [0, 0o600, 0o1600, 0o3600, 0o1000, 0o11600]],
    shmat=[['ID', 'ID', 'ID', -1, 999999], 'place', [0, 0o10000, 0o20000, 0o40000, 0o60000, 0o100000, 0o200000, -1]],
    shmdt=['place'], shmctl=[['ID', 'ID', -1, 999999], [0, 1, 2, 3, 11, 12, 13, 14, 15, 16, 99, -1, 0x100, 0x102], 'buffer'],
    wait4=['pid', ['0', '1', '1', '1', '2', '9', '0x80000000', '0x20000001', '-1', 4], 'buffer', 'buffer'],
    waitid=[[0, 1, 2, 3, 4, 5, -1], 'pid', 'buffer', [0, 1, 4, 5, 5, 5, 8, 13, 0x1000005, 2, -1, '0x80000004', 0x40000005], 'buffer'],
    kill=[['self', 999999, '-999999', '0x80000000', '0x100000000+self'], [0, 0, 65, -1, 17, '0x100000000']],
    tkill=[['self', 0, -1, 999999], [0, 65, -1, 17]], tgkill=[['self', 0, -1, 999999], ['self', 0, -1, 999999], [0, 65, -1, 17]],
    rt_sigaction=[[0, 1, 9, 19, 10, 64, 65, -1, 17], [0, 'S+20*PAGE', -1, 'TASK_SIZE'], 'buffer', [8, 0, 4, 16, -1]],
    rt_sigprocmask=[[0, 1, 2, 3, -1], [0, dict(words=[0]), 'S+20*PAGE', -1], 'buffer', [8, 0, 4, 16, -1]],
    sigaltstack=[[0, 'S+20*PAGE', -1, dict(words=['S', 4, 8192]), dict(words=['S', 0, 100]), dict(words=['S', 99, 8192])], 'buffer'],
    getrusage=[[0, -1, 1, -2, 2, 5], 'buffer'], sysinfo=['buffer'], getrlimit=[[0, 2, 3, 7, 8, 9, 15, 16, -1, 99], 'buffer'],
    setrlimit=[[2, 4, 7, 16, -1], [dict(words=[5, 4]), 'S+20*PAGE', 0, -1, dict(words=[0, 0])]],
    prlimit64=['pid', [2, 4, 7, 9, 16, -1, '0x100000002'], [0, dict(words=[5, 4]), 'S+20*PAGE', -1], 'buffer'],
    getpgid=['pid'], setpgid=[['self', 0, 999999, -1], [0, 'self', -1, 999999]],
    capget=[[0, 'S+20*PAGE', dict(words=[0x19980330]), dict(words=[0x20080522]), dict(words=[0x20071026]), dict(words=[0]),
             dict(words=[0x20080522 | 999999 << 32]), dict(words=[0x20080522 | 0xffffffff << 32])], 'buffer'],
    capset=[[0, 'S+20*PAGE', dict(words=[0]), dict(words=[0x20080522 | 999999 << 32])], ['S+20*PAGE', 0]],
    personality=[['0xffffffff', '0x100000000ffffffff']],
    clock_gettime=[[0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 16, -1], 'buffer'], gettimeofday=['buffer', 'buffer'], time=['buffer'],
    getcpu=['buffer', 'buffer', [0]],
    process_vm_readv=['pid', [dict(words=['S', 8]), dict(words=['S+20*PAGE', 8]), dict(words=['S', '-1']), 0, -1, 'S+20*PAGE'],
                      [0, 1, 2, 1024, 1025, '-1', '0x100000001'], [dict(words=['S', 8]), dict(words=['-PAGE', 8]), 0, 'S+20*PAGE',
                      dict(words=['S', '-1'])], [0, 1, 1025, '-1'], [0, 0, 0, 1, '0x100000000']],
    process_vm_writev=['pid', [dict(words=['S', 8]), dict(words=['S+20*PAGE', 8]), 0], [0, 1, 1025],
                       [dict(words=['S+PAGE', 8]), dict(words=['-PAGE', 8]), dict(words=['S+6*PAGE', 8]), 0], [0, 1, 1025], [0, 0, 1]],
    pidfd_open=['pid', [0, 0, 0o4000, 0o200, 1, -1]],
    process_madvise=[['PF', 'PF', 'PF', 'F', 77, -1], [dict(words=['S', 'PAGE']), dict(words=['S+1', 'PAGE']), dict(words=['S', '-1']),
                     dict(words=['-PAGE', 'PAGE']), dict(words=['S+20*PAGE', 'PAGE']), dict(words=['S', 0]), 0, -1],
                     [0, 1, 1025, '-1'], [0, 3, 4, 8, 9, 20, 21, 25, 102, 99, -1], [0, 0, 0, 1]],
    sync_file_range=['fd', 'offset', 'offset', bits(1, 2, 4)], syncfs=['fd'], fadvise64=['fd', 'offset', 'offset', [0, 1, 2, 3, 4, 5, 6, -1]],
    readv=['fd', [dict(words=['S', 8]), dict(words=['S+20*PAGE', 8]), dict(words=['S', '-1']), 0, -1], [0, 1, 1024, 1025, '-1']],
    writev=['fd', [dict(words=['S', 8]), dict(words=['S+20*PAGE', 8]), dict(words=['S', '-1']), 0, -1], [0, 1, 1024, 1025, '-1']],
    preadv=['fd', [dict(words=['S', 8]), dict(words=['S', '-1']), 0], [0, 1, 1025], 'offset', [0, 1]],
    pwritev=['fd', [dict(words=['S', 8]), dict(words=['S', '-1']), 0], [0, 1, 1025], 'offset', [0, 1]],
    pidfd_send_signal=[['PF', 'F', 77, -1], [0, 0, 65, -1], [0, 'S+20*PAGE', -1], [0, 0, 1, 2, 8, 3, 5]],
)

# What these return is not the same twice.
ANY = {'shmget', 'shmctl', 'getpgid', 'time', 'personality', 'gettid', 'open', 'openat', 'creat', 'dup', 'fcntl', 'pipe', 'pipe2', 'pidfd_open', 'memfd_create',
       'shmat', 'brk'}


def generate(seed, count, names=()):
    chance = random.Random('arguments/%s' % seed)
    steps = [
        dict(op='space', **{'as': 'S'}, len='64*PAGE'),
        dict(op='mmap', addr='S', len='4*PAGE', prot='RW', flags='PRIVATE|ANONYMOUS|FIXED'),
        dict(op='mmap', addr='S+6*PAGE', len='PAGE', prot='R', flags='PRIVATE|ANONYMOUS|FIXED'),
        dict(op='mmap', addr='S+7*PAGE', len='PAGE', prot='NONE', flags='PRIVATE|ANONYMOUS|FIXED'),
        dict(op='mmap', addr='S+8*PAGE', len='2*PAGE', prot='RW', flags='SHARED|ANONYMOUS|FIXED'),
        dict(op='file', **{'as': 'F'}, size='6*PAGE+100', pages=[1, 2, 3, 4, 5, 6]),
        dict(op='memfd', **{'as': 'M'}, size='5*PAGE', pages=[11, 12, 13]),
        dict(op='memfd', **{'as': 'E'}, size='4*PAGE+50', pages=[21, 22], flags='ALLOW_SEALING'),
        dict(op='mmap', addr='S+12*PAGE', len='2*PAGE', prot='R', flags='PRIVATE|FIXED', fd='F', off='6*PAGE'),
        dict(op='mmap', addr='S+14*PAGE', len='PAGE', prot='RW', flags='SHARED|FIXED', fd='F'),
        dict(op='open', **{'as': 'R'}, path='file:F', mode='RDONLY'),
        dict(op='open', **{'as': 'O'}, path='file:F', mode='WRONLY'),
        dict(op='open', **{'as': 'H'}, path='file:F', mode='0x200000'),
        dict(op='open', **{'as': 'D'}, path='dir:', mode='RDONLY'),
        dict(op='open', **{'as': 'Z'}, path='/dev/zero', mode='RDWR'),
        dict(op='pipe', **{'as': 'P'}),
        dict(op='call', name='fcntl', args=['P', 4, 0o4000]), dict(op='call', name='fcntl', args=['P_w', 4, 0o4000]),
        dict(op='shmget', **{'as': 'ID'}, key='PRIVATE', size='2*PAGE'),
        dict(op='call', name='getpid', args=[], any=True, **{'as': 'self'}),
        dict(op='call', name='pidfd_open', args=['self', 0], any=True, **{'as': 'PF'}),
    ]
    names = list(names) or sorted(CALLS)
    for _ in range(count):
        name = chance.choice(names)
        args = [chance.choice(KINDS[kind] if isinstance(kind, str) else kind) for kind in CALLS[name]]
        # One wrong argument at a time tells more than several.
        step = dict(op='call', name=name, args=args)
        if name in ANY:
            step['any'] = True
        steps.append(step)
    return dict(id='arguments-%s' % seed, area='arguments', steps=steps + [
        dict(op='maps', at='S', len='64*PAGE'), dict(op='pagemap', at='S', len='64*PAGE'), dict(op='smaps', at='S', len='64*PAGE')])
