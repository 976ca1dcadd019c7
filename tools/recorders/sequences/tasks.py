"""Steps about tasks: threads, children that share the memory, programs that take another's place, waiting, signals.

Signals are noted by the handlers themselves: the actor writes down each run of one, with its code, what it is about,
whether it runs on the alternate stack and what is held back. From the first `sigaction` on, what the handlers of any
actor have noted is collected after each step (`seen`), as are those that a signal has ended (`died`).
"""
import os
import struct
import time

from words import CLD, MASK, P_TYPES, SA, SIGNAL_NUMBERS, SIG_HOW, SI_CODES, SIGNALS, CODES, SS, WAIT, mask

DO_EXIT, DO_THREAD, DO_VFORK, DO_EXEC, DO_ACTION, DO_NOTES = 10, 11, 12, 13, 14, 15
SERVERS = 4
NOTED_END = 1000
NOTE_BYTES = 40
LEGACY, NO_RANDOMIZE = 0x0200000, 0x0040000


class Lost(Exception):
    """An actor that does not answer: the sequence broke its own tools."""


class Gone(Lost):
    """An actor that has ended."""


def signal_number(name):
    """Of a name, or of a number that need not be right."""
    return SIGNAL_NUMBERS[name] if name in SIGNAL_NUMBERS else int(str(name).removeprefix('SIG'))


def signal_set(numbers):
    return sum(1 << signal_number(each) - 1 for each in set(numbers))


def signal_name(number):
    return SIGNALS.get(number, 'SIG%d' % number)


def signal_names(bits):
    return [signal_name(number) for number in range(1, 65) if bits >> number - 1 & 1]


