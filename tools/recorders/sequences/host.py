"""Runs a sequence on this machine's kernel and writes into each step what the kernel did.

Every actor lives in a PID namespace whose first process is the recorder's
worker, so that none outlives it, however it ends.  The worker pins itself and
the actors to one CPU: pages waiting in another CPU's LRU batches would make
PAGEOUT and the like depend on chance.
"""
import ctypes
import os
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

from words import (CALLS, CODES, FALLOC, IPC, MADV, MAP, MASK, MCL, MFD, MLOCK, MREMAP, MS, OPEN, PAGE, PROT, RLIMIT,
                   SEAL, SHM, SIGNALS, Unbound, error_name, evaluate, mask)
from tasks import Gone, Lost, TaskSteps

HERE = os.path.dirname(os.path.abspath(__file__))
LIBC = ctypes.CDLL(None, use_errno=True)
DO_CALL, DO_LOAD, DO_STORE, DO_FETCH, DO_SCAN, DO_TOUCH, DO_PUT, DO_GET, DO_FORK, DO_EXIT = range(1, 11)
ANSWER_SECONDS = 20
SCRATCH_BYTES = 64 * 1024       # of the actor, for what calls find and leave in memory


def system(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, '%s: %s' % (what, os.strerror(number)))


def build(directory):
    """Compiles the actor; returns its path."""
    program = os.path.join(directory, 'actor')
    subprocess.run([os.environ.get('CC', 'gcc'), '-O1', '-ffreestanding', '-nostdlib', '-static', '-no-pie',
                    '-fno-stack-protector', '-fcf-protection=none', '-fno-tree-loop-distribute-patterns',
                    '-Wl,--build-id=none', '-Wl,--section-start=.fence=0x800000', os.path.join(HERE, 'actor.c'),
                    '-o', program], check=True)
    return program


def in_namespace(work):
    """Runs `work()` as the first process of new PID, IPC and mount namespaces; returns its exit status.

    When it ends, or is killed, or we are, the kernel kills whatever it started.
    """
    CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID = 0x20000, 0x8000000, 0x20000000
    system(LIBC.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID), 'unshare')
    system(LIBC.mount(b'none', b'/', None, 0x44000, None), 'mount')     # MS_REC|MS_PRIVATE: ours alone from here on
    sys.stdout.flush()
    worker = os.fork()
    if worker == 0:
        status = 1
        try:
            system(LIBC.prctl(1, signal.SIGKILL), 'prctl')
            system(LIBC.mount(b'proc', b'/proc', b'proc', 0, None), 'mount /proc')
            work()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    except BaseException:
        os.kill(worker, signal.SIGKILL)
        raise


class Actor:
    def __init__(self, connection, pid):
        self.socket, self.pid, self.scratch = connection, pid, 0
        # Its place among the servers of its memory, which `shares` stands for.
        self.tid, self.server, self.shares, self.is_thread = pid, 0, object(), False

    def receive(self, count):
        data = b''
        while len(data) < count:
            if not select.select([self.socket], [], [], ANSWER_SECONDS)[0]:
                raise Lost('no answer from %d' % self.pid)
            try:
                part = self.socket.recv(count - len(data))
            except ConnectionError:
                part = b''
            if not part:
                raise Gone('%d ended' % self.pid)
            data += part
        return data

    def send(self, what, *args, data=b''):
        words = [int(a) & MASK for a in args] + [0] * (7 - len(args))
        try:
            self.socket.sendall(struct.pack('<9Q', what, *words, len(data)) + data)
        except ConnectionError:
            raise Gone('%d ended' % self.pid)

    def ask(self, what, *args, data=b''):
        """(value, signal, code, address, bytes)"""
        self.send(what, *args, data=data)
        value, sig, code, address, count = struct.unpack('<qQQQQ', self.receive(40))
        return value, sig, code & 0xffffffff, address, self.receive(count)

    def call(self, name, *args):
        return self.ask(DO_CALL, CALLS[name], *args)[0]

    def put(self, offset, data):
        """Into the scratch area; returns where that is."""
        self.scratch = self.ask(DO_PUT, offset, data=data)[0]
        return self.scratch + offset

    def get(self, count):
        return self.ask(DO_GET, 0, count)[4]


COUNTERS = ('minflt', 'majflt', 'VmSize', 'VmData', 'VmStk', 'VmLck', 'VmRSS', 'RssAnon', 'RssFile', 'RssShmem', 'VmPTE',
            'nvmas', 'statm_shared', 'statm_data')
