/*
 * The process whose memory a recorded sequence is about.
 *
 * It decides nothing: it takes a request from its socket, does one system call
 * or one run of memory accesses, and answers with what happened, surviving
 * SIGSEGV and SIGBUS.  Built without a C library, so that nothing but the
 * sequence maps memory or moves the break.
 *
 * Each thread, and a child that shares the memory, is a server with a stack, a
 * connection and notes of its own.  After a fork the child makes a connection
 * of its own, always as descriptor CHANNEL, so that descriptors mean the same
 * in every process; threads have the descriptors behind it.
 */
typedef unsigned long word;

enum { CHANNEL = 200, SCRATCH_BYTES = 64 * 1024, SERVERS = 4, NOTES = 40, SIGNALS = 65, OWN_STACK = 32768 };
enum { DO_CALL = 1, DO_LOAD, DO_STORE, DO_FETCH, DO_SCAN, DO_TOUCH, DO_PUT, DO_GET, DO_FORK, DO_EXIT, DO_THREAD, DO_VFORK,
       DO_EXEC, DO_ACTION, DO_NOTES };
enum { NR_READ = 0, NR_WRITE = 1, NR_CLOSE = 3, NR_SIGACTION = 13, NR_SIGPROCMASK = 14, NR_GETPID = 39, NR_SOCKET = 41, NR_CONNECT = 42,
       NR_FORK = 57, NR_EXECVE = 59, NR_EXIT = 60, NR_SIGALTSTACK = 131, NR_PERSONALITY = 135, NR_GETTID = 186,
       NR_EXIT_GROUP = 231, NR_TGKILL = 234, NR_DUP3 = 292 };
enum { SIGBUS = 7, SIGSEGV = 11, SIGCHLD = 17, SA_SIGINFO = 4, SA_RESTORER = 0x04000000, SS_ONSTACK = 1, EINTR = 4 };
enum { OF_THREADS = 0x50f00, OF_VFORK = 0x4100 | SIGCHLD };	/* CLONE_ flags */
enum { NOTED_END = 1000 };		/* in place of a code: the handler has raised another signal, and goes on */

struct request { word what, arg[7], bytes; };
struct answer { long value; word signal, code, address, bytes; };
struct note { long signal, code, about, on_alternate; word mask; };
struct alternate { void *start; int flags; word size; };

struct server {
	word tid, channel;
	volatile word signal, code, address;	/* of the access that faulted */
	volatile int accessing;
	word notes;
	struct note note[NOTES];
	unsigned char stack[65536] __attribute__((aligned(16)));
};

static unsigned char scratch[SCRATCH_BYTES] __attribute__((aligned(4096)));
static struct server servers[SERVERS] __attribute__((aligned(4096)));
static unsigned char is_noted[SIGNALS], raises[SIGNALS];
static struct { unsigned short family; char path[108]; } home;	/* struct sockaddr_un */

/* Keeps the break, which starts behind the last section, from merging with our own data. */
__attribute__((section(".fence"), used)) static const unsigned char fence[4096] = { 1 };

static long call(word nr, word a, word b, word c, word d, word e, word f)
{
	long value;
	register word r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(value) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
	return value;
}

/* Single accesses that leave the stack alone: a fault in one is left by returning from it. */
word peek(word address, word size);
void poke(word address, word size, word value);
void run_at(word address);
extern char leave[];
void restore_signal(void);
/* A new task on a stack of its own, which begins with begin_server(its server). */
long spawn(word flags, void *stack, struct server *server);
__asm__(".text\n"
	"peek: cmpl $1, %esi\n jne 1f\n movzbl (%rdi), %eax\n ret\n1: movq (%rdi), %rax\n ret\n"
	"poke: cmpl $1, %esi\n jne 1f\n movb %dl, (%rdi)\n ret\n1: movq %rdx, (%rdi)\n ret\n"
	"run_at: jmp *%rdi\n"
	"leave: ret\n"
	"restore_signal: movl $15, %eax\n syscall\n"
	"spawn: pushq %rbx\n movq %rdx, %rbx\n xorl %edx, %edx\n xorl %r10d, %r10d\n xorl %r8d, %r8d\n movl $56, %eax\n syscall\n"
	" testq %rax, %rax\n jnz 1f\n movq %rbx, %rdi\n xorl %ebp, %ebp\n call begin_server\n1: popq %rbx\n ret\n");

static void stop(void)
{
	for (;;)
		call(NR_EXIT_GROUP, 97, 0, 0, 0, 0, 0);
}

static struct server *self(void)
{
	word tid = call(NR_GETTID, 0, 0, 0, 0, 0, 0);
	for (int i = 0; i < SERVERS; i++)
		if (servers[i].tid == tid)
			return &servers[i];
	stop();
	return 0;
}