class TaskSteps:
    """Part of a recording."""

    def begin_tasks(self):
        self.collects = False
        # Names of suspended parents, and what they wait for.
        self.suspended = {}
        self.pids = {self.actors['main'].pid: 'main'}
        self.names['main'] = self.actors['main'].pid

    # Threads and shared memory

    def free_server(self, actor):
        used = {other.server for other in self.actors.values() if other.shares == actor.shares}
        return next((n for n in range(1, SERVERS) if n not in used), None)

    def do_thread(self, step, actor):
        server = self.free_server(actor)
        if step['as'] in self.actors or server is None:
            return False
        tid = actor.ask(DO_THREAD, server)[0]
        if tid < 0:
            step['expect'] = self.outcome(tid)
            return
        self.adopt(step, actor, tid, server)
        self.actors[step['as']].is_thread = True

    def do_vfork(self, step, actor):
        """The parent is suspended until the child has ended or runs another program."""
        server = self.free_server(actor)
        name = step.get('in', 'main')
        if step['as'] in self.actors or server is None or actor.is_thread:
            return False
        actor.send(DO_VFORK, server)
        self.adopt(step, actor, None, server)
        self.suspended[name] = step['as']

    def adopt(self, step, actor, pid, server):
        child = self.accept()
        self.actors[step['as']] = child
        child.server, child.shares = server, actor.shares
        child.tid = pid if pid is not None else child.pid
        self.names[step['as']] = child.tid
        self.pids[child.tid] = step['as']

    def resumed(self, name):
        """A parent goes on, whose child has left its memory."""
        for parent, child in list(self.suspended.items()):
            if child == name:
                del self.suspended[parent]
                if parent in self.actors and not self.has_ended(self.actors[parent]):
                    self.actors[parent].receive(40)
                    self.disturb(self.actors[parent], 'minflt')     # a fork of the child's has made its stack shared

    def do_exec(self, step, actor):
        if actor.is_thread:
            return False
        name = step.get('in', 'main')
        actor.send(DO_EXEC, MASK if 'legacy' not in step else NO_RANDOMIZE | (LEGACY if step['legacy'] else 0))
        actor.socket.close()
        fresh = self.accept()
        fresh.pid, fresh.tid = actor.pid, actor.pid
        for other, each in list(self.actors.items()):
            if each.pid == actor.pid and each is not actor:
                self.gone(other)
        self.actors[name] = fresh
        self.marks = {key: value for key, value in self.marks.items() if value[0] != fresh.pid}
        self.resumed(name)

    def gone(self, name):
        actor = self.actors.pop(name)
        actor.socket.close()
        self.suspended.pop(name, None)

    def do_exit_thread(self, step, actor):
        if not actor.is_thread:
            return False
        actor.send(DO_EXIT, 0, 1)
        deadline = time.monotonic() + 20
        while os.path.exists('/proc/%d/task/%d' % (actor.pid, actor.tid)):
            if time.monotonic() > deadline:
                raise Lost('thread %d does not exit' % actor.tid)
            time.sleep(0.0002)
        self.gone(step.get('in', 'main'))

    def ended(self, actor):
        """After a process has ended: its threads are gone with it, and a parent that was suspended goes on."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:                # orphans are waited for at once
                pass
        except ChildProcessError:
            pass
        for name, each in list(self.actors.items()):
            if each.pid == actor.pid:
                self.gone(name)
                self.resumed(name)

    # Waiting

    def do_wait4(self, step, actor):
        of = self.wanted(step['of'])
        if of is None:
            return False
        options = mask(step.get('options'), WAIT)
        got = actor.call('wait4', of, actor.scratch, options | 1, 0)
        if got <= 0:
            step['expect'] = self.outcome(got)
        else:
            step['expect'] = dict(pid=self.pids.get(got, got), status=struct.unpack('<i', actor.get(4))[0])

    def do_waitid(self, step, actor):
        of = self.wanted(step['of'])
        if of is None:
            return False
        options = mask(step.get('options'), WAIT)
        actor.put(0, b'\xaa' * 128)
        got = actor.call('waitid', P_TYPES[step['which']], of, actor.scratch, options | 1, 0)
        if got < 0:
            step['expect'] = self.outcome(got)
            return
        signo, error, code, _, pid, _, status = struct.unpack('<7i', actor.get(28))
        step['expect'] = dict(signo=signo, code=CLD.get(code, code), pid=self.pids.get(pid, pid), status=status)

    def wanted(self, of):
        if isinstance(of, str) and of.lstrip('-') in self.pids.values():
            pid = next(pid for pid, name in self.pids.items() if name == of.lstrip('-'))
            return -pid if of.startswith('-') else pid
        return of if isinstance(of, int) else None

    # Signals

    def do_sigaction(self, step, actor):
        self.collects = True
        self.leave_out.update(('minflt', 'VmRSS', 'RssAnon'))      # frames of signals, and what handlers use of the stack
        kind = ('default', 'ignore', 'note').index(step['does'])
        value = actor.ask(DO_ACTION, signal_number(step['signal']), kind, mask(step.get('flags'), SA),
                          signal_set(step.get('mask', [])), signal_number(step.get('raises', 0)))[0]
        self.made(step, self.outcome(value))

    def do_sigprocmask(self, step, actor):
        at = actor.put(0, struct.pack('<Q', signal_set(step['set'])))
        value = actor.call('rt_sigprocmask', SIG_HOW.get(step['how'], step['how']), at, at + 8, 8)
        step['expect'] = self.outcome(value) if value < 0 else signal_names(struct.unpack('<QQ', actor.get(16))[1])

    def do_sigpending(self, step, actor):
        value = actor.call('rt_sigpending', actor.put(0, bytes(8)), 8)
        step['expect'] = self.outcome(value) if value < 0 else signal_names(struct.unpack('<Q', actor.get(8))[0])

    def do_sigaltstack(self, step, actor):
        at = actor.put(0, struct.pack('<QIIQ', self.value(step.get('at')) & MASK, mask(step.get('flags'), SS), 0, self.value(step.get('size')) & MASK))
        self.made(step, self.outcome(actor.call('sigaltstack', at, 0)))

    def do_send(self, step, actor):
        """By `kill` to a process or a group, or by `tgkill` to a thread."""
        number = signal_number(step['signal'])
        to = self.wanted(step['whom'])
        if to is None:
            return False
        if step['how'] == 'tgkill':
            target = self.actors.get(step['whom'])
            value = actor.call('tgkill', target.pid if target else to, to, number)
        else:
            value = actor.call('kill', to, number)
        self.made(step, self.outcome(value))

    def collect(self, step):
        """What handlers have noted since the last step, and who has been ended by a signal."""
        seen, died = {}, []
        for name, actor in list(self.actors.items()):
            if name not in self.actors:
                continue
            if name in self.suspended:
                if self.has_ended(actor):
                    self.died(name, died)
                continue
            try:
                data = actor.ask(DO_NOTES)[4]
            except Gone:
                self.died(name, died)
                continue
            notes = [self.noted(*struct.unpack_from('<4qQ', data, at)) for at in range(0, len(data), NOTE_BYTES)]
            if notes:
                seen[name] = notes
        if seen:
            step['seen'] = seen
        if died:
            step['died'] = sorted(died)
            self.collect_again(step)

    def collect_again(self, step):
        """A parent hears of its child's end after that."""
        more = {}
        self.collect(more)
        for name, notes in more.get('seen', {}).items():
            step.setdefault('seen', {}).setdefault(name, []).extend(notes)
        if 'died' in more:
            step['died'] = sorted(step['died'] + more['died'])

    def died(self, name, died):
        actor = self.actors[name]
        self.await_end(actor)
        died += [each for each, other in self.actors.items() if other.pid == actor.pid]
        self.ended(actor)

    def noted(self, number, code, about, on_alternate, held):
        if code == NOTED_END:
            return '%s ends' % signal_name(number)
        text = '%s/%s' % (signal_name(number), CODES.get((number, code), SI_CODES.get(code, CLD.get(code, code) if number == 17 else code)))
        if number in (7, 11) and code > 0:
            text += ' at %s' % self.expression(about)
        else:
            text += ' of %s' % self.pids.get(about, about)
        if on_alternate:
            text += ' on alternate stack'
        return text + ' with ' + ','.join(signal_names(held))
