"""Random sequences in the form of the conformance cases, the same for the same seed.

A sequence works in a window of pages `S`, in what is placed automatically
below `T`, and in the heap above `B`. The generator keeps a rough idea of what
is mapped where, so that most calls meet something; it need not be right.
"""
import random

from generate_memory import MEMORY_PROFILES, MEMORY_WEIGHTS, MemoryKinds
from generate_tasks import TASK_FACTORS, TASK_PROFILES, TASK_WEIGHTS, TaskKinds

WINDOW = 48                 # pages of S that most steps are about
FAR = 300                   # S is looked at this far below and above, for stacks that grow

WEIGHTS = dict(
    mmap=14, mmap_auto=3, mmap_file=4, mmap_odd=1, munmap=4, mprotect=6, mremap=6, brk=1, madvise=6, mlock=1, mlockall=0.3,
    mincore=1.5, msync=1, load=6, store=9, touch=3, check=2, fetch=0.5, fork=0.6, exit=0.3, file=2, seal=0.2,
    shm=0.7, process_vm=0.7, setrlimit=0.3, drop_caps=0.05, growsdown=1, remap=0.5, pmadvise=0.4, sync=0.4, ranges=0.4, mseal=0.1,
    persona=0.1, outside=0.4, frames=0.3, **TASK_WEIGHTS, **MEMORY_WEIGHTS)

# What each profile asks for more often, as factors.
PROFILES = dict(
    mixed={},
    mappings=dict(mmap=2, mmap_auto=3, mprotect=3, mremap=4, munmap=2, mmap_odd=3),
    paging=dict(madvise=4, pmadvise=4, touch=3, store=2, load=2, check=2, mincore=2),
    locks=dict(mlock=12, mlockall=5, drop_caps=6, madvise=2, mremap=1.5),
    files=dict(mmap_file=5, remap=8, sync=8, ranges=5, file=8, msync=3, seal=8, mincore=2, madvise=2, check=2, mmap=0.5),
    processes=dict(pmadvise=5, fork=6, exit=4, store=2, touch=2, process_vm=6, madvise=1.5),
    limits=dict(brk=10, setrlimit=15, growsdown=8, drop_caps=4, mmap_auto=2),
    segments=dict(shm=25, fork=3, exit=3, mremap=2),
    seals=dict(mseal=60, munmap=2, mremap=2, madvise=3, shm=3, brk=3, persona=8, outside=5, frames=4, fork=2),
    **TASK_FACTORS,
    **{profile: {} for profile in MEMORY_PROFILES},
)

ADVICE = ['NORMAL', 'RANDOM', 'SEQUENTIAL', 'WILLNEED', 'DONTNEED', 'DONTNEED', 'DONTNEED', 'FREE', 'FREE', 'REMOVE',
          'DONTFORK', 'DOFORK', 'MERGEABLE', 'UNMERGEABLE', 'HUGEPAGE', 'NOHUGEPAGE', 'DONTDUMP', 'DODUMP', 'WIPEONFORK',
          'KEEPONFORK', 'COLD', 'PAGEOUT', 'POPULATE_READ', 'POPULATE_WRITE', 'DONTNEED_LOCKED', 'COLLAPSE',
          'GUARD_INSTALL', 'GUARD_INSTALL', 'GUARD_REMOVE', '5', '26', '1000']


class Task:
    def __init__(self, name, mapped=()):
        self.name, self.mapped, self.marked, self.children = name, set(mapped), False, []
        # The first thread of its process; a parent that waits for it to leave its memory; its layout; signals with handlers.
        self.leader, self.parent, self.legacy, self.handled = self, None, False, set()

    def shares(self, other):
        self.leader, self.mapped, self.legacy = other.leader, other.mapped, other.legacy


