"""Variations of conformance cases: the same steps with other rights, lengths, flags and order, two cases in one process.

What a case is about is mostly near to what else there is to know: what a neighbouring flag, a page more or a fork before
it would have done.
"""
import random
import re

LEFT_OUT = {'sysctl', 'vma', 'sbrk', 'proc_read', 'assert'}     # of the whole machine, of the actor itself, or nothing to note
WORDS = dict(
    prot=['RW', 'RW', 'R', 'NONE', 'RX', 'RWX', 'W', 'X'],
    mode=['r', 'w'],
    advice=['NORMAL', 'RANDOM', 'SEQUENTIAL', 'WILLNEED', 'DONTNEED', 'FREE', 'REMOVE', 'DONTFORK', 'DOFORK', 'MERGEABLE',
            'HUGEPAGE', 'NOHUGEPAGE', 'DONTDUMP', 'DODUMP', 'WIPEONFORK', 'KEEPONFORK', 'COLD', 'PAGEOUT', 'POPULATE_READ',
            'POPULATE_WRITE', 'DONTNEED_LOCKED', 'COLLAPSE', 'GUARD_INSTALL', 'GUARD_REMOVE'],
)
FLAGS = dict(
    mmap=['FIXED', 'POPULATE', 'LOCKED', 'NORESERVE', 'STACK', 'GROWSDOWN', 'FIXED_NOREPLACE', 'NONBLOCK', 'ANONYMOUS'],
    mremap=['MAYMOVE', 'FIXED', 'DONTUNMAP'], mlock2=['ONFAULT'], mlockall=['CURRENT', 'FUTURE', 'ONFAULT'],
    msync=['SYNC', 'ASYNC', 'INVALIDATE'], shmat=['RDONLY', 'RND', 'REMAP', 'EXEC'], memfd=['ALLOW_SEALING'])


def flat(steps):
    """Without repetitions, and without what cannot be noted; None for a case that cannot be done here."""
    out = []
    for step in steps:
        if step['op'] == 'repeat':
            if not str(step['count']).isdigit() or int(step['count']) > 6:
                return None
            inner = flat(step['steps'])
            if inner is None:
                return None
            for i in range(int(step['count'])):
                out += [dict(op='let', **{'as': step['var']}, value=i)] + inner
        elif step['op'] in ('sysctl', 'vma', 'sbrk'):
            return None
        elif step['op'] == 'proc_write' and step['file'] != 'clear_refs' or step.get('resource') == 'NOFILE':
            return None
        elif step['op'] not in LEFT_OUT:
            out.append(dict(step))
    return out


