"""Steps about tasks: threads, children that share the memory, other programs, waiting, signals."""

# Each with a handler that takes notes, sooner or later. Those of the second list end who has none.
QUIET = ['SIGCHLD', 'SIGURG', 'SIGWINCH', 'SIGCONT']
DEADLY = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGILL', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGUSR1', 'SIGSEGV', 'SIGUSR2', 'SIGPIPE', 'SIGALRM',
          'SIGTERM', 'SIG34', 'SIG40', 'SIG64']
# What a handler may raise: these raise nothing themselves.
LEAVES = ['SIGUSR2', 'SIGALRM', 'SIG40', 'SIGWINCH']
STACKS = 600                # pages from S: the alternate stacks

TASK_WEIGHTS = dict(thread=0, exit_thread=0, vfork=0, exec=0, wait4=0, waitid=0, setpgid=0, sigaction=0, sigprocmask=0, sigpending=0,
                    sigaltstack=0, send=0)

# Weights, not factors: none of these steps is made otherwise.
TASK_PROFILES = dict(
    signals=dict(sigaction=16, sigprocmask=10, send=18, sigpending=4, sigaltstack=3, thread=1.5, exit_thread=0.5, vfork=0.5, wait4=1, waitid=1,
                 setpgid=0.3, exec=0.3),
    waits=dict(wait4=12, waitid=14, send=8, vfork=4, thread=1, exit_thread=0.7, setpgid=3, sigaction=2, sigprocmask=1, exec=0.7),
    threads=dict(thread=5, exit_thread=2, vfork=1, exec=0.3),
    execs=dict(exec=5, vfork=3, thread=1, exit_thread=0.3),
)
# And what they ask for more often of the rest, as factors.
TASK_FACTORS = dict(
    signals=dict(fork=1.5, exit=1, load=1.5, store=1.2, mmap=0.5, mprotect=0.7, munmap=0.4, mremap=0.3, madvise=0.3, process_vm=0.3),
    waits=dict(fork=18, exit=18, mmap=0.3, mprotect=0.3, munmap=0.3, mremap=0.2, madvise=0.3, load=0.4, store=0.4),
    threads=dict(fork=1.5, mlock=2, brk=3, growsdown=1.5, process_vm=2, touch=2),
    execs=dict(fork=3, exit=3, mmap_auto=3, brk=5, mlockall=4, setrlimit=3, shm=4, persona=6, growsdown=2),
)


