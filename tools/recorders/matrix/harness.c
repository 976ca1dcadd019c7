/*
 * Makes each call of a matrix on this machine's kernel, in a process of its own that prepared the same state, and tells
 * what came of it.
 *
 * Reads a plan from standard input and writes a line for each row: what the call returned, and every part of the state
 * that it left otherwise than a call without effect does.  Runs as the first process of a PID namespace, in a root
 * directory of its own: whatever a row does to processes, names and segments stays there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_SETUP = 300, MAX_NAMES = 40, MAX_AREAS = 4, MAX_PAGES = 256, SLOTS = 8, PAGE = 4096, TEXT = 1 << 16 };
enum { FIRST_OWN_FD = 200, LAST_FD = 70 };
enum { WITH_VMFLAGS = 1, VAGUE = 2, ANY = 4, PLACED = 8, WHOLE = 16 };

struct arg { long value; int slot, sign; };
struct setup { char what; long nr; struct arg arg[6]; int fd, slot, bytes; unsigned long at; unsigned char *data; };
struct area { unsigned long at; int pages; };

static struct setup setup[MAX_SETUP];
static int setups, names, areas;
static char *name[MAX_NAMES];
static struct area area[MAX_AREAS];
static long slot[SLOTS];
/* The contents and parts of the state after a call without effect; shared with the children. */
static unsigned char *baseline, *unreadable;
static char *report, *basetext;
static char text[TEXT], scan[TEXT + 16], lines[TEXT];
static int is_baseline, maps_fd, smaps_fd, statm_fd, status_fd, pagemap_fd;

static void die(const char *what, long detail)
{
	fprintf(stderr, "harness: %s (%ld): %s\n", what, detail, strerror(errno));
	_exit(99);
}

static long raw(long nr, const struct arg *arg)
{
	long a[6];
	for (int i = 0; i < 6; i++)
		a[i] = arg[i].value + (arg[i].slot < 0 ? 0 : arg[i].sign * slot[arg[i].slot]);
	long value;
	register long r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
	__asm__ volatile("syscall" : "=a"(value) : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
	return value;
}

static void run_setup(int from, int to)
{
	for (int i = from; i < to; i++) {
		struct setup *s = &setup[i];
		if (s->what == 'w')
			memcpy((void *)s->at, s->data, s->bytes);
		else if (s->what == 'f')
			memset((void *)s->at, s->fd, s->bytes);
		else {
			long value = raw(s->nr, s->arg);
			if (value < 0 && value > -4096) {
				errno = -value;
				die("setup failed", i);
			}
			if (s->fd >= 0) {
				if (dup2(value, s->fd) < 0)
					die("dup2", s->fd);
				close(value);
			}
			if (s->slot >= 0)
				slot[s->slot] = value;
		}
	}
}

static long slurp(int fd, char *into, long room)
{
	long done = 0, got;
	while (done < room - 1 && (got = pread(fd, into + done, room - 1 - done, done)) > 0)
		done += got;
	into[done < 0 ? 0 : done] = 0;
	return done;
}

/* Leaves of `text` the entries that are new or otherwise, and names those that are gone with a '-'. */
static void changed_entries(const char *was)
{
	char *to = lines;
	for (char *entry = text; *entry; entry = strchr(entry, ',') + 1) {
		int n = strchr(entry, ',') - entry + 1;
		const char *same = was;
		while (*same != '\n' && strncmp(same, entry, n) != 0)
			same = strchr(same, ',') + 1;
		if (*same == '\n')
			to += sprintf(to, "%.*s", n, entry);
	}
	for (const char *entry = was; *entry != '\n'; entry = strchr(entry, ',') + 1) {
		int n = strchr(entry, ':') - entry + 1;
		const char *same = text;
		while (*same && strncmp(same, entry, n) != 0)
			same = strchr(same, ',') + 1;
		if (!*same)
			to += sprintf(to, "-%.*s,", n - 1, entry);
	}
	*to = 0;
	strcpy(text, lines);
}

/* One part of the state: told only where it is not as after a call without effect. */
static char *out, *base;
static void part(const char *what)
{
	int n = snprintf(scan, sizeof scan, "%s %s\n", what, text);
	if (is_baseline) {
		memcpy(base, scan, n + 1);
		base += n;
		return;
	}
	char key[16];
	sprintf(key, "\n%s ", what);
	char *at = strstr(basetext, key);
	if (at && strncmp(at + 1, scan, n) == 0)
		return;
	if (*what == 'f' || *what == 'n')
		changed_entries(at + 3);
	out += snprintf(out, TEXT, "\t%s %s", what, text);
}

static int in_area(unsigned long at)
{
	for (int i = 0; i < areas; i++)
		if (at >= area[i].at && at < area[i].at + (unsigned long)area[i].pages * PAGE)
			return i;
	return -1;
}

/* Mappings that begin in an area: first page and pages, rights, page offset, and whether of a file. */
static void maps(int fd, int with_flags)
{
	slurp(fd, lines, TEXT);
	char *to = text;
	int within = 0;
	*to = 0;
	for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
		unsigned long start, end, offset, ino;
		char perms[8], dev[16], file[256] = "";
		if (sscanf(line, "%lx-%lx %4s %lx %15s %lu %255s", &start, &end, perms, &offset, dev, &ino, file) >= 6) {
			int a = in_area(start);
			within = a >= 0;
			if (within && !with_flags)
				to += sprintf(to, "%c%lu+%lu %s %lx%s,", 'a' + a, (start - area[a].at) / PAGE, (end - start) / PAGE, perms,
					*file == '/' ? offset / PAGE : 0, *file == '/' ? "f" : "");
		} else if (within && with_flags && strncmp(line, "VmFlags:", 8) == 0)
			to += sprintf(to, "%s,", line + 9);
	}
	part(with_flags ? "v" : "m");
}

