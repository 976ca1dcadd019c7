/*
 * Records what a program asks of its C library's allocator, as a malloc trace.
 *
 *     gcc -O2 -shared -fPIC -o malloc-trace.so malloc-trace.c -pthread -ldl
 *     LD_PRELOAD=$PWD/malloc-trace.so MALLOC_TRACE_FILE=out.trace PROGRAM
 *
 * One event a line: m, c, a, r or f, the thread's number, the block's, sizes. A process that finds the file there already (one that the
 * program started) writes to FILE.PID instead; a child of fork records nothing until it runs another program. What a process that is
 * killed did last, up to 64 KiB of trace, is lost.
 *
 * Calls are passed on to glibc's own allocator, which exports its functions under a second name: no look-up is needed, which would
 * allocate itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* Blocks by address: open addressing, linear probing, a power of two of slots. */
struct slot { uintptr_t address; unsigned long id; };
static struct slot *slots;
static size_t nr_slots, nr_used;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int fd = -1;
static char buffer[1 << 16];
static size_t filled;
static unsigned long next_id = 1;
static int next_thread;
static __thread int thread_number = -1;

static void write_out(void)
{
    for (size_t at = 0; at < filled;) {
        ssize_t wrote = write(fd, buffer + at, filled - at);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) break;
        at += wrote;
    }
    filled = 0;
}

static size_t slot_of(uintptr_t address)
{
    size_t at = (address >> 4) * 0x9e3779b97f4a7c15u & (nr_slots - 1);
    while (slots[at].address != 0 && slots[at].address != address) at = (at + 1) & (nr_slots - 1);
    return at;
}

static int grow(void)
{
    size_t wanted = nr_slots == 0 ? 1 << 16 : nr_slots * 2;
    struct slot *old = slots;
    size_t nr_old = nr_slots;
    void *fresh = mmap(NULL, wanted * sizeof *slots, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) return -1;
    slots = fresh;
    nr_slots = wanted;
    for (size_t at = 0; at < nr_old; at++) if (old[at].address != 0) slots[slot_of(old[at].address)] = old[at];
    if (old) munmap(old, nr_old * sizeof *old);
    return 0;
}

/* Gives a block its number. */
static unsigned long add(void *block)
{
    if (nr_used * 2 >= nr_slots && grow() < 0) return 0;
    size_t at = slot_of((uintptr_t)block);
    if (slots[at].address == 0) nr_used++;
    slots[at] = (struct slot){ (uintptr_t)block, next_id };
    return next_id++;
}

/* Takes a block out: its number, 0 where it was allocated before the recording began. */
static unsigned long take(void *block)
{
    if (nr_slots == 0) return 0;
    size_t at = slot_of((uintptr_t)block);
    if (slots[at].address == 0) return 0;
    unsigned long id = slots[at].id;
    size_t mask = nr_slots - 1;
    /* What was pushed on by this block moves back. */
    for (size_t next = (at + 1) & mask; slots[next].address != 0; next = (next + 1) & mask) {
        size_t home = (slots[next].address >> 4) * 0x9e3779b97f4a7c15u & mask;
        if (((next - home) & mask) < ((next - at) & mask)) continue;
        slots[at] = slots[next];
        at = next;
    }
    slots[at].address = 0;
    nr_used--;
    return id;
}

static void event(const char *format, unsigned long a, unsigned long b, unsigned long c)
{
    if (sizeof buffer - filled < 128) write_out();
    if (thread_number < 0) thread_number = next_thread++;
    filled += snprintf(buffer + filled, sizeof buffer - filled, format, thread_number, a, b, c);
}

static void stop_in_child(void)
{
    if (fd >= 0) close(fd);
    fd = -1;
    filled = 0;
    pthread_mutex_unlock(&lock);
}

