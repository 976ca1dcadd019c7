import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { CommandFailure, UsageError } from './errors.ts';
import { detectTraceKind, openTrace } from './trace-file.ts';
import type { Trace } from './trace-file.ts';

const directory = mkdtempSync(join(tmpdir(), 'pagelab-test-'));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

async function textOf({ pieces }: Trace): Promise<string> {
  const taken: Uint8Array[] = [];
  for await (const piece of pieces) taken.push(piece);
  return Buffer.concat(taken).toString();
}

describe('a trace', () => {
  it('is told by its header, or its first line of any kind', () => {
    expect(detectTraceKind('# a header\n\nm 1 1 24\n')).toBe('malloc');
    expect(detectTraceKind('= Start\n@ a:[0x1] + 0x10 0x8\n')).toBe('mtrace');
    expect(detectTraceKind('12 brk(NULL) = 0x1000\n')).toBe('strace');
    expect(detectTraceKind('broken\nR 4000 1\n')).toBe('pages');
    expect(detectTraceKind('==12== Lackey\nI  0401ab70,3\n')).toBe('lackey');
    expect(detectTraceKind('# malloc-trace v1: m THREAD ID SIZE\n')).toBe('malloc');
    expect(detectTraceKind('# page-trace v1\n')).toBe('pages');
    expect(detectTraceKind('hello\n')).toBeUndefined();
  });

  it('is read whole, packed or not', async () => {
    const text = `# header\n${'m 1 1 24\nf 1 1\n'.repeat(100_000)}`;
    for (const content of [text, gzipSync(text)]) {
      const trace = await openTrace(file('a.trace', content));
      expect(trace.kind).toBe('malloc');
      expect(await textOf(trace) === text).toBe(true);
    }
  });

  it('comes through a pipe as from a file, however small its pieces', async () => {
    const pipe = join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const script = "const out = require('node:fs').openSync(process.argv[1], 'w'); for (const byte of 'm 1 1 24\\nf 1 1\\n') require('node:fs').writeSync(out, byte);";
    const writer = spawn(process.execPath, ['-e', script, pipe]);
    const ended = once(writer, 'exit');
    const trace = await openTrace(pipe);
    expect(trace).toMatchObject({ name: pipe, kind: 'malloc' });
    expect(await textOf(trace)).toBe('m 1 1 24\nf 1 1\n');
    await ended;
  });

  it('that is none, or is not there, or breaks off, is told of', async () => {
    await expect(openTrace(file('none', 'hello\n'.repeat(100_000)))).rejects.toThrow(CommandFailure);
    await expect(openTrace(file('empty', ''))).rejects.toThrow(/no trace that can be told/);
    await expect(openTrace(join(directory, 'missing'))).rejects.toThrow(UsageError);
    const packed = gzipSync('m 1 1 24\n'.repeat(1_000_000));
    const cut = await openTrace(file('cut', packed.subarray(0, packed.length >> 1)));
    await expect(textOf(cut)).rejects.toThrow(/cannot read .*cut: unexpected end of file/);
  });
});