SMAPS = ('Size', 'Rss', 'Pss', 'Shared_Clean', 'Shared_Dirty', 'Private_Clean', 'Private_Dirty', 'Anonymous', 'Locked',
         'Referenced', 'AnonHugePages', 'ShmemPmdMapped', 'FilePmdMapped', 'KernelPageSize', 'MMUPageSize')
VM_FLAGS = 'rd wr ex sh mr mw me ms gd lo lf sr rr dc de ac nr ht wf dd gu mg hg nh dp sl'.split()
MAPS_LINE = re.compile(r'([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ \d+\s*(.*)$')


def read(path):
    with open(path) as file:
        return file.read()


class Recording(TaskSteps):
    """One sequence, in fresh processes. `leave_out`: names of counters and smaps fields not to be noted."""

    def __init__(self, program, files, leave_out=()):
        self.leave_out = set(leave_out)
        self.directory = tempfile.mkdtemp(prefix='sequence.', dir=files)
        path = os.path.join(self.directory, '.home')
        self.home = socket.socket(socket.AF_UNIX)
        self.home.bind(path)
        self.home.listen(64)
        self.names = dict(PAGE=PAGE, KB=1 << 10, MB=1 << 20, GB=1 << 30, HUGE=2 << 20, GAP=256 * PAGE,
                          TASK_SIZE=0x7ffffffff000, UMAX=MASK, INFINITY=MASK)
        self.descriptors, self.spaces, self.heap = {}, [], 0
        self.breaks = {}
        self.sysctls = {}                                       # as they were
        # By mark: its process, and which counters something has moved by what is the actor's own.
        self.marks = {}
        self.child = os.fork()
        if self.child == 0:
            try:
                self.become_actor(program, path)
            except BaseException as reason:
                os.write(2, ('no actor: %s\n' % reason).encode())
            finally:
                os._exit(126)
        self.actors = {'main': self.accept()}
        self.names['SCRATCH'] = self.actors['main'].scratch
        self.begin_tasks()

    def become_actor(self, program, path):
        LIBC.prctl(1, signal.SIGKILL)
        for each in range(1, 65):
            if each not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                signal.signal(each, signal.SIG_DFL)             # an interpreter ignores SIGPIPE
        with open('/proc/self/oom_score_adj', 'w') as file:
            file.write('1000')                                  # nobody else is to suffer
        os.setpgid(0, 0)                                        # what is sent to the group is for actors alone
        LIBC.personality(0x0040000)                             # no address randomisation
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for limit, soft in ((resource.RLIMIT_STACK, 8 << 20), (resource.RLIMIT_MEMLOCK, 8 << 20),
                            (resource.RLIMIT_AS, resource.RLIM_INFINITY), (resource.RLIMIT_DATA, resource.RLIM_INFINITY)):
            hard = resource.getrlimit(limit)[1]                 # raising it takes CAP_SYS_RESOURCE
            if hard != resource.RLIM_INFINITY and not 0 <= soft <= hard:
                soft = hard
            resource.setrlimit(limit, (soft, hard))
        os.chdir(self.directory)
        os.closerange(3, 1000)
        os.execve(program, [program, path], {})

    def accept(self):
        if not select.select([self.home], [], [], ANSWER_SECONDS)[0]:
            raise Lost('nobody connects')
        connection = self.home.accept()[0]
        pid = struct.unpack('3i', connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        actor = Actor(connection, pid)
        actor.put(0, b'')
        return actor

    def close(self):
        self.restore_sysctls()
        for actor in self.actors.values():
            try:
                os.kill(actor.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            actor.socket.close()
        self.home.close()
        try:
            while os.waitpid(-1, 0)[0]:                         # orphans come to us, the namespace's first process
                pass
        except ChildProcessError:
            pass
        self.remove_segments()
        shutil.rmtree(self.directory, ignore_errors=True)

    def do_sysctl(self, step, actor):
        """Of overcommitting only, and last set back first: whoever else needs memory must not notice."""
        path = '/proc/sys/' + step['name']
        if not step['name'].startswith('vm/overcommit_'):
            return False
        self.sysctls.setdefault(path, read(path))
        for line in read('/proc/meminfo').splitlines():
            if line.startswith(('MemTotal', 'SwapTotal')):
                self.names[line.split(':')[0].upper()] = int(line.split()[1]) << 10
        self.leave_out.update(('VmSize', 'VmData', 'VmPTE', 'statm_data', 'RssShmem', 'VmRSS', 'statm_shared'))  # sizes go with the machine
        with open(path, 'w') as file:
            file.write(str(self.value(step['value'])))

    def restore_sysctls(self):
        for path, value in reversed(list(self.sysctls.items())):
            with open(path, 'w') as file:
                file.write(value)
        self.sysctls.clear()

    def remove_segments(self):
        for line in read('/proc/sysvipc/shm').splitlines()[1:]:
            LIBC.shmctl(int(line.split()[1]), 0, None)

    # Values

    def value(self, text):
        return evaluate(text, self.names)

    def descriptor(self, text):
        if isinstance(text, str) and text in self.descriptors:
            return self.descriptors[text]
        return self.value(text)

    def expression(self, value):
        """An address relative to a place that the case form knows, so that it means something elsewhere."""
        spaces = [(name, 1024, 8192 if name == 'H' else 2048) for name in self.spaces]
        for name, below, above in (*spaces, ('B', 16, 65536), ('T', 65536, 0), ('L', 0, 65536)):
            if name in self.names:
                pages, rest = divmod(value - self.names[name], PAGE)
                if -below <= pages <= above:
                    text = name + ('%+d*PAGE' % pages if pages else '')
                    return text + ('+%d' % rest if rest else '')
        return value if value < 1 << 53 else '%#x' % value      # JSON numbers are doubles to many readers

    @staticmethod
    def outcome(value):
        return error_name(-value) if -4096 < value < 0 else value & MASK

    def made(self, step, outcome, address=False):
        """Notes a system call's outcome and binds its value."""
        step['expect'] = self.expression(outcome) if address and isinstance(outcome, int) else outcome
        if 'as' in step and isinstance(outcome, int):
            self.names[step['as']] = outcome

    def access(self, step, answer, valued=False):
        value, sig, code, address, _ = answer
        if sig:
            step['expect'] = '%s/%s' % (SIGNALS[sig], CODES.get((sig, code), code))
            step['fault_at'] = self.expression(address)
        elif valued:
            step['expect'] = value & MASK

    # Steps

    def record(self, steps):
        """The steps that could be done, with what they did. A step that names what no step bound is left out."""
        done = []
        for given in steps:
            step = {key: value for key, value in given.items() if key not in ('expect', 'fault_at', 'pages')
                    or key == 'pages' and given['op'] in ('file', 'memfd')}
            actor = self.actors.get(step.get('in', 'main'))
            if actor is None or step.get('in', 'main') in self.suspended:
                continue
            try:
                if self.harms_actor(step) or step['op'] == 'fetch' and not self.may_fetch(step, done):
                    continue
                if getattr(self, 'do_' + step['op'])(step, actor) is not False:
                    done.append(step)
                    if self.collects:
                        self.collect(step)
            except Unbound:
                continue
            except Gone:
                if not self.collects:
                    raise
                step['died'] = []
                self.died(step.get('in', 'main'), step['died'])
                self.collect_again(step)
                done.append(step)
            except Lost as reason:
                raise Lost('%s at %s' % (reason, step))
        return done

    def harms_actor(self, step):
        """Whether a step reaches what lies above `T`, the stack and the vDSO of the actor itself, or its data below `B`."""
        top, base = self.names.get('T'), self.names.get('L', 0)
        if step['op'] in ('fread', 'fwrite', 'mincore') and self.value(step['len']) & MASK > SCRATCH_BYTES * (PAGE if step['op'] == 'mincore' else 1):
            return True
        if top is None:
            return False
        if step['op'] == 'call':
            words = [word for arg in step['args'] for word in (arg.get('words', ()) if isinstance(arg, dict) else (arg,))]
            if step['name'] == 'mseal':
                step = dict(step, at=step['args'][0], len=step['args'][1])
            elif any(word not in self.descriptors and top <= self.value(word) & MASK < self.names['TASK_SIZE'] for word in words):
                return True
            else:
                return False
        ranges = [(step[at], step.get(length, 8)) for at, length in (
            ('at', 'len'), ('at', 'old'), ('at', 'new'), ('addr', 'len'), ('to', 'new'), ('to', 'len'), ('from', 'len'))
            if at in step] + step.get('local', []) + step.get('remote', [])
        for at, length in ranges:
            start = self.value(at) & MASK
            if 0x10000 < start < self.heap or start < base < start + (self.value(length) & MASK) or base - 64 * PAGE < start < base:
                return True
            if start < self.names['TASK_SIZE'] and top < start + (self.value(length) & MASK) <= self.names['TASK_SIZE']:
                return True
        return False

    @staticmethod
    def may_fetch(step, done):
        """Only a return instruction may be run, or what cannot be loaded: the load must stand before."""
        for before in reversed(done):
            if before.get('in') != step.get('in') or before['op'] not in ('mprotect', 'load8'):
                return False
            if before['op'] == 'load8':
                return before['at'] == step['at'] and (
                    before['expect'] == 0xc3 or isinstance(before['expect'], str) and before is done[-1])
        return False

    def do_space(self, step, actor):
        align = self.value(step.get('align', PAGE))
        self.spaces.append(step['as'])
        total = self.value(step['len']) + align + (len(self.spaces) << 40)
        at = actor.call('mmap', 0, total, 0, 0x4022, -1, 0)
        actor.call('munmap', at, total)
        self.names[step['as']] = -(-at // align) * align

    def do_let(self, step, actor):
        self.names[step['as']] = self.value(step['value'])

    def do_fork(self, step, actor):
        if step['as'] in self.actors or actor.is_thread:
            return False
        pid = actor.ask(DO_FORK)[0]
        if pid < 0:
            step['expect'] = self.outcome(pid)
            return True
        child = self.actors[step['as']] = self.accept()
        child.server = actor.server
        self.names[step['as']] = pid
        self.pids[pid] = step['as']
        self.disturb(actor, 'minflt')                           # both take their own pages back

    def disturb(self, actor, *counters):
        for _, shares, moved in self.marks.values():
            if shares is actor.shares:
                moved.update(counters)

    def do_exit(self, step, actor):
        actor.send(DO_EXIT, self.value(step.get('code')))
        self.await_end(actor)
        self.ended(actor)

    @staticmethod
    def await_end(actor):
        deadline = time.monotonic() + ANSWER_SECONDS
        while not Recording.has_ended(actor):
            if time.monotonic() > deadline:
                raise Lost('%d does not exit' % actor.pid)
            time.sleep(0.0002)

    @staticmethod
    def has_ended(actor):
        try:
            return read('/proc/%d/stat' % actor.pid).rsplit(')', 1)[1].split()[0] in 'ZX'
        except (FileNotFoundError, ProcessLookupError):
            return True                                         # and nobody waits for it

    def do_wait(self, step, actor):
        pid = self.names.get(step['for'])
        if pid is None or step['for'] in self.actors:
            return False
        if actor.call('wait4', pid, actor.scratch, 0, 0) != pid:
            return False
        status = struct.unpack('<I', actor.get(4))[0]
        step['expect'] = 'SIG%d' % (status & 127) if status & 127 else status >> 8 & 255

    def do_drop_caps(self, step, actor):
        at = actor.put(0, struct.pack('<Ii6I', 0x20080522, 0, *[0] * 6))
        self.made(step, self.outcome(actor.call('capset', at, at + 8)))

    def do_setrlimit(self, step, actor):
        number = RLIMIT[step['resource']]
        actor.call('prlimit64', 0, number, 0, actor.scratch)
        soft, hard = struct.unpack('<QQ', actor.get(16))
        soft, hard = (self.value(step[key]) & MASK if key in step else old for key, old in (('cur', soft), ('max', hard)))
        actor.put(0, struct.pack('<QQ', soft, hard))
        self.made(step, self.outcome(actor.call('prlimit64', 0, number, actor.scratch, 0)))

    def do_getrlimit(self, step, actor):
        actor.call('prlimit64', 0, RLIMIT[step['resource']], 0, actor.scratch)
        step['expect'] = {name: value if value < 1 << 53 else '%#x' % value
                          for name, value in zip(('cur', 'max'), struct.unpack('<QQ', actor.get(16)))}

    def through_proc(self, step, actor, flags, act):
        fd = actor.call('open', actor.put(0, b'/proc/self/' + step.get('file', 'mem').encode() + b'\0'), flags, 0)
        if fd < 0:
            return self.made(step, self.outcome(fd))
        act(fd)
        actor.call('close', fd)

    def do_proc_write(self, step, actor):
        def act(fd):
            text = step['text'].encode()
            self.made(step, self.outcome(actor.call('write', fd, actor.put(0, text), len(text))))
        self.through_proc(step, actor, 1, act)

    def do_mem_read(self, step, actor):
        def act(fd):
            got = self.outcome(actor.call('pread64', fd, actor.scratch, 1, self.value(step['at'])))
            step['expect'] = got if isinstance(got, str) else actor.get(1)[0]
        self.through_proc(step, actor, 2, act)

    def do_mem_write(self, step, actor):
        def act(fd):
            at = actor.put(0, bytes([self.value(step['value']) & 255]))
            self.made(step, self.outcome(actor.call('pwrite64', fd, at, 1, self.value(step['at']))))
        self.through_proc(step, actor, 2, act)

    def do_same_frame(self, step, actor):
        other = self.actors.get(step.get('other_in', step.get('in', 'main')))
        if other is None:
            return False
        frames = []
        for who, at in ((actor, step['at']), (other, step['other'])):
            with open('/proc/%d/pagemap' % who.pid, 'rb', buffering=0) as file:
                data = os.pread(file.fileno(), 8, self.value(at) // PAGE * 8)
            frames.append(struct.unpack('<Q', data)[0] if len(data) == 8 else 0)
        if not all(entry >> 63 for entry in frames):
            return False
        step['expect'] = int(frames[0] & (1 << 55) - 1 == frames[1] & (1 << 55) - 1)

    def do_call(self, step, actor):
        """A call by its name. `any`: what it returns is not the same twice; `out`, `bytes`: what it leaves behind an argument."""
        args = []
        for index, arg in enumerate(step['args']):
            if isinstance(arg, dict) and 'path' in arg:
                arg = actor.put(index * SCRATCH_BYTES // 8, self.path(arg['path']).encode() + b'\0')
            elif isinstance(arg, dict):
                arg = actor.put(index * SCRATCH_BYTES // 8, b''.join(
                    struct.pack('<Q', self.value(word) & MASK) for word in arg['words']))
            else:
                arg = self.descriptor(arg)
            args.append(arg)
        if step['name'] == 'process_madvise' and step['args'][3] == 8:
            self.leave_out.add('Referenced')
        outcome = self.outcome(actor.call(step['name'], *args))
        step.pop('data', None)
        if isinstance(outcome, int) and 'bytes' in step:
            step['data'] = actor.ask(DO_GET, step['out'] * SCRATCH_BYTES // 8, step['bytes'])[4].hex()
        if step.get('any') and isinstance(outcome, int):
            if 'as' in step:
                self.names[step['as']] = outcome
        else:
            self.made(step, outcome)

    def do_mmap(self, step, actor):
        self.made(step, self.outcome(actor.call(
            'mmap', self.value(step.get('addr')), self.value(step['len']), mask(step['prot'], PROT),
            mask(step['flags'], MAP), self.descriptor(step.get('fd', -1)), self.value(step.get('off')))), address=True)

    def do_mremap(self, step, actor):
        flags = mask(step.get('flags'), MREMAP)
        if flags & MREMAP['DONTUNMAP']:
            self.leave_out.add('VmLck')     # what the old mapping had locked stays counted: an oddity of the kernel
        self.made(step, self.outcome(actor.call(
            'mremap', self.value(step['at']), self.value(step['old']), self.value(step['new']),
            flags, self.value(step.get('to')))), address=True)

    def do_brk(self, step, actor):
        wanted = self.value(step.get('addr'))
        self.made(step, self.outcome(actor.call('brk', wanted)), address=True)
        if isinstance(step['expect'], int) and 'addr' in step:  # farther away than names reach
            if step['expect'] == wanted:
                self.breaks[wanted] = step['addr']
            step['expect'] = self.breaks.get(step['expect'], step['expect'])
        if step.get('as') == 'B' and not self.heap:
            self.heap = self.names['B']
            del step['expect']

    def plain(self, step, actor, *args):
        self.made(step, self.outcome(actor.call(step['op'], *args)))

    def do_munmap(self, step, actor):
        self.plain(step, actor, self.value(step['at']), self.value(step['len']))

    do_mlock = do_munlock = do_munmap

    def do_mprotect(self, step, actor):
        self.plain(step, actor, self.value(step['at']), self.value(step['len']), mask(step['prot'], PROT))

    def do_madvise(self, step, actor):
        if step['advice'] == 'FREE':
            self.leave_out.add('Referenced')    # forgotten when a batch of the CPU is full
        self.plain(step, actor, self.value(step['at']), self.value(step['len']), mask(step['advice'], MADV))

    def do_mlock2(self, step, actor):
        self.plain(step, actor, self.value(step['at']), self.value(step['len']), mask(step.get('flags'), MLOCK))

    def do_msync(self, step, actor):
        self.plain(step, actor, self.value(step['at']), self.value(step['len']), mask(step.get('flags'), MS))

    def do_mlockall(self, step, actor):
        self.plain(step, actor, mask(step['flags'], MCL))
        self.disturb(actor, *COUNTERS)                          # it locks the actor's own memory too

    def do_munlockall(self, step, actor):
        self.plain(step, actor)
        self.disturb(actor, *COUNTERS)

    def do_mincore(self, step, actor):
        at, length = self.value(step['at']), self.value(step['len'])
        pages = -(-length // PAGE)
        vector = self.value(step['vec']) if 'vec' in step else actor.put(0, b'\xaa' * min(pages + 1, 65536))
        self.made(step, self.outcome(actor.call('mincore', at, length, vector)))
        if step['expect'] == 0 and 'vec' not in step and pages <= SCRATCH_BYTES:
            step['pages'] = ''.join('01'[byte & 1] for byte in actor.get(pages))

    def do_load8(self, step, actor):
        self.access(step, actor.ask(DO_LOAD, self.value(step['at']), 1), valued=True)

    def do_load64(self, step, actor):
        self.access(step, actor.ask(DO_LOAD, self.value(step['at']), 8), valued=True)
        if isinstance(step.get('expect'), int) and step['expect'] >= 1 << 53:
            step['expect'] = '%#x' % step['expect']

    def do_store8(self, step, actor):
        self.access(step, actor.ask(DO_STORE, self.value(step['at']), 1, self.value(step['value']), 1))

    def do_store64(self, step, actor):
        self.access(step, actor.ask(DO_STORE, self.value(step['at']), 8, self.value(step['value']), 1))

    def do_fetch(self, step, actor):
        self.access(step, actor.ask(DO_FETCH, self.value(step['at'])))

    def do_fill(self, step, actor):
        self.access(step, actor.ask(DO_STORE, self.value(step['at']), 1, self.value(step['value']), self.value(step['len'])))

    def do_check(self, step, actor):
        """Whatever the first byte is, as far as it goes on within its page."""
        at = self.value(step['at'])
        length = step['len'] = min(self.value(step['len']), PAGE - at % PAGE)
        first = actor.ask(DO_LOAD, at, 1)
        step['value'] = first[0] & 255
        if first[1]:
            return self.access(step, first)
        answer = actor.ask(DO_SCAN, at, length, step['value'])
        self.access(step, answer)
        if not answer[1] and answer[0] < length:
            step['len'] = answer[0]

    def do_touch(self, step, actor):
        self.access(step, actor.ask(DO_TOUCH, self.value(step['at']), self.value(step['len']),
                                    step.get('mode') == 'w', self.value(step.get('value', 1))))

    # Files

    def contents(self, step, actor, fd, at_once):
        """Writes `pages[n]` into page n, all with one call or one each: folios of a file on a disk are as large as the writes."""
        size = self.value(step.get('size'))
        data = b''.join(bytes([fill]) * PAGE for fill in step.get('pages', []))[:size]
        if not at_once:
            actor.call('ftruncate', fd, size)
        length = max(len(data), 1) if at_once else PAGE
        for offset in range(0, len(data), length):
            part = data[offset:offset + length]
            actor.call('pwrite64', fd, actor.put(0, part), len(part), offset)
        if at_once:
            actor.call('ftruncate', fd, size)

    def path(self, text):
        return re.sub(r'^file:', self.directory + '/', re.sub(r'^dir:$', self.directory, text))

    def do_file(self, step, actor):
        path = self.path('file:' + step['as']).encode() + b'\0'
        fd = actor.call('open', actor.put(0, path), 0o102, 0o600)
        self.contents(step, actor, fd, at_once=True)
        self.descriptors[step['as']] = fd

    def do_memfd(self, step, actor):
        name = step.get('name', step['as']).encode() + b'\0'
        fd = actor.call('memfd_create', actor.put(0, name), mask(step.get('flags'), MFD))
        if fd < 0:
            return self.made(step, self.outcome(fd))
        self.contents(step, actor, fd, at_once=False)
        self.descriptors[step['as']] = fd

    def do_open(self, step, actor):
        fd = actor.call('open', actor.put(0, self.path(step['path']).encode() + b'\0'), mask(step['mode'], OPEN), 0o600)
        if fd < 0:
            step['expect'] = self.outcome(fd)
        else:
            self.descriptors[step['as']] = fd

    def do_pipe(self, step, actor):
        if actor.call('pipe', actor.scratch) == 0:
            self.descriptors[step['as']], self.descriptors[step['as'] + '_w'] = struct.unpack('<ii', actor.get(8))

    def known_descriptor(self, step):
        if isinstance(step['fd'], str) and step['fd'] not in self.descriptors:
            raise Unbound(step['fd'])
        return self.descriptor(step['fd'])

    def do_unlink(self, step, actor):
        self.plain(step, actor, actor.put(0, self.path(step['path']).encode() + b'\0'))

    def do_close(self, step, actor):
        self.plain(step, actor, self.known_descriptor(step))

    def do_ftruncate(self, step, actor):
        self.plain(step, actor, self.known_descriptor(step), self.value(step['size']))

    def do_fallocate(self, step, actor):
        self.plain(step, actor, self.known_descriptor(step), mask(step.get('mode'), FALLOC), self.value(step['off']),
                   self.value(step['len']))

    def do_add_seals(self, step, actor):
        self.made(step, self.outcome(actor.call('fcntl', self.known_descriptor(step), 1033, mask(step['seals'], SEAL))))

    def do_get_seals(self, step, actor):
        self.made(step, self.outcome(actor.call('fcntl', self.known_descriptor(step), 1034, 0)))

    def transfer(self, step, actor, call, memory):
        args = [self.known_descriptor(step), memory, self.value(step['len'])]
        if 'off' in step:
            args.append(self.value(step['off']))
        self.made(step, self.outcome(actor.call(call + ('64' if 'off' in step else ''), *args)))

    def do_pread(self, step, actor):
        self.transfer(step, actor, 'pread', self.value(step['to']))

    def do_pwrite(self, step, actor):
        self.transfer(step, actor, 'pwrite', self.value(step['from']))

    def do_fread(self, step, actor):
        """Whatever the first byte is, as far as it goes on."""
        def call():
            return actor.call('pread64', self.known_descriptor(step), actor.scratch, self.value(step['len']),
                              self.value(step['off']))
        count = call()
        data = actor.get(count) if count > 0 else b''
        if data:
            step['fill'] = data[0]
            same = len(data) - len(data.lstrip(data[:1]))
            if same < count:
                step['len'] = same
                count = call()
        self.made(step, self.outcome(count))

    def do_fwrite(self, step, actor):
        count = self.value(step['len'])
        at = actor.put(0, bytes([self.value(step['fill'])]) * count)
        self.made(step, self.outcome(actor.call('pwrite64', self.known_descriptor(step), at, count, self.value(step['off']))))

    # System V shared memory, other processes' memory

    def do_shmget(self, step, actor):
        key = 0 if step['key'] == 'PRIVATE' else 0x10000000 + self.value(step['key'])
        got = self.outcome(actor.call('shmget', key, self.value(step['size']),
                                      mask(step.get('flags'), IPC) | self.value(step.get('mode', 0o600))))
        if isinstance(got, int):
            self.names[step['as']] = got
        else:
            step['expect'] = got

    def do_shmat(self, step, actor):
        self.made(step, self.outcome(actor.call('shmat', self.value(step['id']), self.value(step.get('addr')),
                                                mask(step.get('flags'), SHM))), address=True)

    def do_shmdt(self, step, actor):
        self.plain(step, actor, self.value(step['at']))

    def do_shmrm(self, step, actor):
        self.made(step, self.outcome(actor.call('shmctl', self.value(step['id']), 0, 0)))

    def do_shmstat(self, step, actor):
        got = self.outcome(actor.call('shmctl', self.value(step['id']), 2, actor.scratch))
        if isinstance(got, str):
            step['expect'] = got
            return
        data = actor.get(112)
        mode = struct.unpack_from('<I', data, 20)[0]
        step['expect'] = dict(size=struct.unpack_from('<Q', data, 48)[0], nattch=struct.unpack_from('<Q', data, 88)[0],
                              mode=mode & 0o777, removed=mode >> 9 & 1)

    def between(self, step, actor):
        vectors = []
        for key, offset in (('local', 0), ('remote', 32768)):
            data = b''.join(struct.pack('<QQ', *(self.value(x) & MASK for x in pair)) for pair in step[key])
            vectors += [actor.put(offset, data), self.value(step.get(key + '_count', len(step[key])))]
        self.plain(step, actor, self.value(step['pid']), *vectors, self.value(step.get('flags')))

    do_process_vm_readv = do_process_vm_writev = between

    # Looking

    def mappings(self, actor, start, length):
        for line in read('/proc/%d/maps' % actor.pid).splitlines():
            match = MAPS_LINE.match(line)
            low, high = int(match[1], 16), int(match[2], 16)
            if low < start + length and start < high:
                yield low, high, match[3], int(match[4], 16), match[5]

    def do_maps(self, step, actor):
        step['expect'] = []
        for low, high, perms, offset, name in self.mappings(actor, self.value(step['at']), self.value(step['len'])):
            entry = dict(range='%s..%s' % (self.expression(low), self.expression(high)), perms=perms)
            if offset:
                entry['offset'] = offset
            entry['name'] = name.replace(self.directory + '/', 'file:')
            step['expect'].append(entry)

    def do_pagemap(self, step, actor):
        at, pages = self.value(step['at']), self.value(step['len']) // PAGE
        with open('/proc/%d/pagemap' % actor.pid, 'rb', buffering=0) as file:
            data = os.pread(file.fileno(), pages * 8, at // PAGE * 8)
        seen = ''
        for (entry,) in struct.iter_unpack('<Q', data):
            if entry >> 58 & 1:
                seen += 'g'
            elif entry >> 63 & 1:
                letter = 'f' if entry >> 61 & 1 else 'a'
                seen += letter.upper() if entry >> 56 & 1 else letter
            else:
                seen += 's' if entry >> 62 & 1 else '-'
        step['expect'] = seen

    def counters(self, actor):
        seen = {}
        for line in read('/proc/%d/status' % actor.pid).splitlines():
            words = line.split()
            if words[-1] == 'kB':
                seen[words[0][:-1]] = int(words[1]) * 1024
        stat = read('/proc/%d/stat' % actor.pid).rsplit(')', 1)[1].split()
        seen['minflt'], seen['majflt'] = int(stat[7]), int(stat[9])
        for name, pages in zip(('size', 'resident', 'shared', 'text', 'lib', 'data', 'dirty'), read('/proc/%d/statm' % actor.pid).split()):
            seen['statm_' + name] = int(pages) * PAGE
        for line in read('/proc/meminfo').splitlines():
            if line.startswith('Commit'):
                seen[line.split(':')[0]] = int(line.split()[1]) * 1024
        seen['nvmas'] = sum(1 for _ in self.mappings(actor, 0, self.names['TASK_SIZE']))
        return seen

    def do_mark(self, step, actor):
        for name, value in self.counters(actor).items():
            self.names['%s.%s' % (step['as'], name)] = value
        self.marks[step['as']] = actor.pid, actor.shares, set()

    def do_delta(self, step, actor):
        now = self.counters(actor)
        pid, _, moved = self.marks.get(step['since'], (None, None, ()))
        if pid != actor.pid:
            return False
        step['expect'] = {name: now[name] - self.names['%s.%s' % (step['since'], name)] for name in COUNTERS
                          if name not in self.leave_out and name not in moved}

    def do_smaps(self, step, actor):
        sums, _ = self.smaps(actor, self.value(step['at']), self.value(step.get('len', 1)))
        step['expect'] = {name: sums[name] for name in SMAPS if name in sums and name not in self.leave_out}
        return bool(sums)

    def do_vmflags(self, step, actor):
        _, flags = self.smaps(actor, self.value(step['at']), 1)
        if flags is None:
            return False
        step['has'] = [flag for flag in VM_FLAGS if flag in flags]
        step['lacks'] = [flag for flag in VM_FLAGS if flag not in flags]

    def smaps(self, actor, start, length):
        sums, flags, inside = {}, None, False
        for line in read('/proc/%d/smaps' % actor.pid).splitlines():
            match = MAPS_LINE.match(line)
            if match:
                inside = int(match[1], 16) < start + length and start < int(match[2], 16)
            elif inside and line.startswith('VmFlags:'):
                flags = flags or line.split()[1:]
            elif inside and line.endswith(' kB'):
                name, amount = line[:-3].split(':')
                sums[name] = sums.get(name, 0) + int(amount) * 1024
        return sums, flags