static void pagemap(void)
{
	uint64_t entry[MAX_PAGES];
	char *to = text;
	for (int a = 0; a < areas; a++) {
		if (pread(pagemap_fd, entry, area[a].pages * 8, area[a].at / PAGE * 8) != area[a].pages * 8)
			die("pagemap", a);
		for (int i = 0; i < area[a].pages; i++) {
			uint64_t e = entry[i];
			char letter = e >> 58 & 1 ? 'g' : !(e >> 63 & 1) ? (e >> 62 & 1 ? 's' : '-') : e >> 61 & 1 ? 'f' : 'a';
			*to++ = (letter == 'f' || letter == 'a') && e >> 56 & 1 ? letter - 32 : letter;
		}
		*to++ = ' ';
	}
	*to = 0;
	part("p");
}

static unsigned crc(const unsigned char *bytes, int n)
{
	unsigned sum = ~0u;
	while (n--) {
		sum ^= *bytes++;
		for (int i = 0; i < 8; i++)
			sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0);
	}
	return ~sum;
}

/* Runs of words of 4 bytes that changed: page, first byte and length, and a sum of them; '!' for a page that cannot be read. */
static void contents(int vague)
{
	char *to = text;
	unsigned char *known = baseline;
	*to = 0;
	for (int a = 0; a < areas; a++)
		for (int i = 0; i < area[a].pages; i++, known += PAGE) {
			unsigned page[PAGE / 4], *was = (unsigned *)known;
			struct iovec here = { page, PAGE }, there = { (void *)(area[a].at + (unsigned long)i * PAGE), PAGE };
			if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != PAGE) {
				if (is_baseline)
					unreadable[(known - baseline) / PAGE] = 1;
				else if (!unreadable[(known - baseline) / PAGE])
					to += sprintf(to, "%c%d!,", 'a' + a, i);
				continue;
			}
			if (is_baseline) {
				memcpy(known, page, PAGE);
				unreadable[(known - baseline) / PAGE] = 0;
				continue;
			}
			for (int w = 0; w < PAGE / 4; w++) {
				if (page[w] == was[w])
					continue;
				int end = w;
				while (end < PAGE / 4 && page[end] != was[end])
					end++;
				to += sprintf(to, "%c%d.%d+%d", 'a' + a, i, w * 4, (end - w) * 4);
				if (!vague)
					to += sprintf(to, "=%x", crc((unsigned char *)(page + w), (end - w) * 4));
				*to++ = ',';
				*to = 0;
				w = end;
			}
		}
	part("c");
}

static void descriptors(void)
{
	char *to = text;
	*to = 0;
	for (int fd = 3; fd < LAST_FD; fd++) {
		struct stat st;
		int flags = fcntl(fd, F_GETFL);
		if (flags < 0)
			continue;
		if (fstat(fd, &st) < 0)
			st.st_size = -1;
		to += sprintf(to, "%d:%ld %ld %d %o %d %d,", fd, (long)st.st_size, flags & O_PATH ? -1 : (long)lseek(fd, 0, SEEK_CUR), fcntl(fd, F_GETFD), flags,
			flags & O_PATH ? -1 : fcntl(fd, F_GET_SEALS), flags & O_PATH ? -1 : fcntl(fd, F_GETPIPE_SZ));
	}
	part("f");
}

