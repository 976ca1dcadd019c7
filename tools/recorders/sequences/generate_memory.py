"""Steps about much memory: huge pages, and mappings larger than the machine that nobody touches."""

SLOTS = 3                   # places for mappings larger than the machine, 30 TiB apart below S
RATIO = 100000              # of memory that may be promised, in percent: what others take of that is too little to matter
HUGE_PAGES = 512
WINDOW_HUGE = 6             # huge pages of H that most steps are about

MEMORY_WEIGHTS = dict(commit_mode=0, commit_mmap=0, commit_mprotect=0, commit_munmap=0, commit_mremap=0, commit_brk=0, commit_touch=0,
                      commit_shm=0, commit_look=0, huge_mmap=0, huge_advise=0, huge_touch=0, huge_protect=0, huge_unmap=0, huge_remap=0,
                      huge_lock=0, huge_pages=0)

# Of the other steps only these: what fills or locks memory must never meet a mapping larger than the machine.
NOTHING_ELSE = dict(mmap=1, mmap_auto=0, mmap_file=0, mmap_odd=0, munmap=1, mprotect=1, mremap=0, brk=0, madvise=0, mlock=0, mlockall=0, mincore=0,
                    msync=0, load=1, store=2, touch=0, check=0, fetch=0, fork=0, exit=0, file=0, seal=0, shm=0, process_vm=0, setrlimit=0,
                    drop_caps=0.1, growsdown=0, remap=0, pmadvise=0, sync=0, ranges=0, mseal=0, persona=0, outside=0, frames=0)

# Weights, not factors.
MEMORY_PROFILES = dict(
    commit=dict(NOTHING_ELSE, commit_mode=4, commit_mmap=12, commit_mprotect=8, commit_munmap=6, commit_mremap=5, commit_brk=4, commit_touch=6,
                commit_shm=3, commit_look=6, fork=3, exit=3),
    huge=dict(NOTHING_ELSE, huge_mmap=8, huge_advise=12, huge_touch=14, huge_protect=5, huge_unmap=3, huge_remap=4, huge_lock=2, huge_pages=4,
              fork=2.5, exit=2, process_vm=0, drop_caps=0),
)