static void note(struct server *me, long signal, long code, long about)
{
	struct alternate now;
	struct note *n = &me->note[me->notes];
	if (me->notes == NOTES)
		return;
	me->notes++;
	n->signal = signal;
	n->code = code;
	n->about = about;
	call(NR_SIGALTSTACK, 0, (word)&now, 0, 0, 0, 0);
	n->on_alternate = now.flags & SS_ONSTACK;
	call(NR_SIGPROCMASK, 0, 0, (word)&n->mask, 8, 0, 0);
}

static void on_signal(int signal, int *info, word *context)
{
	struct server *me = self();
	int access = (signal == SIGSEGV || signal == SIGBUS) && info[2] > 0;
	if (is_noted[signal]) {
		note(me, signal, info[2], access ? *(long *)(info + 4) : info[4]);
		if (raises[signal]) {
			call(NR_TGKILL, call(NR_GETPID, 0, 0, 0, 0, 0, 0), me->tid, raises[signal], 0, 0, 0);
			note(me, signal, NOTED_END, 0);
		}
	}
	if (!access)
		return;
	if (me->signal)				/* not an access: the sequence took our own memory away */
		stop();
	if (!me->accessing) {			/* no room for a signal's frame: whoever was interrupted goes on */
		if (!is_noted[signal])
			stop();
		return;
	}
	me->signal = signal;
	me->code = (word)(long)info[2];
	me->address = *(word *)(info + 4);
	context[5 + 16] = (word)leave;		/* uc_mcontext starts at word 5; RIP is its register 16 */
}

static void transfer(struct server *me, word nr, void *data, word bytes)
{
	for (long done; bytes; data = (char *)data + done, bytes -= done) {
		done = call(nr, me->channel, (word)data, bytes, 0, 0, 0);
		if (done == -EINTR)
			done = 0;
		else if (done <= 0)
			stop();
	}
}

static void connect_home(struct server *me)
{
	long fd = call(NR_SOCKET, 1, 1, 0, 0, 0, 0);
	if (fd < 0 || call(NR_CONNECT, fd, (word)&home, sizeof home, 0, 0, 0) < 0)
		stop();
	call(NR_DUP3, fd, me->channel, 0, 0, 0, 0);
	call(NR_CLOSE, fd, 0, 0, 0, 0, 0);
}

/* Descriptors of others, that a child has copies of. */
static void close_others(struct server *me)
{
	for (word fd = CHANNEL; fd < CHANNEL + SERVERS; fd++)
		if (fd != me->channel)
			call(NR_CLOSE, fd, 0, 0, 0, 0, 0);
}

static void action(word signal, void *handler, word flags, word mask, long *result)
{
	struct { void *handler; word flags; void *restorer; word mask; } set = { handler, flags | SA_RESTORER, (void *)restore_signal, mask };
	*result = call(NR_SIGACTION, signal, (word)&set, 0, 8, 0, 0);
}

extern char __bss_start[], _end[], __executable_start[], etext[];

/* Touches every page of this program, so that fault counts are the sequence's alone. */
static void own_pages(void)
{
	volatile unsigned char stack[OWN_STACK];
	for (word at = (word)__executable_start; at < (word)etext; at += 4096)
		(void)*(volatile unsigned char *)at;
	(void)*(const volatile unsigned char *)fence;	/* the heap shares its page table */
	for (word at = (word)__bss_start; at < (word)_end; at = (at & ~4095ul) + 4096)
		*(volatile unsigned char *)at = *(volatile unsigned char *)at;
	for (int i = 0; i < OWN_STACK; i += 256)
		stack[i] = 0;
	(void)stack[0];
}

