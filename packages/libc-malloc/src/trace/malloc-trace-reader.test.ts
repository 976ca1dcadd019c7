import { describe, expect, it } from 'vitest';
import type { MallocEvents } from './malloc-events.ts';
import { OP_CALLOC, OP_FREE, OP_MALLOC, OP_MEMALIGN, OP_REALLOC } from './malloc-events.ts';
import { MallocTraceError, MallocTraceReader, parseMallocTrace } from './malloc-trace-reader.ts';

const TRACE = '# malloc-trace v1\nm 0 0 12\nc 3 1 4096\n\na 0 2 100 64\r\nr 0 0 3 2000\n  f 1 4294967295\n';

function rows(events: MallocEvents): number[][] {
  return Array.from({ length: events.count }, (_, i) => [
    events.ops[i],
    events.threads[i],
    events.ids[i],
    events.extras[i],
    events.sizes[i],
  ]);
}

const ROWS = [
  [OP_MALLOC, 0, 0, 0, 12],
  [OP_CALLOC, 3, 1, 0, 4096],
  [OP_MEMALIGN, 0, 2, 64, 100],
  [OP_REALLOC, 0, 0, 3, 2000],
  [OP_FREE, 1, 4294967295, 0, 0],
];

describe('parseMallocTrace', () => {
  it('reads every form, from text and from bytes', () => {
    expect(rows(parseMallocTrace(TRACE))).toEqual(ROWS);
    expect(rows(parseMallocTrace(Uint8Array.from(TRACE, (c) => c.charCodeAt(0))))).toEqual(ROWS);
  });

  it('reads a last line without a newline, and an empty trace', () => {
    expect(rows(parseMallocTrace('f 0 7'))).toEqual([[OP_FREE, 0, 7, 0, 0]]);
    expect(parseMallocTrace('').count).toBe(0);
    expect(parseMallocTrace('# nothing').count).toBe(0);
  });

  it('grows where lines are shorter than expected', () => {
    expect(parseMallocTrace('f 0 1\n'.repeat(100_000)).count).toBe(100_000);
  });

  it.each([
    ['x 0 1 2', "unknown event 'x': expected m, c, a, r or f"],
    ['m 0 1', "expected 'm THREAD ID SIZE'"],
    ['m 0 1 2 3', "expected 'm THREAD ID SIZE'"],
    ['m 0 1 12k', "expected 'm THREAD ID SIZE'"],
    ['m 0 1 -5', "expected 'm THREAD ID SIZE'"],
    ['a 0 1 8', "expected 'a THREAD ID SIZE ALIGN'"],
    ['r 0 1 2', "expected 'r THREAD OLD NEW SIZE'"],
    ['free 0 1', "expected 'f THREAD ID'"],
    ['f 0 4294967296', 'a block number is below 2^32'],
    [`m ${'0'.repeat(2000)}`, "expected 'm THREAD ID SIZE'"],
  ])('names the line of %s', (line, problem) => {
    const trace = `# header\nm 0 0 1\n${line}\nf 0 0\n`;
    expect(() => parseMallocTrace(trace)).toThrow(new MallocTraceError(3, problem));
  });
});

describe('MallocTraceReader', () => {
  it('does not mind where the pieces end', () => {
    for (let size = 1; size <= TRACE.length; size++) {
      const all: number[][] = [];
      const reader = new MallocTraceReader({ onBatch: (events) => all.push(...rows(events)) });
      for (let at = 0; at < TRACE.length; at += size) reader.push(TRACE.slice(at, at + size));
      reader.end();
      expect(all).toEqual(ROWS);
      expect(reader.line).toBe(7);
    }
  });

  it('hands on full batches and the rest', () => {
    const counts: number[] = [];
    const reader = new MallocTraceReader({ batchSize: 4, onBatch: (events) => counts.push(events.count) });
    reader.push('m 0 1 2\n'.repeat(10));
    reader.end();
    expect(counts).toEqual([4, 4, 2]);
  });

  it('skips a broken line where someone takes its error', () => {
    const errors: string[] = [];
    let count = 0;
    const reader = new MallocTraceReader({
      onBatch: (events) => (count += events.count),
      onError: (error) => errors.push(error.message),
    });
    reader.push('m 0 0 1\nm 0 1\nf 0 0\n?');
    reader.end();
    expect(count).toBe(2);
    expect(errors).toEqual([
      "line 2: expected 'm THREAD ID SIZE'",
      "line 4: unknown event '?': expected m, c, a, r or f",
    ]);
  });
});