static void take_lock(void) { pthread_mutex_lock(&lock); }
static void give_lock(void) { pthread_mutex_unlock(&lock); }

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("MALLOC_TRACE_FILE");
    if (!file || grow() < 0) return;
    int low = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (low < 0 && errno == EEXIST) {
        char own[4096];
        snprintf(own, sizeof own, "%s.%d", file, (int)getpid());
        low = open(own, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    }
    if (low < 0) {
        dprintf(2, "malloc-trace: cannot write %s: %s\n", file, strerror(errno));
        return;
    }
    /* Out of the way of programs that count on the descriptors they get. */
    int high = fcntl(low, F_DUPFD_CLOEXEC, 500);
    if (high >= 0) { close(low); low = high; }
    pthread_atfork(take_lock, give_lock, stop_in_child);
    pthread_mutex_lock(&lock);
    filled = snprintf(buffer, sizeof buffer, "# malloc-trace v1: m THREAD ID SIZE, c, a THREAD ID SIZE ALIGN, r THREAD OLD NEW SIZE, f THREAD ID\n");
    fd = low;
    pthread_mutex_unlock(&lock);
}

__attribute__((destructor)) static void end(void)
{
    pthread_mutex_lock(&lock);
    if (fd >= 0) write_out();
    pthread_mutex_unlock(&lock);
}

/* Leaves without the destructors. */
void _exit(int status)
{
    end();
    for (;;) syscall(SYS_exit_group, status);
}

void _Exit(int status) { _exit(status); }

/* Another program takes this one's place, without destructors too. Should it fail, recording goes on. */
int execve(const char *path, char *const argv[], char *const envp[])
{
    end();
    return syscall(SYS_execve, path, argv, envp);
}

int execv(const char *path, char *const argv[]) { return execve(path, argv, environ); }

int execvpe(const char *file, char *const argv[], char *const envp[])
{
    int (*next)(const char *, char *const[], char *const[]) = dlsym(RTLD_NEXT, "execvpe");
    end();
    return next(file, argv, envp);
}

int execvp(const char *file, char *const argv[]) { return execvpe(file, argv, environ); }

void *malloc(size_t size)
{
    void *block = __libc_malloc(size);
    if (fd < 0 || !block) return block;
    pthread_mutex_lock(&lock);
    if (fd >= 0) event("m %d %lu %lu\n", add(block), size, 0);
    pthread_mutex_unlock(&lock);
    return block;
}

void *calloc(size_t n, size_t size)
{
    void *block = __libc_calloc(n, size);
    if (fd < 0 || !block) return block;
    pthread_mutex_lock(&lock);
    if (fd >= 0) event("c %d %lu %lu\n", add(block), n * size, 0);
    pthread_mutex_unlock(&lock);
    return block;
}

void free(void *block)
{
    if (fd < 0 || !block) { __libc_free(block); return; }
    /* Before the block can be anybody else's. */
    pthread_mutex_lock(&lock);
    unsigned long id = take(block);
    if (fd >= 0 && id != 0) event("f %d %lu\n", id, 0, 0);
    pthread_mutex_unlock(&lock);
    __libc_free(block);
}

void *realloc(void *old, size_t size)
{
    if (!old) return malloc(size);
    if (size == 0) { free(old); return NULL; }
    if (fd < 0) return __libc_realloc(old, size);
    /* The old block may be another thread's before this one knows: both under the lock. */
    pthread_mutex_lock(&lock);
    void *block = __libc_realloc(old, size);
    if (block && fd >= 0) {
        unsigned long before = take(old);
        unsigned long after = add(block);
        if (before != 0) event("r %d %lu %lu %lu\n", before, after, size);
        else event("m %d %lu %lu\n", after, size, 0);
    }
    pthread_mutex_unlock(&lock);
    return block;
}

void *reallocarray(void *old, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) { errno = ENOMEM; return NULL; }
    return realloc(old, bytes);
}

void *memalign(size_t alignment, size_t size)
{
    void *block = __libc_memalign(alignment, size);
    if (fd < 0 || !block) return block;
    pthread_mutex_lock(&lock);
    if (fd >= 0) event("a %d %lu %lu %lu\n", add(block), size, alignment);
    pthread_mutex_unlock(&lock);
    return block;
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **out, size_t alignment, size_t size)
{
    if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
    void *block = memalign(alignment, size);
    if (!block) return ENOMEM;
    *out = block;
    return 0;
}

void *valloc(size_t size) { return memalign(sysconf(_SC_PAGESIZE), size); }

void *pvalloc(size_t size)
{
    size_t page = sysconf(_SC_PAGESIZE);
    return memalign(page, (size + page - 1) / page * page);
}