static void the_names(void)
{
	char *to = text;
	*to = 0;
	for (int i = 0; i < names; i++) {
		struct stat st;
		if (stat(name[i], &st) < 0)
			continue;
		to += sprintf(to, "%s:%o %ld %ld,", name[i], st.st_mode, S_ISDIR(st.st_mode) ? 0 : (long)st.st_size, S_ISDIR(st.st_mode) ? 0 : (long)st.st_nlink);
	}
	part("n");
}

static long statm_pages(void)
{
	slurp(statm_fd, text, TEXT);
	return atol(text);
}

static long locked_kib(void)
{
	slurp(status_fd, text, TEXT);
	char *at = strstr(text, "VmLck:");
	return at ? atol(at + 6) : -1;
}

static int own(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), high = fcntl(fd, F_DUPFD, FIRST_OWN_FD);
	if (fd < 0 || high < 0)
		die(path, fd);
	close(fd);
	return high;
}

/* Makes the call in the state that the setup gives, and writes what came of it. */
static void child(int setup_count, long nr, const struct arg *arg, int flags)
{
	out = report;
	*out = 0;
	base = basetext;
	if (is_baseline)
		*base++ = '\n';
	setpgid(0, 0);
	slot[0] = getpid();
	maps_fd = own("/proc/self/maps");
	smaps_fd = own("/proc/self/smaps");
	statm_fd = own("/proc/self/statm");
	status_fd = own("/proc/self/status");
	pagemap_fd = own("/proc/self/pagemap");
	run_setup(0, setup_count);
	long pages = statm_pages(), locked = locked_kib();
	struct itimerval limit = { { 0, 0 }, { 1, 0 } };
	setitimer(ITIMER_REAL, &limit, NULL);
	long value = raw(nr, arg);
	limit.it_value.tv_sec = 0;
	setitimer(ITIMER_REAL, &limit, NULL);
	if (flags & ANY && value >= 0)
		out += sprintf(out, "+");
	else if (flags & PLACED && value >= slot[2] && value < slot[2] + (1 << 20))
		out += sprintf(out, "B+%ld", value - slot[2]);
	else if (flags & PLACED && value > PAGE && (value < (long)area[0].at || value > (long)area[2].at))
		out += sprintf(out, "P");
	else
		out += sprintf(out, "%ld", value);
	long grown = statm_pages() - pages;
	sprintf(text, "%ld", grown);
	part("s");
	grown = locked_kib() - locked;
	sprintf(text, "%ld", grown);
	if (!(flags & WHOLE))
		part("l");
	maps(maps_fd, 0);
	pagemap();
	if (flags & WITH_VMFLAGS || is_baseline)
		maps(smaps_fd, 1);
	contents(flags & VAGUE);
	descriptors();
	the_names();
	_exit(0);
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	return at->level == 0 ? 0 : remove(path);
}

/* Takes away what a row left behind. */
static void clean(const char *dirs[])
{
	for (int i = 0; dirs[i]; i++)
		nftw(dirs[i], drop, 8, FTW_DEPTH | FTW_PHYS);
	for (int i = 0; i < names; i++)
		remove(name[i]);
	struct shm_info info;
	int highest = shmctl(0, SHM_INFO, (void *)&info);
	for (int i = 0; info.used_ids > 0 && i <= highest; i++) {
		struct shmid_ds ds;
		int id = shmctl(i, SHM_STAT, &ds);
		if (id >= 0)
			shmctl(id, IPC_RMID, NULL);
	}
}

