import { describe, expect, it } from 'vitest';
import { OP_FREE, OP_MALLOC, OP_REALLOC } from './malloc-events.ts';
import { MtraceReader } from './mtrace-reader.ts';

type Event = [op: number, id: number, extra: number, size: number];

function read(...lines: string[]): { events: Event[]; problems: string[]; unknownFrees: number } {
  const events: Event[] = [];
  const reader = new MtraceReader({
    batchSize: 3,
    onBatch: ({ count, ops, ids, extras, sizes }) => {
      for (let row = 0; row < count; row++) events.push([ops[row], ids[row], extras[row], sizes[row]]);
    },
  });
  const problems = lines.map((line) => reader.line(line)).filter((problem) => problem !== '');
  reader.end();
  return { events, problems, unknownFrees: reader.unknownFrees };
}

describe("mtrace's log", () => {
  it('becomes events, blocks numbered anew', () => {
    // As glibc 2.36 wrote it for malloc(100), realloc to 5000, calloc(3, 7), free, free, and requests that failed.
    const { events, problems } = read(
      '= Start',
      '@ ./m:[0x11b0] + 0x55f96da134a0 0x64',
      '@ ./m:[0x11c5] < 0x55f96da134a0',
      '@ ./m:[0x11c5] > 0x55f96da14000 0x1388',
      '@ ./m:(main+0x1d)[0x11d8] + 0x55f96da132a0 0x15',
      '@ ./m:[0x11fb] - 0x55f96da14000',
      '@ ./m:[0x1234] + 0x55f96da134a0 0x5',
      '@ ./m:[0x1243] ! 0x55f96da132a0 0xfffffffffffff000',
      '@ ./m:[0x1255] + (nil) 0x4000000000000000',
      '@ [0x1207] - 0x55f96da132a0',
      '= End',
    );
    expect(problems).toEqual([]);
    expect(events).toEqual([
      [OP_MALLOC, 1, 0, 100],
      [OP_REALLOC, 1, 1, 5000],
      [OP_MALLOC, 2, 0, 21],
      [OP_FREE, 1, 0, 0],
      [OP_MALLOC, 1, 0, 5],
      [OP_REALLOC, 2, 2, 2 ** 64 - 4096],
      [OP_MALLOC, 3, 0, 2 ** 62],
      [OP_FREE, 2, 0, 0],
    ]);
  });

  it('may free what it did not allocate, and say what makes no sense', () => {
    const { events, problems, unknownFrees } = read('@ a:[0x1] - 0x10', '@ a:[0x1] > 0x10 0x5', '@ a:[0x1] + 0x20', 'hello', '@ a:[0x1] < 0x10', '@ a:[0x1] + 0x20 0x8');
    expect([events, unknownFrees]).toEqual([[], 1]);
    expect(problems).toEqual([
      "'>' without '<' before it", "'+' needs a size", expect.stringMatching(/^expected '@ CALLER/), "'+' right after '<'",
    ]);
  });
});
