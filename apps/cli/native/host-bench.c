/*
 * The same work as the rows of `pagelab bench`, on the kernel and C library of this host. Prints `row nanoseconds` a
 * line, each the median of several rounds.
 *
 *     cc -O2 -o host-bench host-bench.c && ./host-bench [EVENTS]
 *
 * EVENTS is a malloc trace as packed little-endian records of four 64-bit words: operation, id, other id, size.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 15, PAGES = 4096, CALLS = 2000, PAGE = 4096 };

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void report(const char *row, double (*round)(void))
{
	double ns[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		ns[i] = round();
	qsort(ns, ROUNDS, sizeof *ns, ascending);
	printf("%s %.1f\n", row, ns[ROUNDS / 2]);
	fflush(stdout);
}

static char *map(size_t length)
{
	char *p = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(2);
	madvise(p, length, MADV_NOHUGEPAGE);
	return p;
}

static double write_fault(void)
{
	char *p = map((size_t)PAGES * PAGE);
	double t = now();

	for (int i = 0; i < PAGES; i++)
		*(volatile char *)(p + (size_t)i * PAGE) = 1;
	t = now() - t;
	munmap(p, (size_t)PAGES * PAGE);
	return t / PAGES;
}

static double read_fault(void)
{
	char *p = map((size_t)PAGES * PAGE);
	double t = now();

	for (int i = 0; i < PAGES; i++)
		(void)*(volatile char *)(p + (size_t)i * PAGE);
	t = now() - t;
	munmap(p, (size_t)PAGES * PAGE);
	return t / PAGES;
}

static double map_unmap(int touch)
{
	double t = now();

	for (int i = 0; i < CALLS; i++) {
		char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (touch)
			*(volatile char *)p = 1;
		munmap(p, PAGE);
	}
	return (now() - t) / CALLS;
}

static double mmap_munmap(void)
{
	return map_unmap(0);
}

static double mmap_touch_munmap(void)
{
	return map_unmap(1);
}

/* Time of fork() itself with `pages` resident. */
static double fork_with(int pages)
{
	char *p = map((size_t)pages * PAGE);
	double t;

	for (int i = 0; i < pages; i++)
		p[(size_t)i * PAGE] = 1;
	t = now();
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	t = now() - t;
	waitpid(pid, 0, 0);
	munmap(p, (size_t)pages * PAGE);
	return t;
}

static double fork_page(void)
{
	return (fork_with(PAGES * 4) - fork_with(1)) / (PAGES * 4 - 1);
}

static double cow_fault(void)
{
	char *p = map((size_t)PAGES * PAGE);
	int hold[2];
	double t;

	for (int i = 0; i < PAGES; i++)
		p[(size_t)i * PAGE] = 1;
	if (pipe(hold))
		exit(2);
	pid_t pid = fork();
	if (pid == 0) {
		char c;
		close(hold[1]);
		(void)!read(hold[0], &c, 1);
		_exit(0);
	}
	t = now();
	for (int i = 0; i < PAGES; i++)
		*(volatile char *)(p + (size_t)i * PAGE) = 2;
	t = now() - t;
	close(hold[0]);
	close(hold[1]);
	waitpid(pid, 0, 0);
	munmap(p, (size_t)PAGES * PAGE);
	return t / PAGES;
}

static double mprotect_split_merge(void)
{
	char *p = map(16 * PAGE);
	double t = now();

	for (int i = 0; i < CALLS; i++) {
		mprotect(p + 4 * PAGE, PAGE, PROT_READ);
		mprotect(p + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE);
	}
	t = now() - t;
	munmap(p, 16 * PAGE);
	return t / CALLS;
}

static double brk_page(void)
{
	char *start = sbrk(0);
	double t = now();

	for (int i = 0; i < CALLS; i++) {
		if (brk(start + PAGE) || brk(start))
			exit(2);
	}
	return (now() - t) / CALLS;
}

static double dontneed(void)
{
	char *p = map((size_t)PAGES * PAGE);
	double t;

	for (int i = 0; i < PAGES; i++)
		p[(size_t)i * PAGE] = 1;
	t = now();
	for (int i = 0; i < PAGES; i++)
		madvise(p + (size_t)i * PAGE, PAGE, MADV_DONTNEED);
	t = now() - t;
	munmap(p, (size_t)PAGES * PAGE);
	return t / PAGES;
}

struct event { uint64_t op, id, other, size; };

/* Replays the trace once in a child, whose heap is untouched, and returns its ns an event. */
static const struct event *events;
static size_t nr_events;
static uint64_t nr_ids;

static double replay(void)
{
	double *shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();

	if (pid == 0) {
		void **block = mmap(0, (nr_ids + 1) * sizeof *block, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		double t = now();

		for (size_t i = 0; i < nr_events; i++) {
			const struct event *e = &events[i];

			switch ((char)e->op) {
			case 'm': block[e->id] = malloc(e->size); break;
			case 'c': block[e->id] = calloc(1, e->size); break;
			case 'a': block[e->id] = memalign(e->other, e->size); break;
			case 'f': free(block[e->id]); block[e->id] = 0; break;
			case 'r':
				block[e->other] = realloc(block[e->id], e->size);
				if (e->other != e->id)
					block[e->id] = 0;
			}
		}
		*shared = (now() - t) / (double)nr_events;
		_exit(0);
	}
	waitpid(pid, 0, 0);
	double ns = *shared;
	munmap(shared, PAGE);
	return ns;
}

int main(int argc, char **argv)
{
	report("write-fault", write_fault);
	report("read-fault", read_fault);
	report("mmap-munmap", mmap_munmap);
	report("mmap-touch-munmap", mmap_touch_munmap);
	report("fork-page", fork_page);
	report("cow-fault", cow_fault);
	report("mprotect", mprotect_split_merge);
	report("brk", brk_page);
	report("dontneed", dontneed);
	if (argc > 1) {
		struct stat st;
		int fd = open(argv[1], O_RDONLY);

		if (fd < 0 || fstat(fd, &st))
			return 2;
		events = mmap(0, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
		nr_events = (size_t)st.st_size / sizeof *events;
		for (size_t i = 0; i < nr_events; i++) {
			if (events[i].id > nr_ids)
				nr_ids = events[i].id;
			if (events[i].op == 'r' && events[i].other > nr_ids)
				nr_ids = events[i].other;
		}
		report("malloc-replay", replay);
	}
	return 0;
}