static void run(int setup_count, long nr, const struct arg *arg, int flags)
{
	static const char *dirs[] = { "/tmp", "/dev/shm", NULL };
	pid_t pid = fork();
	if (pid < 0)
		die("fork", 0);
	if (pid == 0)
		child(setup_count, nr, arg, flags);
	int status;
	for (pid_t ended; (ended = waitpid(-1, &status, 0)) != pid;)
		if (ended < 0)
			die("wait", ended);
	if (WIFSIGNALED(status))
		sprintf(report, "sig%d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == 99)
		die("child", nr);
	else if (!*report)
		sprintf(report, "exit%d", WEXITSTATUS(status));
	clean(dirs);
}

static struct arg read_arg(char *word)
{
	struct arg arg = { 0, -1, 1 };
	if (*word == '$') {
		arg.slot = word[1] - '0';
		arg.sign = word[2] == '-' ? -1 : 1;
		word += 3;
	}
	arg.value = (long)strtoull(word, NULL, 0);
	return arg;
}

static char *next(void)
{
	char *word = strtok(NULL, " \n");
	if (!word)
		die("plan too short", setups);
	return word;
}

static void enter(const char *root)
{
	char path[300];
	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC) < 0)
		die("unshare (root is needed)", 0);
	mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
	pid_t pid = fork();
	if (pid != 0) {
		int status;
		waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 98);
	}
	static const char *dirs[] = { "tmp", "dev", "dev/shm", "proc", "home" };
	for (unsigned i = 0; i < sizeof dirs / sizeof *dirs; i++) {
		snprintf(path, sizeof path, "%s/%s", root, dirs[i]);
		mkdir(path, 0755);
		if (i == 1 && mount("tmpfs", path, "tmpfs", 0, NULL) < 0)
			die("tmpfs", 0);
		chmod(path, i == 0 || i == 2 ? 01777 : 0755);
	}
	snprintf(path, sizeof path, "%s/proc", root);
	if (mount("proc", path, "proc", 0, NULL) < 0)
		die("proc", 0);
	static const char *device[] = { "null", "zero", "full" };
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/dev/%s", root, device[i]);
		mknod(path, S_IFCHR | 0666, makedev(1, i == 0 ? 3 : i == 1 ? 5 : 7));
		chmod(path, 0666);
	}
	chmod(root, 0755);
	if (chroot(root) < 0 || chdir("/") < 0)
		die("chroot", 0);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		die("usage: harness ROOT < plan", argc);
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {
		personality(ADDR_NO_RANDOMIZE);
		execv("/proc/self/exe", argv);
		die("exec", 0);
	}
	umask(022);
	static const long standard[4];
	for (int number = 1; number < 65; number++)
		syscall(SYS_rt_sigaction, number, standard, NULL, 8);
	setlinebuf(stdout);
	enter(argv[1]);
	syscall(SYS_brk, (syscall(SYS_brk, 0) + PAGE - 1) / PAGE * PAGE);
	for (int fd = 3; fd < FIRST_OWN_FD; fd++)
		close(fd);
	unreadable = mmap(NULL, MAX_PAGES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	baseline = mmap(NULL, MAX_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	report = mmap(NULL, TEXT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	basetext = mmap(NULL, TEXT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *line = NULL;
	size_t room = 0;
	while (getline(&line, &room, stdin) > 0) {
		char *word = strtok(line, " \n");
		if (!word)
			continue;
		if (*word == 'A') {
			area[areas].at = strtoul(next(), NULL, 0);
			area[areas++].pages = atoi(next());
		} else if (*word == 'N')
			name[names++] = strdup(next());
		else if (*word == 'X')		/* forget the setup from this place on */
			setups = atoi(next());
		else if (*word == 'S') {
			struct setup *s = &setup[setups++];
			if (setups > MAX_SETUP)
				die("too much setup", setups);
			s->what = *next();
			if (s->what == 'c') {
				s->nr = atol(next());
				for (int i = 0; i < 6; i++)
					s->arg[i] = read_arg(next());
				s->fd = atoi(next());
				s->slot = atoi(next());
			} else {
				s->at = strtoul(next(), NULL, 0);
				s->bytes = atoi(next());
				char *hex = next();
				if (s->what == 'f')
					s->fd = strtol(hex, NULL, 0);
				else {
					s->data = malloc(s->bytes);
					for (int i = 0; i < s->bytes; i++)
						sscanf(hex + 2 * i, "%2hhx", &s->data[i]);
				}
			}
		} else if (*word == 'B') {	/* the baseline: a call without effect */
			struct arg none[6] = { { 0, -1, 1 }, { 0, -1, 1 }, { 0, -1, 1 }, { 0, -1, 1 }, { 0, -1, 1 }, { 0, -1, 1 } };
			is_baseline = 1;
			*basetext = 0;
			run(setups, SYS_getppid, none, 0);
			is_baseline = 0;
			for (char *at = basetext + 1; *at; at++)
				putchar(*at == '\n' ? '\t' : *at);
			putchar('\n');
		} else if (*word == 'R') {
			struct arg arg[6];
			long nr = atol(next());
			for (int i = 0; i < 6; i++)
				arg[i] = read_arg(next());
			run(setups, nr, arg, atoi(next()));
			puts(report);
		}
	}
	return 0;
}