static void serve(struct server *me)
{
	struct request q;
	for (;;) {
		struct answer s = { 0 };
		unsigned char *from = scratch;
		transfer(me, NR_READ, &q, sizeof q);
		me->signal = me->code = me->address = 0;
		me->accessing = q.what >= DO_LOAD && q.what <= DO_TOUCH;
		switch (q.what) {
		case DO_CALL:
			s.value = call(q.arg[0], q.arg[1], q.arg[2], q.arg[3], q.arg[4], q.arg[5], q.arg[6]);
			break;
		case DO_LOAD:
			s.value = peek(q.arg[0], q.arg[1]);
			break;
		case DO_STORE:			/* address, size, value, count: `count` stores upwards */
			for (word i = 0; i < q.arg[3] && !me->signal; i++)
				poke(q.arg[0] + i * q.arg[1], q.arg[1], q.arg[2]);
			break;
		case DO_FETCH:
			run_at(q.arg[0]);
			break;
		case DO_SCAN:			/* bytes up to the first that is not `value` */
			for (; s.value < (long)q.arg[1]; s.value++)
				if (peek(q.arg[0] + s.value, 1) != q.arg[2] || me->signal)
					break;
			break;
		case DO_TOUCH:			/* address, length, write?, value */
			for (word i = 0; i < q.arg[1] && !me->signal; i += 4096) {
				if (q.arg[2])
					poke(q.arg[0] + i, 1, q.arg[3]);
				else
					peek(q.arg[0] + i, 1);
			}
			break;
		case DO_PUT:
			transfer(me, NR_READ, scratch + q.arg[0], q.bytes);
			s.value = (long)scratch;
			break;
		case DO_GET:
			from = scratch + q.arg[0];
			s.bytes = q.arg[1];
			break;
		case DO_FORK:
			s.value = call(NR_FORK, 0, 0, 0, 0, 0, 0);
			if (s.value == 0) {
				for (int i = 0; i < SERVERS; i++)
					servers[i].tid = 0;
				me->tid = call(NR_GETTID, 0, 0, 0, 0, 0, 0);
				me->notes = 0;
				close_others(me);
				connect_home(me);
			}
			own_pages();
			if (s.value == 0)
				continue;	/* its parent answers */
			break;
		case DO_EXIT:			/* status, only this thread? */
			if (q.arg[1]) {
				call(NR_CLOSE, me->channel, 0, 0, 0, 0, 0);
				me->tid = 0;
				call(NR_EXIT, q.arg[0], 0, 0, 0, 0, 0);
			}
			call(NR_EXIT_GROUP, q.arg[0], 0, 0, 0, 0, 0);
			break;
		case DO_THREAD:			/* number of the server */
		case DO_VFORK: {
			struct server *other = &servers[q.arg[0]];
			other->notes = 0;
			other->channel = q.what == DO_THREAD ? CHANNEL + q.arg[0] : CHANNEL;
			s.value = spawn(q.what == DO_THREAD ? OF_THREADS : OF_VFORK, other->stack + sizeof other->stack, other);
			break;
		}
		case DO_EXEC: {			/* personality, or all ones */
			static const char path[] = "/proc/self/exe";
			const char *arguments[] = { path, home.path, 0 }, *none[] = { 0 };
			call(NR_PERSONALITY, q.arg[0], 0, 0, 0, 0, 0);
			s.value = call(NR_EXECVE, (word)path, (word)arguments, (word)none, 0, 0, 0);
			break;
		}
		case DO_ACTION: {		/* signal, default, ignore or noted, flags, mask, what the handler raises */
			unsigned char was = is_noted[q.arg[0] & 63];
			if (q.arg[1] == 2 && q.arg[0] < SIGNALS) {
				is_noted[q.arg[0]] = 1;
				raises[q.arg[0]] = q.arg[4];
			}
			action(q.arg[0], q.arg[1] == 2 ? (void *)on_signal : (void *)q.arg[1],
			       q.arg[2] | (q.arg[1] == 2 ? SA_SIGINFO : 0), q.arg[3], &s.value);
			if (s.value < 0 && q.arg[0] < SIGNALS)
				is_noted[q.arg[0]] = was;
			break;
		}
		case DO_NOTES:
			from = (unsigned char *)me->note;
			s.bytes = me->notes * sizeof(struct note);
			me->notes = 0;
		}
		me->accessing = 0;
		s.signal = me->signal;
		s.code = me->code;
		s.address = me->address;
		transfer(me, NR_WRITE, &s, sizeof s);
		if (s.bytes)
			transfer(me, NR_WRITE, from, s.bytes);
	}
}

/* Where a thread starts, and a child that shares the memory. */
void begin_server(struct server *me)
{
	me->tid = call(NR_GETTID, 0, 0, 0, 0, 0, 0);
	if (me->tid == (word)call(NR_GETPID, 0, 0, 0, 0, 0, 0))
		close_others(me);
	connect_home(me);
	serve(me);
}

__asm__(".globl _start\n_start: movq 16(%rsp), %rdi\n andq $-16, %rsp\n call begin\n");

/* `path`: the socket to connect to. */
void begin(const char *path)
{
	struct server *me = &servers[0];
	long result;

	me->tid = call(NR_GETTID, 0, 0, 0, 0, 0, 0);
	me->channel = CHANNEL;
	home.family = 1;
	for (int i = 0; path[i]; i++)
		home.path[i] = path[i];
	close_others(me);
	action(SIGSEGV, (void *)on_signal, SA_SIGINFO, 0, &result);
	action(SIGBUS, (void *)on_signal, SA_SIGINFO, 0, &result);
	connect_home(me);
	own_pages();
	serve(me);
}
