import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { UsageError } from '../errors.ts';
import { openTrace } from '../trace-file.ts';
import { formatPages, parseFrames, parseWindow, plotFrames, replayPages } from './replay-pages.ts';
import type { PagesResult } from './replay-pages.ts';

const directory = mkdtempSync(join(tmpdir(), 'pagelab-test-'));
afterAll(() => rmSync(directory, { recursive: true }));

const traces = fileURLToPath(new URL('../../../../test/data/traces/', import.meta.url));
const strict = { strict: true, report: () => {} };

function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

function faults({ results }: PagesResult): Record<string, number[]> {
  const byPolicy: Record<string, number[]> = {};
  for (const result of results) (byPolicy[result.policy] ??= []).push(result.faults);
  return byPolicy;
}

describe('page-reference traces', () => {
  it('have the faults that a search through lists of the recorded references counts', async () => {
    const pages = await replayPages(await openTrace(`${traces}sqlite.pages.gz`), { policy: 'all', frames: [4, 16] }, strict);
    expect(faults(pages)).toMatchObject({ fifo: [49, 12], lru: [35, 12], opt: [28, 12], clock: [48, 12] });
    expect(pages).toMatchObject({ references: 6683, results: [{ accesses: 20_000, pages: 12 }, ...pages.results.slice(1)] });
  });

  it('are the same whether lackey printed them or they were gathered', async () => {
    const options = { policy: 'arc', frames: [2, 3, 7] };
    const lackey = await replayPages(await openTrace(`${traces}sqlite.lackey.gz`), options, strict);
    const pages = await replayPages(await openTrace(`${traces}sqlite.pages.gz`), options, strict);
    expect(lackey.results).toEqual(pages.results);
    expect(lackey.references).toBe(20_000);
  });

  it('tell of broken lines and go on, or end there', async () => {
    const broken = file('broken.pages', '# page-trace v1\nR 1 2\nR xyz 1\nW 2\nR 3 0\nX 1 1\r\n');
    const reports: string[] = [];
    const { results, skippedLines } = await replayPages(await openTrace(broken), { policy: 'lru', frames: [1] }, { strict: false, report: (message) => reports.push(message) });
    expect(reports).toEqual([
      expect.stringMatching(/broken\.pages:3: expected '<R\|W\|X> .*'; skipped$/),
      expect.stringMatching(/broken\.pages:5: the number of accesses is 1 or more; skipped$/),
    ]);
    expect(skippedLines).toBe(2);
    expect(results[0]).toMatchObject({ accesses: 4, faults: 3, evictions: 2, writebacks: 1 });
    await expect(replayPages(await openTrace(broken), { policy: 'lru', frames: [1] }, strict)).rejects.toThrow(/broken\.pages:3: expected/);
  });

  it('take a policy of the user\'s', async () => {
    const policy = file('mru.ts', `
      const create = () => { const stack: number[] = []; return {
        touched(page: number) { stack.splice(stack.indexOf(page), 1); stack.push(page); },
        loaded(page: number) { stack.push(page); },
        victim: () => stack.pop()!,
      }; };
      export default { name: 'mru', title: 'most recently used', needsFuture: false, create };`);
    const loop = file('loop.pages', Array.from({ length: 40 }, (_, at) => `R ${(at % 4) + 1} 1`).join('\n'));
    expect(faults(await replayPages(await openTrace(loop), { policy, frames: [3] }, strict))).toEqual({ mru: [16] });
    expect(faults(await replayPages(await openTrace(loop), { policy: 'LRU', frames: [3] }, strict))).toEqual({ lru: [40] });
  });

  it('refuse what is no policy, no number of frames, no window', async () => {
    await expect(replayPages(await openTrace(`${traces}sqlite.pages.gz`), { policy: 'best', frames: [1] }, strict)).rejects.toThrow(/no policy 'best': give one of fifo, .*opt, all/);
    for (const text of ['0', 'x', '1,', '-3', '1.5']) expect(() => parseFrames(text)).toThrow(UsageError);
    expect(parseFrames('16, 32')).toEqual([16, 32]);
    expect(() => parseWindow('0')).toThrow(UsageError);
  });

  it('are drawn over the number of frames', async () => {
    expect(plotFrames(64, 2)).toEqual([4, 8, 16, 32, 64, 128, 256, 512, 1024]);
    expect(plotFrames(1, 2)).toEqual([1, 2, 4, 8, 16]);
    const text = formatPages(await replayPages(await openTrace(`${traces}sqlite.pages.gz`), { policy: 'fifo', frames: [4] }, strict));
    expect(text).toMatch(/20,000 accesses to 12 pages/);
    expect(text).toMatch(/fifo +4 +49 +99\.7550 % +45 +16 +4/);
    expect(text).toMatch(/6,683┤/);
  });
});
