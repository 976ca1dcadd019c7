import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OP_CALLOC, OP_FREE, OP_MALLOC, OP_MEMALIGN, OP_REALLOC, parseMallocTrace } from '@pagelab/libc-malloc';
import { afterAll, describe, expect, it } from 'vitest';

const directory = mkdtempSync(join(tmpdir(), 'pagelab-test-'));
afterAll(() => rmSync(directory, { recursive: true }));

const source = fileURLToPath(new URL('malloc-trace.c', import.meta.url));
// It needs a C compiler and glibc, whose allocator it wraps.
const works = process.platform === 'linux' && /GNU|GLIBC/.test(spawnSync('ldd', ['--version'], { encoding: 'utf8' }).stdout ?? '')
  && spawnSync('gcc', ['--version']).status === 0;

const PROGRAM = `
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void *shared;
static void *thread(void *unused) { free(shared); shared = malloc(444); return unused; }
int main(void) {
  malloc(1001); void *a = malloc(2002), *b = calloc(3, 1001), *c; /* 1001: leaked */
  a = realloc(a, 40004); free(b); free(NULL);
  if (posix_memalign(&c, 256, 5005) || posix_memalign(&c, 3, 1) != 22) return 1;
  c = realloc(c, 0);
  shared = malloc(606);
  pthread_t t; pthread_create(&t, NULL, thread, NULL); pthread_join(t, NULL);
  if (fork() == 0) { free(malloc(7777)); _exit(0); }
  wait(NULL);
  free(a); free(shared);
  free(malloc((size_t)-1)); /* fails: no event */
  _exit(0);
}`;

interface Event {
  readonly op: number;
  readonly size: number;
  readonly id: number;
  /** Of realloc the new block, of memalign the alignment. */
  readonly extra: number;
  readonly thread: number;
}

describe.runIf(works)('the recorder of malloc traces', () => {
  const library = join(directory, 'malloc-trace.so');

  it('is built with one command, without a warning', () => {
    const built = spawnSync('gcc', ['-Wall', '-Wextra', '-Werror', '-O2', '-shared', '-fPIC', '-o', library, source, '-pthread', '-ldl'], { encoding: 'utf8' });
    expect(built.stderr).toBe('');
  });

  it('writes down what a program asks for, by thread, and nothing of what its children do', () => {
    writeFileSync(join(directory, 'program.c'), PROGRAM);
    const program = join(directory, 'program');
    expect(spawnSync('gcc', ['-w', '-O0', '-o', program, join(directory, 'program.c'), '-pthread'], { encoding: 'utf8' }).stderr).toBe('');
    const file = join(directory, 'out.trace');
    const env = { ...process.env, LD_PRELOAD: library, MALLOC_TRACE_FILE: file };
    expect(spawnSync(program, { env, encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
    const { count, ops, ids, extras, sizes, threads } = parseMallocTrace(readFileSync(file));
    const events = Array.from({ length: count }, (_, row): Event => ({
      op: ops[row]!, size: sizes[row]!, id: ids[row]!, extra: extras[row]!, thread: threads[row]!,
    }));
    // The C library allocates for itself too: what is ours has sizes that it does not ask for.
    const ours = (op: number, size: number): Event => {
      const found = events.filter((event) => event.op === op && event.size === size);
      expect(found).toHaveLength(1);
      return found[0]!;
    };
    const freed = (id: number): Event[] => events.filter((event) => event.op === OP_FREE && event.id === id);
    const grown = ours(OP_REALLOC, 40_004);
    expect(grown.id).toBe(ours(OP_MALLOC, 2002).id);
    expect(freed(grown.extra)).toHaveLength(1);
    expect(freed(ours(OP_CALLOC, 3003).id)).toHaveLength(1);
    const aligned = ours(OP_MEMALIGN, 5005);
    expect(aligned.extra).toBe(256);
    expect(freed(aligned.id)).toHaveLength(1);
    expect(freed(ours(OP_MALLOC, 1001).id)).toHaveLength(0);
    // Freed by the thread, which allocates another block.
    const { thread } = freed(ours(OP_MALLOC, 606).id)[0]!;
    expect(thread).not.toBe(0);
    expect(ours(OP_MALLOC, 444).thread).toBe(thread);
    expect(events.some(({ size }) => size === 7777)).toBe(false);
    expect(readdirSync(directory).filter((name) => name.startsWith('out.trace'))).toEqual(['out.trace']);
  });

  it('gives a program that was started by another a file of its own', () => {
    const file = join(directory, 'two.trace');
    const env = { ...process.env, LD_PRELOAD: library, MALLOC_TRACE_FILE: file };
    expect(spawnSync('/bin/sh', ['-c', 'exec /bin/sh -c "exit 0"'], { env, encoding: 'utf8' }).status).toBe(0);
    const files = readdirSync(directory).filter((name) => name.startsWith('two.trace'));
    expect(files).toHaveLength(2);
    for (const name of files) expect(readFileSync(join(directory, name), 'utf8')).toMatch(/^# malloc-trace v1/);
  });
});