class MemoryKinds:
    """Part of a generator."""

    # What is promised, not used

    def slot(self):
        return 'S-%d*GB*1024' % (30 * self.random.randrange(1, SLOTS + 1))

    def big(self):
        """A size about the limit in force, never so near to what is left that other processes would decide."""
        if self.mode == 2:
            return 'o.CommitLimit/10/PAGE*%d*PAGE' % self.one(3, 3, 3, 6, 9, 12)
        return self.one('MEMTOTAL', 'MEMTOTAL+PAGE', 'MEMTOTAL/2/PAGE*PAGE', 'MEMTOTAL/2/PAGE*PAGE+PAGE', 'MEMTOTAL/4/PAGE*PAGE', 'MEMTOTAL*2', '16*PAGE')

    def part(self):
        return 'o.CommitLimit/10/PAGE*%d*PAGE' % self.one(3, 6) if self.mode == 2 else self.one('MEMTOTAL/2/PAGE*PAGE', 'MEMTOTAL/4/PAGE*PAGE', '8*PAGE', 'MEMTOTAL')

    def commit_mode(self, t):
        # A sequence is under the limit from its beginning or never: what was promised before is a fraction of another size.
        if t.name != 'main' or self.mode == 2:
            return None
        self.mode = self.one(0, 1)
        return dict(op='sysctl', name='vm/overcommit_memory', value=self.mode)

    def commit_mmap(self, t):
        flags = self.one('PRIVATE|ANONYMOUS|FIXED', 'PRIVATE|ANONYMOUS|FIXED', 'SHARED|ANONYMOUS|FIXED') + self.one('', '', '|NORESERVE')
        return dict(op='mmap', addr=self.slot() + self.one('', '', '+16*PAGE'), len=self.big(), prot=self.one('RW', 'RW', 'RW', 'R', 'NONE'), flags=flags)

    def commit_mprotect(self, t):
        return dict(op='mprotect', at=self.slot() + self.one('', '', '+4*PAGE'), len=self.part(), prot=self.one('RW', 'RW', 'R', 'NONE'))

    def commit_munmap(self, t):
        return dict(op='munmap', at=self.slot() + self.one('', '', '+8*PAGE'), len=self.one('30*GB*1024-16*PAGE', self.part(), self.part()))

    def commit_mremap(self, t):
        step = dict(op='mremap', at=self.slot(), old=self.part(), new=self.one(self.big(), self.part()), flags=self.one('0', 'MAYMOVE|FIXED', 'MAYMOVE|FIXED|DONTUNMAP'))
        if 'FIXED' in step['flags']:
            step['to'] = self.slot()
        # One that shrinks and moves at once charges what it gives back, for ever: an oddity of the kernel.
        if 'FIXED' in step['flags']:
            step['new'] = step['old']
        return step

    def commit_brk(self, t):
        return dict(op='brk', addr=self.one('B', 'B', 'B+PAGE', 'B+' + self.big()))

    def commit_touch(self, t):
        at = '%s+%d*PAGE' % (self.slot(), self.random.randrange(20))
        return self.one(dict(op='load8', at=at), dict(op='store8', at=at, value=self.random.randrange(1, 256)))

    def commit_shm(self, t):
        name = self.name('I')
        return [dict(op='shmget', key='PRIVATE', size=self.big(), flags=self.one('CREAT', 'CREAT|0o10000'), **{'as': name}),
                dict(op='shmat', id=name, addr=self.slot(), flags=self.one('REMAP', '0')), dict(op='shmrm', id=name)]

    def commit_look(self, t):
        return dict(op='vmflags', at='%s+%d*PAGE' % (self.slot(), self.one(0, 0, 4, 8, 16)))

    # Huge pages

    def huge_place(self):
        """Address and length: whole huge pages, or not quite."""
        first, count = self.random.randrange(WINDOW_HUGE), self.one(1, 1, 1, 2, 3)
        at, length = 'H+%d*HUGE' % first, '%d*HUGE' % count
        if self.chance(0.35):
            pages = self.one(1, 2, 3, 16, 100, 256, 511)
            at, length = self.one((at, '%d*PAGE' % pages), (at + '+%d*PAGE' % pages, '%d*PAGE' % self.one(1, 2, 8, 400, 512)),
                                  (at + '+%d*PAGE' % pages, length), (at, length + '-%d*PAGE' % pages))
        return at, length

    def huge_mmap(self, t):
        at, length = self.huge_place()
        return dict(op='mmap', addr=at, len=length, prot=self.one('RW', 'RW', 'RW', 'R', 'RWX'),
                    flags=self.one('PRIVATE', 'PRIVATE', 'PRIVATE', 'SHARED') + '|ANONYMOUS|FIXED' + self.one('', '', '', '', '', '|POPULATE', '|NORESERVE'))

    def huge_advise(self, t):
        at, length = self.huge_place()
        return dict(op='madvise', at=at, len=length, advice=self.one(
            'HUGEPAGE', 'HUGEPAGE', 'HUGEPAGE', 'HUGEPAGE', 'HUGEPAGE', 'NOHUGEPAGE', 'COLLAPSE', 'COLLAPSE', 'DONTNEED', 'DONTNEED', 'FREE', 'COLD', 'PAGEOUT',
            'POPULATE_READ', 'POPULATE_WRITE', 'GUARD_INSTALL', 'GUARD_REMOVE', 'DONTFORK', 'WIPEONFORK', 'DOFORK', 'KEEPONFORK', 'WILLNEED'))

    def huge_touch(self, t):
        at = 'H+%d*HUGE+%d*PAGE' % (self.random.randrange(WINDOW_HUGE), self.one(0, 0, 1, 5, 100, 255, 511))
        return self.one(dict(op='store8', at=at + '+5', value=self.random.randrange(1, 256)), dict(op='store8', at=at + '+7', value=self.random.randrange(1, 256)),
                        dict(op='load8', at=at + '+5'), dict(op='check', at=at, len='PAGE'),
                        dict(op='touch', at=at, len='%d*PAGE' % self.one(1, 4, 300, 512), mode=self.one('r', 'w'), value=self.random.randrange(1, 256)))

    def huge_protect(self, t):
        at, length = self.huge_place()
        return dict(op='mprotect', at=at, len=length, prot=self.one('RW', 'RW', 'R', 'R', 'NONE', 'RWX'))

    def huge_unmap(self, t):
        at, length = self.huge_place()
        return dict(op='munmap', at=at, len=length)

    def huge_remap(self, t):
        at, length = self.huge_place()
        to, _ = self.huge_place()
        return dict(op='mremap', at=at, old=length, new=self.one(length, length, 'HUGE', '300*PAGE'), to=to,
                    flags=self.one('0', 'MAYMOVE|FIXED', 'MAYMOVE|FIXED', 'MAYMOVE|FIXED|DONTUNMAP'))

    def huge_lock(self, t):
        at, length = self.huge_place()
        self.locked = True
        return dict(op=self.one('mlock', 'munlock', 'munlock'), at=at, len=length)

    def huge_pages(self, t):
        at = 'H+%d*HUGE' % self.random.randrange(WINDOW_HUGE)
        return self.one(dict(op='pagemap', at=at, len='16*PAGE'), dict(op='pagemap', at=at + '+496*PAGE', len='32*PAGE'), dict(op='smaps', at=at, len=1),
                        dict(op='smaps', at='H', len='%d*HUGE' % (WINDOW_HUGE + 4)), dict(op='maps', at='H', len='%d*HUGE' % (WINDOW_HUGE + 4)),
                        dict(op='vmflags', at=at), dict(op='mincore', at=at, len='512*PAGE'))

    def look_huge(self, t):
        out = [dict(op='maps', at='H', len='%d*HUGE' % (WINDOW_HUGE + 4)), dict(op='smaps', at='H', len='%d*HUGE' % (WINDOW_HUGE + 4))]
        key = 'k_' + t.name
        if t.marked:
            out.append(dict(op='delta', since=key))
        t.marked = True
        return out + [dict(op='mark', **{'as': key}), self.huge_pages(t)]

    def first_memory_steps(self, profile):
        if profile == 'commit':
            self.mode = self.one(0, 2)
            return [dict(op='sysctl', name='vm/overcommit_ratio', value=RATIO), dict(op='mark', **{'as': 'o'}),
                    dict(op='sysctl', name='vm/overcommit_memory', value=self.mode)]
        if profile == 'huge':
            return [dict(op='space', **{'as': 'H'}, len='%d*HUGE' % (WINDOW_HUGE + 4), align='HUGE'),
                    dict(op='mmap', addr='H', len='3*HUGE', prot='RW', flags='PRIVATE|ANONYMOUS|FIXED'),
                    dict(op='madvise', at='H', len='2*HUGE', advice='HUGEPAGE')]
        return []