class Varying:
    def __init__(self, seed, cases):
        self.random = random.Random('vary/%s' % seed)
        self.seed, self.cases = seed, cases

    def chance(self, p):
        return self.random.random() < p

    def change(self, step):
        """One field of a step, as it could be, too."""
        op, one = step['op'], self.random.choice
        if op in ('space', 'let', 'file', 'fork', 'mark'):
            return step
        step = dict(step)
        keys = [key for key in step if key in ('prot', 'mode', 'advice', 'flags', 'len', 'old', 'new', 'at', 'to', 'addr', 'off', 'size', 'value')]
        if not keys:
            return step
        key = one(keys)
        if key in WORDS and op != 'open' and op != 'fallocate':
            step[key] = one(WORDS[key])
        elif key == 'flags' and op in FLAGS:
            words = [word for word in str(step[key]).split('|') if word not in ('0', '')]
            word = one(FLAGS[op])
            words = [w for w in words if w != word] if word in words else words + [word]
            if op == 'mmap' and self.chance(0.3):
                words = [{'PRIVATE': 'SHARED', 'SHARED': 'PRIVATE'}.get(w, w) for w in words]
            step[key] = '|'.join(words) or '0'
        elif key in ('len', 'old', 'new', 'size') and isinstance(step[key], (str, int)):
            step[key] = one(['PAGE', '2*PAGE', '3*PAGE', '(%s)+PAGE' % step[key], '(%s)-PAGE' % step[key], '(%s)+1' % step[key]])
            if op in ('check', 'fill', 'fread', 'fwrite', 'pread', 'pwrite', 'touch'):
                step[key] = one([1, 100, 'PAGE', 'PAGE+1'])
        elif key in ('at', 'to', 'addr', 'off'):
            step[key] = '(%s)%s' % (step[key], one(['+PAGE', '-PAGE', '+2*PAGE', '+4*PAGE', '+1']))
        return step

    def extra(self, names):
        """A step about an address that the case has."""
        one, at = self.random.choice, '%s+%d*PAGE' % (self.random.choice(names), self.random.randrange(4))
        length = one(['PAGE', '2*PAGE', '4*PAGE'])
        return one([
            dict(op='store8', at=at, value=7), dict(op='load8', at=at), dict(op='store8', at=at, value=7), dict(op='load8', at=at),
            dict(op='mprotect', at=at, len=length, prot=one(WORDS['prot'])), dict(op='munmap', at=at, len=length),
            dict(op='madvise', at=at, len=length, advice=one(WORDS['advice'])), dict(op='mlock', at=at, len=length),
            dict(op='mlock2', at=at, len=length, flags='ONFAULT'), dict(op='munlock', at=at, len=length),
            dict(op='mremap', at=at, old=length, new=one(['PAGE', '3*PAGE', '6*PAGE']), flags='MAYMOVE'),
            dict(op='mremap', at=at, old=length, new=length, flags='MAYMOVE|FIXED', to='%s+8*PAGE' % one(names)),
            dict(op='mmap', addr=at, len=length, prot=one(WORDS['prot']), flags='%s|ANONYMOUS|FIXED' % one(['PRIVATE', 'SHARED'])),
            dict(op='mem_write', at=at, value=9), dict(op='mem_read', at=at),
            dict(op='msync', at=at, len=length, flags='SYNC'), dict(op='mincore', at=at, len=length),
            dict(op='process_vm_readv', pid='me', local=[[one(names), 8]], remote=[[at, 8]]),
            dict(op='call', name='mseal', args=[at, length, 0]), dict(op='proc_write', file='clear_refs', text=one(['1', '2', '3', '4'])),
        ])

    def steps(self):
        chosen = None
        while chosen is None:
            chosen = flat(self.random.choice(self.cases)['steps'])
            if chosen is not None and self.chance(0.4):
                other = flat(self.random.choice(self.cases)['steps'])
                if other is not None and not any(step['op'] == 'fork' for step in chosen):
                    chosen = chosen + other
        out = [
            dict(op='mmap', len='PAGE', prot='NONE', flags='PRIVATE|ANONYMOUS', **{'as': 'first_'}),
            dict(op='let', **{'as': 'T'}, value='first_+PAGE'), dict(op='munmap', at='first_', len='PAGE'), dict(op='brk', **{'as': 'B'}), dict(op='let', **{'as': 'B_'}, value='B'),
            dict(op='call', name='getpid', args=[], any=True, **{'as': 'me'}), dict(op='mark', **{'as': 'k_main'})]
        names, spaces, tasks = [], [], {'main'}
        for step in chosen:
            if step['op'] == 'delta':
                continue
            where = {'in': step['in']} if 'in' in step else {}
            if step['op'] not in ('space', 'fork') and self.chance(0.06):
                continue
            if step['op'] == 'fork':
                step.setdefault('as', 'y%d' % len(out))
                tasks.add(step['as'])
            out.append(self.change(step) if self.chance(0.3) else step)
            if step['op'] == 'space':
                spaces.append(step['as'])
            if step['op'] in ('space', 'mmap', 'shmat') and 'as' in step:
                names.append(step['as'])
            if names and self.chance(0.25):
                out.append(dict(self.extra(names), **where))
            if names and self.chance(0.04) and len(tasks) < 3:
                name = 'x%d' % len(out)
                tasks.add(name)
                out.append(dict(op='fork', **{'as': name}, **where))
            if spaces and self.chance(0.3):
                out += self.look(spaces, where)
        for task in sorted(tasks):
            where = {} if task == 'main' else {'in': task}
            out += self.look(spaces, where)
        return out

    def look(self, spaces, where):
        out = [dict(op='maps', at='T-2048*PAGE', len='2048*PAGE', **where), dict(op='pagemap', at='T-48*PAGE', len='48*PAGE', **where)]
        for name in spaces[:3]:
            out += [dict(op='maps', at='%s-64*PAGE' % name, len='192*PAGE', **where),
                    dict(op='pagemap', at='%s-4*PAGE' % name, len='36*PAGE', **where),
                    dict(op='smaps', at='%s-64*PAGE' % name, len='192*PAGE', **where)]
        out.append(dict(op='maps', at='B', len='64*PAGE', **where))
        if not where:
            out.append(dict(op='delta', since='k_main'))
        return out


def vary(seed, cases):
    """One case made of one or two of those given."""
    varying = Varying(seed, cases)
    return dict(id='varied-%s' % seed, area='varied', steps=varying.steps())