class Generator(TaskKinds, MemoryKinds):
    def __init__(self, seed, profile, steps, without=()):
        self.random = random.Random('%s/%s' % (profile, seed))
        self.weights = {kind: weight * PROFILES[profile].get(kind, 1) for kind, weight in WEIGHTS.items()
                        if kind not in without}
        self.weights.update({**TASK_PROFILES, **MEMORY_PROFILES}.get(profile, {}))
        self.profile, self.count, self.steps = profile, steps, []
        self.devices = [] if 'device' in without else ['Z']
        self.tasks, self.zombies, self.made = [Task('main')], [], 0
        self.autos, self.segments, self.fresh = [], [], 0
        self.limited = self.locked = False

    # Small choices

    def chance(self, p):
        return self.random.random() < p

    def one(self, *items):
        return self.random.choice(items)

    def name(self, prefix):
        self.fresh += 1
        return '%s%d' % (prefix, self.fresh)

    def page(self, task):
        """A page of the window: mostly one that is mapped."""
        if task.mapped and self.chance(0.8):
            return self.random.choice(sorted(task.mapped))
        return self.random.randrange(-2, WINDOW + 2)

    def run(self, task, longest=8):
        return self.page(task), self.random.choice([1, 1, 2, 2, 3, 4, 6, longest])

    @staticmethod
    def at(page):
        return 'S%+d*PAGE' % page if page else 'S'

    @staticmethod
    def pages(count):
        return '%d*PAGE' % count

    def place(self, task, longest=8):
        """Address, length, first page or None: in the window, in an automatic mapping, or off."""
        if self.autos and self.chance(0.12):
            return '%s+%d*PAGE' % (self.one(*self.autos), self.random.randrange(3)), self.pages(self.one(1, 2, 3, 8)), None
        page, count = self.run(task, longest)
        at, length = self.at(page), self.pages(count)
        if self.chance(0.04):
            return self.one((at + '+8', length, None), (at, '%d*PAGE+1' % (count - 1), None), (at, 0, None), (at, '-PAGE', None),
                            (at, 'UMAX', None), ('-PAGE', length, None), ('TASK_SIZE+PAGE', '2*PAGE', None),
                            ('TASK_SIZE', length, None), (0, 'PAGE', None))
        return at, length, range(page, page + count)

    def prot(self):
        return self.one('RW', 'RW', 'RW', 'RW', 'R', 'R', 'NONE', 'RX', 'RWX', 'W', 'X')

    # Mappings

    def mmap(self, t, kind=None):
        flags = kind or self.one('PRIVATE|ANONYMOUS', 'PRIVATE|ANONYMOUS', 'PRIVATE|ANONYMOUS', 'SHARED|ANONYMOUS')
        page, count = self.random.randrange(WINDOW), self.random.randrange(1, 9)
        if self.chance(0.35):
            page, count = self.run(t)
        flags += '|FIXED_NOREPLACE' if self.limited or self.chance(0.1) else '|FIXED'
        for word, p in (('POPULATE', 0.12), ('LOCKED', 0.06), ('NORESERVE', 0.08), ('STACK', 0.03), ('NONBLOCK', 0.02)):
            if self.chance(p) and (self.profile != 'commit' or word in ('NORESERVE', 'STACK')):
                flags += '|' + word
        step = dict(op='mmap', addr=self.at(page), len=self.pages(count), prot=self.prot(), flags=flags)
        t.mapped.update(range(page, page + count))
        return step

    def mmap_auto(self, t):
        name = self.name('A')
        flags = self.one('PRIVATE|ANONYMOUS', 'PRIVATE|ANONYMOUS', 'SHARED|ANONYMOUS', 'PRIVATE|ANONYMOUS|POPULATE',
                         'PRIVATE|ANONYMOUS|LOCKED', 'PRIVATE|ANONYMOUS|GROWSDOWN', 'PRIVATE|ANONYMOUS|32BIT')
        step = dict(op='mmap', len=self.pages(self.one(1, 2, 3, 4, 8, 16)), prot=self.prot(), flags=flags)
        if '32BIT' in flags:
            flags = step['flags'] = 'PRIVATE|ANONYMOUS'
        else:
            step['as'] = name
        if self.chance(0.2):
            step['addr'] = self.at(self.page(t))
        self.autos.append(name)
        return step

    def mmap_file(self, t):
        step = self.mmap(t, self.one('PRIVATE', 'PRIVATE', 'SHARED', 'SHARED', 'SHARED_VALIDATE'))
        step['fd'] = self.one('F', 'F', 'M', 'M', 'E', 'E', 'R', 'O', *self.devices)
        step['off'] = self.pages(self.one(0, 0, 1, 2, 3, 5))
        return step

    def mmap_odd(self, t):
        step = self.mmap(t)
        key, value = self.one(('len', 0), ('len', 'UMAX'), ('len', '2*GB*1024'), ('len', '5*PAGE-7'), ('addr', 'S+5*PAGE+1'),
                              ('addr', '-PAGE'), ('addr', 'TASK_SIZE'), ('addr', 0), ('flags', 'ANONYMOUS'),
                              ('flags', 'PRIVATE|SHARED|ANONYMOUS'), ('flags', 'PRIVATE'), ('flags', 'PRIVATE|ANONYMOUS|GROWSDOWN|FIXED'),
                              ('flags', 'SHARED|ANONYMOUS|GROWSDOWN|FIXED'), ('flags', 'SHARED_VALIDATE|ANONYMOUS|SYNC'),
                              ('flags', 'SHARED_VALIDATE|0x4000000|ANONYMOUS'), ('flags', 'PRIVATE|ANONYMOUS|HUGETLB'),
                              ('off', 1), ('off', '-PAGE'), ('fd', 77), ('prot', '0x10|READ'), ('prot', 'RW|GROWSDOWN'),
                              ('flags', 'DROPPABLE|ANONYMOUS|FIXED'))
        step[key] = value
        if key == 'fd':
            step['flags'] = 'PRIVATE|FIXED'
        if value == '2*GB*1024':
            step['prot'] = 'RW'
        return step

    def munmap(self, t):
        at, length, pages = self.place(t)
        t.mapped.difference_update(pages or ())
        if length == '-PAGE' or length == 'UMAX':
            length = '-PAGE'
        return dict(op='munmap', at=at, len=length)

    def mprotect(self, t):
        at, length, _ = self.place(t)
        prot = self.prot()
        if self.chance(0.05):
            prot = self.one('RW|GROWSDOWN', 'R|GROWSUP', 'RW|SEM', 'RW|0x10', 'RW|GROWSDOWN|GROWSUP')
        return dict(op='mprotect', at=at, len=length, prot=prot)

    def mremap(self, t):
        at, length, pages = self.place(t)
        new = length
        flags = self.one('0', 'MAYMOVE', 'MAYMOVE', 'MAYMOVE|FIXED', 'MAYMOVE|FIXED', 'MAYMOVE|FIXED', 'MAYMOVE|DONTUNMAP',
                         'MAYMOVE|FIXED|DONTUNMAP', 'MAYMOVE|FIXED|DONTUNMAP', 'FIXED', 'DONTUNMAP', '8')
        if self.limited and 'FIXED' in flags:
            flags = 'MAYMOVE'
        if self.chance(0.5):
            new = self.pages(self.random.randrange(1, 13))
        if self.chance(0.04):
            new = self.one(0, 'UMAX', '2*GB*1024', '3*PAGE+5')
        if self.chance(0.06):
            length = 0
        step = dict(op='mremap', at=at, old=length, new=new, flags=flags)
        if 'FIXED' in flags or self.chance(0.1):
            to, count = self.random.randrange(WINDOW), len(pages or (1,))
            step['to'] = self.at(to) + ('+1' if self.chance(0.03) else '')
            if 'MAYMOVE' in flags:
                if 'DONTUNMAP' not in flags:
                    t.mapped.difference_update(pages or ())
                t.mapped.update(range(to, min(to + count, WINDOW)))
        elif 'MAYMOVE' in flags:
            step['as'] = self.name('A')
            self.autos.append(step['as'])
        return step

    def brk(self, t):
        return dict(op='brk', addr=self.one('B', 'B+PAGE', 'B+3*PAGE', 'B+5*PAGE+100', 'B+16*PAGE', 'B-PAGE', 0, 'B+40*PAGE', 'B+2*GB*1024'))

    def growsdown(self, t):
        page, count = self.one(*range(8, WINDOW), 280, 300, 520, 560), self.one(1, 2, 3)
        flags = 'PRIVATE|ANONYMOUS|GROWSDOWN' + ('|FIXED_NOREPLACE' if self.limited else '|FIXED')
        first = dict(op='mmap', addr=self.at(page), len=self.pages(count), prot=self.one('RW', 'RW', 'R'), flags=flags)
        t.mapped.update(range(page, page + count))
        below = dict(op=self.one('store8', 'load8'), at='%s-%d*PAGE' % (self.at(page), self.one(1, 2, 5, 20, 230, 260)), value=7)
        if below['op'] == 'load8':
            del below['value']
        return [first] + ([below] if self.chance(0.8) else [])

    # Advice, locks

    def madvise(self, t):
        at, length, _ = self.place(t)
        return dict(op='madvise', at=at, len=length, advice=self.one(*ADVICE))

    def mlock(self, t):
        self.locked = True
        at, length, _ = self.place(t)
        op = self.one('mlock', 'mlock2', 'mlock2', 'munlock', 'munlock')
        return dict(op=op, at=at, len=length, **(dict(flags=self.one('0', 'ONFAULT', 'ONFAULT', '2')) if op == 'mlock2' else {}))

    def mlockall(self, t):
        self.locked, t.marked = True, False
        if self.chance(0.4):
            return dict(op='munlockall')
        return dict(op='mlockall', flags=self.one('FUTURE', 'FUTURE', 'FUTURE|ONFAULT', 'CURRENT', 'CURRENT|ONFAULT',
                                                  'CURRENT|FUTURE', 'ONFAULT', '0', '8'))

    def mincore(self, t):
        at, length, pages = self.place(t)
        step = dict(op='mincore', at=at, len=length if pages else 'PAGE')
        if self.chance(0.03):
            step['vec'] = self.one(self.at(self.page(t)), 0, '-PAGE')
        return step

    def msync(self, t):
        at, length, _ = self.place(t)
        return dict(op='msync', at=at, len=length, flags=self.one('SYNC', 'ASYNC', 'INVALIDATE', 'SYNC|INVALIDATE', 'SYNC|ASYNC', '0', '8'))

    # Accesses

    def where(self, t):
        r = self.random.random()
        if self.autos and r < 0.12:
            return '%s+%d*PAGE+%d' % (self.one(*self.autos), self.random.randrange(4), self.random.randrange(4089))
        if r < 0.16:
            return 'B+%d' % self.random.randrange(6 * 4096)
        if r < 0.17:
            return self.one('TASK_SIZE', 0, 8, '-1', '0x800000000000', '-0x800000000000', 'TASK_SIZE+PAGE')
        return '%s+%d' % (self.at(self.page(t)), self.random.randrange(4096) if self.chance(0.05) else self.random.randrange(4089))

    def load(self, t):
        return dict(op=self.one('load8', 'load8', 'load64'), at=self.where(t))

    def store(self, t):
        return dict(op=self.one('store8', 'store8', 'store64'), at=self.where(t), value=self.random.randrange(1, 256))

    def fetch(self, t):
        page = self.at(self.page(t))
        at = '%s+%d' % (page, self.random.randrange(4096))
        load = dict(op='load8', at=at)
        if self.chance(0.3):
            return [load, dict(op='fetch', at=at)]
        protect = dict(op='mprotect', at=page, len='PAGE', prot=self.one('RX', 'RX', 'RWX', 'R', 'X'))
        return [dict(op='store8', at=at, value=0xc3), load, protect, dict(op='fetch', at=at)]

    def touch(self, t):
        page, count = self.run(t, 12)
        return dict(op='touch', at=self.at(page), len=self.pages(count), mode=self.one('r', 'w'), value=self.random.randrange(1, 256))

    def check(self, t):
        page, count = self.run(t, 4)
        if self.chance(0.3):
            return dict(op='fill', at=self.at(page) + '+%d' % self.one(0, 100, 4000), len=self.one(1, 200, 4096, 5000), value=self.random.randrange(256))
        return dict(op='check', at=self.at(page) + '+%d' % self.one(0, 1, 100, 4000), len=self.one('PAGE', 200, '2*PAGE'))

    # Files

    def file(self, t):
        fd = self.one('F', 'F', 'M', 'M', 'E', 'E', 'R', 'O')
        offset = self.random.randrange(0, 8 * 4096)
        page = '%d*PAGE' % self.random.randrange(8)
        return self.random.choice([
            dict(op='ftruncate', fd=fd, size=self.one(0, 'PAGE', '2*PAGE+100', '3*PAGE', '4*PAGE+4000', '6*PAGE', '8*PAGE', '10*PAGE', '-1')),
            dict(op='fallocate', fd=fd, mode='KEEP_SIZE|PUNCH_HOLE', off=self.one(page, offset), len=self.one('PAGE', '2*PAGE', 100, 0)),
            dict(op='fallocate', fd=fd, mode=self.one('0', 'KEEP_SIZE', 'PUNCH_HOLE'), off=page, len=self.one('PAGE', '3*PAGE')),
            dict(op='fread', fd=fd, off=offset, len=self.one(1, 64, 4096)),
            dict(op='fread', fd=fd, off=offset, len=self.one(1, 64, 4096)),
            dict(op='fwrite', fd=fd, off=offset, len=self.one(1, 100, 4096, 5000), fill=self.random.randrange(1, 256)),
            dict(op='fwrite', fd=fd, off=offset, len=self.one(1, 100, 4096, 5000), fill=self.random.randrange(1, 256)),
            dict(op='pread', fd=fd, to=self.where(t), len=self.one(1, 100, 5000, '2*PAGE'), off=page),
            dict(op='pwrite', **{'from': self.where(t)}, fd=fd, len=self.one(1, 100, 5000, '2*PAGE'), off=page),
        ])

    def remap(self, t):
        page, count = self.run(t)
        return dict(op='call', name='remap_file_pages', args=[self.at(page), self.pages(count), self.one(0, 0, 0, 1),
                                                              self.one(0, 1, 2, 3, 5, 8), self.one(0, 0, 0x10000)])

    def sync(self, t):
        fd, page = self.one('F', 'F', 'M', 'R', 'O'), self.random.randrange(8)
        return self.one(
            dict(op='call', name=self.one('fsync', 'fdatasync'), args=[fd]),
            dict(op='call', name='sync_file_range', args=[fd, self.pages(page), self.one(0, 'PAGE', '3*PAGE'), self.one(2, 6, 7)]),
            dict(op='call', name='fadvise64', args=[fd, self.pages(page), self.one(0, 'PAGE', '3*PAGE', 5000), self.one(3, 4, 4)]),
            dict(op='call', name='lseek', args=[fd, self.one(0, 100, self.pages(page)), self.one(3, 4)]))

    def ranges(self, t):
        words = []
        for _ in range(self.one(1, 2, 3)):
            words += [self.where(t), self.one(0, 1, 100, 'PAGE')]
        return dict(op='call', name=self.one('preadv', 'pwritev'), args=[
            self.one('F', 'F', 'M', 'R'), dict(words=words), len(words) // 2, self.random.randrange(7 * 4096), 0])

    def pmadvise(self, t):
        """Of its own memory, or of another's: only some advice may be given from outside."""
        other = self.one(t, *self.tasks)
        fd, words = self.name('p'), []
        for _ in range(self.one(1, 2, 3)):
            page, count = self.run(other)
            words += [self.at(page), self.pages(count)]
        pid = [dict(op='call', name='getpid', args=[], any=True, **{'as': fd + 'pid'})] if other.name == 'main' else []
        for step in pid:
            step['in'] = 'main'
        return pid + [
            dict(op='call', name='pidfd_open', args=[fd + 'pid' if pid else other.name, 0], any=True, **{'as': fd}),
            dict(op='call', name='process_madvise', args=[fd, dict(words=words), len(words) // 2, self.one(
                3, 4, 8, 20, 20, 21, 21, 22, 23, 25, 102, 103), 0]),
            dict(op='close', fd=fd)]

    def seal(self, t):
        return self.one(dict(op='add_seals', fd=self.one('E', 'E', 'M', 'F'), seals=self.one('GROW', 'SHRINK', 'WRITE', 'FUTURE_WRITE', 'SEAL', 'EXEC')),
                        dict(op='get_seals', fd=self.one('E', 'M', 'F')))

    def mseal(self, t):
        at, length, _ = self.place(t, 4)
        return dict(op='call', name='mseal', args=[at, length, 0 if self.chance(0.97) else 1])

    def persona(self, t):
        """READ_IMPLIES_EXEC, or not. Addresses stay where they are."""
        return dict(op='call', name='personality', args=[self.one(0x0440000, 0x0040000)], any=True)

    def outside(self, t):
        """What is changed and seen past the mappings' rights."""
        at = self.at(self.page(t))
        return self.one(dict(op='mem_read', at=at), dict(op='mem_write', at=at, value=self.random.randrange(1, 256)),
                        dict(op='proc_write', file='clear_refs', text=self.one('1', '2', '3', '4')))

    def frames(self, t):
        other = self.one(*self.tasks)
        return dict(op='same_frame', at=self.at(self.page(t)), other=self.at(self.page(other)), other_in=other.name)

    # Processes

    def fork(self, t):
        if len(self.tasks) >= 5 or self.made >= 9 or t.leader is not t:
            return None
        self.made += 1
        child = Task('c%d' % self.made, t.mapped)
        child.legacy, child.handled = t.legacy, set(t.handled)
        t.marked = False
        t.children.append(child)
        self.tasks.append(child)
        return dict(op='fork', **{'as': child.name})

    def exit(self, t):
        if t.leader.name == 'main':
            return None
        self.tasks = [each for each in self.tasks if each.leader is not t.leader]
        t = t.leader
        self.goes_on(t)
        for parent in self.tasks:
            if t in parent.children:
                self.zombies.append((parent, t))
        return dict(op='exit', code=self.random.randrange(256))

    def process_vm(self, t):
        other = self.one(*self.tasks)
        pairs = lambda: [[self.where(t), self.one(1, 8, 100, 5000, 'PAGE')] for _ in range(self.one(1, 1, 2, 3))]
        step = dict(op=self.one('process_vm_readv', 'process_vm_writev'), pid=other.name if other.name != 'main' else 'me',
                    local=pairs(), remote=pairs())
        if self.chance(0.05):
            step['flags'] = 1
        return step

    # System V segments, limits

    def shm(self, t):
        if not self.segments or self.chance(0.15):
            name = self.name('I')
            self.segments.append(name)
            return dict(op='shmget', key=self.one('PRIVATE', 'PRIVATE', 1, 2), size=self.one(1, 'PAGE', '3*PAGE+5', '5*PAGE', '8*PAGE', 0),
                        flags=self.one('CREAT', 'CREAT', 'CREAT|EXCL', '0'), **{'as': name})
        segment = self.one(*self.segments)
        r = self.random.random()
        if r < 0.5:
            step = dict(op='shmat', id=segment, addr=self.at(self.random.randrange(WINDOW)) + self.one('', '', '', '+100'),
                        flags=self.one('0', 'RND', 'RND', 'RND|REMAP', 'REMAP', 'RDONLY|RND', 'EXEC|RND'))
            if self.chance(0.2):
                step['addr'], step['as'] = 0, self.name('A')
                self.autos.append(step['as'])
            return step
        if r < 0.7:
            return dict(op='shmdt', at=self.at(self.page(t)))
        if r < 0.8:
            return dict(op='shmrm', id=segment)
        return dict(op='shmstat', id=segment)

    def setrlimit(self, t):
        resource = self.one('AS', 'DATA', 'STACK', 'MEMLOCK')
        key = 'k_' + t.name
        cur = dict(AS='%s.VmSize+%d*PAGE' % (key, self.one(0, 1, 4, 16, 100)), DATA='%s.VmData+%d*PAGE' % (key, self.one(0, 2, 8, 50)),
                   STACK=self.one('MB', '8*MB', '140*KB', '64*PAGE'), MEMLOCK=self.one(0, 'PAGE', '4*PAGE', '10*PAGE+1', '8*MB'))[resource]
        if resource in ('AS', 'DATA'):
            self.limited = True
            mark = [dict(op='mark', **{'as': key})]
        else:
            mark = []
        if resource != 'MEMLOCK' and self.chance(0.2):
            cur = 'INFINITY'
        return mark + [dict(op='setrlimit', resource=resource, cur=cur)]

    def drop_caps(self, t):
        return dict(op='drop_caps')

    # Looking

    def look(self, t):
        """What is noted after every few steps."""
        if self.profile == 'huge':
            return self.look_huge(t)
        out = [dict(op='maps', at='S-%d*PAGE' % FAR, len='%d*PAGE' % (FAR * 3))]
        if self.chance(0.9):
            out.append(dict(op='pagemap', at='S', len=self.pages(WINDOW)))
        if self.chance(0.3):
            out.append(dict(op='maps', at='L' if t.legacy else 'T-512*PAGE', len='512*PAGE'))
        if self.autos and self.chance(0.2):
            out.append(dict(op='pagemap', at='L' if t.legacy else 'T-64*PAGE', len='64*PAGE'))
        if self.chance(0.1) and self.profile != 'commit':
            out.append(dict(op='maps', at='B', len='64*PAGE'))
        key = 'k_' + t.name
        if t.marked:
            out.append(dict(op='delta', since=key))
        if not t.marked or self.chance(0.6):
            out.append(dict(op='mark', **{'as': key}))
            t.marked = True
        if t.mapped and self.chance(0.3):
            out.append(dict(op='vmflags', at=self.at(self.page(t))))
        if self.chance(0.25):
            out.append(dict(op='smaps', at='S-%d*PAGE' % FAR, len='%d*PAGE' % (FAR * 3)))
        if t.mapped and self.chance(0.2):
            out.append(dict(op='smaps', at=self.at(self.page(t)), len=1))
        return out

    def add(self, task, steps):
        for step in steps if isinstance(steps, list) else [steps]:
            if task.name != 'main' and 'in' not in step:
                step['in'] = task.name
            elif step.get('in') == 'main':
                del step['in']
            self.steps.append(step)

    def sequence(self):
        main = self.tasks[0]
        self.add(main, [
            dict(op='space', **{'as': 'S'}, len='64*PAGE'),
            dict(op='mmap', len='PAGE', prot='NONE', flags='PRIVATE|ANONYMOUS', **{'as': 'first'}),
            dict(op='let', **{'as': 'T'}, value='first+PAGE'),
            dict(op='munmap', at='first', len='PAGE'),
            dict(op='brk', **{'as': 'B'}),
            dict(op='file', **{'as': 'F'}, size='6*PAGE+100', pages=[1, 2, 3, 4, 5, 6]),
            dict(op='memfd', **{'as': 'M'}, size='5*PAGE', pages=[11, 12, 13]),
            dict(op='memfd', **{'as': 'E'}, size='4*PAGE+50', pages=[21, 22], flags='ALLOW_SEALING'),
            dict(op='open', **{'as': 'R'}, path='file:F', mode='RDONLY'),
            dict(op='open', **{'as': 'O'}, path='file:F', mode='WRONLY'),
            dict(op='open', **{'as': 'Z'}, path='/dev/zero', mode='RDWR'),
        ])
        self.add(main, self.first_steps(self.profile) + self.first_memory_steps(self.profile))
        task, until_look = main, 3
        while len(self.steps) < self.count:
            if self.chance(0.25):
                task = self.one(*self.tasks)
            if self.zombies and self.chance(0.5):
                parent, child = self.zombies.pop()
                if parent in self.tasks:
                    self.add(parent, dict(op='wait', **{'for': child.name}))
            kinds = list(self.weights)
            kind = self.random.choices(kinds, [self.weights[k] for k in kinds])[0]
            made = getattr(self, kind)(task)
            if made is None:
                continue
            self.add(task, made)
            if task not in self.tasks:
                task = self.one(*self.tasks)
            until_look -= 1
            if until_look <= 0:
                self.add(task, self.look(task))
                until_look = self.random.randrange(2, 7)
        for task in self.tasks:
            self.add(task, self.look(task))
        return self.steps


def generate(seed, profile, steps, without=()):
    """One sequence of about `steps` steps."""
    return dict(id='recorded-%s-%s' % (profile, seed), area='recorded-' + profile,
                steps=Generator(seed, profile, steps, without).sequence())
