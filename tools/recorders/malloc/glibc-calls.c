// Makes the calls of a script on this machine's C library, one a line, and prints each with what it answered.
//
//     gcc -O2 -pthread -o glibc-calls glibc-calls.c
//     ./glibc-calls < SCRIPT > RECORDING            GLIBC_TUNABLES=… ./glibc-calls … for other tunables
//
// The calls are those that test/data/traces/README.md tells. Each thread of the script is a thread; they hand a baton
// on, so that one call is under way at a time and the same script gives the same answers. A thread's stack and all that
// this program itself needs lie outside the heap.
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 256, BLOCKS = 1 << 20, LINE = 256, OUT = 1 << 16, STACK = 256 * 1024, HEAP_MAX = 64 << 20 };

typedef struct { pthread_t thread; sem_t go, done; char *stack; } Worker;

static void *map(size_t bytes) { return mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); }

static Worker *workers;
static void **blocks;
static char *base;
static char line[LINE], answer[OUT];
static char *out;
static size_t out_used;

static void flush(void) {
  for (size_t at = 0; at < out_used;) {
    ssize_t n = write(1, out + at, out_used - at);
    if (n <= 0) _exit(2);
    at += (size_t)n;
  }
  out_used = 0;
}

static void put(const char *text) {
  size_t n = strlen(text);
  if (out_used + n > OUT) flush();
  memcpy(out + out_used, text, n);
  out_used += n;
}

// Arenas and their heaps, numbered as they are first seen.
static char *arenas[THREADS], *heaps[THREADS][64];

static int number_of(char **list, int length, char *what) {
  for (int i = 0; i < length; i++) {
    if (list[i] == 0) list[i] = what;
    if (list[i] == what) return i;
  }
  _exit(3);
}

static void place(void *block) {
  char *at = block;
  size_t usable = malloc_usable_size(block);
  if (!at) snprintf(answer, OUT, "null 0");
  else if (at >= base && at < (char *)sbrk(0)) snprintf(answer, OUT, "%lx %zu", (unsigned long)(at - base), usable);
  else if (((size_t *)block)[-1] & 4) {
    char *heap = (char *)((uintptr_t)at & ~(uintptr_t)(HEAP_MAX - 1));
    int arena = number_of(arenas, THREADS, *(char **)heap);
    snprintf(answer, OUT, "a%d.%d+%lx %zu", arena, number_of(heaps[arena], 64, heap), (unsigned long)(at - heap), usable);
  } else snprintf(answer, OUT, "mmap %zu", usable);
}

// What the library prints to standard error, its lines joined with '|'.
static void captured(void (*print)(void)) {
  int file = memfd_create("text", 0), saved = dup(2);
  dup2(file, 2);
  print();
  dup2(saved, 2);
  close(saved);
  ssize_t n = pread(file, answer, OUT - 1, 0);
  close(file);
  answer[n < 0 ? 0 : n] = 0;
  for (char *c = answer; *c; c++) if (*c == '\n') *c = '|';
}

static void print_info(void) { malloc_info(0, stderr); }

static void info(const char *name) {
  struct mallinfo2 i = mallinfo2();
  snprintf(answer + strlen(answer), OUT - strlen(answer), "%s%zu %zu %zu %zu %zu %zu %zu %zu %zu", name, i.arena, i.ordblks, i.smblks, i.hblks,
           i.hblkhd, i.fsmblks, i.uordblks, i.fordblks, i.keepcost);
}