class TaskKinds:
    """Part of a generator."""

    def begin(self, task):
        """What a program starts with, so that places have names."""
        name = self.name('first')
        place = 'L' if task.legacy else 'T'
        return [dict(op='mmap', len='PAGE', prot='NONE', flags='PRIVATE|ANONYMOUS', **{'as': name}),
                dict(op='let', **{'as': place}, value=name if task.legacy else name + '+PAGE'),
                dict(op='munmap', at=name, len='PAGE')]

    def thread(self, t):
        if len(self.tasks) >= 6:
            return None
        task = type(t)(self.name('t'))
        task.shares(t)
        self.tasks.append(task)
        return dict(op='thread', **{'as': task.name})

    def exit_thread(self, t):
        if t.leader is t:
            return None
        self.tasks.remove(t)
        return dict(op='exit_thread')

    def vfork(self, t):
        if t.leader is not t or len(self.tasks) >= 6 or self.made >= 12 or self.limited:
            return None
        self.made += 1
        task = type(t)('c%d' % self.made)
        task.mapped, task.legacy, task.parent = t.mapped, t.legacy, t
        t.children.append(task)
        self.tasks.remove(t)
        self.tasks.append(task)
        return dict(op='vfork', **{'as': task.name})

    def exec(self, t):
        if t.leader is not t:
            return None
        step = dict(op='exec')
        if self.chance(0.6):
            step['legacy'] = self.one(True, True, False)
            t.legacy = step['legacy']
        t.mapped, t.marked, t.handled = set(), False, set()
        self.tasks = [each for each in self.tasks if each.leader is not t or each is t]
        self.autos.clear()
        self.goes_on(t)
        return [step] + self.begin(t)

    def goes_on(self, child):
        """A parent that a child has left alone in its memory."""
        if child.parent is not None:
            self.tasks.append(child.parent)
            child.parent = None

    # Waiting

    def of(self, t):
        return self.one(-1, -1, -1, *(child.name for child in t.leader.children), *(child.name for child in t.leader.children),
                        'main', 0, 999999, '-main')

    def wait4(self, t):
        return dict(op='wait4', of=self.of(t), options=self.one('0', '0', '0', '0', 'UNTRACED', 'CONTINUED', 'WALL', 'WNOTHREAD', 'WCLONE', 'EXITED',
                                                                'UNTRACED|CONTINUED|WALL', '0x40'))

    def waitid(self, t):
        which = self.one('ALL', 'PID', 'PID', 'PID', 'PGID')
        of = self.of(t)
        if which == 'PGID':
            of = self.one('main', 0, 999999, *(child.name for child in t.leader.children))
        return dict(op='waitid', which=which, of=of, options=self.one('EXITED', 'EXITED', 'EXITED', 'EXITED|NOWAIT', 'EXITED|NOWAIT', 'UNTRACED', 'CONTINUED',
                                                                      'EXITED|UNTRACED|CONTINUED', 'EXITED|WALL', 'EXITED|WCLONE', '0', 'EXITED|WNOTHREAD'))

    def setpgid(self, t):
        other = self.one(0, t.leader.name, *(child.name for child in t.leader.children))
        return dict(op='call', name='setpgid', args=[other, self.one(0, 0, 'main', *(child.name for child in t.leader.children))])

    # Signals

    def signal(self, t=None):
        if t is not None and t.leader.handled and self.chance(0.8):
            return self.random.choice(sorted(t.leader.handled))
        return self.one(*QUIET, *DEADLY)

    def signals(self):
        return sorted({self.signal() for _ in range(self.one(0, 1, 1, 2, 3))})

    def sigaction(self, t):
        signal = self.signal() if self.chance(0.97) else self.one('SIGKILL', 'SIGSTOP', 0, 65)
        does = self.one('note', 'note', 'note', 'note', 'note', 'ignore', 'default')
        if does == 'default':
            t.leader.handled.discard(signal)
        elif signal in QUIET or signal in DEADLY:
            t.leader.handled.add(signal)
        flags = [flag for flag, p in (('ONSTACK', 0.3), ('NODEFER', 0.2), ('RESETHAND', 0.15), ('RESTART', 0.3), ('NOCLDWAIT', 0.1), ('NOCLDSTOP', 0.1))
                 if self.chance(p)]
        step = dict(op='sigaction', signal=signal, does=does, flags='|'.join(flags) or '0', mask=self.signals())
        if does == 'note' and signal not in LEAVES and self.chance(0.25):
            step['raises'] = self.one(*LEAVES)
        return step

    def sigprocmask(self, t):
        signals = self.signals()
        if self.chance(0.9):
            signals = [each for each in signals if each not in ('SIGSEGV', 'SIGBUS')]
        return dict(op='sigprocmask', how=self.one('BLOCK', 'BLOCK', 'BLOCK', 'UNBLOCK', 'SETMASK', 'SETMASK', 7), set=signals if self.chance(0.7) else [])

    def sigpending(self, t):
        return dict(op='sigpending')

    def sigaltstack(self, t):
        at = 'S+%d*PAGE' % (STACKS + self.one(0, 0, 0, 16, 32))
        size = self.one('16*PAGE', '16*PAGE', '16*PAGE', 2047, 0, '8*PAGE')
        return dict(op='sigaltstack', at=at, size=size, flags=self.one('0', '0', '0', 'AUTODISARM', 'DISABLE', 'ONSTACK', '8'))

    def send(self, t):
        other = self.one(t, t, *self.tasks)
        to, how = other.name, self.one('kill', 'kill', 'tgkill')
        signal = self.signal(other)
        if other.leader.name == 'main' and signal in DEADLY and signal not in other.leader.handled and self.chance(0.9):
            signal = self.one(*QUIET, 0)
        if self.chance(0.03):
            to, how = self.one(0, '-main', 999999), 'kill'
            signal = self.one(*QUIET, 0)
        if other.leader.name != 'main' and self.chance(0.1):
            signal = self.one('SIGKILL', 'SIGTERM', 'SIGUSR1')
        return dict(op='send', whom=to, how=how, signal=signal)

    def first_steps(self, profile):
        """Before the first random step."""
        if profile not in ('signals', 'waits'):
            return []
        steps = [dict(op='mmap', addr='S+%d*PAGE' % STACKS, len='16*PAGE', prot='RW', flags='PRIVATE|ANONYMOUS|FIXED|POPULATE'),
                 dict(op='mmap', addr='S+%d*PAGE' % (STACKS + 32), len='16*PAGE', prot='NONE', flags='PRIVATE|ANONYMOUS|FIXED'),
                 dict(op='sigaltstack', flags='DISABLE')]
        return steps + [dict(op='sigaction', signal='SIGURG', does='note', flags='0')]
