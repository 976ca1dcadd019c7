/*
 * The process whose memory a recorded sequence is about.
 *
 * It decides nothing: it takes a request from its socket, does one system call
 * or one run of memory accesses, and answers with what happened, surviving
 * SIGSEGV and SIGBUS.  Built without a C library, so that nothing but the
 * sequence maps memory or moves the break.
 *
 * After a fork the child makes a connection of its own, always as descriptor
 * CHANNEL, so that descriptors mean the same in every process.
 */
typedef unsigned long word;

enum { CHANNEL = 200, SCRATCH_BYTES = 64 * 1024 };
enum { DO_CALL = 1, DO_LOAD, DO_STORE, DO_FETCH, DO_SCAN, DO_TOUCH, DO_PUT, DO_GET, DO_FORK, DO_EXIT };
enum { NR_READ = 0, NR_WRITE = 1, NR_CLOSE = 3, NR_SIGACTION = 13, NR_SOCKET = 41, NR_CONNECT = 42, NR_FORK = 57,
       NR_SIGALTSTACK = 131, NR_EXIT_GROUP = 231, NR_DUP3 = 292 };
enum { SIGBUS = 7, SIGSEGV = 11, SA_SIGINFO = 4, SA_RESTORER = 0x04000000, SA_ONSTACK = 0x08000000 };

struct request { word what, arg[7], bytes; };
struct answer { long value; word signal, code, address, bytes; };

static unsigned char scratch[SCRATCH_BYTES] __attribute__((aligned(4096)));
static unsigned char signal_stack[16384] __attribute__((aligned(4096)));
static struct { unsigned short family; char path[108]; } home;	/* struct sockaddr_un */
static volatile struct { word signal, code, address; } fault;

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
__asm__(".text\n"
	"peek: cmpl $1, %esi\n jne 1f\n movzbl (%rdi), %eax\n ret\n1: movq (%rdi), %rax\n ret\n"
	"poke: cmpl $1, %esi\n jne 1f\n movb %dl, (%rdi)\n ret\n1: movq %rdx, (%rdi)\n ret\n"
	"run_at: jmp *%rdi\n"
	"leave: ret\n"
	"restore_signal: movl $15, %eax\n syscall\n");

static void stop(void)
{
	for (;;)
		call(NR_EXIT_GROUP, 97, 0, 0, 0, 0, 0);
}

static void on_fault(int signal, int *info, word *context)
{
	if (fault.signal)			/* not an access: the sequence took our own memory away */
		stop();
	fault.signal = signal;
	fault.code = (word)(long)info[2];
	fault.address = *(word *)(info + 4);
	context[5 + 16] = (word)leave;		/* uc_mcontext starts at word 5; RIP is its register 16 */
}

static void transfer(word nr, void *data, word bytes)
{
	for (long done; bytes; data = (char *)data + done, bytes -= done)
		if ((done = call(nr, CHANNEL, (word)data, bytes, 0, 0, 0)) <= 0)
			stop();
}

static void connect_home(void)
{
	long fd = call(NR_SOCKET, 1, 1, 0, 0, 0, 0);
	if (fd < 0 || call(NR_CONNECT, fd, (word)&home, sizeof home, 0, 0, 0) < 0)
		stop();
	call(NR_DUP3, fd, CHANNEL, 0, 0, 0, 0);
	call(NR_CLOSE, fd, 0, 0, 0, 0, 0);
}

extern char __bss_start[], _end[], __executable_start[], etext[];

/* Touches every page of this program, so that fault counts are the sequence's alone. */
static void own_pages(void)
{
	volatile unsigned char stack[8192];
	for (word at = (word)__executable_start; at < (word)etext; at += 4096)
		(void)*(volatile unsigned char *)at;
	(void)*(const volatile unsigned char *)fence;	/* the heap shares its page table */
	for (word at = (word)__bss_start; at < (word)_end; at = (at & ~4095ul) + 4096)
		*(volatile unsigned char *)at = *(volatile unsigned char *)at;
	for (int i = 0; i < 8192; i += 256)
		stack[i] = 0;
	(void)stack[0];
}

static void serve(void)
{
	struct request q;
	for (;;) {
		struct answer s = { 0 };
		transfer(NR_READ, &q, sizeof q);
		fault.signal = fault.code = fault.address = 0;
		switch (q.what) {
		case DO_CALL:
			s.value = call(q.arg[0], q.arg[1], q.arg[2], q.arg[3], q.arg[4], q.arg[5], q.arg[6]);
			break;
		case DO_LOAD:
			s.value = peek(q.arg[0], q.arg[1]);
			break;
		case DO_STORE:			/* address, size, value, count: `count` stores upwards */
			for (word i = 0; i < q.arg[3] && !fault.signal; i++)
				poke(q.arg[0] + i * q.arg[1], q.arg[1], q.arg[2]);
			break;
		case DO_FETCH:
			run_at(q.arg[0]);
			break;
		case DO_SCAN:			/* bytes up to the first that is not `value` */
			for (; s.value < (long)q.arg[1]; s.value++)
				if (peek(q.arg[0] + s.value, 1) != q.arg[2] || fault.signal)
					break;
			break;
		case DO_TOUCH:			/* address, length, write?, value */
			for (word i = 0; i < q.arg[1] && !fault.signal; i += 4096) {
				if (q.arg[2])
					poke(q.arg[0] + i, 1, q.arg[3]);
				else
					peek(q.arg[0] + i, 1);
			}
			break;
		case DO_PUT:
			transfer(NR_READ, scratch + q.arg[0], q.bytes);
			s.value = (long)scratch;
			break;
		case DO_GET:
			s.bytes = q.arg[1];
			break;
		case DO_FORK:
			s.value = call(NR_FORK, 0, 0, 0, 0, 0, 0);
			if (s.value == 0)
				connect_home();
			own_pages();
			if (s.value == 0)
				continue;	/* its parent answers */
			break;
		case DO_EXIT:
			call(NR_EXIT_GROUP, q.arg[0], 0, 0, 0, 0, 0);
		}
		s.signal = fault.signal;
		s.code = fault.code;
		s.address = fault.address;
		transfer(NR_WRITE, &s, sizeof s);
		if (s.bytes)
			transfer(NR_WRITE, scratch + q.arg[0], s.bytes);
	}
}

__asm__(".globl _start\n_start: movq 16(%rsp), %rdi\n andq $-16, %rsp\n call begin\n");

/* `path`: the socket to connect to. */
void begin(const char *path)
{
	struct { void *start; int flags; word size; } alternate = { signal_stack, 0, sizeof signal_stack };
	struct { void *handler; word flags; void *restorer; word mask; } action = {
		(void *)on_fault, SA_SIGINFO | SA_ONSTACK | SA_RESTORER, (void *)restore_signal, 0 };

	home.family = 1;
	for (int i = 0; path[i]; i++)
		home.path[i] = path[i];
	call(NR_SIGALTSTACK, (word)&alternate, 0, 0, 0, 0, 0);
	call(NR_SIGACTION, SIGSEGV, (word)&action, 0, 8, 0, 0);
	call(NR_SIGACTION, SIGBUS, (word)&action, 0, 8, 0, 0);
	connect_home();
	own_pages();
	serve();
}