// One call of the thread that holds the baton.
static void call(void) {
  unsigned long a = 0, b = 0, c = 0;
  long thread, param, value;
  answer[0] = 0;
  sscanf(line + 1, "%ld %lu %lu %lu", &thread, &a, &b, &c);
  switch (line[0]) {
    case 'm': place(blocks[a] = malloc(b)); break;
    case 'c': place(blocks[a] = calloc(1, b)); break;
    case 'a': place(blocks[a] = memalign(c, b)); break;
    case 'v': place(blocks[a] = valloc(b)); break;
    case 'V': place(blocks[a] = pvalloc(b)); break;
    case 'P': {
      void *block = 0;
      int error = posix_memalign(&block, c, b);
      if (error) snprintf(answer, OUT, "error %d", error);
      else place(block);
      blocks[a] = block;
      break;
    }
    case 'r': { void *old = blocks[a]; blocks[a] = 0; place(blocks[b] = realloc(old, c)); break; }
    case 'f': free(blocks[a]); blocks[a] = 0; break;
    case 'F': free(blocks[a]); break;
    case 'g': sscanf(line + 1, "%ld %lu %ld", &thread, &a, &value); free((char *)blocks[a] + value); break;
    case 'w': case 'p': case 'x': {
      long offset = 0, number = 0, delta = 0;
      sscanf(line + 1, "%ld %lu %ld %li %ld", &thread, &a, &offset, &number, &delta);
      char *at = (char *)blocks[a] + offset;
      unsigned long pointer = line[0] == 'w' ? (unsigned long)number : (unsigned long)blocks[number] + (unsigned long)delta;
      *(unsigned long *)at = line[0] == 'x' ? ((unsigned long)at >> 12) ^ pointer : pointer;
      break;
    }
    case 't': snprintf(answer, OUT, "trim %d", malloc_trim(a)); break;
    case 'o': sscanf(line + 1, "%ld %ld %ld", &thread, &param, &value); snprintf(answer, OUT, "opt %d", mallopt((int)param, (int)value)); break;
    case 'k': sscanf(line + 1, "%ld %ld", &thread, &value); snprintf(answer, OUT, "sbrk %lx", (unsigned long)((char *)sbrk(value) - base)); break;
    case 'i': info("info "); break;
    case 'K': {
      flush();
      pid_t child = fork();
      if (child < 0) _exit(7);
      int status = 0;
      if (child > 0) _exit(waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 8);
      break;
    }
    case 's': captured(malloc_stats); break;
    case 'X': captured(print_info); break;
    default: _exit(4);
  }
}

static void *work(void *which) {
  Worker *self = which;
  for (;;) {
    sem_wait(&self->go);
    if (line[0] == 'e') return 0;
    call();
    sem_post(&self->done);
  }
}

static void begin(Worker *worker) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (!worker->stack) worker->stack = map(STACK);
  pthread_attr_setstack(&attributes, worker->stack, STACK);
  sem_init(&worker->go, 0, 0);
  sem_init(&worker->done, 0, 0);
  if (pthread_create(&worker->thread, &attributes, work, worker)) _exit(5);
}

// The next line of standard input into `line`; 0 at its end.
static int next_line(void) {
  static char *in;
  static ssize_t at, have;
  if (!in) in = map(OUT);
  for (int n = 0; n < LINE - 1;) {
    if (at == have) {
      at = 0;
      have = read(0, in, OUT);
      if (have <= 0) return 0;
    }
    char c = in[at++];
    if (c == '\n') { line[n] = 0; return 1; }
    line[n++] = c;
  }
  _exit(6);
}

int main(void) {
  workers = map(THREADS * sizeof *workers);
  blocks = map(BLOCKS * sizeof *blocks);
  out = map(OUT);
  base = sbrk(0);
  while (next_line()) {
    if (line[0] == '#') { put(line); put("\n"); continue; }
    int thread = atoi(line + 2);
    Worker *worker = &workers[thread];
    answer[0] = 0;
    if (line[0] == 'n') begin(worker);
    else if (thread == 0) call();
    else {
      sem_post(&worker->go);
      if (line[0] == 'e') pthread_join(worker->thread, 0);
      else sem_wait(&worker->done);
    }
    put(line);
    if (answer[0]) { put(" = "); put(answer); }
    put("\n");
  }
  answer[0] = 0;
  info(" ");
  char end[OUT / 8];
  snprintf(end, sizeof end, "# final %ld info%s\n", (long)((char *)sbrk(0) - base), answer);
  put(end);
  flush();
}
